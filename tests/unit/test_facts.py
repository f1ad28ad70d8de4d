# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What a diagnosis knows of a container that a release has just switched."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _facts, _files, _names, _release

KEY = _names.target_url_key("one")
CONF = "proxy-configs/one.conf.template"


@pytest.mark.parametrize("runs", ["old", "new"])
def test_the_target_of_what_runs(tmp_path: Path, runs: str) -> None:
    """A container that was reloaded keeps the environment that it was made with."""
    live, store = tmp_path / CONF, _release.Store(str(tmp_path), "one")
    live.parent.mkdir()
    live.write_text("conf", encoding="utf-8")
    made = {}
    for number, target in enumerate(("old", "new")):
        (tmp_path / ".env").write_text(f"{KEY}=https://{target}.example\n", encoding="utf-8")
        made[target] = store.create({CONF: "one.conf.template"}, {"by": "me", "image": "x"}, number)
    store.adopt_current(_release.Current(made["old"]))
    values = {target: store.read(release)[_release.VALUES] for target, release in made.items()}
    container = {"Name": "/vaettir-one-1", "Config": {"Env": [f"{KEY}=https://first.example"]}}
    server: Any = SimpleNamespace(project="vaettir", containers=[container])
    chain = _facts.Chain(server, str(tmp_path), {"name": "one"})
    chain.state = _release.State(files={_release.VALUES: _files.digest(values[runs])})
    assert chain.used() == ("https://old.example" if runs == "old" else "https://first.example")
    store.begin(_release.Current(made["new"]))
    assert chain.used() == f"https://{runs}.example"
    store.abandon()
