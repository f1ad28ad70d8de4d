# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""All agents of a server at once: which of them are as they are wanted. Nothing is touched, so nothing is locked."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Callable, Sequence, TypeVar

from . import _containers, _docker, _transaction
from ._agent import Managed
from ._transaction import Outcome, Undo, View

SIDE_BY_SIDE = 8  # agents: most of the time they wait for their tunnels
Item = TypeVar("Item")
Result = TypeVar("Result")


def side_by_side(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        return list(pool.map(work, items))


def unchanged(agents: list[Managed]) -> dict[str, Outcome]:
    """What came of those that need no transaction. Whatever fails here is the transaction's to say."""
    try:
        agents = [agent for agent in agents if not agent.copy(Undo(touch=False))]
        look(agents)
    except _transaction.FAILURES:
        return {}
    made = side_by_side(_unchanged, agents)
    return {agent.name: outcome for agent, outcome in zip(agents, made) if outcome}


def _unchanged(agent: Managed) -> Outcome | None:
    begin = time.monotonic()
    try:
        recovered, _previous, plan = agent.recover(), agent.snapshot(), agent.compare()
        if recovered or plan.action:
            return None
        found = agent.verify(False, View(agent.expected))
        if found.failed(agent.expected) or not agent.settled(found):
            return None
    except _transaction.FAILURES:
        return None
    word, seconds = _transaction.word_of(plan, found), time.monotonic() - begin
    return Outcome(word, verification=found, notes=tuple(agent.notes()), seconds=seconds)


def look(agents: list[Managed]) -> None:
    """Docker and compose are asked once for all agents what each would ask."""
    if not agents:
        return
    there = _docker.containers("--all")
    with ThreadPoolExecutor(3) as pool:
        hashes = pool.submit(_hashes, agents, there)
        images = pool.submit(_docker.images, [agent.image for agent in agents])
        bases = pool.submit(_docker.images, [str(agent.settings.get("base_image") or "") for agent in agents])
    seen = _containers.Seen(there, {**images.result(), **bases.result()}, hashes.result())
    for agent in agents:
        agent.containers.seen = seen


def _hashes(agents: list[Managed], there: list[dict[str, object]]) -> dict[str, str]:
    """Where two containers were made with different values of one key, each agent asks by itself."""
    values: dict[str, str] = {}
    for agent in agents:
        container = _docker.called(there, agent.containers.container_name)
        for key, value in (agent.own_values(container) if container else {}).items():
            if values.setdefault(key, value) != value:
                return {}
    return _containers.compose_hashes(agents[0].server.root, "*", values)[0]
