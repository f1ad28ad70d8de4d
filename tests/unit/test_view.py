# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""How a verification is judged while a replaced container still serves, and what is said of the public name."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.locki.vaettir.plugins.action import agent_release
from ansible_collections.locki.vaettir.plugins.module_utils import _agent, _bisect, _probe, _visitor, _websocket
from ansible_collections.locki.vaettir.plugins.module_utils._transaction import (
    BETTER,
    SAME,
    WORSE,
    Answer,
    Expectation,
    Verification,
    View,
)


def verification(through_traefik: str, itself: str = "ok") -> Verification:
    return Verification(traefik=Answer(through_traefik), direct=Answer(itself))


@pytest.mark.parametrize(
    ("beside", "before", "through_traefik", "itself", "passes"),
    [
        (False, "ok", "ok", "ok", True),
        (False, "ok", "bad_page", "maintenance", False),
        (True, "ok", "ok", "ok", True),
        (True, "ok", "bad_page", "maintenance", True),
        (True, "offline", "maintenance", "ok", True),
        (True, "offline", "offline", "ok", True),
        (True, "ok", "bad_page", "bad_page", False),
        (True, "ok", "bad_page", "ok", False),
        (True, "offline", "bad_page", "offline", False),
        (True, "offline", "upload_refused", "ok", False),
        (True, "foreign_origin", "foreign_origin", "ok", True),
        (True, "foreign_origin", "foreign_origin", "foreign_origin", False),
        (True, "ok", "foreign_origin", "ok", False),
    ],
)
@pytest.mark.parametrize("online", [False, True])
def test_two_containers_may_answer_by_turns(
    beside: bool, before: str, through_traefik: str, itself: str, passes: bool, online: bool
) -> None:
    """For as long as a replaced one serves. What is wrong with the new one alone is seen all the same."""
    view = View(Expectation(offline=not online), verification(before), beside)
    a_page_will_do = not online or itself not in _websocket.PAGES
    assert (view.judge(verification(through_traefik, itself)).word == BETTER) is (passes and a_page_will_do)


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        ((), ("page",), WORSE),
        (("page", "WebSocket"), ("WebSocket",), SAME),
        (("WebSocket",), ("page", "WebSocket"), WORSE),
        (("page",), (), BETTER),
    ],
)
def test_what_visitors_missed_before_is_no_reason_to_undo(
    before: tuple[str, ...], after: tuple[str, ...], word: str
) -> None:
    def visit(bad: tuple[str, ...]) -> list[dict[str, Any]]:
        return [_visitor.seen(name, ok=name not in bad, status=200) for name in ("page", "WebSocket") for _ in "ab"]

    ok = Answer("ok")
    was, is_ = _bisect.worse(visit(before), ()), _bisect.worse(visit(after), visit(before))
    baseline = Verification(_agent._visits_answer(was[0], ok, was_so=True) if was else ok)
    known = {one.question for one in was}
    found = Verification(ok, _agent._visits_answer(is_[0], ok, is_[0].question in known) if is_ else ok)
    assert View(Expectation(), baseline).judge(found).word == word


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        ("ok", "ok", BETTER),
        ("ok", "app_closed", BETTER),
        ("ok", "refused_origin", WORSE),
        ("refused_origin", "refused_origin", SAME),
        ("bad_connect", "bad_connect", SAME),
        ("ok", "bad_connect", WORSE),
        ("offline", "app_down", SAME),  # a page is a page
        ("offline", "proxy_error", WORSE),
        ("offline", "bad_page", WORSE),
    ],
)
def test_a_release_is_compared_with_what_served_before(before: str, after: str, word: str) -> None:
    view = View(Expectation(offline=False), verification(before))
    assert view.judge(verification(after, after)).word == word
    if word == SAME:
        assert View(Expectation(offline=False)).judge(verification(after, after)).word == WORSE


@pytest.mark.parametrize(
    ("found", "words", "not_words"),
    [
        ({"reason": "dns", "error": "no address"}, "(no address): lead the DNS record of a.example", ""),
        (
            {"reason": "not_asked", "error": "ca_path /x cannot be used"},
            "(ca_path /x cannot be used): fix what it",
            "DNS",
        ),
        ({"reason": "tls_untrusted", "error": "self-signed"}, "(self-signed): set stack_tls_ca", "DNS"),
    ],
)
def test_what_is_said_of_the_public_name(found: dict[str, str], words: str, not_words: str) -> None:
    told = agent_release.outside("a.example", found)
    assert words in told
    assert not not_words or not_words not in told
    assert told.endswith(" set agent_proxy_from_outside to false")


AGENT = {"name": "a", "domain": "a.example", "from_outside": True}
ROW = {"agent": "a", "verified": True, "url": "https://a.example", "trusted": True}


@pytest.mark.parametrize(
    ("row", "agent", "reason", "outside", "seen"),
    [
        ({}, {}, "ok", "", True),
        ({}, {}, "offline", "", True),
        ({}, {}, "dns", "does not answer", True),
        ({"trusted": False}, {}, "tls_pending", "", True),
        ({}, {}, "tls_pending", "does not accept", True),
        ({}, {"from_outside": False}, "dns", "", False),
        ({"verified": False}, {}, "dns", "", False),
        ({"url": ""}, {}, "dns", "", False),
    ],
)
def test_who_is_seen_from_outside(
    monkeypatch: pytest.MonkeyPatch, row: dict[str, Any], agent: dict[str, Any], reason: str, outside: str, seen: bool
) -> None:
    monkeypatch.setattr(agent_release, "ask", lambda _agent, _visitor: {"reason": reason, "error": "why"})
    (made,) = agent_release.see([{**ROW, **row}], {"a": {**AGENT, **agent}}, {})
    assert (outside in made["outside"], made["seen"]) == (True, seen)
    assert bool(made["outside"]) is bool(outside)


def test_the_servers_own_authority_is_tried_second(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def ask(_url: str, ca_path: str, **_more: Any) -> dict[str, str]:
        tried.append(ca_path)
        return {"reason": "ok" if ca_path else "tls_untrusted", "error": ""}

    monkeypatch.setattr(_probe, "ask", ask)
    agent = {**AGENT, "public_origin": "https://a.example", "probe_path": "", "stream_path": ""}
    assert agent_release.ask(agent, {"ca": "", "own_ca": "/own.pem"})["reason"] == "ok"
    assert tried == ["", "/own.pem"]
