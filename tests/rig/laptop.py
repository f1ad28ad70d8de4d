# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A laptop with OpenSSH and nothing else: this machine, whose app is the outside world's."""

from __future__ import annotations

import shlex
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .shell import run

SECONDS = 8  # that a client gets to fail


@dataclass
class Laptop:
    """`line` is what a deploy prints; the rest is what this rig has elsewhere."""

    folder: Path
    line: str
    server: str
    app: str

    def key(self, name: str = "key") -> Path:
        path = self.folder / name
        if not path.exists():
            run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", f"{name}@laptop", "-f", path])
        return path

    def public(self, name: str = "key") -> str:
        return self.key(name).with_suffix(".pub").read_text(encoding="ascii").strip()

    def words(self, *more: str, key: str = "key", line: str = "") -> list[str]:
        own = (
            *("-o", f"UserKnownHostsFile={self.folder / 'known_hosts'}", "-o", "StrictHostKeyChecking=accept-new"),
            *("-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes", "-o", "IdentityAgent=none", "-F", "none"),
            *("-i", str(self.key(key)), *more),
        )
        ssh, *rest = shlex.split(line or self.line)
        return [
            ssh,
            *own,
            *(
                word.replace("localhost:9000", self.app).replace("@one.vaettir.example", f"@{self.server}")
                for word in rest
            ),
        ]

    def fails(self, *more: str, key: str = "key", line: str = "") -> str:
        """What a client says that does not get what it wants; one that stays connected is ended."""
        try:
            done = subprocess.run(
                self.words(*more, key=key, line=line), capture_output=True, text=True, timeout=SECONDS, check=False
            )
        except subprocess.TimeoutExpired as stays:
            return f"stays: {(stays.stderr or b'').decode()}"
        return f"{done.returncode}: {done.stderr or done.stdout}"

    @contextmanager
    def connected(self, *more: str, key: str = "key", line: str = "") -> Iterator[subprocess.Popen[str]]:
        with subprocess.Popen(
            self.words(*more, key=key, line=line),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            try:
                yield process
            finally:
                process.send_signal(signal.SIGCONT)
                process.terminate()
                process.wait(SECONDS)
