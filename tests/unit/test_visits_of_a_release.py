# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What a visitor meets of a release, next to what was there before: which is kept, and which is undone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _visitor

from .model_docker import Machine

pytestmark = pytest.mark.usefixtures("mortal")

Answers = list[dict[str, Any]]
PAGE = _visitor.seen("page", ok=True, status=200, kind="text/html")
SOCKET = _visitor.seen("WebSocket", ok=True, status=101)
BROKEN = {**PAGE, "ok": False, "status": 500, "told": "answer 500"}
GONE = {**PAGE, "ok": False, "status": 404, "code": "ERR_NGROK_3200", "told": "answer 404, ERR_NGROK_3200"}
GOOD: Answers = [PAGE, PAGE, SOCKET, SOCKET]


def visited(machine: Machine, monkeypatch: pytest.MonkeyPatch, visit: Callable[[str, bool, bool], Answers]) -> None:
    """`visit` by its place, whether it is asked again, and whether the new release serves."""

    def visits(place: _visitor.Place, asked: _visitor.Plan, _own: Any) -> Answers:
        return visit(place.name, bool(asked.more), "two" in machine.docker.met)

    monkeypatch.setattr(_visitor, "visit", visits)


NAMES = ["page", "WebSocket", "/a.js", "/b.css", "/_stcore/health"]
BAD_MOMENT = {
    "fails": [_visitor.seen(name, status=502, told="answer 502") for name in NAMES for _time in "ab"],
    "hangs": [_visitor.seen(name, ok=True, late=True) for name in NAMES for _time in "ab"],
}


@pytest.mark.parametrize("moment", list(BAD_MOMENT))
def test_one_bad_moment_undoes_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    machine("one")
    good = [_visitor.seen(name, ok=True, status=200) for name in NAMES for _time in "ab"]
    visited(machine, monkeypatch, lambda _p, again, new: BAD_MOMENT[moment] if new and not again else good)
    assert machine("two")["outcome"] == "released"
    visited(machine, monkeypatch, lambda place, _a, new: BAD_MOMENT[moment] if new and place != "tunnel" else good)
    machine("one")
    assert machine("two")["outcome"] == "rolled back"


def test_a_bad_moment_before_excuses_nothing(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine("one")
    bad = [BROKEN, BROKEN, SOCKET]
    visited(machine, monkeypatch, lambda place, again, new: bad if place != "tunnel" and (new or not again) else GOOD)
    assert machine("two")["outcome"] == "rolled back"


def test_what_stays_broken_is_undone(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine("one")
    visited(machine, monkeypatch, lambda place, _a, new: [BROKEN] * 6 if new and place != "tunnel" else GOOD)
    assert machine("two")["outcome"] == "rolled back"
    assert machine.docker.met == {"one"}


def test_an_app_that_goes_meanwhile_is_offline(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine("one")
    visited(machine, monkeypatch, lambda _p, _a, new: [GONE, GONE, SOCKET] if new else GOOD)
    assert machine("two")["outcome"] == "released"
    visited(machine, monkeypatch, lambda _p, _a, new: GOOD if new else [GONE, GONE, SOCKET])
    machine("three")
    visited(machine, monkeypatch, lambda _p, _a, new: [GONE, GONE, SOCKET] if new else GOOD)
    assert machine("two", require_online=True)["outcome"] == "rolled back"


def test_what_an_app_never_had_is_its_own(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    visited(machine, monkeypatch, lambda *_words: [BROKEN, BROKEN, SOCKET, SOCKET])
    made = machine("one")
    assert made["outcome"] == "started"
    assert "a visitor's page fails at the app itself: answer 500" in made["notes"]
    machine("two")
    assert machine.docker.met == {"two"}


def test_another_app_may_answer_in_another_way(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    machine("one")
    api = [{**PAGE, "status": 404}] * 2
    visited(machine, monkeypatch, lambda _p, _a, new: [*api, SOCKET] if new else GOOD)
    assert machine("two")["outcome"] == "released"
