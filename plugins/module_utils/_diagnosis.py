# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Which hop between an app and its visitors is broken, why, and what fixes it. Pure: facts in, findings out.

A question is a line of the report, a rule one way in which its answer is bad. Each hop is held against the one before
it: an nginx that shows the page while its tunnel is offline is as it should be.
"""

from __future__ import annotations

import re
from typing import Any, Collection, Mapping

from . import _bisect, _names, _rules_public, _rules_server, _rules_traefik, _rules_tunnel, _rules_tunnel_ssh
from ._blame import Blame, place_hop
from ._chain import (
    AGENT,
    BROKEN,
    DEPENDS,
    DNS,
    EDGE,
    HOPS,
    NGINX,
    OK,
    SERVER,
    SSH_CONNECTION,
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
    asked = [question for question in QUESTIONS if question not in other.QUESTIONS]
    return _with_visits([finding(question, chain) for question in asked], chain, facts)


def _with_visits(found: list[dict[str, str]], chain: Chain, facts: dict[str, Any]) -> list[dict[str, str]]:
    """The visits' rows. Where no rule explains what a visitor meets, the place where it begins is broken."""
    visits = _visits(chain, facts)
    faults = [] if chain.misled else [one for one in _bisect.faults(visits) if one.word != _bisect.MAYBE]
    rows = {name: _row(name, visits[name], chain) for name in _bisect.PLACES if name in visits}
    if faults:
        blame = Blame(faults[0], chain, visits, (facts.get("ngrok") or {}).get("tunnels"))
        found = [{**one, "verdict": WARN} if blame.clears(one) else one for one in found]
        if not any(blame.is_explained_by(one) for one in found):
            # What fails sometimes is not what keeps everybody out.
            other = not faults[0].always and any(one["verdict"] == BROKEN for one in found)
            verdict = WARN if other or faults[0].word == _bisect.ONCE else BROKEN
            why, fix = (_filled(text, words) for text, words in blame.told())
            rows[faults[0].place].update(hop=blame.hop, verdict=verdict, rule="visitor", why=why, fix=fix)
    return sorted([*found, *rows.values()], key=lambda one: HOPS.index(one["hop"]))


def _visits(chain: Chain, facts: dict[str, Any]) -> dict[str, Any]:
    visits = {name: visit for name, visit in (facts.get("visits") or {}).items() if visit}
    return {name: visit for name, visit in visits.items() if name != "public" or chain.public}


def _row(name: str, visit: Any, chain: Chain) -> dict[str, str]:
    asked = f"a visitor, {_bisect.PLACES[name]}"
    found = {"hop": place_hop(name, chain), "asked": asked, "found": _bisect.summary(visit)}
    return {**found, "verdict": OK if found["found"] else UNKNOWN, "rule": "", "why": "", "fix": ""}


def is_between_askers(made: Mapping[str, Any]) -> bool:
    """Whether the verdict compares what two machines were told, each at a moment of its own."""
    outside = made["hop"] == DNS and not made["rule"].startswith("dns_")
    return outside or (made["rule"] == "visitor" and made["hop"] in (AGENT, EDGE, SSH_CONNECTION))


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


def explained(one: dict[str, str]) -> str:
    """Where a finding is, why, and what fixes it."""
    the = "" if one["hop"] in (TRAEFIK, TLS, DNS, NGINX) else "the "
    return f"at {the}{one['hop']}: {one['why']}. To fix it: {one['fix']}."


def sentence(facts: dict[str, Any], found: list[dict[str, str]]) -> str:
    chain, one = Chain(facts), first(found)
    words, late = chain.words(), list(facts.get("late") or [])
    who = f"{words['agent']} on {words['server']}"
    visits = _visits(chain, facts)
    if one:
        told = f"{who}: {'broken' if one['verdict'] == BROKEN else 'works, but'} {explained(one)}"
    elif "public" in visits:
        late += _bisect.unasked(visits["public"])
        which = "that answered in time " if late else ""
        told = f"{who}: every hop {which}works{_took(facts)}; from outside: {_bisect.summary(visits['public'])}."
    else:
        told = f"{who}: every hop that could be asked works{_took(facts)}; nobody asked from outside."
    return f"{told} Not waited for: {', '.join(late)}." if late else told


def _took(facts: Mapping[str, Any]) -> str:
    return f" ({facts['seconds']:.0f} s)" if facts.get("seconds") else ""


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


def table(made: dict[str, Any]) -> list[str]:
    """The findings in columns; what could not be asked is a dash. A healthy chain needs none."""
    if not first(made["findings"]):
        return []
    shown = [
        [one[key] if len(one[key]) <= _WIDTH else one[key][: _WIDTH - 1] + "…" for key in _COLUMNS]
        for one in made["findings"]
    ]
    cells = [[name.upper() for name in _COLUMNS], *([cell or "-" for cell in row] for row in shown)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(_COLUMNS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]


def lines(made: dict[str, Any]) -> list[str]:
    """The table, and the sentence."""
    return [*table(made), "", made["sentence"], ""]
