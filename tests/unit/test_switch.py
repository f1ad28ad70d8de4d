# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The switch to another release and back on a server's containers, whoever dies in between."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _agent, _containers, _docker, _release
from ansible_collections.locki.vaettir.plugins.module_utils._server import Wanted

from .model_docker import AGENT, CONF, FRAGMENT, SHARED, Container, Docker, Machine

pytestmark = pytest.mark.usefixtures("mortal")

NAME, TRIAL, NEXT = f"vaettir-{AGENT}-1", f"vaettir-{AGENT}-trial", f"vaettir-next-{AGENT}-1"
OTHER_SERVICE: dict[str, Any] = {"fragment": "services: {other: {}}\n"}
OLD_PROGRAM: dict[str, Any] = {"shared": {**SHARED, "proxy-configs/entrypoint.sh": "# of 0.1.0\n"}}
ONE, TWO = {"conf": "one"}, {"conf": "two"}
# What a server was given, up to `one` or nothing at all, and what makes it switch to `two`.
CASES: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "start": ([], TWO),
    "start again": ([ONE], TWO),
    "reload": ([ONE], TWO),
    "replace": ([ONE], {**TWO, **OTHER_SERVICE}),
    "roll back": ([TWO, {**ONE, **OTHER_SERVICE}], {"state": "previous"}),
}


def deployed(machine: Machine, case: str = "reload") -> Machine:
    """As it is before a switch of that kind."""
    for wanted in CASES[case][0]:
        assert machine(**wanted)["failed"] is False
    if case == "start again":
        machine.docker.containers.clear()
    machine.docker.removes_left()
    machine.docker.acts.clear()
    machine.docker.outage.clear()
    return machine


def names(machine: Machine) -> list[str]:
    return sorted(one.name for one in machine.docker.containers)


def conf_of(machine: Machine, release: str) -> str:
    return machine.store.read(release)[f"{AGENT}.conf.template"].decode().strip() if release else ""


def is_clean(machine: Machine) -> None:
    """One container serves, and Docker starts it again; others drain, and go. Nothing is half-made."""
    serving = [one for one in machine.docker.containers if not one.drain]
    assert [(one.name, one.policy, one.born) for one in serving] == [(NAME, "unless-stopped", "")]
    assert {one.policy for one in machine.docker.containers if one.drain} <= {"no"}
    store = machine.store
    assert store.pending() is None
    assert not store.busy()
    assert {path.name for path in Path(store.folder).iterdir()} == {"current", *store.ids()}
    tags = {tag.partition(":")[2] for tag in machine.docker.images}
    assert {"proxy", store.current().release} <= tags <= {"proxy", *store.ids()}
    assert not [release for release in store.all() if release["by"] == _release.BY_HAND]


SWITCH, COMMIT = f"rename releases/{AGENT}/.pending", f"replace releases/{AGENT}/pending"


# --- Deaths -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("event", [Docker.settles, Docker.reboots], ids=["dies", "reboots"])
@pytest.mark.parametrize("fails", [False, True], ids=["commit", "undo"])
@pytest.mark.parametrize("case", CASES)
def test_a_death_at_any_moment(memory: Path, case: str, fails: bool, event: Callable[[Docker], None]) -> None:
    """What was verified last is active without another run, which then finds its way from whatever there is."""
    with pytest.MonkeyPatch.context() as patch:
        first = deployed(Machine(memory / "0", patch), case)
    for number in itertools.count(1):
        with pytest.MonkeyPatch.context() as patch:
            machine = first.copied(memory / str(number), patch)
            if fails:
                machine.fails_for_visitors("two")
            before, was = machine.docker.met, conf_of(machine, machine.store.current().release)
            if not machine.dies(number, **CASES[case][1]):
                return
            if event is Docker.reboots and not any(act.startswith(SWITCH) for act in machine.docker.acts):
                continue  # all there is comes back as it was
            event(machine.docker)
            committed = conf_of(machine, machine.store.current().release)
            last = f"after {machine.docker.acts[-1:]}"
            assert committed == was or (committed == "two" and not fails), last
            # A replaced container that was not told to drain serves as well, until the next run.
            here = before if committed == was else {committed}
            assert here <= machine.docker.met <= {committed, *before} - {""}, last
            is_released(machine, last)
            assert before == set() or machine.docker.outage == [], last


