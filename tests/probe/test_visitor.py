# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Kinds of faults at each hop, always and one time in two: what a visitor's model finds, and where."""

from __future__ import annotations

import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, cast

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _bisect, _visitor

from . import hops
from .hops import ALWAYS, HALF, SOCKET

PLACES = ("laptop", "tunnel", "nginx", "traefik", "public")
APP = {"probe_path": SOCKET, "stream_path": ""}
AT_ONCE = 6
EACH = int(os.environ.get("VISITOR_EACH", "19"))  # 1: all of them
PLAN = _visitor.plan(APP, silence=2.0, seconds=15.0)
PAGE, SCRIPT, STYLE, HEALTH, HTTP = "/", "/s/main.js", "/s/main.css", "/_stcore/health", "(?!/_stcore/stream).*"
# kind, paths; the app itself cannot differ from what is behind it
KINDS: tuple[tuple[str, str, bool], ...] = (
    ("500", PAGE, True),
    ("404", PAGE, True),
    ("429", HTTP, True),
    ("truncated", PAGE, True),
    ("empty", PAGE, True),
    ("packed", PAGE, True),
    ("reset", PAGE, True),
    ("404", SCRIPT, True),
    ("html", SCRIPT, True),
    ("truncated", SCRIPT, True),
    ("altered", SCRIPT, False),
    ("type", SCRIPT, False),
    ("404", STYLE, True),
    ("502", HEALTH, True),
    ("502", SOCKET, True),
    ("reset", SOCKET, True),
    ("closes 1011", SOCKET, True),
    ("closes 1000", SOCKET, True),
    ("cut", SOCKET, True),
    ("silence", SOCKET, True),
    ("closes in silence", SOCKET, True),
    ("mute", SOCKET, True),
    ("mute later", SOCKET, True),
    ("stalls", PAGE, True),
    ("slow", HTTP, True),
    ("slow", SOCKET, True),
    ("hangs", HTTP, True),
)


class Case(NamedTuple):
    at: str
    kind: str
    where: str
    pattern: str

    def __str__(self) -> str:
        return f"{self.kind} of {self.where} {self.pattern} at {self.at}"


CASES = [
    Case(at, kind, where, pattern)
    for kind, where, alone in KINDS
    for pattern in (ALWAYS, HALF)
    for at in PLACES
    if (alone or at != "laptop") and not (kind == "hangs" and pattern == HALF)
]


def asked(at: str, fault: hops.Fault | None) -> dict[str, Any]:
    """As a diagnosis asks: the server's places by themselves, the control node's next to them."""
    with hops.chain(at, fault, PLACES) as ports, ThreadPoolExecutor(len(PLACES)) as pool:
        there = {
            name: _visitor.Place(name, f"http://127.0.0.1:{port}", origin="http://a.example")
            for name, port in ports.items()
        }
        begin = time.monotonic()
        server = pool.submit(_bisect.tour, [there[name] for name in ("traefik", "nginx", "tunnel")], PLAN, ())
        others = {name: pool.submit(_visitor.visit, there[name], PLAN) for name in ("public", "laptop")}
        visits = {**server.result(), **{name: one.result() for name, one in others.items()}}
        more = _bisect.uncertain(visits)
        if more and _bisect.faults(visits)[0].place in ("public", "tunnel"):
            plan = _bisect.again(PLAN, more)
            once_more = {name: pool.submit(_visitor.visit, place, plan) for name, place in there.items()}
            visits = _bisect.joined(visits, {name: one.result() for name, one in once_more.items()})
        return {"visits": visits, "seconds": time.monotonic() - begin}


@pytest.fixture(scope="module")
def found(request: pytest.FixtureRequest) -> dict[Case, dict[str, Any]]:
    """Of those that are wanted, several at once; each has the room that it has alone."""
    _visitor.ROOM = threading.BoundedSemaphore(12 * AT_ONCE)
    cases = (_params(item).get("case") for item in cast(Any, request.session.items))
    wanted = {case for case in cases if isinstance(case, Case)}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        done = {case: pool.submit(asked, case.at, hops.Fault(case.kind, case.pattern, case.where)) for case in wanted}
        return {case: one.result() for case, one in done.items()}


