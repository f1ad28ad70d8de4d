# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Which hop between an app and its visitors is broken, why, and what fixes it. Pure: facts in, findings out.

A question is a line of the report, a rule one way in which its answer is bad. Each hop is held against the one before
it: an nginx that shows the page while its tunnel is offline is as it should be.
"""

from __future__ import annotations

import re
from typing import Any, Collection, Mapping, Sequence

from . import _bisect, _names, _rules_public, _rules_server, _rules_traefik, _rules_tunnel, _rules_tunnel_ssh
from ._chain import (
    AGENT,
    APP,
    BROKEN,
    DEPENDS,
    DNS,
    EDGE,
    HOPS,
    NGINX,
    OK,
    SERVER,
    SSH_CONNECTION,
    SSH_SERVER,
    TLS,
    TRAEFIK,
    TUNNEL,
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


# The hop that is to blame where a place fails, and the one behind it does not.
_HOPS = {"laptop": APP, "tunnel": EDGE, "container": SERVER, "nginx": NGINX, "traefik": TRAEFIK, "public": DNS}
UNKNOWN_FAULT = "a visitor's {question} {what} {place} ({here}{there})"  # that no rule explains, and where to look
LOOK = {
    APP: "on the laptop: start the app again, and read what it prints; with `-e app_url=http://127.0.0.1:PORT` there,"
    " `{diagnose}` tells the app and {tunnel} apart",
    SSH_CONNECTION: "on the laptop: end the ssh that runs, and start it again: `{laptop}`",
    AGENT: "on the laptop: `ngrok http --url={target_url} PORT`",
    EDGE: "on {server}: `curl -sv {target_url} -o /dev/null`; on the laptop: start ngrok again without its traffic"
    " policy, and look at dashboard.ngrok.com",
    SERVER: "on {server}: `sudo systemctl restart docker`, and look at `sudo iptables -L DOCKER-USER -n -v`",
    NGINX: "on {server}: `docker restart {container}`, then `{deploy}`; it says more with `docker logs {container}`",
    TRAEFIK: "on {server}: `docker restart {traefik}`, then `{deploy}`; look at its middlewares, in"
    " {root}/traefik/dynamic as well",
    DNS: "look for a proxy, a firewall or another server between: `curl -sv {public_origin} -o /dev/null`",
}


def _place_hop(name: str, chain: Chain) -> str:
    """Of a tunnel of one's own the place `tunnel` is where its SSH server ends."""
    return SSH_SERVER if name == "tunnel" and chain.by_ssh else _HOPS[name]


def _visits(chain: Chain, facts: dict[str, Any]) -> dict[str, Any]:
    visits = {name: visit for name, visit in (facts.get("visits") or {}).items() if visit}
    return {name: visit for name, visit in visits.items() if name != "public" or chain.public}


def _with_visits(found: list[dict[str, str]], chain: Chain, facts: dict[str, Any]) -> list[dict[str, str]]:
    """The visits' rows. Where no rule explains what a visitor meets, the place where it begins is broken."""
    visits = _visits(chain, facts)
    if not visits:
        return found
    faults = [] if chain.misled else [one for one in _bisect.faults(visits) if one.word != _bisect.MAYBE]
    rows = {name: _row(name, visits[name], chain) for name in _bisect.PLACES if name in visits}
    if faults:
        fault = faults[0]
        last = _hop(fault, chain, facts)
        found = [_cleared(one, fault, last, visits, chain) for one in found]
        if not any(_explains(one, fault, chain, visits) for one in found):
            # What fails sometimes is not what keeps everybody out.
            other = not fault.always and any(one["verdict"] == BROKEN for one in found)
            verdict = WARN if other or fault.word == _bisect.ONCE else BROKEN
            rows[fault.place].update(hop=last, verdict=verdict, **_generic(fault, last, chain))
    return sorted([*found, *rows.values()], key=lambda one: HOPS.index(one["hop"]))


def _row(name: str, visit: Any, chain: Chain) -> dict[str, str]:
    asked = f"a visitor, {_bisect.PLACES[name]}"
    found = {"hop": _place_hop(name, chain), "asked": asked, "found": _bisect.summary(visit)}
    return {**found, "verdict": OK if found["found"] else UNKNOWN, "rule": "", "why": "", "fix": ""}


def _coded_hop(answers: Sequence[Mapping[str, Any]]) -> str:
    """Of whom ngrok's own error speaks, if it was one."""
    codes = [one["code"] for one in answers if one["code"]]
    number = int(codes[0].rpartition("_")[2]) if codes else 0
    known = (hop for _rule, hop, numbers, _wrong, _fix in _rules_tunnel.CODES if number in numbers)
    return next(known, EDGE) if codes else ""


