# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The module agent_release on a server whose Docker is in memory: its states, and what they leave behind."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _files, _module, _names, _probe, _release
from ansible_collections.locki.vaettir.plugins.module_utils._switch import Switch
from ansible_collections.locki.vaettir.plugins.modules import agent_release

from .model_docker import AGENT, CONF, FRAGMENT, KEY, SETTINGS, SHARED, Machine
from .module_run import run_module

NAME = f"vaettir-{AGENT}-1"
NOWHERE = "20000101T000000Z"


@pytest.fixture
def one(machine: Machine) -> str:
    """The release that a server has."""
    machine("one")
    return machine.store.current().release


def contents(machine: Machine) -> dict[str, bytes]:
    """Everything below the project folder."""
    files = (path for path in machine.root.rglob("*") if path.is_file())
    return {str(path.relative_to(machine.root)): path.read_bytes() for path in files}


def tags(machine: Machine) -> list[str]:
    return sorted(tag.partition(":")[2] for tag in machine.docker.images)


# --- present ----------------------------------------------------------------------------------------------------------


def test_a_row(machine: Machine) -> None:
    row = machine("one")
    assert row.pop("seconds") >= 0
    assert row == {
        "server": "server1",
        "agent": AGENT,
        "outcome": "started",
        "url": SETTINGS["public_origin"],
        "release": machine.store.current().release,
        "changed": True,
        "failed": False,
        "switched": True,
        "online": True,
        "trusted": True,
        "verified": True,
        "notes": [],
        "message": f"{AGENT} on server1: WebSocket upgrade verified at {SETTINGS['public_origin']}",
        "handshake": {
            "label": AGENT,
            "url": f"{SETTINGS['public_origin']}/ws",
            "origin": SETTINGS["public_origin"],
            "upgrade": True,
            "expected": ["ok"],
        },
    }


def test_a_release_that_fails_goes(machine: Machine, one: str) -> None:
    machine.docker.answers["two"] = "proxy_error"
    files = machine.files()
    row = machine("two")
    assert row["message"].startswith(f"{AGENT} on server1: in its trial, which no visitor met: it answers proxy_error.")
    assert (row["outcome"], row["release"]) == ("rolled back", one)
    assert machine.store.ids() == [one]
    assert tags(machine) == [one, "proxy"]
    assert machine.files() == files
    assert not machine.store.busy()


def test_a_kept_release_that_fails_stays(machine: Machine, one: str) -> None:
    machine("two")
    machine.docker.answers["one"] = "proxy_error"
    row = machine(state="previous")
    assert (row["outcome"], row["failed"]) == ("rolled back", True)
    assert one in machine.store.ids()
    assert one in tags(machine)
    assert machine.docker.met == {"two"}


def test_it_was_so_before(machine: Machine, one: str) -> None:
    """A release that stays although its app is broken is not made again by the next run."""
    machine.docker.answers.update(one="proxy_error", two="proxy_error")
    row = machine("two")
    assert (row["outcome"], row["changed"], row["failed"], row["verified"]) == ("failed", True, True, False)
    assert row["message"].endswith("It was so before this release, which stays.")
    two = machine.store.current().release
    assert (row["release"], machine.store.ids()) == (two, [two, one])
    assert machine.store.facts(two)["former"] == one
    assert machine.store.facts(two)["verified"] is None
    again = machine("two")
    assert (again["outcome"], again["changed"], again["notes"]) == ("failed", False, [])
    assert machine.store.ids() == [two, one]


