# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Which hop between an app and its visitors is broken, why, and what fixes it. Pure: facts in, findings out.

A question is a line of the report, a rule one way in which its answer is bad. Each hop is held against the one before
it: an nginx that shows the page while its tunnel is offline is as it should be.
"""

from __future__ import annotations

import re
from typing import Any, Collection

from . import _names, _rules_public, _rules_server, _rules_traefik, _rules_tunnel, _rules_tunnel_ssh
from ._chain import (
    BROKEN,
    DEPENDS,
    DNS,
    HOPS,
    NGINX,
    OK,
    SERVER,
    TLS,
    TRAEFIK,
    UNKNOWN,
    WARN,
    Chain,
    Match,
    Question,
    Rule,
)

_PARTS = (_rules_tunnel, _rules_tunnel_ssh, _rules_server, _rules_traefik, _rules_public)
# An agent has one of the two kinds of tunnel.
QUESTIONS: tuple[Question, ...] = tuple(
    sorted((question for part in _PARTS for question in part.QUESTIONS), key=lambda question: HOPS.index(question.hop))
)
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
    other = _rules_tunnel if chain.by_ssh else _rules_tunnel_ssh
    return [finding(question, chain) for question in QUESTIONS if question not in other.QUESTIONS]


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


def told(one: dict[str, str]) -> str:
    """Where a finding is, why, and what fixes it."""
    the = "" if one["hop"] in (TRAEFIK, TLS, DNS, NGINX) else "the "
    return f"at {the}{one['hop']}: {one['why']}. To fix it: {one['fix']}."


def sentence(facts: dict[str, Any], found: list[dict[str, str]]) -> str:
    words, one = Chain(facts).words(), first(found)
    who = f"{words['agent']} on {words['server']}"
    if not one:
        return f"{who}: every hop that could be asked works."
    begin = "broken" if one["verdict"] == BROKEN else "works, but"
    return f"{who}: {begin} {told(one)}"


def diagnosis(facts: dict[str, Any], without: Collection[str] = ()) -> dict[str, Any]:
    """`without`: hops that are not what is asked about."""
    found = [one for one in findings(facts) if one["hop"] not in without]
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


def _undiagnosed(agent: str, server: str, hop: str, rule: str, why: str, fix: str, told: str) -> dict[str, Any]:
    """As diagnosis() returns it, where there are no facts."""
    made = {"agent": agent, "server": server, "broken": True, "hop": hop, "rule": rule, "why": why, "fix": fix}
    return {**made, "sentence": f"{agent} on {server}: {told}", "findings": []}


def invalid(agent: str, server: str, why: str) -> dict[str, Any]:
    """Its settings are not valid, so nobody knows what to ask."""
    return _undiagnosed(agent, server, SERVER, "settings", why, "", f"cannot be diagnosed: {why}")


def failed(agent: str, server: str, why: str, stack: dict[str, Any]) -> dict[str, Any]:
    """It was asked, and this sentence came instead of answers."""
    if not re.match("ca_path .* cannot be used", why):
        return diagnosis({"agent": {"name": agent, "server": server}, "stack": stack, "failed": why})
    fix = f"`{_names.playbook('deploy_agent', agent)}`, which writes it again"
    told = f"broken at TLS: {why[:-1] if why.endswith('.') else why}. To fix it: {fix}."
    return _undiagnosed(agent, server, TLS, "authority", why, fix, told)


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
