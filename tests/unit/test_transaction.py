# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The order of a release: whichever step fails, hangs or is the last one, what is active afterwards was verified."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _docker, _module, _release, _transaction
from ansible_collections.locki.vaettir.plugins.module_utils._transaction import (
    BETTER,
    SAME,
    WORSE,
    Answer,
    CheckError,
    Deadline,
    Expectation,
    Outcome,
    Previous,
    Trial,
    Undo,
    Verification,
    View,
)

from .death import Killed
from .model_server import NEW, OLD, STEPS, Agent, Container, Server

ACTIONS = ("reload", "replace", "start")
ERRORS = (_docker.DockerError("no"), _release.ReleaseError("no."), OSError(28, "No space left on device", "/x"))
UNDONE = STEPS[STEPS.index("copy") : STEPS.index("commit")]
UNVERIFIED = ("switch", "differs", "verify", "explain")
BROKEN, PAGE, FINE = Answer("proxy_error", "502"), Answer("offline"), Answer("ok")


pytestmark = pytest.mark.usefixtures("mortal")


def at(step: str, act: Callable[[], Any]) -> Callable[[str], None]:
    return lambda reached: act() if reached == step else None


def throws(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def prepared(action: str, step: str = "", act: Callable[[], Any] = lambda: None) -> tuple[Server, Agent]:
    """A server, and an agent with a fault. The steps that only a release with a worse answer has get one."""
    server = Server.before(action)
    agent = Agent(server, action)
    agent.fault = at(step, act)
    if step in ("explain", "undo", "restore", "answers_again"):
        agent.found = Verification(BROKEN, BROKEN)
    return server, agent


def is_released(server: Server, action: str) -> None:
    """The next run, which has no fault, ends well whatever the one before had left."""
    made = _transaction.release(Agent(server, action))
    assert not made.failed, made
    assert server.active == {NEW}
    assert (server.current, server.live, server.pending, server.locked) == (NEW, NEW, "", False)
    assert "trial" not in server.containers


# --- A step fails, hangs, is the last one -----------------------------------------------------------------------------


@pytest.mark.parametrize("action", ACTIONS)
def test_the_order(action: str) -> None:
    server, agent = prepared(action)
    made = _transaction.release(agent)
    assert agent.steps.index("build") < agent.steps.index("baseline") < agent.steps.index("switch")
    agent.steps.remove("baseline")  # next to the trial
    assert agent.steps == [step for step in STEPS if step not in ("baseline", "explain", "note")]
    assert made.outcome == ("started" if action == "start" else "released")
    assert (made.changed, made.failed, made.message, made.notes) == (True, False, "", ("a note",))
    assert server.active == {NEW}
    agent.steps.clear()
    assert _transaction.release(agent).outcome == "unchanged"
    switching = ("build", "start_trial", "baseline", "switch", "differs", "explain", "note")
    assert agent.steps == [step for step in STEPS if step not in switching]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("step", UNDONE)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_step_that_fails_is_undone(action: str, step: str, error: Exception) -> None:
    server, agent = prepared(action, step, throws(error))
    made = _transaction.release(agent)
    assert server == Server.before(action)
    assert made.failed
    assert made.outcome == ("failed" if step in ("copy", "compare") else "rolled back")
    assert made.message.startswith(_transaction.sentence(error))
    assert "prune" in agent.steps
    is_released(server, action)


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("step", ["lock", "recover", "snapshot"])
def test_what_fails_before_anything_was_done_is_the_callers(step: str, error: Exception) -> None:
    server, agent = prepared("reload", step, throws(error))
    with pytest.raises(type(error)):
        _transaction.release(agent)
    assert server == Server()


@pytest.mark.parametrize("step", ["drain", "prune"])
@pytest.mark.parametrize("action", ACTIONS)
def test_what_fails_after_the_commit_is_a_note(action: str, step: str) -> None:
    server, agent = prepared(action, step, throws(_docker.DockerError("no")))
    made = _transaction.release(agent)
    assert (made.changed, made.failed, made.message) == (True, False, "")
    assert made.notes == ("a note", "left to the next run: no.")
    assert agent.steps[-1] == "prune"
    assert server.active == {NEW}


@pytest.mark.parametrize("step", UNVERIFIED)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_step_that_hangs_is_undone(monkeypatch: pytest.MonkeyPatch, action: str, step: str) -> None:
    monkeypatch.setattr(Deadline, "seconds", 0.1)
    server, agent = prepared(action, step, lambda: time.sleep(5))
    made = _transaction.release(agent)
    assert made.message.startswith("it was not verified within 0.1 s.")
    assert server == Server.before(action)
    assert signal.getitimer(signal.ITIMER_REAL)[0] == 0


def test_the_clock_runs_while_something_unverified_is_active() -> None:
    under_clock = []
    _server, agent = prepared("reload")
    agent.fault = lambda step: under_clock.append(step) if signal.getitimer(signal.ITIMER_REAL)[0] else None
    _transaction.release(agent)
    assert under_clock == ["switch", "differs", "verify"]


def test_an_undo_is_not_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the rest of the time and the grace, whatever is undone."""
    monkeypatch.setattr(Deadline, "seconds", 0.01)
    server, agent = prepared("reload", "undo", lambda: time.sleep(0.03))
    made = _transaction.release(agent)
    assert made.message.startswith("its answer is proxy_error.")
    assert server == Server()


def test_the_kernel_ends_an_undo_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Deadline, "seconds", 0.005)
    monkeypatch.setattr(Deadline, "grace", 0.005)
    _server, agent = prepared("reload", "undo", lambda: time.sleep(5))
    child = os.fork()
    if not child:
        try:
            _transaction.release(agent)
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGALRM


@pytest.mark.parametrize("event", [Server.dies, Server.reboots])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("action", ACTIONS)
def test_a_death_after_any_step(action: str, step: str, event: Callable[[Server], None]) -> None:
    """Of the process, or of the whole server. What was active is active by itself; the next run clears up."""
    server, agent = prepared(action, step, throws(Killed()))
    with pytest.raises(Killed):
        _transaction.release(agent)
    event(server)
    before = Server.before(action)
    if STEPS.index(step) < STEPS.index("commit"):
        assert (server.current, server.active) == (before.current, before.active)
    else:
        assert server.current == NEW
        # A replaced container that was not told to drain serves as well, until the next run.
        assert NEW in server.active <= {NEW, before.current}
    is_released(server, action)


@pytest.mark.parametrize("event", [Server.dies, Server.reboots])
@pytest.mark.parametrize("step", ["undo", "restore"])
@pytest.mark.parametrize("action", ACTIONS)
def test_a_death_in_an_undo(action: str, step: str, event: Callable[[Server], None]) -> None:
    server, agent = prepared(action, step, throws(Killed()))
    with pytest.raises(Killed):
        _transaction.release(agent)
    event(server)
    assert server.active == Server.before(action).active
    is_released(server, action)


@pytest.fixture
def ended() -> Iterator[None]:
    """As the module treats those who end it."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    _module.outlive_the_connection()
    yield
    for number, action in before.items():
        signal.signal(number, action)


def terminated() -> None:
    """As the kernel does, which gives a process' signal to any of its threads."""
    other = threading.Thread(target=signal.raise_signal, args=(signal.SIGTERM,))
    other.start()
    other.join()


@pytest.mark.usefixtures("ended")
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("action", ACTIONS)
def test_whoever_ends_the_module_ends_it_in_order(action: str, step: str) -> None:
    server, agent = prepared(action, step, terminated)
    with pytest.raises(SystemExit):
        _transaction.release(agent)
    if STEPS.index(step) < STEPS.index("note"):
        assert server == Server.before(action)
    else:
        assert server.current == NEW, "one that comes into the commit waits for its end"
    is_released(server, action)


@pytest.mark.usefixtures("ended")
def test_an_alarm_in_the_commit_comes_too_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Deadline, "seconds", 0.002)
    server, agent = prepared("reload", "note", lambda: time.sleep(0.01))
    assert _transaction.release(agent).outcome == "released"
    assert server.active == {NEW}


