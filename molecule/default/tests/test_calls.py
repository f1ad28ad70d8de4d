# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What a run costs: every call of a server is about half a second, and every task a line that a person reads."""

from __future__ import annotations

import itertools
import subprocess
import time

import pytest

from tests.rig import playbook, snapshot
from tests.rig.transcript import Transcript

SERVER, AGENT = "vaettir-default-one", "ocapistaine"
MOST, MOST_OF_A_CHANGE = 3, 5  # remote calls
LINES = 25  # of tasks, whatever the number of agents
TABLE = "SERVER               AGENT        OUTCOME"
SECONDS = itertools.count(3701)


def deploy(*options: str, **settings) -> playbook.Run:
    """One setting more than in the inventory."""
    second = {"name": "second", "extra_domains": ["second.vaettir.localhost"]}
    extra = {"vaettir_agents": [{"name": AGENT, **settings}, second]}
    return playbook.run(playbook.DEPLOY, "-e", f"agent={AGENT}", *options, extra=extra)


def assert_short(run: playbook.Run) -> None:
    """Few lines, and the report after the last of them."""
    lines = [found.task for found in run.of("start", SERVER)]
    assert len(lines) <= LINES, lines
    assert TABLE in run.output.rpartition("\nPLAY RECAP")[2], run


@pytest.fixture(scope="module", autouse=True)
def as_it_was():
    yield
    run = playbook.run(playbook.DEPLOY)
    assert run.status == 0, run


def counted(deploying) -> tuple[playbook.Run, list[str]]:
    """The run, and all that was executed in the server: each call is a `docker exec`."""
    # While it happens: Docker remembers the last 256 events only, of all containers.
    words = ["docker", "events", "--since", str(int(time.time())), "--filter", f"container={SERVER}"]
    words += ["--filter", "event=exec_create"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as events:
        try:
            subprocess.run(["docker", "exec", SERVER, "true", "counting begins"], check=True)
            next(line for line in events.stdout if "counting begins" in line)
            run = deploying()
        finally:
            events.terminate()
        return run, events.stdout.read().splitlines()


def assert_calls(run: playbook.Run, seen: list[str], most: int, what: str) -> None:
    tasks = [call.task for call in run.of("remote")]
    listing = "\n".join(f"{number:2} {task}" for number, task in enumerate(tasks, 1))
    title = f"Calls of the server in a run that changes {what}"
    Transcript(f"remote-calls-{what.replace(' ', '-')}", title).add("ansible-playbook deploy-agent.yml", listing)
    assert len(seen) == len(tasks), listing
    assert len(tasks) <= most, listing


def test_calls_of_a_run_that_changes_nothing():
    run, seen = counted(lambda: playbook.run(playbook.DEPLOY, "-e", f"agent={AGENT}"))
    assert (run.status, run.changed) == (0, []), run
    assert run.row(AGENT).outcome == "unchanged"
    assert_calls(run, seen, MOST, "nothing")
    assert_short(run)


def test_calls_of_a_run_that_changes_one_value():
    run, seen = counted(lambda: deploy(read_timeout=next(SECONDS)))
    assert run.status == 0, run
    assert run.row(AGENT).outcome == "released"
    assert_calls(run, seen, MOST_OF_A_CHANGE, "one value")
    assert_short(run)


def test_two_agents_are_no_more_calls_than_one():
    run, seen = counted(lambda: playbook.run(playbook.DEPLOY, extra={"agent_proxy_read_timeout": next(SECONDS)}))
    assert run.status == 0, run
    assert [row.outcome for row in run.rows] == ["released", "released", "unchanged"], run
    assert_calls(run, seen, MOST_OF_A_CHANGE, "one value of two agents")
    assert_short(run)


def test_check_mode_shows_the_table_and_the_differences():
    before, seconds = snapshot.take(SERVER), next(SECONDS)
    run = deploy("--check", "--diff", read_timeout=seconds)
    assert run.status == 0, run
    assert run.row(AGENT).outcome == "would change"
    assert f"+        proxy_read_timeout {seconds}s;" in run.output, run
    assert f"{AGENT} on {SERVER}: reload: {AGENT}.conf.template differs" in run.said
    assert snapshot.difference(before, snapshot.take(SERVER)) == []
    assert_short(run)
