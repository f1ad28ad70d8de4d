# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""docs/troubleshooting.md is of today's faults and today's rules."""

from __future__ import annotations

import re

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _blame, _chain, _diagnosis

from tests.rig import troubleshooting
from tests.rig.troubleshooting import Told

ROWS = list(troubleshooting.read())
AGAIN = "run `make soak`, which writes docs/troubleshooting.md"


def pattern(template: str) -> str:
    """What a rule's sentence may look like."""
    return re.sub(r"\\\{[a-z_]+\\\}", ".*", re.escape(template)).replace(r":\ .*", ".*").replace(r"\ \(.*\)", ".*")


def test_every_fault_has_its_row():
    assert {row.name for row in ROWS} == set(troubleshooting.FAULTS), AGAIN
    assert len(ROWS) == len(troubleshooting.FAULTS)


def test_every_fault_stands_at_its_hop():
    """But those of a tunnel of one's own, which docs/tunnel.md has."""
    assert {row.hop for row in ROWS} == {*_chain.HOPS} - {_chain.SSH_CONNECTION, _chain.SSH_SERVER}
    assert {row.name: row.hop for row in ROWS} == {one.name: one.hop for one in troubleshooting.FAULTS.values()}, AGAIN


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_its_sentences_are_those_of_one_rule(row: Told):
    known = [(rule.wrong, rule.fix) for rule in _diagnosis.RULES]
    known += [(_blame.UNKNOWN_FAULT, look) for look in _blame.LOOK.values()]
    fixes = [fix for wrong, fix in known if re.fullmatch(pattern(wrong), row.why)]
    assert any(re.fullmatch(pattern(fix), row.fix) for fix in fixes), (fixes, AGAIN)


def test_the_bars_are_met_by_what_it_shows():
    rows = len(ROWS)
    assert sum(row.healed != "no" for row in ROWS) >= troubleshooting.HEALED * rows
    right = re.search(r"the right hop of ([0-9]+)", " ".join(troubleshooting.PAGE.read_text(encoding="utf-8").split()))
    assert right
    assert int(right[1]) >= troubleshooting.RIGHT * rows


def test_the_chosen_ones_are_a_part_of_them():
    assert set(troubleshooting.CHOSEN) <= set(troubleshooting.FAULTS)
    assert 4 <= len(troubleshooting.CHOSEN) <= 15
