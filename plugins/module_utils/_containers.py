# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""An agent's containers: the one that serves, the one that it replaces, and the trial of a release."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from dataclasses import dataclass, field
from typing import Any, Mapping

from . import _docker, _release

CONFIG_HASH = f"{_docker.COMPOSE}config-hash"
TRIAL_LABEL = "io.locki.vaettir.trial"
RETIRED = 8  # seconds that a container gets to fail its health: two of its checks, and a bit
SETTLED = 4  # seconds until Traefik has heard of it: it takes one change in 2 s
COMMAND = ("/bin/sh", "/usr/local/bin/agent-proxy")
KEPT = 100  # connections of a kind: as many visitors at once
KEPT_PATH = "/__vaettir/kept"  # nginx answers it by itself, in every state
KEPT_ORIGIN = "https://kept.invalid"  # nobody's (RFC 2606), so nginx refuses its handshakes by itself: none travels
KEPT_TIMEOUT = 30  # seconds
SPARE = 300  # seconds after the window until a container that does not end is removed


@dataclass(frozen=True)
class Seen:
    """What Docker and compose said, asked for all agents at once. It counts as long as nothing is changed."""

    containers: list[dict[str, Any]]
    images: Mapping[str, dict[str, Any]]
    hashes: Mapping[str, str] = field(default_factory=dict)  # service -> its config hash


class Containers:
    def __init__(self, project: str, name: str) -> None:
        self.seen: Seen | None = None  # where it is there, nobody is asked again
        self.project, self.name = project, name
        self.container_name = f"{project}-{name}-1"
        self.trial_name = f"{project}-{name}-trial"
        self.next_project = f"{project}-next"  # compose makes the new container's definition there
        self.next_name = f"{self.next_project}-{name}-1"

    def prefix(self, kind: str) -> str:
        """Of its containers that were renamed: `old` or `undone`."""
        return f"{self.project}-{self.name}-{kind}-"

    def current(self) -> dict[str, Any] | None:
        if self.seen:
            return _docker.called(self.seen.containers, self.container_name)
        return _docker.inspect("container", self.container_name)

    def image(self, name: str) -> dict[str, Any] | None:
        return self.seen.images.get(name) if self.seen else _docker.inspect("image", name)

    def config_hash(self, root: str, environment: dict[str, str]) -> tuple[str, str]:
        known = self.seen.hashes.get(self.name) if self.seen else None
        return (known, "") if known else compose_hash(root, self.name, environment)

    def all(self) -> list[str]:
        """Names, also of those that drain or are trials, and of what a killed run left, which are not compose's or are
        another project's. A service of the owner's may have the same name, but not our labels."""
        prefixes = (f"{self.project}-{self.name}-", f"{self.next_project}-{self.name}-")
        found = []
        for container in self.seen.containers if self.seen else _docker.containers("--all"):
            labels, name = _docker.labels(container), str(container["Name"]).lstrip("/")
            whose = {labels.get(_docker.AGENT_LABEL), labels.get(TRIAL_LABEL)}
            if self.name in whose and (
                labels.get(f"{_docker.COMPOSE}project") == self.project or name.startswith(prefixes)
            ):
                found.append(name)
        return sorted(found)


def draining(container: dict[str, Any]) -> bool:
    """Whether it was told to end: nothing starts it again."""
    return bool(container["HostConfig"]["RestartPolicy"]["Name"] in ("", "no"))


def execute(*words: str, timeout: float = 60) -> tuple[int, str, str]:
    """`docker exec`: options, the container, the command."""
    return _docker.twice("exec", *words, timeout=timeout)


def state(identifier: str) -> _release.State:
    """What its container command says of it; nothing where that is too old to know the question."""
    status, output, _error = execute(identifier, *COMMAND, "state")
    if status and _docker.RUNTIME_FAILED.search(output):
        raise _docker.DockerError(_docker.last_line(output))
    return _release.parse_state(output if status == 0 else "")


