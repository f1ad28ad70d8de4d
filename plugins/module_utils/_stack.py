# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What a server has: its system, its Docker, its project folder, and who else is there. See the module stack_info."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import pwd
import re
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from . import _containers, _docker, _files, _names, _traefik, _tunnel

# In the order in which compose looks for them.
COMPOSE_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
_NOBODYS: dict[str, Any] = {"project": "", "services": {}, "built": [], "named": {}, "error": ""}
_ALWAYS = {"traefik", "docker-api"}  # services of docker-compose.yml
_OURS = {*_ALWAYS, "tunnel-ssh"}  # and the one that a server may have
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


def compose_hashes(root: str, definition: str) -> dict[str, str]:
    """The config hashes of our services with that compose file; none where compose cannot read the project."""
    files = ["-f", "-", *(["-f", _names.OVERRIDE] if os.path.exists(os.path.join(root, _names.OVERRIDE)) else [])]
    if not definition:
        return {}
    command = ["compose", *files, "--profile", "*", "config", "--hash", ",".join(sorted(_ALWAYS))]
    told = [line.split() for line in _docker.docker(*command, cwd=root, stdin=definition)[1].splitlines()]
    return {fields[0]: fields[1] for fields in told if len(fields) == 2 and fields[0] in _ALWAYS}


def reasons_to_replace(container: dict[str, Any], wanted: str | None) -> list[str]:
    """Why `docker compose up` would replace it; `wanted` is the config hash that it should have."""
    reasons = []
    if wanted and wanted != _docker.labels(container).get(_containers.CONFIG_HASH):
        reasons.append("its compose service differs")
    image = _docker.inspect("image", container["Config"]["Image"])
    if image and image["Id"] != container["Image"]:
        reasons.append(f"{container['Config']['Image']} is another image now")
    return reasons


def traefik_state(container: dict[str, Any] | None) -> dict[str, Any]:
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
        "reasons": [],
    }


def tunnel_state(root: str, container: dict[str, Any] | None) -> dict[str, Any]:
    """The SSH server, whose laptops may come to it, and whether anything of it is left."""
    keys, ours = os.path.join(root, _names.keys_file("")), _files.Manifest(root).owns(_names.keys_file("README"))
    found: dict[str, Any] = {"status": "", "image": "", "ports": [], "agents": []}
    if container:
        status, image = container["State"]["Status"], container["Config"]["Image"]
        found.update(status=status, image=image, ports=published(container))
    with contextlib.suppress(FileNotFoundError):
        found["agents"] = sorted(name for name in os.listdir(keys) if _names.matches(_names.AGENT_NAME_REGEX, name))
    return {**found, "there": bool(container) or (ours and os.path.isdir(os.path.join(root, _tunnel.SOCKETS)))}


