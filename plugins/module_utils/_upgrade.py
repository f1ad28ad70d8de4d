# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Traefik's containers: a deploy starts them, an upgrade replaces Traefik and undoes itself, a removal takes them."""

from __future__ import annotations

import os
import re
import time
from typing import Any

from . import _curl, _docker, _files, _names
from ._fileset import FileSet
from ._transaction import FAILURES, CheckError, Undo, sentence

PREVIOUS = os.path.join(_files.STATE_DIR, "traefik.yml")  # the compose file that the running Traefik was made from
CERTIFICATES = "traefik/acme/acme.json"
ROUTED = ("ok", "offline", "not_a_websocket", "refused_origin")  # curl's words for answers of an agent's own nginx
HEALTHY = 60  # seconds within which what is started must be healthy
PATIENCE = 20  # seconds until a new Traefik has taken every agent in
_COLOUR = re.compile(r"\x1b[^m]*m")


def worse(handshakes: list[dict[str, Any]], before: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The handshakes again; those whose answer is neither an agent's own nor the one from before."""
    wanted = [{**one, "expected": [*ROUTED, was["reason"]]} for one, was in zip(handshakes, before)]
    found = _curl.try_all(wanted, PATIENCE)
    return [{**one, **answer} for one, answer in zip(wanted, found) if not _curl.met(one, answer)]


def _begun(container: dict[str, Any] | None) -> tuple[str, str] | None:
    """Another container, or another start of it, is another one."""
    return (container["Id"], container["State"]["StartedAt"]) if container else None


class Traefik:
    """Traefik, and what it reads Docker through. `touch` is false in check mode."""

    def __init__(self, root: str, project: str, touch: bool) -> None:
        self.root, self.touch = root, touch
        self.project = project
        self.name, self.reader = f"{project}-traefik-1", f"{project}-docker-api-1"
        self.replaced, self.words = False, ""

    # --- a deploy

    def start(self) -> bool:
        """Whether a container is, or would be, another one. A running Traefik stays: it has everybody's WebSocket."""
        traefik, _reader = before = self._running()
        if not self.touch:
            return traefik is None
        if traefik is None:
            self._up("traefik")
        else:
            self._up("docker-api")
            if _docker.health(traefik) != "healthy":
                self._up("--no-recreate", "traefik")
        after = self._running()
        if _begun(after[0]) != _begun(traefik):
            self._remember()
        return [_begun(one) for one in after] != [_begun(one) for one in before]

    def _running(self) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
        """Traefik, and its reader."""
        traefik, reader = (_docker.inspect("container", name) for name in (self.name, self.reader))
        return traefik if _docker.running(traefik) else None, reader if _docker.running(reader) else None

    def _up(self, *words: str, files: tuple[str, ...] = ()) -> None:
        """Until it is healthy."""
        chosen = [word for path in files for word in ("--file", path)] + (["--project-directory", "."] if files else [])
        up = ("--profile", "production", "up", "--detach", "--no-build", "--wait", "--wait-timeout", str(HEALTHY))
        status, _output, error = _docker.twice("compose", *chosen, *up, *words, cwd=self.root, timeout=HEALTHY + 60)
        if status:
            raise _docker.DockerError(f"{words[-1]} did not start: {_docker.last_line(error)}")

    def _remember(self) -> None:
        """For an upgrade that fails."""
        content = _files.read_bytes(os.path.join(self.root, _names.COMPOSE_FILE)) or b""
        _files.write_atomic(os.path.join(self.root, PREVIOUS), content, 0o600)

    # --- an upgrade

    def upgrade(self, image: str, handshakes: list[dict[str, Any]]) -> None:
        """The compose file has the new definition already. No agent may answer worse through it."""
        undo = Undo()
        try:
            with undo:
                undo.step(self._start_previous)
                if not _docker.inspect("image", image):  # while the previous one serves
                    _docker.checked("pull", "--quiet", image, timeout=600)
                before = _curl.try_all(handshakes, 0)
                self._back_up_certificates()
                self.replaced = True
                self._up("--force-recreate", "traefik")
                told = [f"{one['label']}: {one['error']}" for one in worse(handshakes, before)]
                if told:
                    raise CheckError(f"not every agent answers through the new Traefik: {', '.join(told)}.")
                self._remember()
                undo.pop_all()
        except (CheckError, *FAILURES) as failure:
            raise _docker.DockerError(" ".join([sentence(failure), *self._way_back(undo)])) from failure

    def _back_up_certificates(self) -> None:
        """The file is root's, as Traefik is; Docker hands it over with its mode."""
        path = os.path.join(self.root, CERTIFICATES)
        if os.path.exists(path):
            moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            _docker.checked("cp", f"{self.name}:/acme/acme.json", f"{path}.{moment}~")

    def _start_previous(self) -> None:
        """Nothing happens to one that never stopped."""
        self.words = _COLOUR.sub("", "".join(_docker.docker("logs", "--tail", "1", self.name)[1:])).strip()
        override = os.path.exists(os.path.join(self.root, _names.OVERRIDE))
        self._up("traefik", files=(PREVIOUS, *([_names.OVERRIDE] if override else [])))
        content = _files.read_bytes(os.path.join(self.root, PREVIOUS)) or b""
        with _files.locked(self.root):
            FileSet(self.root, True).file(_names.COMPOSE_FILE, content)

    def _way_back(self, undo: Undo) -> list[str]:
        if undo.errors:
            why = "; ".join(undo.errors)
            told = [f"There is no way back to the previous one ({why}): fix its variables and run this again."]
        else:
            told = ["The previous Traefik serves."]
        return [*told, *([f"Last words of the new one: {self.words}"] if self.replaced and self.words else [])]

    # --- a removal

    def remove(self, container: bool) -> list[str]:
        """What goes, or would."""
        ours = f"label={_docker.COMPOSE}project={self.project}"
        listed = _docker.checked("ps", "--all", "--filter", ours, "--format", "{{.Names}}").split()
        containers = [name for name in (self.reader, self.name) if name in listed and (container or name != self.name)]
        volumes = [
            one for one in _docker.checked("volume", "ls", "--quiet").split() if one == f"{self.project}_docker-api"
        ]
        name = f"{self.project}_default"
        networks = _docker.checked("network", "ls", "--filter", ours, "--format", "{{.Name}}").split()
        users = _docker.checked("ps", "--all", "--filter", f"network={name}", "--format", "{{.Names}}").split()
        networks = [name] if name in networks and {*users} <= {*containers} else []
        if self.touch:
            for kind, names in (("container", containers), ("volume", volumes), ("network", networks)):
                for one in names:
                    _docker.checked(kind, "rm", *(["--force", "--volumes"] if kind == "container" else []), one)
        return [*containers, *volumes, *networks]
