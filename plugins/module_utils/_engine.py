# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A container like the one that compose would make, but under a name and next to another one as compose never would.

The docker command line cannot make a container from another one's definition; the Engine's API, which it uses too, can.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Callable
from functools import partial
from typing import Any
from urllib.parse import quote

from . import _docker

# Labels that say which project a container belongs to; all others come from the service.
_PROJECT_LABELS = ("project", "project.config_files", "project.working_dir", "project.environment_file")


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=60)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _socket() -> str:
    """Where the docker command line finds the Engine, with its contexts and DOCKER_HOST."""
    host = _docker.checked("context", "inspect", "--format", "{{.Endpoints.docker.Host}}").strip()
    if not host.startswith("unix://"):
        raise _docker.DockerError(f"the Docker Engine is at {host}: run Ansible against the server that it runs on.")
    return host[len("unix://") :]


def request(method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    connection = _Connection(_socket())
    try:
        content = None if body is None else json.dumps(body)
        connection.request(method, path, content, {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        raise _docker.DockerError(f"the Docker Engine does not answer: {error}") from error
    finally:
        connection.close()
    found = json.loads(text) if text.strip() else None
    if answer.status >= 400:
        raise _docker.DockerError(str((found or {}).get("message", f"the Docker Engine answers {answer.status}")))
    return found


def start(container: str, first: Callable[[], Any] | None = None) -> None:
    """Starts a container, with `first` if that makes it as well; a busy machine's runtime gets a second try."""
    begin = partial(request, "POST", f"/containers/{quote(container)}/start")
    try:
        (first or begin)()
    except _docker.DockerError as error:
        if not _docker.RUNTIME_FAILED.search(str(error)):
            raise
        begin()


def alone(model: dict[str, Any], name: str, project: str) -> dict[str, Any]:
    """Compose's model of a project, cut down to one service that uses the networks and volumes there are."""
    service = {
        key: value
        for key, value in model["services"][name].items()
        if key not in ("build", "depends_on", "deploy", "profiles", "scale")
    }
    if service.get("container_name"):
        raise _docker.DockerError(f"service {name} has a container_name, so there can be no second one: remove it.")
    service["pull_policy"] = "never"
    kept: dict[str, Any] = {"name": project, "services": {name: service}}
    for kind in ("networks", "volumes"):
        there = (model.get(kind) or {}).items()
        kept[kind] = {key: {"name": (value or {}).get("name", key), "external": True} for key, value in there}
    for kind in ("configs", "secrets"):
        if model.get(kind):
            kept[kind] = model[kind]
    return kept


def ensure_volumes(model: dict[str, Any], name: str) -> None:
    """Those of a service that no `up` has made yet, as compose makes them."""
    for mount in model["services"][name].get("volumes") or []:
        found = (model.get("volumes") or {}).get(mount.get("source")) if mount["type"] == "volume" else None
        if found and not found.keys() - {"name"}:
            labels = {"project": model["name"], "volume": mount["source"]}
            words = [f"--label={_docker.COMPOSE}{key}={value}" for key, value in labels.items()]
            _docker.checked("volume", "create", *words, found["name"])


def confinement(service: dict[str, Any]) -> list[str]:
    """`docker run`'s options for a service's rights and limits. What it may write is not kept."""
    told = {
        "--user": [service.get("user")],
        "--cap-drop": service.get("cap_drop"),
        "--cap-add": service.get("cap_add"),
        "--pids-limit": [service.get("pids_limit")],
        "--memory": [service.get("mem_limit")],
    }
    words = [f"{option}={value}" for option, values in told.items() for value in values or [] if value]
    if service.get("read_only"):
        words.append("--read-only")
        volumes = [mount["target"] for mount in service.get("volumes") or [] if mount["type"] == "volume"]
        words += [f"--tmpfs={folder}" for folder in [*(service.get("tmpfs") or []), *volumes]]
    return words


def create_body(made: dict[str, Any], old: dict[str, str], config_hash: str, name: str) -> dict[str, Any]:
    """What the Engine needs to make a container like `made`, but as the only one of its service in `old`'s project."""
    config = {key: value for key, value in made["Config"].items() if key not in ("Image", "MacAddress")}
    if config.get("Hostname") == made["Id"][:12]:
        del config["Hostname"]  # the Engine's own choice
    labels = dict(made["Config"]["Labels"] or {})
    for key in _PROJECT_LABELS:
        labels.pop(_docker.COMPOSE + key, None)
        if _docker.COMPOSE + key in old:
            labels[_docker.COMPOSE + key] = old[_docker.COMPOSE + key]
    labels[f"{_docker.COMPOSE}config-hash"] = config_hash
    labels[f"{_docker.COMPOSE}container-number"] = "1"
    temporary = (made["Name"].lstrip("/"), made["Id"][:12])
    endpoints = {}
    for network, found in made["NetworkSettings"]["Networks"].items():
        aliases = [alias for alias in found.get("Aliases") or [] if alias not in temporary]
        kept = {key: found[key] for key in ("IPAMConfig", "Links", "DriverOpts") if found.get(key)}
        endpoints[network] = {**kept, "Aliases": list(dict.fromkeys([name, *aliases]))}
    return {
        **config,
        "Image": made["Config"]["Image"],
        "Labels": labels,
        "HostConfig": made["HostConfig"],
        "NetworkingConfig": {"EndpointsConfig": endpoints},
    }


def create(name: str, body: dict[str, Any]) -> str:
    """Makes a container; its id. Engines before 25 take one network at first."""
    networks = body["NetworkingConfig"]["EndpointsConfig"]
    first = body["HostConfig"].get("NetworkMode")
    first = first if first in networks else next(iter(networks), None)
    one = {**body, "NetworkingConfig": {"EndpointsConfig": {first: networks[first]} if first else {}}}
    identifier: str = request("POST", f"/containers/create?name={quote(name)}", one)["Id"]
    for network, endpoint in networks.items():
        if network != first:
            more = {"Container": identifier, "EndpointConfig": endpoint}
            request("POST", f"/networks/{quote(network)}/connect", more)
    return identifier


def model(root: str) -> dict[str, Any]:
    """What compose makes of all the project's files and .env."""
    text = _docker.checked("compose", "--profile", "*", "config", "--format", "json", cwd=root)
    found: dict[str, Any] = json.loads(text)
    return found


def compose_create(root: str, cut: dict[str, Any], name: str) -> dict[str, Any]:
    """Has compose make a service's container in a project of its own; what the Engine says of it."""
    project = cut["name"]
    words = ("compose", "--project-name", project, "--project-directory", root, "--file", "-")
    # JSON is YAML; through a pipe, since it holds the environment's values.
    _docker.checked(*words, "up", "--no-start", "--no-deps", "--no-build", name, cwd=root, stdin=json.dumps(cut))
    made = _docker.inspect("container", f"{project}-{name}-1")
    if not made:
        raise _docker.DockerError(f"compose made no container of service {name}")
    # An external network stands there by its id, which would be another one after a `compose down`.
    network = _docker.inspect("network", made["HostConfig"]["NetworkMode"])
    if network:
        made["HostConfig"]["NetworkMode"] = network["Name"]
    return made