def is_released(machine: Machine, last: str) -> None:
    assert machine("three", **OTHER_SERVICE)["failed"] is False, last
    assert machine.docker.met == {"three"}, last
    is_clean(machine)


@pytest.mark.parametrize("at", [COMMIT, "update --restart"])
@pytest.mark.parametrize("case", CASES)
def test_a_death_while_an_earlier_one_is_recovered(memory: Path, case: str, at: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        first = deployed(Machine(memory / "0", patch), case)
        if not first.dies(at, **CASES[case][1]):
            return  # of a start or a reload there is no more to do
    for number in itertools.count(1):
        with pytest.MonkeyPatch.context() as patch:
            machine = first.copied(memory / str(number), patch)
            if not machine.dies(number, state="present", **TWO):
                return
            is_released(machine, f"after {machine.docker.acts[-1:]}")
            assert "start" in case or machine.docker.outage == []


# --- What the next run finds ------------------------------------------------------------------------------------------


def recover(machine: Machine, touch: bool = True) -> list[str]:
    server = machine.module.server
    agent = _agent.Managed(type(server)(server.root, server.project, touch=touch), Wanted(AGENT))
    return agent.recover()


def is_active(machine: Machine) -> str:
    release = machine.store.current().release or "nothing"
    return f"{release} is active: what an interrupted run had switched to was not verified"


def looks(machine: Machine) -> str:
    """All of it, to compare."""
    files = sorted(path.name for path in Path(machine.store.folder).iterdir())
    return f"{files} {[(one.name, one.policy, one.drain, one.running) for one in machine.docker.containers]}"


def recovers(machine: Machine, *told: str) -> None:
    """In check mode it only says so; the second time there is nothing to do."""
    before = looks(machine)
    assert recover(machine, touch=False) == list(told)
    assert looks(machine) == before
    assert recover(machine) == list(told)
    machine.docker.removes_left()
    assert recover(machine) == []


def left(machine: Machine, name: str, **more: Any) -> Container:
    made = machine.docker.add(name, f"vaettir-{AGENT}:proxy", {}, {_docker.AGENT_LABEL: AGENT}, **more)
    made.serve()
    return made


def test_nothing_to_recover(machine: Machine) -> None:
    recovers(deployed(machine))


@pytest.mark.parametrize("name", [TRIAL, NEXT])
def test_a_trial_and_a_definition_go(machine: Machine, name: str) -> None:
    left(deployed(machine), name)
    recovers(machine, f"removed {name}, which an interrupted run had left")
    assert names(machine) == [NAME]


def test_the_new_container_of_an_undone_replacement_ends(machine: Machine) -> None:
    undone = left(deployed(machine), f"vaettir-{AGENT}-undone-00000099", policy="always")
    recovers(machine, f"removed {undone.name}, which an interrupted run had left")
    assert (undone.drain, undone.policy) == (True, "no"), "Traefik sends nobody there any more"
    assert names(machine) == [NAME]


RENAMED = f"vaettir-{AGENT}-old-"


@pytest.mark.parametrize("event", [Docker.settles, Docker.reboots], ids=["dies", "reboots"])
@pytest.mark.parametrize("at", ["rename 0", "POST /containers/create", "/start", COMMIT])
def test_a_replacement_that_was_not_committed(machine: Machine, at: str, event: Callable[[Docker], None]) -> None:
    (old,) = deployed(machine, "replace").docker.containers
    assert machine.dies(at, "two", **OTHER_SERVICE)
    event(machine.docker)
    again = f"{old.name} is {NAME} again: its replacement was interrupted"
    recovers(machine, *([again] if old.name.startswith(RENAMED) else []), is_active(machine))
    assert (old.name, old.policy, machine.docker.met) == (NAME, "unless-stopped", {"one"})
    assert names(machine) == [NAME]
    assert machine.docker.outage == []


@pytest.mark.parametrize("event", [Docker.settles, Docker.reboots], ids=["dies", "reboots"])
@pytest.mark.parametrize("at", ["/update", "update --restart", "exec --detach"])
def test_a_replacement_that_was_committed_goes_on(machine: Machine, at: str, event: Callable[[Docker], None]) -> None:
    (old,) = deployed(machine, "replace").docker.containers
    assert machine.dies(at, "two", **OTHER_SERVICE)
    drains_already = event is Docker.reboots and at == "exec --detach"
    event(machine.docker)
    ends = (
        f"removed {old.name}, which had been replaced" if drains_already else f"{old.name} ends: it had been replaced"
    )
    recovers(machine, ends)
    new = machine.docker.called(NAME)
    assert new
    assert (new.policy, new.running, machine.docker.met) == ("unless-stopped", True, {"two"})
    assert names(machine) == [NAME]
    assert machine.docker.outage == []


@pytest.mark.parametrize("case", ["start", "reload", "replace"])
def test_a_release_may_empty_the_cache(machine: Machine, case: str) -> None:
    told = "the cache of assets was emptied: 2 assets removed"
    deployed(machine, case)
    wanted = {"purge_cache": True, **(OTHER_SERVICE if case == "replace" else {})}
    assert told in machine("two", **wanted)["notes"]
    assert told not in machine("two", **wanted)["notes"]


def test_a_replaced_container_that_drains_goes_on_draining(machine: Machine) -> None:
    deployed(machine, "replace")("two", **OTHER_SERVICE)
    assert recover(machine, touch=False) == recover(machine) == []
    old = next(one for one in machine.docker.containers if one.drain)
    old.running = False
    recovers(machine, f"removed {old.name}, which had been replaced")
    assert names(machine) == [NAME]


@pytest.mark.parametrize("order", [1, -1])
def test_one_that_drains_is_not_taken_for_one_that_serves(machine: Machine, order: int) -> None:
    """Two were replaced, and the second time was interrupted before there was a new one."""
    deployed(machine, "replace")("two", **OTHER_SERVICE)
    machine.dies("POST /containers/create", "three")
    first, second = machine.docker.containers
    first.name, second.name = [f"{RENAMED}{number}" for number in (1, 2)][::order]
    drains, again = first.name, f"{second.name} is {NAME} again: its replacement was interrupted"
    recovers(machine, again, is_active(machine))
    assert (first.name, first.drain, first.policy) == (drains, True, "no")
    assert (second.name, second.drain, machine.docker.met) == (NAME, False, {"two"})


@pytest.mark.parametrize("at", ["agent-proxy reload", COMMIT])
def test_a_reload_that_was_not_committed(machine: Machine, at: str) -> None:
    deployed(machine)
    assert machine.dies(at, "two")
    assert machine.docker.met == {"one"}, "by itself"
    recovers(machine, is_active(machine))
    assert machine.docker.met == {"one"}


def test_a_reload_that_fails_stops_one_run_only(machine: Machine) -> None:
    deployed(machine)
    machine.dies(COMMIT, "two")
    machine.docker.says = lambda act: (1, "", "agent-proxy: no") if act.endswith("agent-proxy reload") else None
    assert machine("three")["message"].endswith("nginx was not reloaded: no.")
    assert recover(machine) == []


@pytest.mark.parametrize("event", [Docker.settles, Docker.reboots], ids=["dies", "reboots"])
def test_a_start_that_was_not_committed(machine: Machine, event: Callable[[Docker], None]) -> None:
    machine.dies(COMMIT, "two")
    event(machine.docker)
    assert machine.docker.met == set(), "by itself"
    pending = machine.store.pending()
    assert pending
    recovers(machine, f"removed {NAME}: its release {pending.release} was not verified")
    assert names(machine) == []


@pytest.mark.parametrize("before", [True, False])
def test_a_switch_of_0_1_0_that_was_not_verified(machine: Machine, before: bool) -> None:
    """Its `before` is the release to go back to; it is empty where there was none."""
    deployed(machine)("two")
    one = machine.store.ids()[-1]
    text = f"release={one}\n" if before else ""
    Path(machine.store.path("before")).write_text(text, encoding="ascii")
    machine.docker.acts.clear()
    assert recover(machine, touch=False) == []
    told = recover(machine)
    assert machine.store.current().release == (one if before else "")
    assert told == ([is_active(machine)] if before else [])
    assert any(act.endswith("agent-proxy reload") for act in machine.docker.acts) is before
    assert recover(machine) == []


# --- The switch and its undo ------------------------------------------------------------------------------------------


def index(machine: Machine, begin: str) -> int:
    return next(number for number, act in enumerate(machine.docker.acts) if begin in act)


def test_a_replacement_is_committed_before_anything_outlives_it(machine: Machine) -> None:
    deployed(machine, "replace")("two", **OTHER_SERVICE)
    order = ["rename 0", "POST /containers/create", COMMIT, "/update", "update --restart no", "exec --detach", "leave"]
    assert [index(machine, act) for act in order] == sorted(index(machine, act) for act in order)
    is_clean(machine)
    assert machine.docker.outage == []


def test_the_new_container_does_not_come_back_before_the_commit(machine: Machine) -> None:
    seen: list[str] = []

    def look(act: str) -> None:
        new = machine.docker.called(NAME)
        seen.extend([new.policy] if act.startswith(COMMIT) and new else [])

    deployed(machine, "replace").docker.says = look
    machine("two", **OTHER_SERVICE)
    assert seen == ["no"]


@pytest.mark.parametrize("case", CASES)
def test_what_fails_where_visitors_are_is_undone(machine: Machine, case: str) -> None:
    deployed(machine, case)
    before, files = looks(machine) if machine.store.ids() else "", machine.files()
    machine.fails_for_visitors("two")
    row = machine(**CASES[case][1])
    assert (row["outcome"], row["changed"], row["failed"]) == ("rolled back", False, True)
    assert row["release"] == machine.store.current().release
    if case == "start":
        assert names(machine) == []
        assert not Path(machine.store.folder).exists()
        assert {CONF, FRAGMENT} & {*machine.files()} == set()
        return
    machine.docker.removes_left()
    assert (machine.files(), machine.docker.met) == (files, {"one"})
    is_clean(machine)
    if case != "start again":
        assert looks(machine) == before
        assert machine.docker.outage == []


@pytest.mark.parametrize("at", ["compose --project-name", "rename 0", "POST /containers/create", "/start"])
def test_a_replacement_that_fails_is_undone(machine: Machine, at: str) -> None:
    deployed(machine, "replace")
    before = looks(machine)
    machine.docker.says = lambda act: (1, "", "no") if at in act else None
    row = machine("two", **OTHER_SERVICE)
    assert row["message"].startswith(f"{AGENT} on server1: no. It was rolled back to release")
    assert looks(machine) == before
    assert machine.docker.outage == []


def test_a_new_container_that_is_not_healthy(machine: Machine) -> None:
    deployed(machine, "replace").docker.answers["sick"] = "ok"
    row = machine("sick", **OTHER_SERVICE)
    assert "the new release does not answer within 0 s." in row["message"]
    assert names(machine) == [NAME]


def test_a_conf_that_nginx_refuses_meets_nobody(machine: Machine) -> None:
    deployed(machine)
    row = machine("nonsense")
    assert "the new release does not start: nginx refuses the new conf: unknown directive." in row["message"]
    assert machine.docker.met == {"one"}
    is_clean(machine)


@pytest.mark.parametrize(
    ("case", "at", "spared"),
    [
        ("replace", f"0000 {NAME}", 0),  # the old one's name is its again
        ("replace", f"0000 vaettir-{AGENT}-undone-", 0),  # and no more the new one's
        ("reload", "agent-proxy reload", 1),
    ],
)
def test_what_cannot_be_undone_is_the_next_runs(machine: Machine, case: str, at: str, spared: int) -> None:
    deployed(machine, case)
    machine.fails_for_visitors("two")
    acts = itertools.count()
    machine.docker.says = lambda act: (1, "", "busy") if at in act and next(acts) >= spared else None
    row = machine(**CASES[case][1])
    assert "It could not be rolled back (" in row["message"]
    assert row["message"].endswith("busy): the next run recovers it.")
    assert machine.docker.met == {"one"}
    machine.docker.says = lambda _act: None
    row = machine("three")
    assert "interrupted" in row["notes"][0]
    assert machine.docker.met == {"three"}
    assert machine.docker.outage == []
    is_clean(machine)


def test_an_image_of_0_1_0_starts_with_its_release(machine: Machine) -> None:
    """It knows no `pending`, so it is never reloaded: it has one release."""
    machine("one", **OLD_PROGRAM)
    one = machine.store.current().release
    made = machine("two")
    assert (made["outcome"], machine.docker.met) == ("released", {"two"})
    assert any(act.startswith("POST /containers/create") for act in machine.docker.acts), "replaced"
    machine.docker.acts.clear()
    back = machine(state="previous", release=one)
    assert (back["outcome"], back["release"], machine.docker.met) == ("released", one, {"one"})
    container = machine.docker.called(NAME)
    assert container
    assert container.command == ("serve", one)
    assert machine("two")["outcome"] == "released"
    container = machine.docker.called(NAME)
    assert container
    assert container.command == ()
    is_clean(machine)


@pytest.mark.parametrize("at", ["run --detach", "/start"], ids=["in its trial", "after its switch"])
def test_a_killed_rollback_to_0_1_0_leaves_no_image_behind(machine: Machine, at: str) -> None:
    """What it had tagged as the service's image is no reason to replace the container."""
    machine("one", **OLD_PROGRAM)
    one = machine.store.current().release
    machine("two")
    machine.docker.removes_left()
    container = machine.docker.called(NAME)
    assert machine.dies(at, state="previous", release=one)
    assert container
    assert machine.docker.images[machine.docker.tag] != container.image, "the rollback's"
    assert [machine("two")["outcome"] for _run in range(2)] == ["unchanged"] * 2
    assert machine.docker.called(NAME) is container
    is_clean(machine)


def test_our_own_program_alone_drops_no_socket(machine: Machine) -> None:
    machine("one", **OLD_PROGRAM)
    machine.docker.acts.clear()
    row = machine("one")
    assert (row["outcome"], row["changed"]) == ("unchanged", True), "its files are new, nothing runs them yet"
    assert not [
        act for act in machine.docker.acts if act.startswith(("POST", "compose --profile * build", "compose build"))
    ]
    assert machine("one")["changed"] is False


@pytest.mark.parametrize(("draining", "asked"), [(3, [True]), (0, [])])
def test_nobody_meets_the_workers_of_before(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, draining: int, asked: list[bool]
) -> None:
    """Neither after a reload, nor after its undo."""
    deployed(machine)
    state, used = _containers.state, list[str]()

    def drains(identifier: str) -> _release.State:
        found = state(identifier)
        found.draining = draining
        return found

    monkeypatch.setattr(_containers, "state", drains)
    monkeypatch.setattr(_containers, "use_up_kept", used.append)
    origin = "https://ocapistaine.vaettir.example"
    row = machine("two")
    assert used == [origin] * len(asked)
    workers = f"{draining} nginx workers drain: they keep the WebSockets that were open before"
    assert (workers in row["notes"]) is bool(asked)
    machine.fails_for_visitors("bad")
    machine("bad")
    assert used == [origin] * 3 * len(asked)


def test_all_containers_of_an_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "vaettir-a-1\ta\t\tvaettir",
        "vaettir-a-old-12345678\ta\t\tvaettir",
        "by-hand\ta\t\tvaettir",
        "vaettir-a-trial\ta\ta\t",
        "vaettir-next-a-1\ta\t\tvaettir-next",
        "vaettir-a-b-1\ta-b\t\tvaettir",
        "vaettir-a-b-trial\t\ta-b\t",
        "vaettir-a-2\t\t\tvaettir",
        "other-a-1\ta\t\tother",
        "other-a-trial\t\ta\t",
    ]
    keys = (_docker.AGENT_LABEL, _containers.TRIAL_LABEL, f"{_docker.COMPOSE}project")
    named = [line.split("\t") for line in lines]
    there = [{"Name": f"/{name}", "Config": {"Labels": dict(zip(keys, words, strict=True))}} for name, *words in named]
    monkeypatch.setattr(_docker, "containers", lambda *_options: there)
    ours = ["by-hand", "vaettir-a-1", "vaettir-a-old-12345678", "vaettir-a-trial", "vaettir-next-a-1"]
    assert _containers.Containers("vaettir", "a").all() == ours
    assert _containers.Containers("vaettir", "a-b").all() == ["vaettir-a-b-1", "vaettir-a-b-trial"]
    assert _containers.Containers("vaettir", "b").all() == []