@pytest.mark.usefixtures("ended")
def test_a_hang_up_ends_nothing() -> None:
    server, agent = prepared("reload", "verify", lambda: os.kill(os.getpid(), signal.SIGHUP))
    assert _transaction.release(agent).outcome == "released"
    assert server.active == {NEW}


# --- Undo -------------------------------------------------------------------------------------------------------------


def test_undo_goes_backwards_and_on() -> None:
    done: list[int] = []
    with suppress(CheckError), Undo() as undo:
        undo.step(done.append, 1)
        undo.step(throws(_docker.DockerError("two")))
        undo.step(done.append, 3)
        undo.step(throws(OSError(13, "Permission denied", "/x")))
        raise CheckError
    assert done == [3, 1]
    assert undo.errors == ["/x: Permission denied", "two"]


def test_undo_without_touch_has_nothing_to_undo() -> None:
    with suppress(CheckError), Undo(touch=False) as undo:
        undo.step(throws(AssertionError()))
        raise CheckError


def test_what_cannot_be_undone_is_said() -> None:
    server, agent = prepared("reload", "restore", throws(_docker.DockerError("no")))
    made = _transaction.release(agent)
    told = "its answer is proxy_error. It could not be rolled back (no): the next run recovers it."
    assert (made.outcome, made.changed, made.failed, made.message) == ("failed", True, True, told)
    assert server.active == {OLD}


