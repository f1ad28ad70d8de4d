# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Writes and removes files below one folder, and keeps what its owner wrote there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import time
from collections.abc import Iterable
from glob import glob as matching
from typing import Any

from . import _dotenv, _files

_BEGIN, _END = "# BEGIN locki.vaettir", "# END locki.vaettir"
_BLOCK = re.compile(rf"^{re.escape(_BEGIN)}\n.*?^{re.escape(_END)}(?:\n|\Z)", re.DOTALL | re.MULTILINE)


def with_block(text: str, block: str) -> str:
    """The text with our lines between two markers, where they were or at its end. An empty block has no markers."""
    wanted = f"{_BEGIN}\n{block.rstrip()}\n{_END}\n" if block else ""
    found = _BLOCK.search(text)
    if found:
        return text[: found.start()] + wanted + text[found.end() :]
    newline = "\n" if wanted and text and not text.endswith("\n") else ""
    return text + newline + wanted


def _mode(path: str) -> int:
    return os.stat(path).st_mode & 0o777


class FileSet:
    """Every method changes one thing, and notes it. Without `touch` it notes it only.

    Who touches holds `_files.locked(root)` from before this is made until the last change.
    """

    def __init__(self, root: str, touch: bool) -> None:
        self.root, self.touch = root, touch
        self.changed = False
        self.paths: list[str] = []  # written or removed
        self.backups: list[str] = []  # of hand-edited files
        self.kept: list[str] = []  # the owner's, left alone although they differ
        self.digests: dict[str, str] = {}  # of what each path of file() holds now
        self.env_keys: list[str] = []  # of .env
        self.diff: list[dict[str, str]] = []
        self._manifest = _files.Manifest(root)
        self._directories: list[str] = []

    def result(self) -> dict[str, Any]:
        """What a module returns. A digest may give a weak secret away, so they stay here."""
        return {name: getattr(self, name) for name in ("changed", "paths", "backups", "env_keys", "diff")}

    def directory(self, path: str, mode: int = 0o755) -> None:
        self._directories.append(path)
        full = self._full(path)
        if os.path.isdir(full) and _mode(full) == mode:
            return
        self.changed = True
        self.paths.append(path + "/")
        if self.touch:
            os.makedirs(full, exist_ok=True)
            os.chmod(full, mode)

    def file(self, path: str, content: bytes, mode: int = 0o644, secret: bool = False, keep: bool = False) -> None:
        """`keep` leaves the owner's file as it is."""
        full = self._full(path)
        before = _files.read_bytes(full)
        owners = before is not None and not self._manifest.owns(path)
        if before is not None and owners and keep:
            if before != content:
                self.kept.append(path)
            self.digests[path] = _files.digest(before)
            return
        self.digests[path] = _files.digest(content)
        same = before == content and _mode(full) == mode
        if same and not owners:
            return
        if not same:
            self._note(path, before, content, secret)
        if before is not None and before != content:
            self.back_up(path, before)
        if self.touch:
            os.makedirs(os.path.dirname(full), exist_ok=True)
            self._manifest.add(path, content)
            _files.write_atomic(full, content, mode)

    def listing(
        self,
        path: str,
        glob: str,
        header: str,
        entry: str,
        empty: str,
        extra: Iterable[str] = (),
        without: Iterable[str] = (),
    ) -> None:
        """A file that names those that match `glob`, as they will be with `extra` and `without` the others."""
        found = {os.path.relpath(one, self.root) for one in matching(os.path.join(self.root, glob))}
        names = sorted((found | set(extra)) - set(without))
        self.file(path, (header + ("".join(entry % json.dumps(name) for name in names) or empty)).encode())

    def remove(self, path: str, later: bool = False) -> None:
        """Only what is in our record. `later` notes it only: who calls removes it when nobody needs it any more."""
        full = self._full(path)
        before = _files.read_bytes(full)
        if before is None or not self._manifest.owns(path):
            return
        secret = _mode(full) & 0o077 == 0 or path.startswith("secrets/")  # nobody else may read it
        self._note(path, before, b"", secret)
        if later:
            return
        if not secret:
            self.back_up(path, before)
        if self.touch:
            os.unlink(full)
            self._manifest.forget(path)
            self._remove_empty(os.path.dirname(path))

    def env(self, present: dict[str, Any], absent: list[str]) -> None:
        full = self._full(".env")
        content = _files.read_bytes(full)
        # surrogateescape: bytes that are not UTF-8 come out as they went in
        before = (content or b"").decode("utf-8", "surrogateescape")
        after = _dotenv.change(before, {key: str(value) for key, value in present.items()}, absent)
        if before == after and content is not None and _mode(full) == 0o600:
            return
        old, new = _dotenv.read(before), _dotenv.read(after)
        self.env_keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        self._differs(
            ".env",
            "".join(f"{key}=(value)\n" for key in self.env_keys if key in old),
            "".join(f"{key}=(new value)\n" for key in self.env_keys if key in new),
        )
        if self.touch:
            _files.write_atomic(full, after.encode("utf-8", "surrogateescape"), 0o600)

    def block(self, path: str, block: str) -> None:
        """Our lines in a file that is another program's or the owner's, and stays theirs."""
        full = os.path.realpath(self._full(path))
        content = _files.read_bytes(full)
        before = (content or b"").decode("utf-8", "surrogateescape")
        after = with_block(before, block)
        if before == after:
            return
        named = os.path.relpath(self._full(path), self.root)
        self._note(named, content, after.encode("utf-8", "surrogateescape"), False)
        if self.touch:
            os.makedirs(os.path.dirname(full), exist_ok=True)
            mode = 0o644 if content is None else _mode(full)
            _files.write_atomic(full, after.encode("utf-8", "surrogateescape"), mode)

    def back_up(self, path: str, before: bytes) -> None:
        """A hand-edited file has its backup next to it."""
        if self._manifest.wrote(path, before):
            return
        backup = f"{path}.{time.strftime('%Y%m%dT%H%M%S')}~"
        self.backups.append(backup)
        if self.touch:
            _files.write_atomic(self._full(backup), before, _mode(self._full(path)))

    def _full(self, path: str) -> str:
        return os.path.join(self.root, path)

    def _remove_empty(self, path: str) -> None:
        """One agent's own folder goes with its last file; those at the top, and the wanted ones, stay."""
        if os.path.dirname(path) and path not in self._directories:
            with contextlib.suppress(OSError):
                os.rmdir(self._full(path))

    def _note(self, path: str, before: bytes | None, after: bytes, secret: bool) -> None:
        old, new = (before or b"").decode(errors="replace"), after.decode(errors="replace")
        if secret:
            old, new = old and "(a secret)\n", new and "(a new secret)\n"
        self._differs(path, old, new)

    def _differs(self, path: str, before: str, after: str) -> None:
        self.changed = True
        self.paths.append(path)
        self.diff.append({"before_header": path, "after_header": path, "before": before, "after": after})