def _hop(fault: _bisect.Fault, chain: Chain, facts: dict[str, Any]) -> str:
    sent_away = not chain.container.get("running") or chain.container.get("health") == "unhealthy"
    if fault.place == "traefik" and sent_away:  # Traefik sends nobody there
        return NGINX
    if fault.place != "tunnel":
        return _HOPS[fault.place]
    if chain.by_ssh:
        return SSH_CONNECTION if fault.behind == "laptop" else APP
    if _is_cut_off(fault, facts["visits"]) and chain.is_https:
        return EDGE
    coded = _coded_hop(_bad(fault, facts["visits"]))
    if fault.behind != "laptop":
        return coded or APP
    if coded:
        return AGENT if coded == APP else coded
    tunnels = (facts.get("ngrok") or {}).get("tunnels")
    return EDGE if tunnels and chain.target in tunnels else AGENT


def _bad(fault: _bisect.Fault, visits: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [one for one in visits[fault.place] if one["question"] == fault.question and not one["ok"]]


def _is_cut_off(fault: _bisect.Fault, visits: Mapping[str, Any]) -> bool:
    """No connection came to the tunnel."""
    answers = _bad(fault, visits)
    return fault.place == "tunnel" and bool(answers) and not any(one["reached"] for one in answers)


def _is_swallowed(fault: _bisect.Fault, visits: Mapping[str, Any], chain: Chain) -> bool:
    """The tunnel takes connections and says nothing, where the app answers on the laptop."""
    answers = _bad(fault, visits)
    silent = all(one["reached"] and one["status"] in (0, 101) and not one.get("closed") for one in answers)
    return fault.behind == "laptop" and bool(answers) and silent and not chain.by_ssh


def _explains(one: dict[str, str], fault: _bisect.Fault, chain: Chain, visits: Mapping[str, Any]) -> bool:
    """A broken hop between the place where it fails and the one where it does not."""
    begin = HOPS.index(_place_hop(fault.behind, chain)) + 1 if fault.behind else 0
    within = begin <= HOPS.index(one["hop"]) <= HOPS.index(_place_hop(fault.place, chain))
    outside = fault.place == "public" and one["hop"] in (TLS, DNS)
    behind = (SERVER, NGINX, *([TLS] if re.search("certificate|TLS handshake", fault.here) else []))
    causes = one["hop"] in behind and fault.place == "traefik"
    causes = causes or (one["hop"] == SERVER and _is_cut_off(fault, visits))
    return (one["verdict"] == BROKEN and (within or causes)) or (one["verdict"] == WARN and outside)


def _cleared(
    one: dict[str, str], fault: _bisect.Fault, hop: str, visits: dict[str, Any], chain: Chain
) -> dict[str, str]:
    """The tunnel is not what is broken where it answers a visitor's every question, nor an app that answers on the
    laptop where the tunnel says nothing; nor is a hop beyond the one that fails sometimes, where visitors get through
    now and then: who asked there once had no luck."""
    beyond = hop not in TUNNEL and fault.behind in ("tunnel", "container", "nginx")
    suspected = one["hop"] in TUNNEL and beyond and fault.word != _bisect.ONCE
    between = one["hop"] == APP and _is_swallowed(fault, visits, chain)
    places = [name for name in _HOPS if _HOPS[name] == one["hop"]]
    passes = any(seen["ok"] for name in places for seen in visits.get(name, ()) if seen["question"] == fault.question)
    outwards = HOPS.index(one["hop"]) > HOPS.index(_HOPS[fault.place])
    flickers = fault.word == _bisect.FAILS and not fault.always and outwards and passes
    return {**one, "verdict": WARN} if one["verdict"] == BROKEN and (suspected or flickers or between) else one


def _generic(fault: _bisect.Fault, hop: str, chain: Chain) -> dict[str, str]:
    words = {
        "question": fault.question,
        "what": {_bisect.SLOWER: "is slow", _bisect.DIFFERS: "is another one"}.get(fault.word, "fails"),
        "place": _bisect.PLACES[fault.place],
        "here": fault.here if fault.always else f"{fault.here}, {fault.bad} of {fault.asked} times",
        "there": f"; {_bisect.PLACES[fault.behind]}: {fault.there}" if fault.behind else "",
    }
    known = {**chain.words(), **(_rules_tunnel_ssh.words(chain) if chain.by_ssh else {})}
    return {"rule": "visitor", "why": _filled(UNKNOWN_FAULT, words), "fix": _filled(LOOK[hop], known)}


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
