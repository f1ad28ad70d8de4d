# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Which hop between an app and its visitors is broken, why, and what mends it. Pure: facts in, findings out.

A question is a line of the report, a rule one way in which its answer is bad. Each hop is held against the one before
it: an nginx that shows the page while its tunnel is offline is as it should be.
"""

from __future__ import annotations

import re
from typing import Any

from . import _rules_public, _rules_server, _rules_traefik, _rules_tunnel
from ._chain import BROKEN, DEPENDS, OK, UNKNOWN, WARN, Chain, Match, Question, Rule

_PARTS = (_rules_tunnel, _rules_server, _rules_traefik, _rules_public)
QUESTIONS: tuple[Question, ...] = tuple(question for part in _PARTS for question in part.QUESTIONS)
RULES: tuple[Rule, ...] = tuple(rule for part in _PARTS for rule in part.RULES)


class _Words(dict):
    def __missing__(self, key: str) -> str:
        return ""


def _filled(text: str, words: dict[str, str]) -> str:
    """What servers sent stays on one line."""
    made = " ".join(text.format_map(_Words({key: str(value) for key, value in words.items()})).split())
    return re.sub(r"(: ?| \(\))$", "", made)


def _verdict(rule: Rule, hop: str, chain: Chain) -> str:
    if rule.verdict != DEPENDS:
        return rule.verdict
    return WARN if chain.works(hop) else BROKEN


def _told(rule: Rule, chain: Chain, match: Match) -> dict[str, str]:
    words = {**chain.words(), **(match if isinstance(match, dict) else {})}
    return {"rule": rule.id, "why": _filled(rule.wrong, words), "fix": _filled(rule.fix, words)}


def finding(question: Question, chain: Chain) -> dict[str, str]:
    made = {
        "hop": question.hop,
        "asked": _filled(question.asked, chain.words()),
        "found": " ".join(question.found(chain).split()),
    }
    for rule in RULES:
        match = rule.question == question.id and rule.applies(chain)
        if match:
            return {**made, "verdict": _verdict(rule, question.hop, chain), **_told(rule, chain, match)}
    return {**made, "verdict": OK if made["found"] else UNKNOWN, "rule": "", "why": "", "fix": ""}


def findings(facts: dict[str, Any]) -> list[dict[str, str]]:
    """One for each question, from the app to the visitor."""
    chain = Chain(facts)
    return [finding(question, chain) for question in QUESTIONS]


def beforehand(facts: dict[str, Any]) -> list[dict[str, str]]:
    """What is known to break, or to be worth a warning, before there is a chain to ask."""
    chain, found = Chain(facts), []
    for rule in RULES:
        match = bool(rule.beforehand) and rule.applies(chain)
        if match:
            found.append({**_told(rule, chain, match), "verdict": rule.beforehand})
    return found


def first(found: list[dict[str, str]]) -> dict[str, str]:
    """The first broken one, else the first that is to be warned of, else nothing."""
    for verdict in (BROKEN, WARN):
        for one in found:
            if one["verdict"] == verdict:
                return one
    return {}


def sentence(facts: dict[str, Any], found: list[dict[str, str]]) -> str:
    words, one = Chain(facts).words(), first(found)
    who = f"{words['agent']} on {words['server']}"
    if not one:
        return f"{who}: every hop that could be asked works."
    begin = f"broken at the {one['hop']}" if one["verdict"] == BROKEN else f"works, but at the {one['hop']}"
    begin = re.sub(r"at the (Traefik|TLS|DNS|nginx)$", r"at \1", begin)
    return f"{who}: {begin}: {one['why']}. To mend it: {one['fix']}."


def diagnosis(facts: dict[str, Any]) -> dict[str, Any]:
    found = findings(facts)
    one, agent = first(found), facts.get("agent") or {}
    broken = one.get("verdict") == BROKEN
    return {
        "agent": agent.get("name", ""),
        "server": agent.get("server", ""),
        "broken": broken,
        "hop": one.get("hop", "") if broken else "",
        "rule": one.get("rule", ""),
        "why": one.get("why", ""),
        "fix": one.get("fix", ""),
        "sentence": sentence(facts, found),
        "findings": found,
    }


_COLUMNS = ("hop", "asked", "found", "verdict")
_WIDTH = 60  # of a cell


def lines(made: dict[str, Any]) -> list[str]:
    """The findings in columns, and the sentence; what could not be asked is a dash."""
    shown = [
        [one[key] if len(one[key]) <= _WIDTH else one[key][: _WIDTH - 1] + "…" for key in _COLUMNS]
        for one in made["findings"]
    ]
    cells = [[name.upper() for name in _COLUMNS], *([cell or "-" for cell in row] for row in shown)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(_COLUMNS))]
    told = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]
    return [*(told if shown else []), "", made["sentence"], ""]
