# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""One release is one transaction: its order, and how it ends. It knows no Docker; an `Agent` has the verbs.

Each step stands next to its own undo. What a killed transaction has begun is abandoned by the container itself (see the
entry point), and cleared up by the next one's `recover`.
"""

from __future__ import annotations

import contextlib
import signal
import time
from dataclasses import dataclass, field, replace
from typing import Any, Callable, Iterator, Protocol

from . import _docker, _release, _websocket
from ._at_once import AtOnce
from ._plan import Plan

GOOD = ("ok", "app_closed")
# Words and reasons of answers that no container of the agent gave.
ELSEWHERE = (
    *("dns", "refused", "timeout", "tls_untrusted", "no_answer", "no_route", "stopped"),
    *("bad_http2", "bad_connect"),
)
BASELINE = 60.0  # seconds; who has not answered by then has no word in it
BETTER, SAME, WORSE = "better", "same", "worse"
FAILURES = (_docker.DockerError, _release.ReleaseError, OSError, ValueError)


@dataclass(frozen=True)
class Answer:
    """What a check found, in the probe's words."""

    reason: str = ""
    error: str = ""
    state: str = ""  # what the page says of the tunnel
    status: int = 0
    told: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def is_page(self) -> bool:
        return self.reason in (*_websocket.PAGES, "bad_page")

    @property
    def word(self) -> str:
        """As curl would say it, to whom much is `ok`."""
        return _websocket.REASONS.get(self.reason, self.reason)

    @property
    def is_containers(self) -> bool:
        return self.word not in ELSEWHERE and self.reason not in ELSEWHERE

    def same_as(self, other: Answer) -> bool:
        """The same fault; which page it is does not matter."""
        both = {self.reason, other.reason}
        return len(both) == 1 or both <= set(_websocket.PAGES)


@dataclass(frozen=True)
class Expectation:
    """Which answers are good enough."""

    offline: bool = True  # whether the page is one of them
    anything: bool = False  # any answer will do, since none was better before

    def met_by(self, answer: Answer) -> bool:
        return self.anything or answer.reason in GOOD or (self.offline and answer.reason in _websocket.PAGES)


@dataclass(frozen=True)
class Verification:
    """All checks of a release: through Traefik, and the container itself."""

    traefik: Answer = Answer("ok")
    direct: Answer = Answer("ok")
    untrusted: Answer | None = None  # what is wrong with a certificate that may still be under way
    asked: bool = True
    visit: tuple[dict[str, Any], ...] = field(default=(), compare=False, repr=False)  # through Traefik

    def failed(self, expected: Expectation) -> Answer | None:
        """The first answer that is not good enough."""
        return next((one for one in (self.direct, self.traefik) if not expected.met_by(one)), None)

    @property
    def online(self) -> bool:
        """By the container's own word: through Traefik a worker from before may have answered."""
        return self.direct.reason in GOOD


@dataclass(frozen=True)
class Previous:
    """What was active before: the release to roll back to."""

    release: str = ""
    ran: bool = False
    kept: str = ""  # ID of the release that was made of hand-made work


@dataclass(frozen=True)
class Trial:
    """A container of the new release that no visitor reaches."""

    release: str = ""
    answer: Answer = Answer("ok")


@dataclass(frozen=True)
class Outcome:
    """What came of it, as the report says it."""

    outcome: str  # unchanged, released, started, offline, rolled back, would change, failed
    changed: bool = False
    failed: bool = False
    plan: Plan = field(default_factory=Plan)
    verification: Verification | None = None
    message: str = ""
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


class Deadline:
    """Nothing unverified is active for longer. A step that hangs fails; the kernel ends an undo that hangs, and then
    the container itself goes back to the committed release."""

    seconds, grace = 45.0, 15.0

    def __init__(self) -> None:
        self.last = 0.0  # the moment at which the kernel ends an undo

    def begin(self, undo: Undo) -> None:
        undo.callback(self.end)
        self.last = time.monotonic() + self.seconds + self.grace
        signal.signal(signal.SIGALRM, self._late)
        signal.setitimer(signal.ITIMER_REAL, self.seconds)

    def _late(self, _number: int, _frame: Any) -> None:
        self._leave_to_the_kernel()
        raise CheckError(f"it was not verified within {self.seconds:g} s.")

    def _leave_to_the_kernel(self) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, max(0.001, self.last - time.monotonic()))

    def hold(self) -> None:
        """For a commit: an alarm comes before it, or not at all."""
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
        signal.setitimer(signal.ITIMER_REAL, 0)

    def __enter__(self) -> Deadline:
        return self

    def __exit__(self, *_error: object) -> None:
        """No step of an undo is interrupted by an alarm that was meant for the verification."""
        if self.last:
            self._leave_to_the_kernel()

    def end(self) -> None:
        self.last = 0.0
        self.hold()
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


