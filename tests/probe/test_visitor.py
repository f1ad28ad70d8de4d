# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Kinds of faults at each hop, always and one time in two: what a visitor's model finds, and where."""

from __future__ import annotations

import os
import socketserver
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _bisect, _probe, _visitor

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
    ("no subprotocol", SOCKET, False),
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
    (fault,) = _bisect.worse(always, VISIT)
    assert (fault.question, fault.bad, fault.asked) == (question, 2, 2)
    (fault,) = _bisect.worse([*VISIT, BAD[question]], VISIT)
    assert fault.question == question
    assert _bisect.worse(VISIT, VISIT) == []


def test_a_release_is_no_worse_for_what_its_page_never_had() -> None:
    dead = [GOOD, SOCKET_GOOD, BAD["/s/main.js"]]
    assert _bisect.worse(dead, dead) == []
    assert _bisect.worse(dead, ()) == []
    assert _bisect.worse(VISIT, dead) == []


def test_a_login_is_an_answer() -> None:
    asks = [_visitor.seen("page", ok=True, status=401), _visitor.seen("page", ok=True, status=302)]
    assert _bisect.worse(asks, asks) == []
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


def test_an_end_in_silence_is_held_against_who_was_silent_as_long() -> None:
    ended, silent = {**SOCKET_GOOD, "ok": False, "after": 3.0}, {**SOCKET_GOOD, "silent": 10.0}
    inner = {"tunnel": [silent, *[SOCKET_GOOD] * 6], "nginx": [ended, *[SOCKET_GOOD] * 6]}
    (fault,) = _bisect.faults({**inner, "public": [ended, ended, *[SOCKET_GOOD] * 6]})
    assert (fault.word, fault.place, fault.always) == (_bisect.FAILS, "nginx", True)
    mute = {**SOCKET_GOOD, "ok": False, "after": 10.1, "late": True}  # a busy machine's pong
    assert [one.word for one in _bisect.faults({"public": [silent, mute]})] == [_bisect.ONCE]
    refused = {**SOCKET_GOOD, "ok": False, "status": 502}
    again = [{**SOCKET_GOOD, "again": True}] * 6
    assert [one.word for one in _bisect.faults({"public": [ended, ended, refused, *again]})] == [_bisect.FAILS]


def test_a_silence_whose_end_nobody_waited_for_is_told() -> None:
    unheard = {**SOCKET_GOOD, "late": True, "unheard": True}
    assert _bisect.unasked([SOCKET_GOOD, unheard]) == ["a WebSocket after its silence"]
    assert _bisect.unasked([unheard, {**SOCKET_GOOD, "silent": 10.0}]) == []


def test_what_went_wrong_once_does_not_hide_what_always_fails() -> None:
    (fault,) = _bisect.faults({"tunnel": [*[GOOD] * 6, BAD["page"]], "public": [BAD["page"]] * 4})
    assert (fault.word, fault.place) == (_bisect.FAILS, "public")
    (fault,) = _bisect.faults({"tunnel": [*[GOOD] * 6, BAD["page"]], "public": [*[GOOD] * 6, BAD["page"], BAD["page"]]})
    assert fault.place == "tunnel"


def test_what_an_app_that_wants_a_token_says_is_the_same_everywhere() -> None:
    closed = {**SOCKET_GOOD, "closed": 1005}
    assert _bisect.faults({"tunnel": [closed] * 2, "traefik": [closed] * 2}) == []
    unheard = {**SOCKET_GOOD, "late": True, "unheard": True}
    assert _bisect.faults({"tunnel": [closed] * 2, "traefik": [closed, unheard]}) == []
    assert _bisect.faults({"tunnel": [unheard] * 2, "traefik": [closed, closed]}) == []
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
    assert _bisect.worse(found, ()) == []


# --- Raw answers ------------------------------------------------------------------------------------------------------

HTML = "Content-Type: text/html\r\n"


