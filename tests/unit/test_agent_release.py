# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A release from its begin to its end, with a docker command that only remembers."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _agent, _docker, _files, _release
from ansible_collections.locki.vaettir.plugins.modules import agent_container, agent_release

from .module_run import run_module

AGENT = "ocapistaine"
ORIGIN = "https://ocapistaine.vaettir.example"
CONF = "proxy-configs/ocapistaine.conf.template"
FILES = {CONF: "ocapistaine.conf.template", "agents/ocapistaine.yml": "compose.yml"}
OWNER = {"user": "claire", "node": "laptop", "pid": 4711, "started": "17", "boot": "b"}
OTHER = {**OWNER, "started": "18"}


class Docker:
    """Images by name, and no containers."""

    def __init__(self) -> None:
        self.images: dict[str, str] = {"vaettir-ocapistaine:proxy": "sha256:1"}

    def __call__(self, *words: str, **_more: Any) -> tuple[int, str, str]:
        if words[:3] == ("inspect", "--type", "image") and words[3] in self.images:
            return (
                0,
                json.dumps([{"Id": self.images[words[3]], "Config": {"Labels": {_docker.AGENT_LABEL: AGENT}}}]),
                "",
            )
        if words[0] == "inspect":
            return 1, "", "no such object"
        if words[0] == "tag":
            self.images[words[2]] = self.images.get(words[1], words[1])
        if words[:2] == ("image", "rm"):
            self.images.pop(words[2], None)
        return 0, "", ""


