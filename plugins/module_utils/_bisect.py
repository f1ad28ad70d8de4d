# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Visits at several places of a chain, compared: the first place at which a question fails that the one behind it
answers."""

from __future__ import annotations

import functools
import threading
import time
from dataclasses import dataclass, replace
from typing import Any, Iterable, Mapping, Sequence

from . import _visitor
from ._at_once import at_once

# From the app to the visitor, with what they are called.
PLACES = {
    "laptop": "on the laptop",
    "tunnel": "from the server straight to the tunnel",
    "container": "from the agent's container to the tunnel",
    "nginx": "at the agent's nginx",
    "traefik": "at Traefik on the server",
    "public": "from outside",
}
SLOW = 1200.0  # milliseconds until the first byte, besides a few times what the place behind takes
SLOW_ALONE = 3000.0  # where there is none behind
TIMES = 4
QUICK = 1000.0  # milliseconds; what came so soon does not take a whole visit
MORE, MORE_QUESTIONS = 6, 3  # how often what failed sometimes is asked at each place
FEW = 2
FAILS, DIFFERS, SLOWER, ONCE, MAYBE = "fails", "differs", "slower", "once", "maybe"
Visits = Mapping[str, Sequence[Mapping[str, Any]]]
Answers = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Fault:
    """`place` is the first one where it shows, `behind` the next one towards the app, empty where nobody was asked."""

    word: str
    question: str
    place: str
    behind: str
    here: str
    there: str
    bad: int
    asked: int

    @property
    def always(self) -> bool:
        return self.bad == self.asked


def by_question(visit: Answers) -> dict[str, list[Mapping[str, Any]]]:
    """Without those that nobody waited for."""
    found: dict[str, list[Mapping[str, Any]]] = {}
    for one in visit:
        if not (one["late"] and one["ok"] and not one["status"]):
            found.setdefault(str(one["question"]), []).append(one)
    return found


def unasked(visit: Answers) -> list[str]:
    known = by_question(visit)
    lacks = {str(one["question"]) for one in visit} - set(known)
    unheard = any(one.get("unheard") for one in visit) and not any(one.get("silent", 0) >= 1 for one in visit)
    return sorted({*lacks, *(["a WebSocket after its silence"] if unheard else [])})


def _rank(one: Mapping[str, Any]) -> int:
    status = int(one["status"])
    if not status:
        return 5
    if status == 101:
        return 0
    return 2 if status in (401, 403) else {2: 0, 3: 1, 4: 3}.get(status // 100, 4)


def _differs(question: str, one: Mapping[str, Any], there: Answers) -> bool:
    """Worse than what the place behind answers; an app's own refusal is the same at both."""
    if _rank(one) > max(map(_rank, there)):
        return True
    if question == _visitor.SOCKET:
        known = [other for other in there if not other["late"]]  # who was not waited for may have come to it
        differ = [key for key in ("closed", "subprotocol") if one.get(key) not in {other.get(key) for other in known}]
        return bool(known and differ) and not one["late"]
    if _rank(one) > 0 or any(map(_rank, there)) or question == _visitor.STREAM:
        return False
    if one["kind"] not in {other["kind"] for other in there}:
        return True
    if question == _visitor.PAGE:
        least = min(other.get("assets", 0) for other in there)
        smallest = min(int(other["size"]) for other in there)
        return one.get("assets", 0) < least or (not one["late"] and int(one["size"]) < smallest / 2)
    if not one["file"]:  # a health page may tell of the request
        return False
    digests = {other["digest"] for other in there}  # several: it is another one each time
    return bool(one["digest"]) and len(digests) == 1 and one["digest"] not in {*digests, ""} and "" not in digests


def _waits(one: Mapping[str, Any]) -> float:
    return max(float(one["first"]), float(one.get("message", 0.0)))


def _is_slower(one: Mapping[str, Any], there: Answers) -> bool:
    if not there:
        return _waits(one) > SLOW_ALONE + TIMES * float(one["line"])
    return _waits(one) > SLOW + TIMES * (max(map(_waits, there)) + float(one["line"]))


def _as_silent(here: Answers, bad: Answers) -> Answers:
    """WebSockets that ended in their silence are held against those that were silent as long: nobody is so again."""
    after = min((float(one["after"]) for one in bad if one.get("after", 0.0) > 1), default=0.0)
    return [one for one in here if one in bad or one.get("silent", 0.0) >= after - 1] if after else here


def _is_over(here: Answers, bad: Answers) -> bool:
    """It was asked once more, at the same moment as everywhere, and then all was well."""
    later = [one for one in here if one.get("again")]
    return bool(later) and not any(one in later for one in bad)


