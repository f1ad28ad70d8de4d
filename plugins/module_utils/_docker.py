# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Ask the docker command line. It is what the owner of a server uses as well, so both see the same."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
from typing import Any

AGENT_LABEL = "io.locki.vaettir.agent"  # on an agent's image and container
BASE_LABEL = "io.locki.vaettir.base"  # on an agent's image: the name of the image that it was built on
# Before a program began, so through no fault of it; a program that is not there is none of this.
RUNTIME_FAILED = re.compile('OCI runtime (create|exec) failed(?!.*: exec: ")')
LIMITS = {"seconds": float("inf")}  # of any command of this process but attached(), whatever it is given
COMPOSE = "com.docker.compose."  # what compose's own labels begin with


class DockerError(Exception):
    """A docker command that failed, in one line."""


def last_line(text: str) -> str:
    # docker's own last one only says where its help is, or which container it was
    empty = "(See|Run) 'docker |(Error: )?failed to start containers"
    lines = [line.strip() for line in text.splitlines() if line.strip() and not re.match(empty, line)]
    return lines[-1] if lines else ""


def docker(
    *arguments: str,
    cwd: str | None = None,
    timeout: float = 60,
    environment: dict[str, str] | None = None,
    stdin: str = "",
) -> tuple[int, str, str]:
    """Exit status, output, error text; status 127 where there is no docker command."""
    timeout = min(timeout, LIMITS["seconds"])
    try:
        done = subprocess.run(
            ["docker", *arguments],
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",  # logs may say anything
            timeout=timeout,
            check=False,
        )
    except FileNotFoundError:
        return 127, "", "there is no docker command"
    except subprocess.TimeoutExpired:
        return 124, "", f"no answer within {timeout:.0f} s"
    return done.returncode, done.stdout, done.stderr.strip()


def attached(end: socket.socket, *arguments: str) -> None:
    """What the command reads and writes goes over a socket, which is closed when it ends."""
    with end, contextlib.suppress(OSError):
        both = end.fileno()
        subprocess.run(["docker", *arguments], stdin=both, stdout=both, stderr=subprocess.DEVNULL, check=False)


def twice(*arguments: str, **more: Any) -> tuple[int, str, str]:
    """As docker(); a busy machine's runtime gets a second try."""
    status, output, error = docker(*arguments, **more)
    if status and RUNTIME_FAILED.search(output + error):  # of `exec` without --detach it is the daemon's output
        status, output, error = docker(*arguments, **more)
    return status, output, error


def checked(*arguments: str, **more: Any) -> str:
    """The command's output; its last word where it failed."""
    status, output, error = docker(*arguments, **more)
    if status:
        raise DockerError(last_line(error) or f"`docker {arguments[0]}` ended with {status}")
    return output


def inspect(kind: str, name: str) -> dict[str, Any] | None:
    """`docker inspect`; nothing where there is none."""
    status, output, _error = docker("inspect", "--type", kind, name)
    found: list[dict[str, Any]] = [] if status else json.loads(output)
    return found[0] if found else None


def images(names: list[str]) -> dict[str, dict[str, Any]]:
    """`docker inspect` of those that exist, by the name that they were asked by."""
    names = sorted({name for name in names if name})
    status, output, _error = docker("inspect", "--type", "image", *names) if names else (0, "[]", "")
    if status == 0:
        return dict(zip(names, json.loads(output)))
    found = {name: inspect("image", name) for name in names} if len(names) > 1 else {}
    return {name: image for name, image in found.items() if image}


def containers(*options: str) -> list[dict[str, Any]]:
    """`docker inspect` of all that `docker ps` lists with these options: without any, those that run."""
    identifiers = checked("ps", "--quiet", *options, timeout=20).split()
    if not identifiers:
        return []
    # One that is gone by now is only left out.
    found: list[dict[str, Any]] = json.loads(docker("inspect", "--type", "container", *identifiers)[1] or "[]")
    return found


def called(containers: list[dict[str, Any]], name: str) -> dict[str, Any] | None:
    """The one of that name."""
    return next((container for container in containers if container["Name"] == f"/{name}"), None)


def environment(container: dict[str, Any]) -> dict[str, str]:
    """The environment a container was created with."""
    return dict(item.split("=", 1) for item in container["Config"]["Env"] or [] if "=" in item)


def labels(container: dict[str, Any]) -> dict[str, str]:
    return container["Config"]["Labels"] or {}


def running(container: dict[str, Any] | None) -> bool:
    """Docker counts one that dies over and over as running, too: while it waits for its next start, and after it."""
    if not container or not container["State"]["Running"] or container["State"].get("Restarting"):
        return False
    return not container.get("RestartCount") or health(container) != "starting"


def status(container: dict[str, Any]) -> str:
    """Docker's word for it; the same at each moment of one that dies over and over."""
    told = container["State"]["Status"]
    return str(told) if running(container) or told != "running" else "restarting"


def health(container: dict[str, Any]) -> str:
    """Docker's word for it; empty where it is not asked for."""
    return str((container["State"].get("Health") or {}).get("Status", ""))


def address(container: dict[str, Any]) -> str:
    networks = container["NetworkSettings"]["Networks"]
    return next((network["IPAddress"] for network in networks.values() if network["IPAddress"]), "")
