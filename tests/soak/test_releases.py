# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A hundred releases with 500 open WebSockets, the recipe's way beside it, and every fault. About an hour."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rig import faults
from tests.rig.releases import UP, Stand, undisturbed
from tests.rig.shell import wait_for
from tests.rig.stand import converged
from tests.rig.transcript import Transcript

SOCKETS, PER_SECOND, RELEASES, RECIPES = 500, 40, 100, 3


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with converged("releases"):
        stand = Stand.current()
        stand.alone = True
        yield stand


def test_a_hundred_releases_and_the_recipes_way(stand: Stand) -> None:
    report = Transcript("soak-releases", f"{SOCKETS} open WebSockets and {PER_SECOND} small requests a second")
    with stand.visitors(f"{RELEASES} releases", sockets=SOCKETS, per_second=PER_SECOND) as ours:
        for _ in range(RELEASES):
            settings = stand.next()
            stand.deploy(**settings)
            assert stand.in_force() == settings["max_body_size"]
        minutes = ours.seconds / 60
    report.add(f"{RELEASES} x ansible-playbook deploy-agent.yml -e agent=one", f"{ours.saw()}; {minutes:.1f} minutes")
    conf = "proxy-configs/one.conf.template"
    with stand.visitors(f"the recipe's way, {RECIPES} times", sockets=SOCKETS, per_second=PER_SECOND) as recipes:
        for number in range(RECIPES):
            stand.shell(f"sed -i 's/client_max_body_size [^;]*/client_max_body_size {7 + number}m/' {conf}")
            stand.shell(f"docker compose build one 2>&1 && {UP} --wait 2>&1")
            assert stand.in_force() == f"{7 + number}m"
            wait_for("everybody's return", lambda: recipes.open == SOCKETS, 60)
    report.add(f"{RECIPES} x edit, docker compose build, docker compose up -d", recipes.saw())
    stand.deploy(**stand.next())
    undisturbed(ours)
    assert len(recipes.dropped) >= RECIPES * SOCKETS * 0.9


@pytest.mark.parametrize("fault", faults.ALL)
def test_fault(stand: Stand, fault: str) -> None:
    faults.check(stand, fault)