def _is_rare(here: Answers, bad: Answers) -> bool:
    """One of several: who only was not waited for may have met a busy machine."""
    return len(bad) == 1 and (len(here) > _visitor.AGAIN or (len(here) > 1 and bool(bad[0]["late"])))


def _is_slow(here: Answers, bad: Answers) -> bool:
    """Each time, or more than once where it was asked more often: a busy machine is slow now and then."""
    enough = len(here) >= MORE or len(bad) == len(here)
    return len(bad) > 1 and enough and not _is_over(here, bad)


def joined(first: Visits, then: Visits) -> dict[str, list[dict[str, Any]]]:
    """Visits, and those of a second round."""
    return {
        name: [*map(dict, first.get(name, ())), *({**one, "again": True} for one in then.get(name, ()))]
        for name in {**first, **then}
    }


def _fault(word: str, question: str, place: str, here: Answers, bad: Answers, behind: str, there: Answers) -> Fault:
    told = f"first byte after {_waits(bad[-1]) / 1000:.1f} s" if word == SLOWER else str(bad[0]["told"])
    other = f"after {max(map(_waits, there)) / 1000:.1f} s" if there and word == SLOWER else ""
    other = other or (str(there[0]["told"]) if there else "")
    return Fault(word, question, place, behind, told, other, len(bad), len(here))


def _of_place(place: str, visits: Visits) -> Iterable[Fault]:
    names = list(PLACES)
    inner = [name for name in names[: names.index(place)][::-1] if visits.get(name)]
    slow: list[tuple[str, Answers, Answers, str, Answers]] = []
    for question, here in by_question(visits[place]).items():
        behind = next((name for name in inner if by_question(visits[name]).get(question)), "")
        there: Answers = by_question(visits[behind])[question] if behind else ()
        bad: Answers = [one for one in here if not one["ok"]]
        if bad:
            alike = _as_silent(here, bad)
            word = ONCE if _is_over(alike, bad) or _is_rare(alike, bad) else FAILS
            yield _fault(word, question, place, alike, bad, behind, there)
            continue
        bad = [one for one in here if there and _differs(question, one, there)]
        if bad:
            yield _fault(ONCE if _is_over(here, bad) else DIFFERS, question, place, here, bad, behind, there)
            continue
        bad = [one for one in here if _is_slower(one, there)]
        if bad:
            slow.append((question, here, bad, behind, there))
    if slow:
        worst = max(slow, key=lambda one: (_is_slow(one[1], one[2]), len(one[2])))
        made = _fault(SLOWER, worst[0], place, *worst[1:])
        yield made if _is_slow(worst[1], worst[2]) else replace(made, word=MAYBE)


def faults(visits: Visits) -> list[Fault]:
    """The worst first; of these the one next to the app. What is MAYBE one is only to be asked again."""
    order = [_visitor.PAGE, _visitor.SOCKET, _visitor.STREAM]
    words = [FAILS, DIFFERS, SLOWER, ONCE, MAYBE]
    names = list(PLACES)
    outer = by_question(next((visits[name] for name in names[::-1] if visits.get(name)), ()))
    found: dict[str, Fault] = {}  # what fails at a place fails at all after it
    for place in names:
        for one in _of_place(place, visits) if visits.get(place) else ():
            unfelt = outer.get(one.question) and all(answer["ok"] for answer in outer[one.question])
            # The server's own trouble, or its load.
            made = replace(one, word=ONCE) if unfelt and one.word == FAILS else one
            before = found.get(one.question)
            if before is None or (before.word in (ONCE, MAYBE) and made.word == FAILS and made.always):
                found[one.question] = made

    def key(one: Fault) -> tuple[int, int, int]:
        about = order.index(one.question) if one.question in order else len(order)
        return words.index(one.word), names.index(one.place), about

    return sorted(found.values(), key=key)


def summary(visit: Answers) -> str:
    """A place's answers in a few words."""
    known, parts = by_question(visit), []
    for question in (_visitor.PAGE, _visitor.STREAM, _visitor.SOCKET):
        if question in known:
            bad = [one for one in known[question] if not one["ok"]]
            many = f", {len(bad)} of {len(known[question])} times" if 0 < len(bad) < len(known[question]) else ""
            shown = max(bad or known[question], key=lambda one: one.get("silent", 0.0))
            parts.append(f"{question}: {shown['told']}{many}")
    rest = [name for name in known if name not in (_visitor.PAGE, _visitor.STREAM, _visitor.SOCKET)]
    if rest:
        good = [name for name in rest if all(one["ok"] for one in known[name])]
        parts.append(f"{len(good)} of {len(rest)} files")
    return "; ".join(parts)


