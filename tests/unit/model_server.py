# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A server in memory with one agent: what a transaction leaves there when it ends, however it ends."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.locki.vaettir.plugins.module_utils._plan import Plan
from ansible_collections.locki.vaettir.plugins.module_utils._transaction import (
    Answer,
    Expectation,
    Previous,
    Trial,
    Undo,
    Verdict,
    Verification,
    View,
)

OLD, NEW = "20261123T013000Z", "20261123T014500Z"
STEPS = (
    *("lock", "recover", "snapshot", "copy", "compare", "build", "start_trial", "baseline"),
    *("switch", "differs", "verify", "explain", "note", "commit", "drain", "prune"),
)


@dataclass
class Container:
    release: str  # what its visitors get
    switch: str = ""  # `born` in it, or `reloaded` under it; empty once the switch has ended
    comes_back: bool = True  # when Docker starts
    drains: bool = False
    runs: bool = True


@dataclass
class Server:
    """What is on its disk, what runs, and what its containers do by themselves."""

    current: str = OLD
    live: str = OLD
    image: str = OLD
    pending: str = ""
    locked: bool = False
    releases: list[str] = field(default_factory=lambda: [OLD])
    containers: dict[str, Container] = field(default_factory=lambda: {"agent": Container(OLD)})

    @classmethod
    def before(cls, action: str) -> Server:
        """As a transaction finds it whose plan is this."""
        return cls("", "", "", releases=[], containers={}) if action == "start" else cls()

    @property
    def active(self) -> set[str]:
        """What visitors can meet."""
        routed = (one for name, one in self.containers.items() if name != "trial")
        return {one.release for one in routed if one.runs and not one.drains}

    def let_go(self) -> None:
        """The switch has ended, one way or the other: containers that waited for that go on."""
        for one in self.containers.values():
            if one.switch and one.release != self.current:
                one.drains, one.release = one.switch == "born", one.release if one.switch == "born" else self.current
            one.switch = ""

    def dies(self) -> None:
        """The transaction. The kernel lets go of its locks."""
        self.locked = False
        self.let_go()

    def reboots(self) -> None:
        self.locked = False
        for one in self.containers.values():
            one.runs = one.runs and one.comes_back
            one.drains = one.drains or (one.switch == "born" and one.release != self.current)
            one.release, one.switch = (one.release if one.drains else self.current), ""


def step(verb: Callable[..., Any]) -> Callable[..., Any]:
    """A verb that says that it was called, and then has its fault."""

    @functools.wraps(verb)
    def called(agent: Agent, *words: Any) -> Any:
        agent.steps.append(verb.__name__)
        found = verb(agent, *words)
        agent.fault(verb.__name__)
        return found

    return called


def changes(verb: Callable[..., Any]) -> Callable[..., Any]:
    """One that check mode must not call."""

    @functools.wraps(verb)
    def called(agent: Agent, *words: Any) -> Any:
        assert agent.touch, f"{verb.__name__} in check mode"
        return verb(agent, *words)

    return called


class Agent:
    """The verbs of a transaction. `found` is what the new release answers, `trial_answer` what it does in its trial."""

    def __init__(self, server: Server, action: str = "reload", touch: bool = True) -> None:
        self.server, self.action, self.touch = server, action, touch
        self.expected = Expectation()
        self.found, self.was, self.trial_answer = Verification(), Answer("ok"), Answer("ok")
        self.previous = Previous()
        self.recovered: list[str] = []
        self.still_differs = ""
        self.steps: list[str] = []
        self.fault: Callable[[str], None] = lambda _step: None

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        assert not self.server.locked
        self.server.locked = self.touch
        try:
            self.steps.append("lock")
            self.fault("lock")
            yield
        finally:
            self.server.locked = False

    @step
    def recover(self) -> list[str]:
        server, found = self.server, list(self.recovered)
        old = server.containers.get("old")
        if "trial" in server.containers or server.pending or (old and not old.drains):
            found.append("what an interrupted run had left")
            assert self.touch
        server.containers.pop("trial", None)
        if old and not old.drains:
            (self.undo_replace if server.pending else self.drain_old)()
        elif server.pending and self.action == "start":
            server.containers.pop("agent", None)
        server.pending = ""
        return found

    @step
    def snapshot(self) -> Previous:
        self.previous = Previous(self.server.current, ran=bool(self.server.current))
        return self.previous

    @step
    def copy(self, undo: Undo) -> bool:
        undo.step(self.restore)
        copied = self.server.live != NEW
        if self.touch:
            self.server.live = NEW
        return copied

    @changes
    def restore(self) -> None:
        self.fault("restore")
        if not self.previous.release:
            self.server.containers.clear()
        self.server.live = self.server.image = self.previous.release
        self.server.pending = ""

    @step
    def compare(self) -> Plan:
        agent = self.server.containers.get("agent")
        if agent and agent.release == NEW and not agent.drains:
            return Plan()
        return Plan(**{self.action: ("it differs",)})

    @step
    @changes
    def build(self, _plan: Plan) -> None:
        self.server.image = NEW

    @step
    @changes
    def start_trial(self, undo: Undo) -> Trial:
        undo.step(self.discard_trial)
        self.server.releases = list(dict.fromkeys([*self.server.releases, NEW]))
        self.server.containers["trial"] = Container(NEW, comes_back=False)
        return Trial(NEW, self.trial_answer)

    @changes
    def discard_trial(self) -> None:
        self.server.containers.pop("trial", None)
        self.server.releases.remove(NEW)

    @step
    def baseline(self, previous: Previous) -> Verification | None:
        return Verification(self.was) if previous.ran else None

    @step
    @changes
    def switch(self, plan: Plan, trial: Trial, undo: Undo) -> None:
        server = self.server
        del server.containers["trial"]
        server.pending = trial.release
        undo.step(getattr(self, f"undo_{plan.action}"))
        if plan.action == "reload":
            server.containers["agent"].release = NEW
            server.containers["agent"].switch = "reloaded"
            return
        if plan.action == "replace":
            server.containers["old"] = server.containers["agent"]
        server.containers["agent"] = Container(NEW, "born", comes_back=plan.action == "start")

    def undo_start(self) -> None:
        self.fault("undo")
        self.server.let_go()

    undo_reload = undo_start

    def undo_replace(self) -> None:
        self.fault("undo")
        self.server.let_go()
        self.server.containers["agent"] = self.server.containers.pop("old")

    @step
    def differs(self) -> str:
        return self.still_differs

    @step
    def verify(self, _switched: bool, _view: View) -> Verification:
        return self.found

    @step
    def explain(self, answer: Answer) -> str:
        return f"its answer is {answer.reason}."

    @step
    @changes
    def commit(self, _verification: Verification, _verdict: Verdict) -> None:
        self.fault("note")
        if self.server.pending:
            self.server.current, self.server.pending = self.server.pending, ""
            self.server.let_go()

    @step
    @changes
    def drain(self) -> None:
        if "old" in self.server.containers:
            self.drain_old()

    def drain_old(self) -> None:
        old, new = self.server.containers["old"], self.server.containers["agent"]
        new.comes_back = new.runs = True
        old.drains, old.comes_back = True, False

    @step
    def prune(self) -> None:
        """By the real ones in check mode, too, which look at `touch` themselves."""

    def notes(self) -> list[str]:
        return ["a note"]

    def answers_again(self, _previous: Previous) -> str:
        self.fault("answers_again")
        return self.was.reason