def test_verified(machine: Machine, one: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def runs(moment: str, **more: Any) -> tuple[Any, Any]:
        monkeypatch.setattr(_release, "iso", lambda _now: moment)
        machine("one", **more)
        facts = machine.store.facts(one)
        return facts["verified"], facts["online"]

    machine.store.note(one, verified=None)
    machine.docker.answers["one"] = "offline"
    assert runs("first") == ("first", False), "it was not yet"
    assert runs("second") == ("first", False), "a run that changed nothing"
    machine.docker.answers.clear()
    assert runs("third") == ("third", True), "there is an app now"
    machine("two")
    assert runs("fourth", state="previous") == ("fourth", True), "a run that switched to it"


def test_the_one_before_and_the_last_verified_are_kept(machine: Machine, one: str) -> None:
    kept = [one]
    for conf in ("two", "three", "four"):
        machine(conf, keep_releases=1)
        kept = [machine.store.current().release, *kept][:2]
        assert machine.store.ids() == kept
        assert tags(machine) == sorted([*kept, "proxy"])


def test_what_an_interrupted_run_left_is_said(machine: Machine, one: str) -> None:
    machine.store.begin(_release.Current(one, action="reload"))
    machine.store.let_go()
    recovered = f"{one} is active: what an interrupted run had switched to was not verified"
    assert machine("one", touch=False)["notes"] == [f"would be cleared up: {recovered}"]
    assert machine("one")["notes"] == [recovered]
    assert machine("one")["notes"] == []


def test_a_run_that_fails_at_its_begin_gives_the_lock_back(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_words: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Switch, "recover", full)
    assert machine("one")["message"] == f"{AGENT} on server1: a file: No space left on device."
    assert not machine.store.busy()


def test_one_agent_fails_alone(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    def one_fails(_module: Any, agent: dict[str, Any]) -> dict[str, Any]:
        if agent["name"] == "first":
            raise _release.ReleaseError("it is gone.")
        return {"agent": agent["name"], "changed": True}

    machine("one")
    machine.module.params["agents"] = [
        {**machine.module.params["agents"][0], "name": name} for name in ("first", "last")
    ]
    monkeypatch.setattr(agent_release.AgentRelease, "present", one_fails)
    made = machine.module.run()
    assert made["changed"]
    first, last = made["agents"]
    assert (first["agent"], first["outcome"], first["message"]) == ("first", "failed", "first on server1: it is gone.")
    assert last == {"agent": "last", "changed": True}


def test_an_authority_that_cannot_be_read_is_a_sentence(
    machine: Machine, one: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(**_words: Any) -> Any:
        raise ValueError("ca_path /x cannot be used: gone.")

    monkeypatch.setattr(_probe, "ask", ask)
    row = machine("two")
    assert row["message"].startswith(f"{AGENT} on server1: ca_path /x cannot be used: gone. It was rolled back")
    assert row["release"] == one


def test_as_ansible_calls_it(
    machine: Machine, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_module, "outlive_the_connection", lambda: None)
    agent = {**SETTINGS, "files": {CONF: "one\n", FRAGMENT: "services: {}\n"}, "env": {KEY: "https://one.example"}}
    given: dict[str, Any] = {"root": str(machine.root), "server": "server1", "shared": SHARED, "agents": [agent]}
    planned = run_module(agent_release, capsys, check=True, **given)
    assert planned["agents"][0]["outcome"] == "would change"
    made = run_module(agent_release, capsys, **given)
    assert (made["changed"], made["agents"][0]["outcome"]) == (True, "started")
    assert [change["after_header"] for change in made["diff"]] == [change["after_header"] for change in planned["diff"]]
    removed = run_module(agent_release, capsys, state="absent", root=str(machine.root), agents=[{"name": AGENT}])
    assert NAME in removed["removed"]


# --- Check mode -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conf", "more", "outcome", "note"),
    [
        ("one", {}, "unchanged", None),
        ("two", {}, "would change", f"reload: {AGENT}.conf.template differs"),
        (
            "one",
            {"fragment": "services: {other: {}}\n"},
            "would change",
            "replace the container: its compose service differs",
        ),
        ("one", {"base_image": "nginx:1.31"}, "would change", "build the image: it is not built on nginx:1.31"),
    ],
)
@pytest.mark.usefixtures("one")
def test_check_mode_changes_nothing(
    machine: Machine, conf: str, more: dict[str, Any], outcome: str, note: str | None
) -> None:
    before, images, containers = contents(machine), dict(machine.docker.images), str(machine.docker.containers)
    row = machine(conf, touch=False, **more)
    assert (row["outcome"], row["changed"], row["failed"]) == (outcome, outcome != "unchanged", False)
    assert (row["notes"] or [None])[0] == note
    assert (contents(machine), machine.docker.images, str(machine.docker.containers)) == (before, images, containers)
    assert machine(conf, **more)["changed"] is row["changed"]


def test_check_mode_makes_nothing(machine: Machine) -> None:
    row = machine("one", touch=False)
    assert row["outcome"] == "would change"
    assert row["notes"] == [
        f"build the image: there is no image vaettir-{AGENT}:proxy",
        "start the container: there is no container",
    ]
    assert list(machine.root.iterdir()) == []


def test_check_mode_of_a_rollback_that_cannot_be(machine: Machine, one: str) -> None:
    machine("two")
    del machine.docker.images[f"vaettir-{AGENT}:{one}"]
    before = contents(machine)
    for touch in (False, True):
        row = machine(state="previous", release=one, touch=touch)
        sentence = f"the image vaettir-{AGENT}:{one} of release {one} is gone: choose another release."
        assert (row["failed"], row["message"]) == (True, f"{AGENT} on server1: {sentence}")
        assert contents(machine) == before


# --- What was there before us -----------------------------------------------------------------------------------------

ENV = f"{KEY}=https://a.example\n"


def hand_made(release: str) -> str:
    return f"what was hand-made is kept as release {release}"


def by_hand(machine: Machine, conf: str, env: str) -> None:
    (machine.root / "proxy-configs").mkdir()
    (machine.root / ".env").write_text(env, encoding="ascii")
    if conf:
        (machine.root / CONF).write_text("hand-made\n", encoding="ascii")
    if conf == "ours":
        (machine.root / _files.STATE_DIR).mkdir()
        _files.Manifest(str(machine.root)).add(CONF, b"hand-made\n")


@pytest.mark.parametrize(
    ("conf", "env", "kept"),
    [("theirs", "", True), ("", ENV, True), ("", "OTHER=x\n", False), ("ours", ENV, False)],
)
def test_what_was_there_before_us_is_kept(machine: Machine, conf: str, env: str, kept: bool) -> None:
    """Nothing of it runs, nor has an image."""
    by_hand(machine, conf, env)
    made = machine("one")
    active = machine.store.current().release
    theirs = [release for release in machine.store.ids() if release != active]
    assert bool(theirs) is kept
    assert [note for note in made["notes"] if "is kept as release" in note] == [hand_made(one) for one in theirs]
    for identifier in theirs:
        facts = machine.store.facts(identifier)
        assert (facts["by"], facts["image"]) == (_release.BY_HAND, "")
    assert machine("one")["notes"] == [], "once"
    assert [release for release in machine.store.ids() if release != active] == theirs


@pytest.mark.parametrize(("conf", "env"), [("theirs", ""), ("", ENV), ("theirs", ENV), ("", "OTHER=x\n")])
def test_what_was_there_before_us_is_there_again(machine: Machine, conf: str, env: str) -> None:
    """After a first release that fails."""
    by_hand(machine, conf, env)
    machine.docker.answers["one"] = "proxy_error"
    machine("one")
    assert (machine.root / ".env").read_text() == env
    assert (machine.root / CONF).exists() == bool(conf)
    assert not conf or (machine.root / CONF).read_text() == "hand-made\n"
    assert not (machine.root / FRAGMENT).exists()
    assert machine.docker.containers == []


def test_what_somebody_built_by_hand_is_kept(machine: Machine, one: str) -> None:
    (machine.root / CONF).write_text("edited\n", encoding="ascii")
    machine.docker.build()
    machine.docker("compose", "--profile", "proxy", "up", "--detach", "--no-deps", "--force-recreate", AGENT)
    assert machine.docker.met == {"edited"}
    row = machine("two")
    theirs = machine.store.facts(machine.store.current().release)["former"]
    assert hand_made(theirs) in row["notes"]
    assert any(note.startswith(f"a hand-edited file has its backup: {CONF}.") for note in row["notes"])
    back = machine(state="previous", release=theirs)
    assert (back["failed"], machine.docker.met) == (False, {"edited"})
    assert one in machine.store.ids()


# --- previous ---------------------------------------------------------------------------------------------------------


def test_what_a_rollback_brings_back(machine: Machine) -> None:
    machine("one", env={KEY: "https://a.example"}, probe_path="/old")
    one = machine.store.current().release
    machine("two", env={KEY: "https://b.example"}, probe_path="/new")
    before = contents(machine)
    planned = machine(state="previous", touch=False)
    diff = machine.module.diff
    assert (planned["outcome"], contents(machine)) == ("would change", before)
    done = machine(state="previous")
    assert (done["outcome"], done["release"]) == ("released", one)
    assert machine.module.diff == diff
    changes = {change["after_header"]: (change["before"], change["after"]) for change in diff}
    assert changes == {CONF: ("two\n", "one\n"), ".env": (f"{KEY}=(value)\n", f"{KEY}=(previous value)\n")}
    assert (machine.root / CONF).read_text() == "one\n"
    assert (machine.root / ".env").read_text() == f"{KEY}=https://a.example\n"
    assert done["handshake"]["url"] == f"{SETTINGS['public_origin']}/old", "with which it was verified"
    assert machine.docker.met == {"one"}
    again = machine(state="previous", release=one)
    assert (again["outcome"], again["changed"], machine.module.diff) == ("unchanged", False, [])


def test_a_rollback_goes_to_and_fro(machine: Machine, one: str) -> None:
    machine("two")
    two = machine.store.current().release
    assert [machine(state="previous")["release"] for _ in range(3)] == [one, two, one]


def test_a_rollback_that_has_nowhere_to_go(machine: Machine, one: str) -> None:
    kept = f"Those that are: {one} (active: {one})."
    told = f"{AGENT} on server1: no verified release besides the active one is kept. {kept}"
    assert machine(state="previous")["message"] == told
    told = f"{AGENT} on server1: release '{NOWHERE}' is not kept. {kept}"
    assert machine(state="previous", release=NOWHERE)["message"] == told
    assert machine.docker.met == {"one"}


def test_a_release_that_curl_contradicts(machine: Machine, one: str) -> None:
    """Unless another one is active by now."""
    machine("two")
    two = machine.store.current().release
    other = machine(state="previous", instead_of=one)
    assert (other["outcome"], other["changed"], other["release"]) == ("unchanged", False, two)
    back = machine(state="previous", instead_of=two)
    assert (back["release"], machine.docker.met) == (one, {"one"})


def test_a_first_release_that_curl_contradicts(machine: Machine, one: str) -> None:
    row = machine(state="previous", instead_of=one)
    assert (row["outcome"], row["changed"], row["failed"]) == ("rolled back", True, True)
    assert row["message"] == f"{AGENT} on server1: its first release is taken away again."
    assert machine.docker.containers == []
    assert not Path(machine.store.folder).exists()


def test_keys_of_a_laptop_go_once_nobody_needs_them(machine: Machine) -> None:
    keys = machine.root / _names.keys_file(AGENT)
    machine("one", shared={**SHARED, _names.keys_file(AGENT): "key\n"})
    machine.fails_for_visitors("two")
    assert machine("two")["outcome"] == "rolled back"
    assert machine("three", touch=False)["outcome"] == "would change"
    assert keys.exists()
    machine("four", shared={**SHARED, _names.keys_file(AGENT): "key\n"})
    assert machine(state="previous")["outcome"] == "released"
    assert keys.exists()  # a rollback takes nobody's keys away
    row = machine("three")
    assert (row["outcome"], keys.exists()) == ("released", False)
    assert machine("three")["outcome"] == "unchanged"


# --- verified, absent -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "outcome", "failed"),
    [("ok", "unchanged", False), ("offline", "offline", False), ("no_pong", "failed", True)],
)
@pytest.mark.usefixtures("one")
def test_the_checks_alone_change_nothing(machine: Machine, reason: str, outcome: str, failed: bool) -> None:
    before = contents(machine)
    machine.docker.answers["one"] = reason
    row = machine("two", state="verified")
    assert (row["outcome"], row["failed"], row["changed"]) == (outcome, failed, False)
    assert contents(machine) == before


def test_an_agent_that_does_not_run_is_not_verified(machine: Machine) -> None:
    assert machine(state="verified")["message"] == f"{AGENT} on server1: {NAME} does not run: deploy the agent."


def test_nothing_is_left_of_a_removed_agent(machine: Machine, one: str) -> None:
    (machine.root / ".env").write_text(f"OTHER=x\n{KEY}=https://one.example\n", encoding="ascii")
    ours = [f"vaettir_{AGENT}-{kind}" for kind in ("cache", "assets-1000", "assets-0")]
    others = [f"vaettir_{AGENT}-two-assets-1000", f"other_{AGENT}-assets-1000", f"vaettir_{AGENT}-assets-of-mine"]
    machine.docker.volumes = [*ours, *others]
    before = contents(machine)
    planned = machine(state="absent", touch=False)
    names = machine.module.removed
    assert contents(machine) == before
    row = machine(state="absent")
    assert (planned["outcome"], row["outcome"], row["changed"]) == ("would change", "removed", True)
    assert machine.module.removed == names
    assert names[-1] == f"releases/{AGENT}/"
    assert {FRAGMENT, ".env", CONF, NAME, f"vaettir-{AGENT}:{one}"} <= set(names)
    assert (machine.root / ".env").read_text() == "OTHER=x\n"
    shared = {*SHARED, ".env", "agents.yml", ".locki/manifest.json", ".locki/lock"}
    assert set(contents(machine)) == shared
    assert (machine.docker.containers, machine.docker.images, machine.docker.volumes) == ([], {}, others)
    again = machine(state="absent")
    assert (again["outcome"], again["changed"], again["notes"]) == ("unchanged", False, ["there is nothing of it here"])


@pytest.mark.usefixtures("mortal", "one")
def test_a_removal_that_was_killed_is_finished_by_the_next(machine: Machine, memory: Path) -> None:
    for number in itertools.count(1):
        with pytest.MonkeyPatch.context() as patch:
            copy = machine.copied(memory.parent / f"{memory.name}-{number}", patch)
            killed = copy.dies(number, state="absent")
            # A death after the last of it leaves nothing to do.
            assert copy(state="absent")["failed"] is False
            assert (copy.docker.containers, copy.docker.images) == ([], {})
            assert not Path(copy.store.folder).exists()
            assert KEY not in (copy.root / ".env").read_text()
            assert not (copy.root / _names.conf_file(AGENT)).exists()
        if not killed:
            return