def tour(places: Sequence[_visitor.Place], asked: _visitor.Plan, own: Iterable[str]) -> dict[str, list[dict[str, Any]]]:
    """Visits at places of one chain, the first one next to the visitor.

    WebSockets are silent at all of them at once. Pages are asked at both ends, and in between only where that shows
    that something is wrong.
    """
    own = tuple(own)
    end = time.monotonic() + asked.seconds
    found: dict[str, list[dict[str, Any]]] = {place.name: [] for place in places}

    def ask(plans: Mapping[str, _visitor.Plan]) -> None:
        left = max(0.5, end - time.monotonic())
        work = {
            place.name: functools.partial(
                _visitor.visit, place, replace(plans[place.name], seconds=min(left, plans[place.name].seconds)), own
            )
            for place in places
            if place.name in plans
        }
        for name, visit in at_once(work, left + _visitor.GRACE).items():
            found[name] += visit

    outer, *inner = [place.name for place in places]
    few = replace(asked, http=False, sockets=1, handshakes=0)
    silent = {outer: replace(asked, http=False), **dict.fromkeys(inner, few)}
    pages = replace(asked, sockets=0, handshakes=0, seconds=asked.seconds * 0.6)
    sockets = threading.Thread(target=ask, args=(silent,), daemon=True)
    sockets.start()
    ask({outer: pages, **{name: replace(pages, rounds=1) for name in inner[-1:]}})
    if faults(found):
        ask({name: replace(pages, rounds=2) for name in inner})
    sockets.join(max(0.0, end - time.monotonic()))
    more = uncertain(found)
    if more and time.monotonic() < end - 1:
        ask(dict.fromkeys(found, again(asked, more)))
    return found


def uncertain(visits: Visits) -> dict[str, int]:
    """What is asked more often before somebody is blamed: one time in two may be none, or each, of two times."""
    found = [one.question for one in faults(visits) if one.asked < MORE or not one.always]
    return dict.fromkeys(found[:MORE_QUESTIONS], MORE)


def again(asked: _visitor.Plan, more: Mapping[str, int]) -> _visitor.Plan:
    return replace(asked, http=False, sockets=0, handshakes=0, more=dict(more), seconds=_visitor.PATIENT + 1)


def failed(visit: Answers) -> set[str]:
    """Questions that were not answered well each time."""
    return {name for name, answers in by_question(visit).items() if not all(one["ok"] for one in answers)}


def worse(now: Answers, before: Answers, itself: Answers = ()) -> list[Fault]:
    """What fails of a release and did not before, then what did; without a visit of before, what fails at all.

    A page may name files that never were there, so of those counts what got worse. `itself`: what the tunnel answers,
    which another target may answer in another way.
    """
    known, bad = by_question(before), failed(before)
    files = {str(one["question"]) for one in (*now, *before) if one["file"]}
    there = by_question([*before, *itself])
    found = [one for one in _of_place("traefik", {"tunnel": before, "traefik": now}) if _is_worse(one, now, there)]
    found += _hanging(now, known)
    whole = before and not bad & files and not {_visitor.PAGE, *files} & set(unasked(before))
    found = [one for one in found if one.question not in files or whole]
    return sorted(found, key=lambda one: (one.question in bad, one.question in files))


def _is_worse(one: Fault, now: Answers, there: Mapping[str, Answers]) -> bool:
    def worst(answers: Mapping[str, Answers]) -> int:
        return max(map(_rank, answers[one.question]))

    return one.word == FAILS or (one.word == DIFFERS and worst(by_question(now)) > worst(there))


def _hanging(now: Answers, known: Mapping[str, Answers]) -> Iterable[Fault]:
    """Nobody waits long for a release, but what came at once before must not hang."""
    for question in unasked(now):
        there = known.get(question, [])
        late = [one for one in now if one["question"] == question and one["state"] != _visitor.BUSY]
        if late and there and max(map(_waits, there)) < QUICK:
            yield _fault(FAILS, question, "traefik", late, late, "tunnel", there)


def more_of(questions: Iterable[str]) -> dict[str, int]:
    """How often each is asked again: of many, a few times are enough to see that all is well by now."""
    found = sorted(set(questions))
    return dict.fromkeys(found, MORE if len(found) <= MORE_QUESTIONS else FEW)


def gone(visit: Answers, question: str) -> bool:
    """Whether it was asked again and no app was there: the tunnel's word, the page, or no answer."""
    answers = [one for one in visit if one["question"] == question and one.get("again")]
    return bool(answers) and all(one["code"] or one["state"] or not one["status"] for one in answers)
