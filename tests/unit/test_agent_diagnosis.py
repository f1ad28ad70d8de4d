# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What the server knows of a chain is told whatever its files are."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _files, _release
from ansible_collections.locki.vaettir.plugins.modules import agent_diagnosis

from .module_run import run_module


def test_files_that_cannot_be_read_are_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = "proxy-configs/ocapistaine.conf.template"
    (tmp_path / "proxy-configs").mkdir()
    (tmp_path / _files.STATE_DIR).mkdir()
    (tmp_path / conf).write_text("events {}\n", encoding="utf-8")
    _files.Manifest(str(tmp_path)).add(conf, b"events {}\n")
    store = _release.Store(str(tmp_path), "ocapistaine")
    release = store.create({conf: Path(conf).name}, {"image": ""}, 0)
    store.switch(_release.Current(release))
    (tmp_path / conf).unlink()
    # Docker makes directories for mounted files that are not there.
    for path in (conf, ".env", "agents/ocapistaine.yml", "traefik/dynamic/own.yml"):
        (tmp_path / path).mkdir(parents=True)
    monkeypatch.setenv("PATH", str(tmp_path))  # no docker
    told = run_module(
        agent_diagnosis, capsys, root=str(tmp_path), name="ocapistaine", target_url="http://127.0.0.1:1", timeout=1
    )
    assert not told.get("failed"), told
    assert told["env"] == {"target": ""}
    assert (told["gone"], told["edited"], told["fragment_edited"]) == ([conf], [], False)
    assert told["traefik"] == {}


def test_a_writer_hears_of_them(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        _files.read_bytes(str(tmp_path))
    assert _files.readable(str(tmp_path)) is None