@dataclass(frozen=True)
class Verdict:
    """A verification next to the baseline."""

    word: str = BETTER
    failed: Answer = Answer("ok")  # the first answer that is not good enough


@dataclass(frozen=True)
class View:
    """How a verification is looked at: what is good enough, and what served before."""

    expected: Expectation
    baseline: Verification | None = None
    old_serves: bool = False  # a replaced container still serves
    whole: bool = False  # whether all that a visitor does is asked, or the handshake and its like

    def judge(self, found: Verification) -> Verdict:
        if self.old_serves and self.baseline and self._is_the_old_one(found, self.baseline):
            found = replace(found, traefik=found.direct)
        failed = found.failed(self.expected)
        if failed is None:
            return Verdict()
        return Verdict(SAME if self.baseline and failed.same_as(self.baseline.traefik) else WORSE, failed)

    def _is_the_old_one(self, found: Verification, baseline: Verification) -> bool:
        """Traefik asks the two in turn. The new one's own word counts, which was asked everything, where one of the two
        shows a page, or where what is wrong is what was wrong before."""
        mixed = found.traefik.is_page and baseline.traefik.is_page != found.direct.is_page
        as_before = found.traefik.is_containers and found.traefik.reason == baseline.traefik.reason
        return mixed or (as_before and self.expected.met_by(found.direct))


class CheckError(Exception):
    """A release is not as good as it must be; the sentence says where and why."""


class Undo(contextlib.ExitStack):
    """Undoes the steps of a transaction in reverse order, all of them, whatever comes of each. Without `touch` nothing
    was done, so nothing is undone."""

    def __init__(self, touch: bool = True) -> None:
        super().__init__()
        self.touch = touch
        self.errors: list[str] = []

    def step(self, work: Callable[..., Any], *arguments: Any) -> None:
        if self.touch:
            self.callback(self._attempt, work, *arguments)

    def _attempt(self, work: Callable[..., Any], *arguments: Any) -> None:
        try:
            work(*arguments)
        except FAILURES as error:
            self.errors.append(sentence(error).rstrip("."))


class Agent(Protocol):
    """The verbs of an agent on its server. `touch` is false in check mode, where nothing is changed."""

    touch: bool
    expected: Expectation

    def lock(self) -> contextlib.AbstractContextManager[None]: ...
    def recover(self) -> list[str]: ...
    def snapshot(self) -> Previous: ...
    def copy(self, undo: Undo) -> bool: ...
    def compare(self) -> Plan: ...
    def build(self, plan: Plan) -> None: ...
    def start_trial(self, undo: Undo) -> Trial: ...
    def baseline(self, previous: Previous) -> Verification | None: ...
    def switch(self, plan: Plan, trial: Trial, undo: Undo) -> None: ...
    def differs(self) -> str: ...
    def verify(self, switched: bool, view: View) -> Verification: ...
    def explain(self, answer: Answer) -> str: ...
    def commit(self, verification: Verification, verdict: Verdict) -> None: ...
    def drain(self) -> None: ...
    def prune(self) -> None: ...
    def notes(self) -> list[str]: ...
    def answers_again(self, previous: Previous) -> str: ...


def release(agent: Agent) -> Outcome:
    """Copies, builds, tries, switches, verifies and judges; commits what is good enough, and undoes everything else."""
    begin = time.monotonic()
    with agent.lock():
        recovered = agent.recover()
        previous = agent.snapshot()
        undo, plan, baseline, deadline = Undo(agent.touch), Plan(), None, Deadline()
        try:
            with undo, deadline:
                copied = agent.copy(undo)
                plan = agent.compare()
                if not agent.touch:
                    return _planned(agent, plan, copied, recovered)
                if plan.action:
                    agent.build(plan)
                    trial, baseline = _tried(agent, previous, undo)
                    check_trial(agent, trial, baseline)
                    deadline.begin(undo)
                    agent.switch(plan, trial, undo)
                    check_switched(agent)
                view = View(agent.expected, baseline, plan.action == "replace", whole=bool(plan.action))
                verification = agent.verify(bool(plan.action), view)
                verdict = view.judge(verification)
                explained = agent.explain(verdict.failed) if verdict.word != BETTER else ""
                if verdict.word == WORSE:
                    raise CheckError(explained)
                deadline.hold()
                with _uninterrupted():
                    agent.commit(verification, verdict)
                    deadline.end()
                    undo.pop_all()
        except (CheckError, *FAILURES) as failure:
            made, left = _undone(agent, previous, plan, undo, failure), []
        else:
            made, left = _committed(plan, copied, verification, explained), _attempt(agent.drain)
        left += _attempt(agent.prune)
    notes = (*recovered, *_hand_made(previous), *agent.notes(), *left)
    return replace(made, notes=notes, seconds=time.monotonic() - begin)


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """What is committed is not undone: who ends the module waits. A mask would hold for one of its threads alone."""
    came: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
        if came:
            signal.raise_signal(signal.SIGTERM)


