# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What all unit tests share. They import plugins by their full names: pyproject.toml puts .collections on the path."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible.plugins.loader import init_plugin_loader
from ansible_collections.locki.vaettir.plugins.module_utils._transaction import Undo
from hypothesis import settings

from .death import Killed, quiet
from .model_docker import Machine

# The same examples in every run, however slow the machine; found failures become tests, not a database's entries.
settings.register_profile("project", deadline=None, derandomize=True, database=None)
settings.load_profile("project")


@pytest.fixture(scope="session")
def plugin_loader() -> None:
    """Not while tests are collected: no collection could be imported any more."""
    init_plugin_loader()


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder for servers: on a disk that is busy, hundreds of them would be slow."""
    fast = "/dev/shm"
    with tempfile.TemporaryDirectory(dir=fast if os.access(fast, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture
def machine(memory: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A server on which the module releases; nothing is on it yet."""
    return Machine(memory, monkeypatch)


@pytest.fixture
def mortal(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Transactions know that the dead undo nothing."""
    undo = Undo.__exit__

    def leave(stack: Undo, kind: type[BaseException] | None, *more: object) -> bool | None:
        return False if kind is Killed else undo(stack, kind, *more)  # type: ignore[arg-type]

    monkeypatch.setattr(Undo, "__exit__", leave)
    yield
    quiet()
