# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A laptop with OpenSSH and an app, and nothing else: a container for each `ssh` that somebody starts on it."""

from __future__ import annotations

import contextlib
import secrets
import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from . import images
from .shell import LABEL, run

SECONDS = 8  # that a client gets to fail
HOME = "/laptop"


@dataclass
class Laptop:
    """`line` is what a deploy prints; `world` is the container whose network, and so whose app, is the laptop's."""

    folder: Path
    server: str  # the address, as no resolver of the test machine's knows the agent's name
    world: str
    line: str = ""

    def public(self, name: str = "key") -> str:
        path = self.folder / name
        if not path.exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"{name}@laptop", "-f", path])
        return path.with_suffix(".pub").read_text(encoding="ascii").strip()

    def words(self, *more: str, key: str = "key", line: str = "") -> list[str]:
        """The line as it is, and what its owner would be asked or have in ~/.ssh."""
        self.public(key)
        own = ["UserKnownHostsFile=/laptop/known_hosts", "StrictHostKeyChecking=accept-new", "BatchMode=yes"]
        own += ["IdentitiesOnly=yes", f"HostName={self.server}"]
        ssh, *rest = shlex.split(line or self.line)
        options = [word for option in own for word in ("-o", option)]
        return [ssh, "-F", "none", *options, "-i", f"{HOME}/{key}", *more, *rest]

    @contextmanager
    def connected(self, *more: str, key: str = "key", line: str = "") -> Iterator[str]:
        """Until the end of the block; the container's name."""
        name = f"{self.world}-laptop-{secrets.token_hex(3)}"
        options = ("--label", LABEL, "--network", f"container:{self.world}", "--volume", f"{self.folder}:{HOME}")
        run(["docker", "run", "-d", "--name", name, *options, images.TUNNEL, *self.words(*more, key=key, line=line)])
        try:
            yield name
        finally:
            run(["docker", "rm", "-f", name], check=False)

    def fails(self, *more: str, key: str = "key", line: str = "") -> str:
        """What a client says that does not get what it wants; one that stays connected is ended."""
        with self.connected(*more, key=key, line=line) as name:
            status = "stays"
            with contextlib.suppress(subprocess.TimeoutExpired):
                status = run(["docker", "wait", name], timeout=SECONDS).stdout.strip()
            said = run(["docker", "logs", name])
        return f"{status}: {said.stderr or said.stdout}"


def ended(name: str) -> bool:
    return run(["docker", "inspect", "-f", "{{.State.Running}}", name]).stdout.strip() == "false"
