# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The same verbs where the owner keeps compose file, image and Traefik (`stack_manage: false`).

Only the conf and the keys of .env are ours, and a release goes the recipe's way: it replaces the container and drops
its WebSockets. Their image has no entry point of ours, so after a death of the module the next run goes back.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from dataclasses import replace
from typing import Any

from . import _containers, _docker, _files, _release
from ._agent import Managed
from ._plan import Plan
from ._server import Server, Wanted
from ._transaction import Expectation, Outcome, Previous, Trial, Undo, Verification, release


class Owners(Managed):
    @property
    def tracked(self) -> list[str]:
        """None: what its owner tracks is brought back as well, when the agent is handed back."""
        return []

    def recover(self) -> list[str]:
        unfinished = self.store.pending()
        done = self.switching.recover(self.touch)
        if unfinished and unfinished.release and self.touch:
            self.previous = self._as_previous(self.store.current().release)
            self.was_copied = self.switching.started = True
            self.restore()
        if self.touch:
            self.store.abandon()
        return done

    def _bring_image_back(self, release: str) -> bool:  # noqa: ARG002 - it is built again
        return False

    def restore(self) -> None:
        """Without a previous release there was no container; the files stay, since nothing here is ours alone."""
        if self.was_copied and self.previous.release:
            super().restore()
        elif self.switching.started:
            _containers.remove(self.containers.container_name)

    def _remove_fragment(self) -> None:
        """Their compose file is theirs."""

    def compare(self) -> Plan:
        container = self.containers.current()
        if not container or not _docker.running(container):
            state = container["State"]["Status"] if container else ""
            return Plan(start=(f"it is {state}" if state else "there is no container",))
        current, differs = self.store.current().release, "the files are not those of the release that runs"
        if current not in self.store.ids() or (not self.touch and self.files.changed):
            return Plan(replace=(differs,))
        facts, live = self.store.facts(current), self.store.live(dict(self.wanted.released_as))
        same = facts["image"] == container["Image"] and facts["digest"] == _release.digest(live)
        return Plan() if same else Plan(replace=(differs,))

    def build(self, plan: Plan) -> None:  # noqa: ARG002 - a conf is in the image here, so each release has its own
        _docker.checked("compose", "build", self.name, cwd=self.server.root, timeout=1800)

    def switch(self, plan: Plan, trial: Trial, undo: Undo) -> None:
        self.switching.switch(replace(plan, start=("compose makes its container",)), trial.release, "", undo)

    def differs(self) -> str:
        return ""  # their image has no command to ask

    def question(self) -> dict[str, Any]:
        """The page has the form that its owner gave it."""
        asked = super().question()
        return {**asked, "accept": ["*/*"] if asked["accept"] else []}

    def notes(self) -> list[str]:
        dropped = "its container was replaced, which dropped its open WebSockets"
        none = "Releases drop none once the stack is handed over (stack_manage: true; the steps are in docs/adopt.md)"
        return super().notes() + ([f"{dropped}. {none}"] if self.switching.started else [])


class Leaving(Owners):
    """The owner's files from before us become the live ones again."""

    def baseline(self, previous: Previous) -> Verification | None:
        """Their conf has no page of ours: where no WebSocket worked before, an error of nginx is no worse."""
        found = super().baseline(previous)
        good = found is not None and found.traefik.reason == "ok"
        self.expected = Expectation(offline=False, anything=not good)
        return found

    @property
    def visited(self) -> bool:
        return False

    def question(self) -> dict[str, Any]:
        """Nobody may declare the agent any more, so it is asked where it was verified."""
        last = self.store.facts(self.previous.release) if self.previous.release else {}
        return {**super().question(), **(last.get("probe") or {})}


def hand_back(server: Server, wanted: Wanted, built: bool) -> Outcome:
    """Their container goes on with what they had before us, and our records of it go."""
    agent = Leaving(server, wanted)
    if not agent.store.ids():
        return Outcome("unchanged", notes=("there is nothing of it here",))
    made = _handed_back(agent, built)
    if made.failed:
        return made
    if not server.touch:
        return replace(made, outcome="would change", changed=True)
    with agent.lock():
        _forget(agent)
    return replace(made, outcome="removed", changed=True)


def _handed_back(agent: Leaving, built: bool) -> Outcome:
    theirs = [one["id"] for one in agent.store.all() if one.get("by") == _release.BY_HAND]
    current = agent.store.current().release
    if not theirs:
        stay = f"{next(iter(agent.wanted.released_as))} and the line of .env stay as they are"
        note = f"before the first deploy there was none, so {stay}."
        return Outcome("removed", notes=(f"{note} `docker compose rm --stop {agent.name}` takes its container away.",))
    chosen = replace(agent.wanted, release=current if current in theirs else theirs[-1])
    if _docker.running(agent.containers.current()) and built:
        return release(Leaving(agent.server, chosen))
    return _while_stopped(Leaving(agent.server, chosen), built)


def _while_stopped(agent: Leaving, built: bool) -> Outcome:
    """A stopped one stays stopped, and is theirs when it is started."""
    theirs = agent.wanted.release
    with agent.lock():
        with _files.locked(agent.server.root) if agent.touch else contextlib.nullcontext():
            agent._bring_back()
        if agent.touch and built:
            if _docker.inspect("image", agent.tag(theirs)):
                _docker.checked("tag", agent.tag(theirs), agent.image)
            else:
                agent.build(Plan())
            words = ("--profile", "*", "up", "--no-start", "--no-deps", agent.name)
            _docker.checked("compose", *words, cwd=agent.server.root)
    return Outcome("removed")


def _forget(agent: Owners) -> None:
    for one in agent.store.ids():
        _docker.docker("image", "rm", agent.tag(one))
    shutil.rmtree(agent.store.folder)
    if not os.listdir(os.path.dirname(agent.store.folder)):
        os.rmdir(os.path.dirname(agent.store.folder))