def _params(item: Any) -> dict[str, Any]:
    return dict(item.callspec.params) if hasattr(item, "callspec") else {}


@pytest.mark.parametrize("case", CASES[::EACH], ids=str)
def test_fault(found: dict[Case, dict[str, Any]], case: Case) -> None:
    told = found[case]
    faults = _bisect.faults(told["visits"])
    assert faults, {name: _bisect.summary(visit) for name, visit in told["visits"].items()}
    assert faults[0].place == case.at, faults
    assert told["seconds"] < PLAN.seconds + _bisect.again(PLAN, {}).seconds + 2  # both rounds


def test_nothing_is_found_where_nothing_is_wrong() -> None:
    told = asked("", None)
    assert _bisect.faults(told["visits"]) == []
    assert told["seconds"] < PLAN.silence + 2
    requests = {name: len(visit) for name, visit in told["visits"].items()}
    assert sum(requests[name] for name in ("tunnel", "nginx", "traefik", "public")) <= 60, requests


GOOD = _visitor.seen("page", ok=True, status=200, kind="text/html")
SOCKET_GOOD = _visitor.seen("WebSocket", ok=True, status=101)
BAD = {
    "page": {**GOOD, "ok": False, "status": 500, "told": "answer 500"},
    "WebSocket": {**SOCKET_GOOD, "ok": False, "told": "101, and it was closed at once with 1011"},
    "/s/main.js": _visitor.seen("/s/main.js", file=True, status=404, told="answer 404"),
}
FILE = _visitor.seen("/s/main.js", file=True, ok=True, status=200, kind="text/javascript")
VISIT = [GOOD, GOOD, SOCKET_GOOD, SOCKET_GOOD, FILE, FILE]


@pytest.mark.parametrize("question", list(BAD))
def test_a_release_is_worse(question: str) -> None:
    always = [BAD[question] if one["question"] == question else one for one in VISIT]
    fault = _bisect.worse(always, VISIT)
    assert fault
    assert (fault.question, fault.bad, fault.asked) == (question, 2, 2)
    fault = _bisect.worse([*VISIT, BAD[question]], VISIT)
    assert fault
    assert fault.question == question
    assert _bisect.worse(VISIT, VISIT) is None


def test_a_release_is_no_worse_for_what_its_page_never_had() -> None:
    dead = [GOOD, SOCKET_GOOD, BAD["/s/main.js"]]
    assert _bisect.worse(dead, dead) is None
    assert _bisect.worse(dead, ()) is None
    assert _bisect.worse(VISIT, dead) is None


def test_a_login_is_an_answer() -> None:
    asks = [_visitor.seen("page", ok=True, status=401), _visitor.seen("page", ok=True, status=302)]
    assert _bisect.worse(asks, asks) is None
    assert _bisect.faults({"tunnel": asks, "traefik": asks}) == []


def test_an_app_in_maintenance_is_no_hops_fault() -> None:
    busy = [_visitor.seen("page", status=503, told="answer 503")] * 2
    (fault,) = _bisect.faults({"tunnel": busy, "nginx": busy, "traefik": busy, "public": busy})
    assert (fault.place, fault.behind) == ("tunnel", "")


def test_a_slow_line_is_no_fault() -> None:
    far = {**GOOD, "line": 1200.0, "first": 2400.0}
    assert _bisect.faults({"traefik": [GOOD, GOOD], "public": [far, far]}) == []
    slow = {**far, "line": 5.0}
    (fault,) = _bisect.faults({"traefik": [GOOD, GOOD], "public": [slow, slow]})
    assert (fault.word, fault.place) == (_bisect.SLOWER, "public")


