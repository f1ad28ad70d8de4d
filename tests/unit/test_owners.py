# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A server whose compose file and images stay its owner's: the same transaction, by compose's own commands."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _release

from .model_docker import AGENT, CONF, KEY, Machine

NAME, TAG = f"vaettir-{AGENT}-1", "their-image"
COMMIT = f"replace releases/{AGENT}/pending"
OWNERS: dict[str, Any] = {
    "managed": False,
    "shared": {},
    "stack": {"owners": {"services": {AGENT: TAG}, "built": [AGENT]}},
    "env": {KEY: "https://one.example"},
}


def made(root: Path, patch: pytest.MonkeyPatch) -> Machine:
    """Their agent runs, and shows `theirs`."""
    machine = Machine(root, patch)
    (root / "proxy-configs").mkdir()
    (root / CONF).write_text("theirs\n", encoding="ascii")
    (root / ".env").write_text(f"{KEY}=https://one.example\n", encoding="ascii")
    machine.docker.tag = TAG
    machine.docker.build()
    up(machine)
    return machine


def up(machine: Machine) -> None:
    machine.docker("compose", "up", "--detach", "--force-recreate", AGENT)
    machine.docker.acts.clear()


@pytest.fixture
def machine(memory: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    return made(memory, monkeypatch)


def theirs(machine: Machine) -> list[str]:
    return [release["id"] for release in machine.store.all() if release["by"] == _release.BY_HAND]


def test_a_release_is_theirs_and_says_what_it_drops(machine: Machine) -> None:
    row = machine("one", **OWNERS)
    assert (row["outcome"], row["changed"], machine.docker.met) == ("released", True, {"one"})
    assert row["notes"][0] == f"what was hand-made is kept as release {theirs(machine)[0]}"
    assert row["notes"][-1].startswith("its container was replaced, which dropped its open WebSockets.")
    assert [one.name for one in machine.docker.containers] == [NAME]
    assert {tag.partition(":")[0] for tag in machine.docker.images} == {TAG, f"vaettir-{AGENT}"}
    again = machine("one", **OWNERS)
    assert (again["outcome"], again["changed"], again["notes"]) == ("unchanged", False, [])


def test_check_mode(machine: Machine) -> None:
    before = str(machine.docker.containers)
    row = machine("one", touch=False, **OWNERS)
    assert (row["outcome"], row["changed"]) == ("would change", True)
    assert (machine.root / CONF).read_text() == "theirs\n"
    assert not (machine.root / "releases").exists()
    assert str(machine.docker.containers) == before


@pytest.mark.parametrize("where", ["in its trial", "where visitors are"])
def test_a_release_that_fails_is_undone(machine: Machine, where: str) -> None:
    if where == "in its trial":
        machine.docker.answers["one"] = "proxy_error"
    else:
        machine.fails_for_visitors("one")
    row = machine("one", **OWNERS)
    assert (row["outcome"], row["failed"]) == ("rolled back", True)
    assert machine.docker.met == {"theirs"}
    assert (machine.root / CONF).read_text() == "theirs\n"
    assert machine.store.current().release == theirs(machine)[0]
    assert machine.store.ids() == theirs(machine)
    assert machine.store.pending() is None
    built = machine.docker.image(TAG)
    assert built
    assert built.copies[f"{AGENT}.conf.template"] == b"theirs\n"


@pytest.mark.usefixtures("mortal")
def test_what_died_unverified_is_undone_by_the_next_run(machine: Machine) -> None:
    """Their image has no entry point of ours, which would do it by itself."""
    machine.dies(COMMIT, "one", **OWNERS)
    machine("theirs", state="verified", **OWNERS)
    assert machine.docker.met == {"one"}
    machine.docker.answers["two"] = "proxy_error"
    row = machine("two", **OWNERS)
    assert row["message"].endswith(f"It was rolled back to release {theirs(machine)[0]} (ok).")
    assert machine.docker.met == {"theirs"}
    assert (machine.root / CONF).read_text() == "theirs\n"


@pytest.mark.usefixtures("mortal")
def test_a_trial_that_a_death_left_goes(machine: Machine) -> None:
    machine.dies("agent-proxy state", "one", **OWNERS)
    trial = f"vaettir-{AGENT}-trial"
    assert machine.docker.called(trial)
    notes = machine("theirs", **OWNERS)["notes"]
    assert f"removed {trial}, which an interrupted run had left" in notes
    assert not machine.docker.called(trial)


@pytest.mark.usefixtures("mortal")
@pytest.mark.parametrize("bad", [False, True], ids=["commit", "undo"])
def test_a_death_at_any_moment(memory: Path, bad: bool) -> None:
    """The next run knows what was theirs, and takes nothing unverified for it."""
    for number in itertools.count(1):
        with pytest.MonkeyPatch.context() as patch:
            machine = made(memory / str(number), patch)
            if bad:
                machine.fails_for_visitors("one")
            if not machine.dies(number, "one", **OWNERS):
                return
            last = f"after {machine.docker.acts[-1:]}"
            assert machine("two", **OWNERS)["failed"] is False, last
            assert machine.docker.met == {"two"}, last
            kept = [machine.store.read(release)[f"{AGENT}.conf.template"] for release in theirs(machine)]
            assert kept == [b"theirs\n"], last
            assert machine.store.pending() is None


def test_they_get_back_what_was_theirs(machine: Machine) -> None:
    machine("one", **OWNERS)
    machine("two", **OWNERS)
    row = machine(state="absent", **OWNERS)
    assert (row["outcome"], row["changed"], row["failed"]) == ("removed", True, False)
    assert machine.docker.met == {"theirs"}
    assert (machine.root / CONF).read_text() == "theirs\n"
    assert list(machine.docker.images) == [TAG]
    assert not (machine.root / "releases").exists()
    assert machine(state="absent", **OWNERS)["outcome"] == "unchanged"


def test_records_that_cannot_be_removed_are_said(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine("one", **OWNERS)

    def rmtree(path: str, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise PermissionError(13, "Permission denied", path)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    row = machine(state="absent", **OWNERS)
    assert row["outcome"] == "failed"
    assert row["message"].endswith(f"{machine.store.folder}: Permission denied.")