# --- Check mode -------------------------------------------------------------------------------------------------------


def planned(agent: Agent) -> Outcome:
    """The agent's own verbs refuse what check mode must not do."""
    before = str(agent.server)
    made = _transaction.release(agent)
    assert str(agent.server) == before
    return made


@pytest.mark.parametrize("action", ACTIONS)
def test_check_mode_says_what_would_be_done(action: str) -> None:
    server = Server.before(action)
    agent = Agent(server, action, touch=False)
    agent.recovered = ["removed vaettir-a-trial"]
    made = planned(agent)
    assert agent.steps == ["lock", "recover", "snapshot", "copy", "compare"]
    assert (made.outcome, made.changed, made.failed) == ("would change", True, False)
    assert made.notes[0] == "would be cleared up: removed vaettir-a-trial"
    assert made.notes[-1] == "a note"
    assert made.notes[1].endswith(": it differs")


@pytest.mark.parametrize(
    ("found", "outcome", "failed"),
    [
        (Verification(), "unchanged", False),
        (Verification(PAGE, PAGE), "offline", False),
        (Verification(BROKEN, BROKEN), "failed", True),
    ],
)
def test_check_mode_verifies_where_nothing_would_be_done(found: Verification, outcome: str, failed: bool) -> None:
    agent = Agent(Server(NEW, NEW, NEW, containers={"agent": Container(NEW)}), touch=False)
    agent.found = found
    made = planned(agent)
    assert (made.outcome, made.changed, made.failed, made.verification) == (outcome, False, failed, found)


@pytest.mark.parametrize("step", ["copy", "compare"])
def test_check_mode_that_fails_has_nothing_to_undo(step: str) -> None:
    agent = Agent(Server(), touch=False)
    agent.fault = at(step, throws(_release.ReleaseError("it is gone.")))
    made = planned(agent)
    assert (made.outcome, made.changed, made.failed, made.message) == ("failed", False, True, "it is gone.")


# --- What an answer is worth ------------------------------------------------------------------------------------------


def as_online() -> Expectation:
    return Expectation(offline=False)


@pytest.mark.parametrize(
    ("reason", "anyhow", "online", "anything"),
    [
        ("ok", True, True, True),
        ("app_closed", True, True, True),
        ("offline", True, False, True),
        ("app_down", True, False, True),
        ("maintenance", True, False, True),
        ("stopped", False, False, True),
        ("bad_page", False, False, True),
        ("proxy_error", False, False, True),
        ("refused_origin", False, False, True),
        ("not_a_websocket", False, False, True),
        ("no_route", False, False, True),
        ("timeout", False, False, True),
        ("tls_untrusted", False, False, True),
    ],
)
def test_expected_answers(reason: str, anyhow: bool, online: bool, anything: bool) -> None:
    expectations = (Expectation(), as_online(), Expectation(offline=False, anything=True))
    assert [each.met_by(Answer(reason)) for each in expectations] == [anyhow, online, anything]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("proxy_error", "proxy_error", True),
        ("ok", "ok", True),
        ("offline", "app_down", True),  # whichever page
        ("tls_name", "tls_expired", False),  # although curl would say the same
        ("app_closed", "ok", False),
        ("offline", "proxy_error", False),
        ("timeout", "refused", False),
    ],
)
def test_the_same_answer(one: str, other: str, same: bool) -> None:
    assert Answer(one).same_as(Answer(other)) is same
    assert Answer(other).same_as(Answer(one)) is same


def test_a_verification_is_online_by_the_containers_own_word() -> None:
    assert not Verification(traefik=FINE, direct=PAGE).online
    assert Verification(traefik=PAGE, direct=Answer("app_closed")).online


def test_the_container_is_blamed_first() -> None:
    found = Verification(traefik=Answer("no_route"), direct=BROKEN)
    assert found.failed(Expectation()) == BROKEN
    assert replace(found, direct=FINE).failed(Expectation()) == Answer("no_route")
    assert replace(found, direct=FINE, traefik=PAGE).failed(Expectation()) is None
    assert replace(found, direct=FINE, traefik=PAGE).failed(as_online()) == PAGE


NEXT_TO, RELOADED = True, False  # the replaced container still serves, or there is one