def answer(body: str = "", head: str = HTML, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\n{head}Content-Length: {len(body.encode())}\r\n\r\n{body}".encode()


@contextmanager
def serving(answers: dict[str, bytes], pause: float = 0.0) -> Iterator[_visitor.Place]:
    """Answers by their targets, each written in two pieces where there is a pause."""

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            target = self.rfile.readline().split()[1].decode()
            head, separator, body = answers.get(target, answer("no", status="404 Not Found")).partition(b"\r\n\r\n")
            cut = body.find(b"\n") + 1 if pause else 0
            self.wfile.write(head + separator + body[:cut])
            time.sleep(pause)
            self.wfile.write(body[cut:])

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield _visitor.Place("tunnel", f"http://127.0.0.1:{server.server_address[1]}")
        finally:
            server.shutdown()


def told(answers: dict[str, bytes], pause: float = 0.0, **more: Any) -> dict[str, dict[str, Any]]:
    """The last answer to each question of a visitor's whose app has no WebSocket."""
    asked = _visitor.Plan(seconds=8.0, rounds=1, **more)
    with serving(answers, pause) as place:
        return {one["question"]: one for one in _visitor.visit(place, asked)}


@pytest.mark.parametrize(
    ("page", "good"),
    [
        (answer(status="302 Found", head=f"{HTML}Location: https://login.example/\r\n"), True),
        (answer(status="302 Found", head=f"{HTML}Location: /\r\n"), True),  # wants a cookie
        (answer(status="401 Unauthorized"), True),
        (answer("<![foo["), True),
        (answer(), False),
        (answer("<p>", head=f"{HTML}Content-Security-Policy: script-src 'none'\r\n"), True),
    ],
)
def test_an_answer_without_a_page(page: bytes, good: bool) -> None:
    assert told({"/": page})["page"]["ok"] is good


def test_files_as_a_browser_asks_for_them() -> None:
    links = '<script src=" /my script.js "></script><script src="/caf\xe9.js"></script><script src="http://[x/a.js">'
    styles = '<link rel="stylesheet" href="/empty.css"><link rel="stylesheet" href="/moved.css">'
    found = told(
        {
            "/": answer(f"<html>{links}</script>{styles}"),
            "/my%20script.js": answer("x", "Content-Type: text/javascript\r\n"),
            "/caf%C3%A9.js": answer("", "Content-Type: text/javascript\r\n"),
            "/empty.css": answer("", "Content-Type: text/css\r\n"),
            "/moved.css": answer("moved", f"{HTML}Location: /s/\r\n", "302 Found"),
        }
    )
    good = {question: one["ok"] for question, one in found.items() if question != "page"}
    assert good == {"/my%20script.js": True, "/caf%C3%A9.js": False, "/empty.css": True, "/moved.css": True}


def test_a_page_whose_chunk_looks_like_the_end() -> None:
    inner = b"<p>a\r\nmargin: 0\r\n"
    chunks = b"%x\r\n%s\r\n1\r\nx\r\n0\r\n\r\n" % (len(inner), inner)
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    assert told({"/": page}, pause=0.1)["page"]["ok"]


def test_an_event_whose_size_comes_first() -> None:
    chunks = b"d\r\ndata: hello\n\n\r\n0\r\n\r\n"
    events = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
    found = told({"/": answer("<p>"), "/events": events}, pause=0.1, stream="/events")
    assert found[_visitor.STREAM]["ok"], found


def test_who_waited_for_others_has_not_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_visitor, "ROOM", threading.BoundedSemaphore(1))
    with _visitor.ROOM, serving({"/": answer("<p>")}) as place:
        found = _visitor.visit(place, _visitor.Plan(seconds=6.0, rounds=1))
    assert _bisect.unasked(found) == ["page"]


# --- A release next to what served before -----------------------------------------------------------------------------

LATE = _visitor.seen("page", ok=True, told="no answer within 4 s", late=True)


def test_what_hangs_and_came_at_once_before() -> None:
    now = [LATE, LATE, SOCKET_GOOD]
    (fault,) = _bisect.worse(now, VISIT)
    assert (fault.question, fault.word) == ("page", _bisect.FAILS)
    slow = [{**one, "first": 1500.0} for one in VISIT]
    assert _bisect.worse(now, slow) == []


def test_what_differs_is_no_worse_for_one_that_nobody_waited_for() -> None:
    large, small = {**GOOD, "size": 1000, "assets": 3}, {**GOOD, "size": 10, "assets": 1}
    assert _bisect.worse([small, small, LATE], [large, large]) == []


def test_another_target_may_answer_in_another_way() -> None:
    api = {**GOOD, "status": 404, "ok": True}
    assert _bisect.worse([api] * 2, [GOOD] * 2)
    assert _bisect.worse([api] * 2, [GOOD] * 2, [api] * 2) == []


def test_a_file_that_nobody_waited_for_before() -> None:
    slow = _visitor.seen("/s/main.js", file=True, ok=True, late=True)
    dead = BAD["/s/main.js"]
    assert _bisect.worse([GOOD, dead, dead], [GOOD, slow]) == []
    assert _bisect.worse([GOOD, dead, dead], [LATE, LATE]) == []
    assert _bisect.worse([GOOD, dead, dead], [GOOD, FILE])


def test_an_app_that_has_gone_meanwhile() -> None:
    gone = {**GOOD, "ok": False, "status": 404, "code": "ERR_NGROK_3200", "again": True}
    assert _bisect.gone([GOOD, gone, gone], "page")
    assert not _bisect.gone([GOOD, {**GOOD, "ok": False, "status": 500, "again": True}], "page")
    assert not _bisect.gone([GOOD], "page")


def test_a_ping_of_the_apps_in_the_last_moment_of_the_silence() -> None:
    """A busy machine comes to it when the silence is over: there is no time for a pong then, and nothing is broken."""

    class Asked:
        clock = _probe.Clock(10)

        def answer(self, line: Any, _controls: list[tuple[int, bytes]]) -> None:
            line.clock = _probe.Clock(0)
            line.clock.left()

    class Line:
        clock: _probe.Clock
        heard = 0.0

        def receive(self) -> bytes:
            return b"\x89\x00"

    talk = _visitor._Talk(cast("Any", Asked()), cast("Any", Line()), b"")
    assert talk.listen(1.0) is False