class Run:
    def __init__(self, root: Path, docker: Docker, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.docker, self.capsys = root, docker, capsys
        self.store = _release.Store(str(root), AGENT)
        self.refused = ""  # why a trial fails

    def tried_out(self, _module: object, _release_id: str) -> dict[str, Any]:
        if self.refused:
            raise _release.ReleaseError(self.refused)
        return {"Id": "trial", "NetworkSettings": {"Networks": {}}}

    def __call__(self, state: str, **more: Any) -> Any:
        given = {"root": str(self.root), "name": AGENT, "state": state, "owner": OWNER, "files": FILES, **more}
        return run_module(agent_release, self.capsys, **given)

    def undo(self, **more: Any) -> Any:
        given = {"root": str(self.root), "name": AGENT, "action": "undo", **more}
        return run_module(agent_container, self.capsys, **given)

    def write(self, path: str, text: str, ours: bool = True) -> None:
        full = self.root / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_text(text)
        if ours:
            (self.root / _files.STATE_DIR).mkdir(exist_ok=True)
            _files.Manifest(str(self.root)).add(path, text.encode())

    def switch(self, release: str) -> None:
        self.store.switch(_release.Current(release, [release]))


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    docker = Docker()
    monkeypatch.setattr(_docker, "docker", docker)
    found = Run(tmp_path, docker, capsys)
    monkeypatch.setattr(agent_release.AgentRelease, "tried_out", lambda *words: found.tried_out(*words))
    found.write(CONF, "one\n")
    return found


def test_a_release_that_fails_goes(run: Run) -> None:
    run("begun")
    made = run("prepared")
    assert made["made"]
    assert run("ended", release=made["release"])["removed"] == [made["release"]]
    assert run.store.ids() == []
    assert list(run.docker.images) == ["vaettir-ocapistaine:proxy"]
    assert run.store.lock() == {}


def test_one_that_is_there_already_stays(run: Run) -> None:
    """A rollback to what was by hand: it is taken as it is, and its failure does not remove it."""
    by_hand = run.store.create(FILES, {"by": _release.BY_HAND, "image": "sha256:1"}, time.time())
    run("begun")
    again = run("prepared")
    assert (again["release"], again["made"]) == (by_hand, False)
    run.refused = "nginx refuses it"
    assert run("prepared")["msg"] == "nginx refuses it"
    assert run("ended", release=by_hand)["removed"] == []
    assert run.store.ids() == [by_hand]
    assert f"vaettir-ocapistaine:{by_hand}" in run.docker.images


def test_another_runs_release_stays(run: Run) -> None:
    run("begun")
    release = run("prepared")["release"]
    run("ended", release="")
    run("begun", owner=OTHER)
    assert run("ended", owner=OTHER, release=release)["removed"] == []


def test_what_could_not_be_taken_back_is_the_next_runs(run: Run) -> None:
    run("begun")
    release = run("prepared")["release"]
    run.switch(release)
    assert run("ended", release=release)["removed"] == []
    assert run.store.before() is not None


def test_it_was_so_before(run: Run) -> None:
    """A release that stays although its app is broken is not made again by the next run."""
    run("begun")
    one = run("prepared")["release"]
    run.switch(one)
    run("ended", release=one, verified=True)
    run.write(CONF, "two\n")
    run("begun")
    two = run("prepared")["release"]
    run.switch(two)
    assert run("ended", release="")["removed"] == []
    assert run.store.before() is None
    begun = run("begun")
    assert (begun["previous"], begun["previous_image"], begun["healed"]) == (two, "sha256:1", [])
    assert run.store.current().release == two
    assert run.store.facts(two)["former"] == one


def test_verified(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("begun")
    release = run("prepared")["release"]
    run.switch(release)
    run("ended", release="")
    monkeypatch.setattr(_release, "iso", lambda _now: "first")
    run("begun")
    run("ended", verified=True)
    assert run.store.facts(release)["verified"] == "first", "it was not yet"
    monkeypatch.setattr(_release, "iso", lambda _now: "second")
    run("ended", verified=True)
    assert run.store.facts(release)["verified"] == "first", "a run that changed nothing"
    run("ended", verified=True, release=release)
    assert run.store.facts(release)["verified"] == "second", "a run that put it into force"


def test_begin_that_fails_gives_the_lock_back(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_agent.Agent, "heal", full)
    assert "No space left" in run("begun")["msg"]
    assert run.store.lock() == {}


def test_a_working_run_keeps_its_lock(run: Run) -> None:
    run("begun")
    run.store.take(OWNER, time.time() - 800)
    run("prepared")
    assert run("begun", owner=OTHER)["locked"]["age"] < 10
    run.store.take(OTHER, time.time())
    sentence = "another run (claire@laptop, process 4711) took the agent over"
    assert run("prepared")["msg"] == sentence
    assert run("ended")["msg"] == sentence
    assert run.undo(owner=OWNER)["msg"] == sentence
    assert run.store.lock()["started"] == "18"


def test_a_killed_runs_last_step_is_waited_for(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run("begun")
    with run.store.busy():
        assert run("begun", owner=OTHER)["locked"]["started"] == "17", "who is locked out need not wait"
        monkeypatch.setattr(_release, "PATIENCE", 0)
        assert "still acts on ocapistaine" in run("begun", owner=OTHER, break_lock=True)["msg"]
        assert "still acts on ocapistaine" in run.undo()["msg"]
        assert run.store.lock()["started"] == "17"
    assert run("begun", owner=OTHER, break_lock=True)["locked"] == {}


@pytest.mark.parametrize(("draining", "kept_at", "asked"), [(3, ORIGIN, [ORIGIN]), (0, ORIGIN, []), (3, "", [])])
def test_nobody_meets_the_rules_that_were_undone(
    run: Run, monkeypatch: pytest.MonkeyPatch, draining: int, kept_at: str, asked: list[str]
) -> None:
    run("begun")
    release = run("prepared")["release"]
    run.switch(release)
    found: list[str] = []
    container = {"Id": "1", "State": {"Running": True}, "Config": {"Labels": {_docker.AGENT_LABEL: AGENT}}}
    monkeypatch.setattr(_agent.Agent, "current", lambda _agent: container)
    monkeypatch.setattr(_agent, "execute", lambda *_words, **_more: (0, "reloaded\n", ""))
    monkeypatch.setattr(_agent, "state", lambda _identifier: _release.State(draining=draining))
    monkeypatch.setattr(_docker, "address", lambda _container: "192.0.2.1")
    monkeypatch.setattr(_agent, "use_up_kept", found.append)
    assert run.undo(kept_at=kept_at)["changed"]
    assert run.store.current().release != release
    assert found == asked


def test_check_mode_makes_nothing(run: Run) -> None:
    given = {"root": str(run.root), "name": AGENT, "owner": OWNER, "files": FILES}
    for state in ("begun", "prepared", "ended"):
        assert "msg" not in run_module(agent_release, run.capsys, check=True, state=state, **given)
    assert not (run.root / "releases").exists()


@pytest.mark.parametrize(
    ("conf", "env", "kept"),
    [
        ("by hand", "", True),
        ("", "OCAPISTAINE_TARGET_URL=https://a.example\n", True),
        ("", "OTHER=x\n", False),
        ("ours", "OCAPISTAINE_TARGET_URL=https://a.example\n", False),
    ],
)
def test_what_was_there_before_us_is_kept(run: Run, conf: str, env: str, kept: bool) -> None:
    """Nothing of it runs, nor has an image."""
    run.docker.images.clear()
    (run.root / CONF).unlink()
    _files.Manifest(str(run.root)).forget(CONF)
    run.write(".env", env, ours=False)
    if conf:
        run.write(CONF, conf, ours=conf == "ours")
    begun = run("begun")
    assert (begun["kept"] != "", begun["previous"] != "", begun["previous_image"]) == (kept, kept, "")
    if kept:
        run("ended", release="")
        assert run("begun")["previous"] == begun["kept"], "once"
        run.write(CONF, "ours\n")
        run.write(".env", "OCAPISTAINE_TARGET_URL=https://b.example\n", ours=False)
        run("restored", release=begun["kept"])
        assert (run.root / ".env").read_text() == env
        assert (run.root / CONF).exists() == bool(conf)


def test_what_a_rollback_brings_back(run: Run) -> None:
    run.write(".env", "OCAPISTAINE_TARGET_URL=https://a.example\n", ours=False)
    run("begun")
    release = run("prepared", probe={"url": "https://ocapistaine.example"})["release"]
    run.write(CONF, "two\n")
    given = {"root": str(run.root), "name": AGENT, "files": FILES, "state": "restored", "release": release}
    planned = run_module(agent_release, run.capsys, check=True, **given)
    assert (run.root / CONF).read_text() == "two\n"
    done = run_module(agent_release, run.capsys, **given)
    assert (run.root / CONF).read_text() == "one\n"
    assert planned == done
    assert done["changed"]
    assert done["paths"] == [CONF]
    assert [(change["before"], change["after"]) for change in done["diff"]] == [("two\n", "one\n")]
    assert done["probe"] == {"url": "https://ocapistaine.example"}
    assert done["values"] == {"OCAPISTAINE_TARGET_URL": "https://a.example", "DISCORD_INVITE_URL": ""}
    again = run_module(agent_release, run.capsys, **given)
    assert (again["changed"], again["diff"]) == (False, [])