def test_a_busy_machine_is_slow_once() -> None:
    slow = {**GOOD, "first": 3000.0}
    assert [one.word for one in _bisect.faults({"traefik": [GOOD] * 2, "public": [GOOD, slow]})] == [_bisect.MAYBE]


def test_one_answer_that_nobody_waited_for_is_no_fault_by_itself() -> None:
    late = _visitor.seen("page", told="no answer within 5 s", late=True)
    assert [one.word for one in _bisect.faults({"tunnel": [GOOD, late]})] == [_bisect.ONCE]
    assert [one.word for one in _bisect.faults({"tunnel": [late, late]})] == [_bisect.FAILS]


def test_what_no_visitor_feels_is_a_warning() -> None:
    bad = [BAD["page"]] * 2
    assert [one.word for one in _bisect.faults({"tunnel": bad, "public": [GOOD] * 2})] == [_bisect.ONCE]
    assert [one.word for one in _bisect.faults({"tunnel": bad, "public": bad})] == [_bisect.FAILS]


def test_what_has_settled_is_no_fault_any_more() -> None:
    first = {"traefik": [GOOD] * 4, "public": [BAD["page"]] * 4}
    assert [one.word for one in _bisect.faults(first)] == [_bisect.FAILS]
    settled = {"traefik": [GOOD] * 6, "public": [GOOD] * 6}
    assert [one.word for one in _bisect.faults(_bisect.joined(first, settled))] == [_bisect.ONCE]
    assert [one.word for one in _bisect.faults(_bisect.joined(first, first))] == [_bisect.FAILS]


def test_an_end_in_silence_is_not_over_because_nobody_is_silent_again() -> None:
    ended = {**SOCKET_GOOD, "ok": False, "after": 8.0}
    first = {"traefik": [SOCKET_GOOD] * 2, "public": [ended] * 2}
    again = {"traefik": [SOCKET_GOOD] * 6, "public": [SOCKET_GOOD] * 6}
    assert [one.word for one in _bisect.faults(_bisect.joined(first, again))] == [_bisect.FAILS]


def test_what_an_app_that_wants_a_token_says_is_the_same_everywhere() -> None:
    closed = {**SOCKET_GOOD, "closed": 1005}
    assert _bisect.faults({"tunnel": [closed] * 2, "traefik": [closed] * 2}) == []
    (fault,) = _bisect.faults({"tunnel": [SOCKET_GOOD] * 2, "traefik": [closed] * 2})
    assert (fault.word, fault.place) == (_bisect.DIFFERS, "traefik")


@pytest.mark.parametrize(
    ("policy", "forbidden"),
    [
        ("", False),
        ("frame-ancestors 'none'", False),
        ("script-src 'none'", True),
        ("default-src 'self'", False),
        ("default-src 'none'; style-src 'self'", True),
        ("default-src 'none'; script-src-elem 'self' 'unsafe-inline'", False),
        ("script-src https://cdn.example", True),
        ("script-src https://cdn.example https://a.example/static/", False),
        ("script-src 'nonce-abc'", False),
        ("script-src *.example", False),
        ("script-src 'self', script-src 'unsafe-inline'", True),
    ],
)
def test_a_policy_that_forbids_a_pages_own_scripts(policy: str, forbidden: bool) -> None:
    assert _visitor.forbids(policy, ["a.example"]) is forbidden


def test_our_own_haste_is_no_fault_of_a_release() -> None:
    with hops.chain("nginx", hops.Fault("busy", ALWAYS, "/"), PLACES) as ports:
        place = _visitor.Place("nginx", f"http://127.0.0.1:{ports['nginx']}", origin="http://a.example")
        found = _visitor.visit(place, _visitor.plan(APP, silence=0.2, seconds=5.0))
    assert _bisect.unasked(found) == [_visitor.PAGE]
    assert _bisect.worse(found, ()) is None
