# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The versions of ansible-core that tests/versions.py knows are those that everybody is told."""

from __future__ import annotations

from typing import Any

import yaml

from tests import versions
from tests.rig.shell import ROOT

SUPPORTED = [core for core in versions.CORES if core not in versions.MAY_FAIL]


def read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text(encoding="utf-8"))


def test_what_a_newcomer_installs() -> None:
    wanted = f"pip install 'ansible-core>={SUPPORTED[0]},<{versions.MAY_FAIL[0]}'"
    for page in ("README.md", "docs/versions.md"):
        assert wanted in (ROOT / page).read_text(encoding="utf-8"), page


def test_what_the_collection_says_of_itself() -> None:
    assert read("meta/runtime.yml")["requires_ansible"] == f">={SUPPORTED[0]}.0"


def test_what_the_workflow_runs() -> None:
    job = read(".github/workflows/test.yml")["jobs"]["versions"]
    assert {entry["core"] for entry in job["strategy"]["matrix"]["include"]} == set(versions.CORES)
    assert all(core in job["continue-on-error"] for core in versions.MAY_FAIL)
    assert SUPPORTED[-1] == versions.NEWEST


def test_the_table_is_of_all_of_them_and_nothing_that_is_supported_failed() -> None:
    made = read("tests/versions.json")
    assert set(made) == set(versions.CORES)
    assert [core for core in SUPPORTED if not versions.good(made[core])] == []
    assert [core for core in versions.CORES if not made[core]["core"].startswith(f"{core}.")] == []