def taken_ports(ports: list[int], ours: list[int], containers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that another program listens on, and its name."""
    open_ports = listeners()
    result = []
    for port in ports:
        if port in open_ports and port not in ours:
            names = [one["Name"].lstrip("/") for one in containers if port in published(one)]
            holder = f"container {names[0]}" if names else program_of(open_ports[port])
            result.append({"port": port, "by": holder or "another program"})
    return result


def project_state(root: str, project: str, containers: list[dict[str, Any]]) -> dict[str, Any]:
    """Whose the project's containers are: another folder's, or the owner's own services in this one."""
    ours = [labels for labels in map(_docker.labels, containers) if labels.get(f"{_docker.COMPOSE}project") == project]
    folders = (labels.get(f"{_docker.COMPOSE}project.working_dir", "") for labels in ours)
    services = {labels.get(f"{_docker.COMPOSE}service", "") for labels in ours if not labels.get(_docker.AGENT_LABEL)}
    return {
        "other_root": next((folder for folder in folders if folder and folder != root), ""),
        "owners_services": sorted(services - _OURS),
    }


def owners_compose(root: str) -> dict[str, Any]:
    status, output, error = _docker.docker("compose", "--profile", "*", "config", "--format", "json", cwd=root)
    if status:
        return {**_NOBODYS, "error": re.sub("^error while interpolating ", "", _docker.last_line(error))}
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


def agents(root: str) -> list[str]:
    """Names of the agents that are deployed there."""
    names = (os.path.splitext(os.path.basename(path))[0] for path in glob.glob(os.path.join(root, "agents/*.yml")))
    return sorted(set(names) - _names.RESERVED_NAMES)


def engine() -> dict[str, Any]:
    form = "{{.Server.Version}} {{.Server.MinAPIVersion}}"
    status, versions, error = _docker.docker("version", "--format", form, timeout=20)
    version, _space, min_api = versions.strip().partition(" ") if status == 0 else ("", "", "")
    return {
        "installed": status != 127,
        "version": version,
        "min_api": min_api,
        "error": "" if status == 0 else error.splitlines()[-1] if error else "no answer",
    }


def compose_version() -> dict[str, str]:
    return {"version": _docker.docker("compose", "version", "--short", timeout=20)[1].strip().lstrip("v")}


def containers() -> list[dict[str, Any]]:
    """Also those that do not run; none where Docker does not answer."""
    with contextlib.suppress(_docker.DockerError):
        return _docker.containers("--all")
    return []


def of_docker(root: str, ports: list[int], project: str, there: list[dict[str, Any]]) -> dict[str, Any]:
    """What the containers say."""
    running = [container for container in there if container["State"]["Running"]]
    traefik = traefik_state(_docker.called(there, f"{project}-traefik-1"))
    tunnel = tunnel_state(root, _docker.called(there, f"{project}-tunnel-ssh-1"))
    return {
        "traefik": traefik,
        "tunnel_ssh": tunnel,
        "docker_api": _docker.running(_docker.called(there, f"{project}-docker-api-1")),
        "routers": [router for container in running for router in _traefik.routers(container)],
        "taken_ports": taken_ports(ports, traefik["ports"] + tunnel["ports"], running),
        **project_state(root, project, there),
    }


def of_folder(root: str) -> dict[str, Any]:
    """What the project folder says without Docker."""
    manifest = _files.Manifest(root)
    names = [name for name in COMPOSE_NAMES if os.path.lexists(os.path.join(root, name)) and not manifest.owns(name)]
    return {
        "root": root,
        "managed": manifest.exists,
        "written": manifest.paths(),
        **_files.room(root),
        "compose_files": names,
        "git": git_state(root),
        "agents": agents(root),
    }


def collect(
    root: str, ports: list[int], project: str, definition: str, there: list[dict[str, Any]] | None = None
) -> dict[str, Any]:
    """Everything; `there` are the containers where the caller has asked for them already."""
    folder = of_folder(root)
    release = _files.read_bytes("/etc/os-release") or b""
    with ThreadPoolExecutor() as pool:
        docker, compose = pool.submit(engine), pool.submit(compose_version)
        hashes = pool.submit(compose_hashes, root, definition)
        owners = pool.submit(owners_compose, root) if folder["compose_files"] else None
        there = containers() if there is None else there
        found = of_docker(root, ports, project, there)
        own, docker_api = (_docker.called(there, f"{project}-{name}-1") for name in ("traefik", "docker-api"))
        if own and definition:
            found["traefik"]["reasons"] = reasons_to_replace(own, hashes.result().get("traefik"))
        if docker_api and definition:
            found["docker_api"] &= not reasons_to_replace(docker_api, hashes.result().get("docker-api"))
        return {
            **folder,
            **found,
            "user": pwd.getpwuid(os.geteuid()).pw_name,
            "uid": os.geteuid(),
            "gid": os.getegid(),
            "time": time.time(),
            "distribution": parse_os_release(release.decode(errors="replace")),
            "docker": docker.result(),
            "compose": compose.result(),
            "curl": shutil.which("curl") is not None,
            "owners": owners.result() if owners else _NOBODYS,
        }
