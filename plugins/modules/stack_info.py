#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_info
short_description: What a server has, before anything on it is touched
version_added: 0.1.0
description:
  - Collects in one call all that the preflight of the roles P(locki.vaettir.stack#role) and
    P(locki.vaettir.agent_proxy#role)
    needs to know of a server.
author:
  - the locki.vaettir authors (@locki)
extends_documentation_fragment:
  - locki.vaettir.attributes.info
  - locki.vaettir.attributes
options:
  root:
    description: The project folder. A leading C(~) is the login user's home.
    type: path
    required: true
  ports:
    description: TCP ports that Traefik is to publish.
    type: list
    elements: int
    default: []
  project:
    description: Name of the compose project. Its Traefik may already hold these ports.
    type: str
    default: vaettir
  control_time:
    description: The control node's clock as it asks, in seconds since 1970, to be given back beside the server's own.
    type: float
    default: 0
  definition:
    description: >-
      Text of the compose file that the folder is to have, for the running Traefik to be compared with. Empty compares
      with nothing.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Look at the server
  locki.vaettir.stack_info:
    root: ~/vaettir
    ports: [80, 443]
  register: server
"""

RETURN = r"""
root:
  description: Absolute path of the project folder.
  type: str
  returned: always
  sample: /home/deploy/vaettir
managed:
  description: Whether the project folder holds anything that we wrote.
  type: bool
  returned: always
written:
  description: Relative paths of what we wrote there.
  type: list
  elements: str
  returned: always
user:
  description: Name of the user that runs the tasks.
  type: str
  returned: always
distribution:
  description: C(ID) and C(VERSION_ID) of C(/etc/os-release).
  type: dict
  returned: always
  sample: {"id": "debian", "version": "13"}
time:
  description: The server's clock, in seconds since 1970.
  type: float
  returned: always
control_time:
  description: What O(control_time) says.
  type: float
  returned: always
disk_free:
  description: Bytes that are left where the project folder is, or is to be.
  type: int
  returned: always
inodes_free:
  description: Files that may still be made there. V(1) where the file system has no limit.
  type: int
  returned: always
docker:
  description: Docker Engine.
  type: dict
  returned: always
  contains:
    installed:
      description: Whether there is a docker command.
      type: bool
    version:
      description: Version of the engine. Empty when its daemon does not answer.
      type: str
    min_api:
      description: Oldest version of its API that it speaks.
      type: str
      sample: "1.44"
    error:
      description: Why the daemon does not answer.
      type: str
compose:
  description: Compose plugin.
  type: dict
  returned: always
  contains:
    version:
      description: Version without a leading C(v). Empty when C(docker compose) does not work.
      type: str
traefik:
  description: The project's Traefik.
  type: dict
  returned: always
  contains:
    status:
      description: Docker's word for its state, such as V(running). Empty when there is no container.
      type: str
    health:
      description: Docker's word for its health. Empty when nobody asks for it.
      type: str
    image:
      description: Image that it was made from.
      type: str
    version:
      description: Its version, as the image says. Empty when that says none.
      type: str
      sample: v3.7.15
    godebug:
      description: The variable C(GODEBUG) of its environment.
      type: str
    ports:
      description: TCP ports that it publishes.
      type: list
      elements: int
    command:
      description: What it was started with.
      type: list
      elements: str
    reasons:
      description: Why C(docker compose up) would make it anew. Empty when it would not, or when nobody knows.
      type: list
      elements: str
      sample: [its compose service differs]
routers:
  description: Routers that the labels of running containers tell Traefik of.
  type: list
  elements: dict
  returned: always
  contains:
    name:
      description: The router.
      type: str
    rule:
      description: What requests it takes.
      type: str
    container:
      description: The container's name.
      type: str
    agent:
      description: The agent whose container it is. Empty for one of somebody else's.
      type: str
taken_ports:
  description: Ports of O(ports) that another program listens on.
  type: list
  elements: dict
  returned: always
  sample: [{"port": 80, "by": "nginx"}]
other_root:
  description: Another project folder whose containers have the project's name. Empty when there is none.
  type: str
  returned: always
owners_services:
  description: Services of the project that are neither Traefik nor an agent.
  type: list
  elements: str
  returned: always
curl:
  description: Whether there is a curl command, with which a deploy proves itself.
  type: bool
  returned: always
compose_files:
  description: Compose files of any spelling in the project folder that are not ours.
  type: list
  elements: str
  returned: always
owners:
  description: What the owner's own compose file says. Nothing where there is none.
  type: dict
  returned: always
  contains:
    project:
      description: Name of its compose project.
      type: str
    services:
      description: Its services, with their images. A service without C(image) has the name that compose gives it.
      type: dict
    built:
      description: Services that compose builds.
      type: list
      elements: str
    named:
      description: C(container_name) of the services that have one, so that their containers are not called as usual.
      type: dict
    error:
      description: Why compose cannot read it.
      type: str
git:
  description: State of the project folder as a git checkout.
  type: dict
  returned: always
  contains:
    exclude_file:
      description: Path of the checkout's own exclude list. Empty when the folder is no checkout.
      type: str
    tracked:
      description: Relative paths of the tracked files.
      type: list
      elements: str
agents:
  description: Names of the agents that are deployed on this server.
  type: list
  elements: str
  returned: always
"""

import contextlib
import glob
import json
import os
import pwd
import re
import shutil
import subprocess
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.locki.vaettir.plugins.module_utils import _agent, _docker, _files, _module, _names, _traefik

# In the order in which compose looks for them.
COMPOSE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
_NOBODYS: dict[str, Any] = {"project": "", "services": {}, "built": [], "named": {}, "error": ""}
_LISTEN = "0A"  # state of a listening socket in /proc/net/tcp


def parse_os_release(text: str) -> dict[str, str]:
    pairs = dict(re.findall(r'^([A-Z_]+)="?([^"\n]*)"?$', text, re.MULTILINE))
    return {"id": pairs.get("ID", ""), "version": pairs.get("VERSION_ID", "")}


def parse_listeners(text: str) -> dict[int, str]:
    """Port -> socket inode of the listening sockets of /proc/net/tcp or tcp6."""
    result = {}
    for line in text.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[3] == _LISTEN:
            result[int(fields[1].rsplit(":", 1)[1], 16)] = fields[9]
    return result


def listeners() -> dict[int, str]:
    result: dict[int, str] = {}
    for name in ("/proc/net/tcp", "/proc/net/tcp6"):
        content = _files.read_bytes(name)
        result.update(parse_listeners((content or b"").decode()))
    return result


def program_of(inode: str) -> str:
    """Name of the program that holds a socket; empty where only root could see it."""
    for link in glob.glob("/proc/[0-9]*/fd/*"):
        with contextlib.suppress(OSError):
            if os.readlink(link) == f"socket:[{inode}]":
                process = link.split("/")[2]
                with open(f"/proc/{process}/comm", encoding="utf-8") as stream:
                    return stream.read().strip()
    return ""


def published(container: dict[str, Any]) -> list[int]:
    bindings = [binding for found in (container["NetworkSettings"]["Ports"] or {}).values() for binding in found or []]
    return sorted({int(binding["HostPort"]) for binding in bindings})


def compose_hash(root: str, service: str, definition: str) -> str:
    """The service's config hash as it will be with that compose file; empty where compose cannot read the project."""
    override = "docker-compose.override.yml"
    files = ["-f", "-", *(["-f", override] if os.path.exists(os.path.join(root, override)) else [])]
    command = ["compose", *files, "--profile", "*", "config", "--hash", service]
    fields = _docker.docker(*command, cwd=root, stdin=definition)[1].split()
    return fields[1] if fields[:1] == [service] else ""


def traefik_reasons(root: str, container: dict[str, Any], definition: str) -> list[str]:
    reasons = []
    wanted = compose_hash(root, "traefik", definition)
    if wanted and wanted != _docker.labels(container).get(_agent.CONFIG_HASH):
        reasons.append("its compose service differs")
    image = _docker.inspect("image", container["Config"]["Image"])
    if image and image["Id"] != container["Image"]:
        reasons.append(f"{container['Config']['Image']} is another image now")
    return reasons


def traefik_state(root: str, name: str, definition: str) -> dict[str, Any]:
    container = _docker.inspect("container", name)
    if not container:
        told = dict.fromkeys(("status", "health", "image", "version", "godebug"), "")
        return {**told, "ports": [], "command": [], "reasons": []}
    return {
        "status": container["State"]["Status"],
        "health": _docker.health(container),
        "image": container["Config"]["Image"],
        "version": _traefik.version(container),
        "godebug": _docker.environment(container).get("GODEBUG", ""),
        "ports": published(container),
        "command": container["Config"]["Cmd"] or [],
        "reasons": traefik_reasons(root, container, definition) if definition else [],
    }


def taken_ports(ports: list[int], ours: list[int]) -> list[dict[str, Any]]:
    open_ports = listeners()
    result = []
    for port in ports:
        if port in open_ports and port not in ours:
            _status, output, _error = _docker.docker("ps", "--filter", f"publish={port}", "--format", "{{.Names}}")
            holder = f"container {output.split()[0]}" if output.split() else program_of(open_ports[port])
            result.append({"port": port, "by": holder or "another program"})
    return result


def project_state(root: str, project: str) -> dict[str, Any]:
    """Whose the project's containers are: another folder's, or the owner's own services in this one."""
    labels = (f"{_docker.COMPOSE}project.working_dir", f"{_docker.COMPOSE}service", _docker.AGENT_LABEL)
    form = "|".join(f'{{{{.Label "{label}"}}}}' for label in labels)
    command = ["ps", "--all", "--filter", f"label={_docker.COMPOSE}project={project}", "--format", form]
    rows = [line.split("|") for line in _docker.docker(*command)[1].splitlines()]
    return {
        "other_root": next((folder for folder, *_rest in rows if folder and folder != root), ""),
        "owners_services": sorted({service for _folder, service, agent in rows if not agent and service != "traefik"}),
    }


def owners_compose(root: str) -> dict[str, Any]:
    status, output, error = _docker.docker("compose", "--profile", "*", "config", "--format", "json", cwd=root)
    if status:
        return {**_NOBODYS, "error": _docker.last_line(error).removeprefix("error while interpolating ")}
    found = json.loads(output)
    services = found.get("services") or {}
    return {
        "project": found["name"],
        "services": {name: entry.get("image") or f"{found['name']}-{name}" for name, entry in services.items()},
        "built": sorted(name for name, entry in services.items() if "build" in entry),
        "named": {name: entry["container_name"] for name, entry in services.items() if entry.get("container_name")},
        "error": "",
    }


def git_state(root: str) -> dict[str, Any]:
    def git(*arguments: str) -> str | None:
        try:
            done = subprocess.run(["git", "-C", root, *arguments], capture_output=True, text=True, check=False)
        except FileNotFoundError:
            return None
        return done.stdout if done.returncode == 0 else None

    if not os.path.exists(os.path.join(root, ".git")):
        return {"exclude_file": "", "tracked": []}
    exclude = (git("rev-parse", "--git-path", "info/exclude") or ".git/info/exclude").strip()
    tracked = (git("ls-files", "-z") or "").split("\0")
    return {"exclude_file": os.path.join(root, exclude), "tracked": [name for name in tracked if name]}


def fragments(root: str) -> list[str]:
    return [os.path.splitext(os.path.basename(path))[0] for path in glob.glob(os.path.join(root, "agents/*.yml"))]


def routers() -> list[dict[str, Any]]:
    """Nothing where Docker does not answer."""
    with contextlib.suppress(_docker.DockerError):
        return [router for container in _docker.containers() for router in _traefik.routers(container)]
    return []


def collect(root: str, ports: list[int], project: str, definition: str) -> dict[str, Any]:
    form = "{{.Server.Version}} {{.Server.MinAPIVersion}}"
    status, versions, error = _docker.docker("version", "--format", form, timeout=20)
    version, _space, min_api = versions.strip().partition(" ") if status == 0 else ("", "", "")
    _compose_status, compose, _error = _docker.docker("compose", "version", "--short", timeout=20)
    manifest = _files.Manifest(root)
    traefik = traefik_state(root, f"{project}-traefik-1", definition)
    release = _files.read_bytes("/etc/os-release") or b""
    names = [name for name in COMPOSE_NAMES if os.path.lexists(os.path.join(root, name)) and not manifest.owns(name)]
    return {
        "root": root,
        "managed": manifest.exists,
        "written": manifest.paths(),
        "user": pwd.getpwuid(os.geteuid()).pw_name,
        "time": time.time(),
        **_files.room(root),
        "distribution": parse_os_release(release.decode(errors="replace")),
        "docker": {
            "installed": status != 127,
            "version": version,
            "min_api": min_api,
            "error": "" if status == 0 else error.splitlines()[-1] if error else "no answer",
        },
        "compose": {"version": compose.strip().lstrip("v")},
        "traefik": traefik,
        "routers": routers(),
        "taken_ports": taken_ports(ports, traefik["ports"]),
        **project_state(root, project),
        "curl": shutil.which("curl") is not None,
        "compose_files": names,
        "owners": owners_compose(root) if names else _NOBODYS,
        "git": git_state(root),
        "agents": sorted(set(fragments(root)) - _names.RESERVED_NAMES),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "ports": {"type": "list", "elements": "int", "default": []},
            "project": {"type": "str", "default": "vaettir"},
            "control_time": {"type": "float", "default": 0},
            "definition": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    given = module.params
    root = os.path.abspath(given["root"])
    _module.finish(
        module,
        lambda: {
            "control_time": given["control_time"],
            **collect(root, given["ports"], given["project"], given["definition"]),
        },
    )


if __name__ == "__main__":
    main()