def compose_hashes(root: str, name: str, environment: dict[str, str]) -> tuple[dict[str, str], str]:
    """Compose's digest of a service, or of all (`*`), as it would start it now; or why there is none."""
    words = ("compose", "--profile", "*", "config", "--hash", name)
    status, output, error = _docker.docker(*words, cwd=root, environment=environment)
    pairs = [line.split() for line in output.splitlines()]
    return ({}, _docker.last_line(error)) if status else ({one[0]: one[1] for one in pairs if len(one) == 2}, "")


def compose_hash(root: str, name: str, environment: dict[str, str]) -> tuple[str, str]:
    found, error = compose_hashes(root, name, environment)
    return found.get(name, ""), "" if name in found else error or f"there is no service {name}"


def remove(identifier: str) -> None:
    _docker.docker("container", "rm", "--force", "--volumes", identifier)


def wait_until(healths: tuple[str, ...], identifier: str, timeout: float) -> dict[str, Any] | None:
    """The container once its health is one of these, or when time is up; None where it does not run any more."""
    end = time.monotonic() + timeout
    while True:
        container = _docker.inspect("container", identifier)
        if not container or not _docker.running(container):
            return None
        if _docker.health(container) in healths or time.monotonic() > end:
            return container
        time.sleep(0.1)


def reason(log: str) -> str:
    """The line of a container's error output that says most."""
    own, lines = "agent-proxy: ", [line.strip() for line in log.splitlines() if line.strip()]
    telling = [line for line in lines if "[emerg]" in line or line.startswith(own)]
    line = (telling or lines or ["it says nothing"])[-1]
    return line[len(own) :] if line.startswith(own) else line


def retire(identifier: str) -> None:
    """Traefik sends nobody to an unhealthy container; then it can go without anyone being cut off."""
    if not _docker.running(_docker.inspect("container", identifier)):
        remove(identifier)
        return
    _docker.docker("update", "--restart", "no", identifier)
    execute(identifier, "touch", "/run/vaettir/drain")
    wait_until(("unhealthy",), identifier, RETIRED)
    leave_behind('sleep "$2"; docker kill --signal QUIT "$1"; timeout 5 docker wait "$1"', identifier, SETTLED)


def drain(identifier: str, window: int) -> None:
    """Tells a container to end its sockets after the window, and leaves somebody behind to remove it then."""
    status, _output, error = execute("--detach", identifier, *COMMAND, "drain", str(window))
    if status:
        raise _docker.DockerError(_docker.last_line(error) or f"`docker exec` ended with {status}")
    leave_behind('timeout "$2" docker wait "$1"', identifier, window + SPARE)


def use_up_kept(origin: str) -> None:
    """Asks Traefik on this server so often that it keeps no connection to a worker from before a reload.

    Each brings one more answer of such a worker, which then closes it: none shall wait for a visitor. Traefik keeps
    those of requests and those of WebSocket handshakes apart (any other Upgrade is a third kind, which no visitor
    asks for), and takes the one it used last.
    """
    asked = (
        *("-s", "--insecure", "--noproxy", "*", "--connect-to", "::127.0.0.1:", "--max-time", "5"),
        *("--output", os.devnull, f"{origin}{KEPT_PATH}?[1-{KEPT}]"),
    )
    headers = ("Connection: Upgrade", "Upgrade: websocket", f"Origin: {KEPT_ORIGIN}")
    upgrade = ("--http1.1", *(word for header in headers for word in ("--header", header)))
    words = ("curl", "--fail-early", *asked, "--next", *upgrade, *asked)
    # Whether Traefik answers at all is the verification's question.
    with contextlib.suppress(OSError, subprocess.TimeoutExpired):
        subprocess.run(words, capture_output=True, timeout=KEPT_TIMEOUT, check=False)


def leave_behind(script: str, identifier: str, seconds: int) -> None:
    """A process that outlives this one, and removes a container at its end."""
    nowhere = subprocess.DEVNULL
    words = ["sh", "-c", f'{script}; exec docker container rm --force --volumes "$1"', "sh", identifier, str(seconds)]
    subprocess.Popen(words, stdin=nowhere, stdout=nowhere, stderr=nowhere, start_new_session=True, cwd="/")