def _attempt(work: Callable[[], None]) -> list[str]:
    """A note where it failed: the outcome stays what it is, and the next run does the work."""
    try:
        work()
    except FAILURES as error:
        return [f"left to the next run: {sentence(error)}"]
    return []


def _tried(agent: Agent, previous: Previous, undo: Undo) -> tuple[Trial, Verification | None]:
    """The trial, while visitors' questions are put to what serves before it."""
    asked = AtOnce(BASELINE).begin("baseline", lambda: agent.baseline(previous), None)
    trial, before = agent.start_trial(undo), asked()
    # What is not well is asked once more, now that nothing starts.
    return trial, before if before is None or before.traefik.reason in GOOD else agent.baseline(previous)


def verify(agent: Agent) -> Outcome:
    """The checks alone."""
    begin = time.monotonic()
    return replace(_verified(agent), seconds=time.monotonic() - begin)


def check_trial(agent: Agent, trial: Trial, baseline: Verification | None) -> None:
    """An app that was broken before may be broken still; only what got worse fails."""
    as_before = baseline is not None and trial.answer.same_as(baseline.traefik)
    if not agent.expected.met_by(trial.answer) and not as_before:
        raise CheckError(f"in its trial, which no visitor met: {agent.explain(trial.answer)}")


def check_switched(agent: Agent) -> None:
    """What is verified must be the release: a container that was started again meanwhile has the committed one."""
    differs = agent.differs()
    if differs:
        raise CheckError(f"the container is still not as it should be ({differs}).")


def word_of(plan: Plan, found: Verification | None) -> str:
    if found and found.asked and not found.online:
        return "offline"
    return "started" if plan.action == "start" else "released" if plan.action else "unchanged"


def _verified(agent: Agent) -> Outcome:
    found = agent.verify(False, View(agent.expected))
    failed = found.failed(agent.expected)
    if failed:
        return Outcome("failed", failed=True, verification=found, message=agent.explain(failed))
    return Outcome(word_of(Plan(), found), verification=found)


def _planned(agent: Agent, plan: Plan, copied: bool, recovered: list[str]) -> Outcome:
    """What a run would do. Where that is nothing, it verifies as a run does."""
    waits = ("only files that wait for the next change differ",) if copied and not plan.action else ()
    notes = (*(f"would be cleared up: {line}" for line in recovered), *plan.reasons, *waits, *agent.notes())
    if plan.action or copied or recovered:
        return Outcome("would change", changed=True, plan=plan, notes=notes)
    return replace(_verified(agent), notes=notes)


def _committed(plan: Plan, copied: bool, found: Verification, explained: str) -> Outcome:
    made = Outcome(word_of(plan, found), changed=bool(plan.action) or copied, plan=plan, verification=found)
    if not explained:
        return made
    stays = f"{explained} It was so before this release, which stays."
    return replace(made, outcome="failed", failed=True, message=stays)


def sentence(failure: BaseException) -> str:
    if isinstance(failure, OSError):
        return f"{failure.filename or 'a file'}: {failure.strerror or failure}."
    told = str(failure)
    return told if told.endswith(".") else f"{told}."


def _undone(agent: Agent, previous: Previous, plan: Plan, undo: Undo, failure: BaseException) -> Outcome:
    told = sentence(failure)
    if undo.errors:
        told = f"{told} It could not be rolled back ({'; '.join(undo.errors)}): the next run recovers it."
        return Outcome("failed", changed=True, failed=True, plan=plan, message=told)
    if not plan.action:
        return Outcome("failed", failed=True, plan=plan, message=told)
    if not previous.release:
        told = f"{told} It was its first release, and is taken away again."
        return Outcome("rolled back", failed=True, plan=plan, message=told)
    again = ""
    with contextlib.suppress(*FAILURES):  # the sentence is complete without this word
        again = agent.answers_again(previous)
    told = f"{told} It was rolled back to release {previous.release}{f' ({again})' if again else ''}."
    return Outcome("rolled back", failed=True, plan=plan, message=told)


def _hand_made(previous: Previous) -> list[str]:
    return [f"what was hand-made is kept as release {previous.kept}"] if previous.kept else []