@pytest.mark.parametrize(
    ("was", "traefik", "direct", "online", "beside", "word", "failed"),
    [
        # Good enough is better, whatever was before.
        (None, FINE, FINE, True, RELOADED, BETTER, FINE),
        (BROKEN, FINE, FINE, True, RELOADED, BETTER, FINE),
        (FINE, PAGE, PAGE, False, RELOADED, BETTER, FINE),
        # What is not is the same only where it was so before.
        (None, BROKEN, BROKEN, False, RELOADED, WORSE, BROKEN),
        (FINE, BROKEN, BROKEN, False, RELOADED, WORSE, BROKEN),
        (BROKEN, BROKEN, BROKEN, False, RELOADED, SAME, BROKEN),
        (Answer("no_route"), BROKEN, BROKEN, False, RELOADED, WORSE, BROKEN),
        (BROKEN, BROKEN, FINE, False, RELOADED, SAME, BROKEN),
        (PAGE, PAGE, PAGE, True, RELOADED, SAME, PAGE),
        (FINE, PAGE, PAGE, True, RELOADED, WORSE, PAGE),
        (Answer("app_down"), PAGE, PAGE, True, RELOADED, SAME, PAGE),
        # Traefik may have asked the replaced container. Where one of both shows a page, or where it answers what was
        # wrong before, the new one's own word counts.
        (PAGE, PAGE, FINE, True, NEXT_TO, BETTER, FINE),
        (PAGE, PAGE, FINE, True, RELOADED, SAME, PAGE),
        (FINE, PAGE, PAGE, True, NEXT_TO, WORSE, PAGE),
        (FINE, PAGE, PAGE, False, NEXT_TO, BETTER, FINE),
        (PAGE, PAGE, BROKEN, False, NEXT_TO, WORSE, BROKEN),
        (FINE, PAGE, FINE, True, NEXT_TO, WORSE, PAGE),
        (PAGE, PAGE, PAGE, True, NEXT_TO, SAME, PAGE),
        (None, PAGE, FINE, True, NEXT_TO, WORSE, PAGE),
        (BROKEN, BROKEN, FINE, False, NEXT_TO, BETTER, FINE),
        (BROKEN, BROKEN, PAGE, False, NEXT_TO, BETTER, FINE),
        (BROKEN, BROKEN, PAGE, True, NEXT_TO, WORSE, PAGE),
        (BROKEN, BROKEN, BROKEN, False, NEXT_TO, SAME, BROKEN),
        (FINE, BROKEN, FINE, False, NEXT_TO, WORSE, BROKEN),
        # Not where no container has answered: that is the same with the new one alone.
        (Answer("no_route"), Answer("no_route"), FINE, False, NEXT_TO, SAME, Answer("no_route")),
        (Answer("tls_name"), Answer("tls_name"), FINE, False, NEXT_TO, SAME, Answer("tls_name")),
        (Answer("stopped"), Answer("stopped"), FINE, False, NEXT_TO, SAME, Answer("stopped")),
        (Answer("bad_http2"), Answer("bad_http2"), FINE, False, NEXT_TO, SAME, Answer("bad_http2")),
    ],
)
def test_judge(
    was: Answer | None, traefik: Answer, direct: Answer, online: bool, beside: bool, word: str, failed: Answer
) -> None:
    baseline = None if was is None else Verification(was)
    verdict = View(as_online() if online else Expectation(), baseline, beside).judge(Verification(traefik, direct))
    assert (verdict.word, verdict.failed) == (word, failed)


@pytest.mark.parametrize(
    ("answer", "was", "online", "passes"),
    [
        (FINE, None, True, True),
        (PAGE, None, False, True),
        (PAGE, FINE, True, False),
        (PAGE, PAGE, True, True),
        (BROKEN, None, False, False),
        (BROKEN, FINE, False, False),
        (BROKEN, BROKEN, False, True),
    ],
)
def test_a_trial(answer: Answer, was: Answer | None, online: bool, passes: bool) -> None:
    agent = Agent(Server())
    agent.expected = as_online() if online else Expectation()
    baseline = None if was is None else Verification(was)
    if passes:
        _transaction.check_trial(agent, Trial(NEW, answer), baseline)
        return
    with pytest.raises(CheckError, match=rf"^in its trial, which no visitor met: its answer is {answer.reason}\.$"):
        _transaction.check_trial(agent, Trial(NEW, answer), baseline)


def test_a_trial_that_fails_is_no_switch() -> None:
    server, agent = prepared("replace")
    agent.trial_answer = BROKEN
    made = _transaction.release(agent)
    assert "switch" not in agent.steps
    assert made.message.startswith("in its trial, which no visitor met: its answer is proxy_error. It was rolled back")
    assert server == Server()


