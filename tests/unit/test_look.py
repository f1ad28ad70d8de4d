# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Agents that are as they are wanted: verified without a lock, and Docker is asked once for all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _docker, _look, _release
from ansible_collections.locki.vaettir.plugins.module_utils._agent import Managed
from ansible_collections.locki.vaettir.plugins.module_utils._server import Server, Wanted

from .model_docker import Machine


@pytest.fixture
def machine(memory: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine(memory, monkeypatch)
    made("one")
    made.docker.acts = []
    return made


@pytest.fixture
def transactions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Locks that were taken."""
    taken: list[str] = []
    locked = _release.Store.locked

    def noted(store: _release.Store, by: str) -> Any:
        taken.append(store.name)
        return locked(store, by)

    monkeypatch.setattr(_release.Store, "locked", noted)
    return taken


def test_what_is_as_it_is_wanted_needs_no_lock(machine: Machine, transactions: list[str]) -> None:
    row = machine("one")
    assert (row["outcome"], row["changed"], row["verified"], transactions) == ("unchanged", False, True, [])
    asked = [act.split()[0] for act in machine.docker.acts]
    assert sorted(asked) == ["compose", "exec", "inspect", "inspect", "inspect", "ps"]  # container, image, its base


@pytest.mark.parametrize("conf", ["two", "bad"])
def test_what_differs_is_a_transaction(machine: Machine, transactions: list[str], conf: str) -> None:
    assert machine(conf)["switched"]
    assert transactions


def test_what_does_not_answer_is_a_transaction(machine: Machine, transactions: list[str]) -> None:
    machine.fails_for_visitors("one")
    assert (machine("one")["outcome"], len(transactions)) == ("failed", 1)


def test_the_records_are_kept_up_to_date(machine: Machine, transactions: list[str]) -> None:
    """What was released while the laptop was away is verified as soon as it is seen online."""
    release = machine.store.current().release
    machine.store.note(release, online=False)
    assert machine("one")["outcome"] == "unchanged"
    assert machine.store.facts(release)["online"] is True
    assert len(transactions) == 1


def test_what_a_run_works_on_is_waited_for(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_release.Store.locked.__wrapped__, "__defaults__", (0,))  # type: ignore[attr-defined]
    with machine.store.locked("mallory@laptop"):
        row = machine("one")
    assert row["failed"]
    assert "is being deployed by mallory@laptop" in row["message"]


def test_what_an_interrupted_run_left_is_cleared_up(machine: Machine, transactions: list[str]) -> None:
    trial = machine.docker.containers[0]
    machine.docker.add(f"vaettir-{machine.docker.agent}-trial", machine.docker.tag, {}, trial.labels)
    assert any("an interrupted run had left" in note for note in machine("one")["notes"])
    assert transactions


# --- many agents ------------------------------------------------------------------------------------------------------


def container(name: str, **env: str) -> dict[str, Any]:
    values = [f"{key}={value}" for key, value in env.items()]
    return {"Name": f"/vaettir-{name}-1", "Config": {"Env": values, "Labels": {}}}


@pytest.mark.parametrize("invites", [("one", "one"), ("one", "two")])
def test_docker_is_asked_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, invites: tuple[str, str]) -> None:
    there = [
        container("a", A_TARGET_URL="https://a", DISCORD_INVITE_URL=invites[0], OTHER="1"),
        container("b", B_TARGET_URL="https://b", DISCORD_INVITE_URL=invites[1], OTHER="2"),
    ]
    asked: list[tuple[str, ...]] = []

    def docker(*words: str, environment: dict[str, str] | None = None, **_more: Any) -> tuple[int, str, str]:
        asked.append(words)
        if words[0] == "compose":
            assert environment == {
                "A_TARGET_URL": "https://a",
                "B_TARGET_URL": "https://b",
                "DISCORD_INVITE_URL": "one",
            }
            return 0, "a 1\nb 2\n", ""
        return 0, '[{"Id": "sha256:1"}]', ""

    monkeypatch.setattr(_docker, "containers", lambda *_options: there)
    monkeypatch.setattr(_docker, "docker", docker)
    agents = [Managed(Server(str(tmp_path), "vaettir"), Wanted(name, settings={"connect_timeout": 1})) for name in "ab"]
    _look.look(agents)
    found = [agent.containers.config_hash(str(tmp_path), {}) for agent in agents if invites[0] == invites[1]]
    assert found in ([("1", ""), ("2", "")], [])
    kinds = sorted(words[0] for words in asked)
    assert kinds == (["compose", "inspect"] if found else ["inspect"])
    assert all(agent.containers.current() is one for agent, one in zip(agents, there, strict=True))


def test_an_image_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"a": "sha256:1", "c": "sha256:3"}

    def docker(*words: str, **_more: Any) -> tuple[int, str, str]:
        names = words[3:]
        found = ", ".join(f'{{"Id": "{known[name]}"}}' for name in names if name in known)
        return int(not set(names) <= set(known)), f"[{found}]", ""

    monkeypatch.setattr(_docker, "docker", docker)
    assert {name: image["Id"] for name, image in _docker.images(["c", "a", "b", "", "c"]).items()} == known
    assert _docker.images([""]) == {}
