# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""No false alarm: diagnosis and verification of chains that work, with an app of every profile at their end."""

from __future__ import annotations

import re
from typing import Any

import pytest

from .stand import ENTRIES, SERVER, VERIFIED, World, diagnose, play, tunnel

AGENTS = list(ENTRIES)
# A busy machine may not wait for all of it, and says so.
WORKS = r"every hop (that answered in time )?works \([0-9]+ s\)"


@pytest.fixture(scope="module")
def report(world: World) -> dict[str, dict[str, Any]]:  # noqa: ARG001
    return diagnose(broken=None)


@pytest.mark.parametrize("agent", AGENTS)
def test_there_is_nothing_to_find(report, agent):
    assert [one for one in report[agent]["findings"] if one["verdict"] in ("broken", "warn")] == []
    assert re.match(f"{agent} on {SERVER}: {WORKS}; from outside: ", report[agent]["sentence"])


@pytest.mark.parametrize("agent", AGENTS)
def test_every_hop_was_asked(report, agent):
    """But for its Origin an app that has no WebSocket."""
    silent = {one["asked"] for one in report[agent]["findings"] if not one["found"]}
    assert "a visitor, from outside" not in silent
    origins = {"a foreign Origin, straight at the tunnel", "a foreign Origin"}
    # With all agents at once a busy machine is not waited for: commands in containers, visitors that are not the last.
    silent = {asked for asked in silent if asked != "version" and not asked.startswith("a visitor, ")}
    assert silent == (set() if agent in VERIFIED else origins)


@pytest.mark.usefixtures("world")
def test_each_is_verified_in_one_line():
    told = play("verify-agent.yml").partition("SERVER AGENT OUTCOME")[2]
    assert {agent: told.count(f" {agent} on {SERVER}: ") for agent in AGENTS} == dict.fromkeys(AGENTS, 1)
    assert "FAILED" not in told


@pytest.mark.usefixtures("world")
def test_what_is_deployed_and_not_declared_is_said():
    told = play("diagnose-agent.yml", "-e", '{"vaettir_agents": [{"name": "ocapistaine"}]}')
    others = ", ".join(sorted(set(AGENTS) - {"ocapistaine"}))
    assert f"{others} on {SERVER}: not declared, so not asked." in told
    assert re.search(f"ocapistaine on {SERVER}: {WORKS}", told)


def test_a_broken_chain_ends_with_its_sentence(world: World):
    with world.edge.stopped(tunnel("dash")):
        told = play("diagnose-agent.yml", "-e", "agent=dash", fails=True)
    assert "fatal:" not in told
    end = told.rpartition("VERDICT")[2].partition(f"dash on {SERVER}: ")[2]
    assert end.startswith("broken at the ngrok agent: no ngrok agent is connected for https://dash.ngrok-free.app")
    assert end.endswith("set target_url of agent dash to it).")