def test_what_is_verified_must_be_the_release() -> None:
    server, agent = prepared("reload")
    agent.still_differs = "it does not run its image"
    made = _transaction.release(agent)
    assert made.message.startswith("the container is still not as it should be (it does not run its image).")
    assert "verify" not in agent.steps
    assert server == Server()


# --- What came of it --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "found", "outcome"),
    [
        ("reload", Verification(), "released"),
        ("replace", Verification(), "released"),
        ("start", Verification(), "started"),
        ("start", Verification(PAGE, PAGE), "offline"),
        ("reload", Verification(FINE, PAGE), "offline"),
        ("reload", Verification(PAGE, FINE), "released"),
        ("start", Verification(asked=False), "started"),
        ("reload", Verification(PAGE, PAGE, asked=False), "released"),
    ],
)
def test_outcomes(action: str, found: Verification, outcome: str) -> None:
    _server, agent = prepared(action)
    agent.found = found
    made = _transaction.release(agent)
    assert (made.outcome, made.changed, made.failed, made.verification) == (outcome, True, False, found)
    assert made.plan.action == action
    assert made.seconds > 0


def test_an_app_that_was_broken_before_keeps_its_release() -> None:
    server, agent = prepared("reload")
    agent.found, agent.was, agent.trial_answer = Verification(BROKEN, BROKEN), BROKEN, BROKEN
    made = _transaction.release(agent)
    assert (made.outcome, made.changed, made.failed) == ("failed", True, True)
    assert made.message == "its answer is proxy_error. It was so before this release, which stays."
    assert server.active == {NEW}
    assert server.current == NEW


@pytest.mark.parametrize(
    ("action", "end"),
    [
        ("reload", f"It was rolled back to release {OLD} (ok)."),
        ("replace", f"It was rolled back to release {OLD} (ok)."),
        ("start", "It was its first release, and is taken away again."),
    ],
)
def test_a_release_that_is_worse_is_rolled_back(action: str, end: str) -> None:
    server, agent = prepared(action)
    agent.found = Verification(BROKEN, BROKEN)
    made = _transaction.release(agent)
    assert (made.outcome, made.changed, made.failed) == ("rolled back", False, True)
    assert made.message == f"its answer is proxy_error. {end}"
    assert made.notes == ("a note",)
    assert server == Server.before(action)


def test_what_it_answers_again_is_only_a_word_more() -> None:
    _server, agent = prepared("reload", "answers_again", throws(_docker.DockerError("no")))
    assert _transaction.release(agent).message.endswith(f"It was rolled back to release {OLD}.")


def test_without_a_difference_a_broken_app_is_only_told() -> None:
    agent = Agent(Server(NEW, NEW, NEW, containers={"agent": Container(NEW)}))
    agent.found = Verification(BROKEN, BROKEN)
    made = _transaction.release(agent)
    assert (made.outcome, made.changed, made.message) == ("failed", False, "its answer is proxy_error.")
    assert agent.server.active == {NEW}


def test_notes_say_what_was_cleared_up_and_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    _server, agent = prepared("reload")
    agent.recovered = ["removed vaettir-a-trial"]
    monkeypatch.setattr(agent, "snapshot", lambda: Previous(OLD, True, kept=OLD))
    assert _transaction.release(agent).notes == (
        "removed vaettir-a-trial",
        f"what was hand-made is kept as release {OLD}",
        "a note",
    )


@pytest.mark.parametrize(
    ("found", "outcome", "message"),
    [
        (Verification(), "unchanged", ""),
        (Verification(PAGE, PAGE), "offline", ""),
        (Verification(asked=False), "unchanged", ""),
        (Verification(FINE, BROKEN), "failed", "its answer is proxy_error."),
    ],
)
def test_the_checks_alone(found: Verification, outcome: str, message: str) -> None:
    agent = Agent(Server(), touch=False)
    agent.found = found
    made = _transaction.verify(agent)
    assert (made.outcome, made.message, made.failed, made.verification) == (outcome, message, bool(message), found)
    assert "lock" not in agent.steps


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (_docker.DockerError("no such image"), "no such image."),
        (_release.ReleaseError("it is gone."), "it is gone."),
        (OSError(28, "No space left on device", "/srv/x"), "/srv/x: No space left on device."),
        (OSError(28, "No space left on device"), "a file: No space left on device."),
        (OSError("odd"), "a file: odd."),
    ],
)
def test_a_failure_is_a_sentence(failure: Exception, told: str) -> None:
    assert _transaction.sentence(failure) == told
