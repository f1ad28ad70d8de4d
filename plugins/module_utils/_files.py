# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Atomic files in the project folder, and the record of what we wrote there."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from typing import Any

STATE_DIR = ".locki"
_MANIFEST = os.path.join(STATE_DIR, "manifest.json")


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def room(folder: str) -> dict[str, Any]:
    """What is left where the folder is, or is to be, and whether this user may write there."""
    folder = os.path.abspath(folder)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    found = os.statvfs(folder)
    return {
        "disk_free": found.f_bavail * found.f_frsize,
        "inodes_free": found.f_favail if found.f_files else 1,
        "read_only": bool(found.f_flag & os.ST_RDONLY),
        "writable": os.access(folder, os.W_OK),
    }


def read_bytes(path: str) -> bytes | None:
    """The file's bytes, or None where there is no file."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def readable(path: str) -> bytes | None:
    """As read_bytes(), for who only looks: what cannot be read is not known."""
    try:
        return read_bytes(path)
    except OSError:
        return None


def write_atomic(path: str, content: bytes, mode: int) -> None:
    """Replace the file in one step; a reader or a crash sees the old bytes or the new ones."""
    descriptor, temporary = tempfile.mkstemp(prefix=".locki-", dir=os.path.dirname(path))
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


@contextlib.contextmanager
def locked(root: str) -> Iterator[None]:
    """Two runs at once change the same folder one after the other. The kernel drops the lock of a killed run."""
    os.makedirs(os.path.join(root, STATE_DIR), mode=0o700, exist_ok=True)
    with open(os.path.join(root, STATE_DIR, "lock"), "w", encoding="ascii") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


class Manifest:
    """Digests of what we wrote, by relative path. A path that is not in it belongs to the owner."""

    def __init__(self, root: str) -> None:
        self._path = os.path.join(root, _MANIFEST)
        content = read_bytes(self._path)
        self.exists = content is not None
        self._digests: dict[str, list[str]] = json.loads(content) if content else {}

    def paths(self) -> list[str]:
        return sorted(self._digests)

    def owns(self, path: str) -> bool:
        return path in self._digests

    def wrote(self, path: str, content: bytes) -> bool:
        """True when these bytes are ours, not hand-edited."""
        return digest(content) in self._digests.get(path, [])

    def add(self, path: str, content: bytes) -> None:
        """Record before the write: a run that dies in between must find its own file, old or new."""
        known = self._digests.get(path, [])
        if known[-1:] != [digest(content)]:
            self._digests[path] = [*known[-1:], digest(content)]
            self._save()

    def forget(self, path: str) -> None:
        if self._digests.pop(path, None) is not None:
            self._save()

    def _save(self) -> None:
        write_atomic(self._path, json.dumps(self._digests, indent=1, sort_keys=True).encode(), 0o600)
