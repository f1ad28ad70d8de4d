# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Faults in the chain of the scenario `doctor`: made where they arise, diagnosed, mended by what is printed, looked at
from outside."""

from __future__ import annotations

import copy
import json
import re
import shlex
import tempfile
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import yaml

from . import ca, playbook, scenario, stand
from .shell import RigError, run, say
from .visitor import Visitor

AGENT, DOMAIN = "one", "one.vaettir.example"
PUBLIC, STREAM = f"https://{DOMAIN}", "/_stcore/stream"
TARGET = "https://ocapistaine.ngrok-free.app"
TUNNEL = TARGET.removeprefix("https://")
PORT = 8501  # where the laptop's Streamlit app listens
PATIENCE = 3  # diagnoses, for what takes a moment to come up
DIAGNOSE, DEPLOY, UPGRADE = (f"locki.vaettir.{name}" for name in ("diagnose_agent", "deploy_agent", "upgrade_traefik"))

# A sentence in the parts of which the first that can be done is done.
_ALTERNATIVES = re.compile(r";\s|, or ")
_ASIDE = re.compile(r"\s\([^()]*\)")
_STEP = re.compile(
    r"\bremove (?P<gone>stack_\w+) from the inventory"
    r"|\bset (?P<name>\w+)(?: of (?:agent )?(?P<agent>[\w-]+))? to (?P<value>'[^']*'|\[[^\]]*\]|[^\s,;`]+)"
    r"|\bin the DNS of its zone: (?P<host>\S+) A (?P<address>\S+)"
    r"|`(?P<command>[^`]+)`"
)


@dataclass(frozen=True)
class Fault:
    """`by_hand`: where the fix is words for a person, does what they say. `warns`: works, but is unsafe or limited."""

    name: str
    hop: str
    inject: Callable[[Stand], AbstractContextManager[None]]
    by_hand: Callable[[Stand, str], None] | None = None
    warns: bool = False


@dataclass
class Row:
    """What became of a fault."""

    fault: Fault
    told: dict[str, Any]
    problem: str  # after the fix; empty: healed
    seconds: float  # of the diagnosis

    @property
    def right(self) -> bool:
        named = self.told["hop"] or next((one["hop"] for one in self.told["findings"] if one["verdict"] == "warn"), "")
        return named == self.fault.hop and bool(self.told["status"]) != self.fault.warns

    @property
    def healed(self) -> bool:
        return not self.problem

    def __repr__(self) -> str:  # what pytest shows of a failed assertion
        return (
            f"{self.fault.name} ({self.fault.hop}): {self.told['sentence']}\nafter the fix: {self.problem or 'healed'}"
        )


@dataclass
class Stand(stand.Stand):
    """The server of the scenario, its laptop, and the control node with its inventory."""

    agent: dict[str, Any] = field(default_factory=lambda: {"name": AGENT, "target_url": TARGET})
    variables: dict[str, Any] = field(default_factory=dict)  # of every play
    clean: bool = False  # the last diagnosis found nothing
    other_dns: str = ""  # of the control node alone
    deployed: dict[str, Any] | None = None  # the inventory of the last play that changes servers
    # What a person knows where a fix cannot.
    obvious: dict[str, str] = field(
        default_factory=lambda: {
            "PORT": str(PORT),
            "the URL that ngrok prints": TARGET,
            "where it listens": TARGET,
            "its authority's PEM file": str(ca.FOLDER / "ca.pem"),
        }
    )

    # -- places -------------------------------------------------------------------------------------------------------

    @property
    def resolver(self) -> str:
        """The DNS server of the control node."""
        return self.other_dns or str(scenario.current()["outside"]["ip"])

    @property
    def visitor(self) -> Visitor:
        """Finds the server as the world's DNS says."""
        addresses = self.edge.call("GET", "/dns")["addresses"]
        if DOMAIN not in addresses:
            raise RigError(f"{DOMAIN} has no address")
        return Visitor(addresses[DOMAIN])

    def laptop(self, script: str, *, check: bool = True) -> str:
        """Where the apps and the edge run, as root."""
        words = ["docker", "exec", scenario.current()["outside"]["name"], "bash", "-ec", script]
        return run(words, check=check).stdout

    @property
    def inventory(self) -> dict[str, Any]:
        return {"vaettir_agents": [copy.deepcopy(self.agent)], **copy.deepcopy(self.variables)}

    def play(self, name: str, *options: str) -> playbook.Run:
        """A playbook, for agent one."""
        if name != DIAGNOSE:
            self.deployed = self.inventory
        if name == UPGRADE:
            options += ("-e", "confirm=true")  # what a person is asked for
        return playbook.run(name, *options, extra=self.inventory, resolver=self.resolver)

    def deploy(self) -> None:
        """Puts the inventory into force, whatever the tunnel says."""
        done = self.play(DEPLOY, "-e", f"agent={AGENT}")
        assert done.status == 0, done

    def diagnose(self) -> dict[str, Any]:
        """The report's entry of the agent, with the play's exit status and its seconds."""
        with tempfile.TemporaryDirectory() as folder:
            report, begin = Path(folder, "report.json"), time.monotonic()
            done = self.play(DIAGNOSE, "-e", f"agent={AGENT}", "-e", f"report_file={report}")
            assert report.exists(), done
            (entry,) = json.loads(report.read_text(encoding="utf-8"))["agents"]
        return {**entry, "status": done.status, "seconds": time.monotonic() - begin}

    # -- what a person does with a fix ------------------------------------------------------------------------------

    def apply(self, fix: str) -> None:
        """The first alternative of the sentence in which there is something to do, all of it."""
        text = _ASIDE.sub("", fix)
        for word, value in self.obvious.items():
            text = re.sub(rf"\b{re.escape(word)}\b", value, text)
        for part in _ALTERNATIVES.split(text):
            steps = [step for step in _STEP.finditer(part) if DIAGNOSE not in step[0]]
            for step in steps:
                self._do(step)
            if steps:
                return
        raise RigError(f"nothing that can be done without a person: {fix}")

    def _do(self, step: re.Match[str]) -> None:
        say(f"  {step[0]}")
        if step["gone"]:
            self.variables.pop(step["gone"], None)
        elif step["name"]:
            place = self.agent if step["agent"] else self.variables
            place[step["name"]] = yaml.safe_load(step["value"])
        elif step["host"]:
            self.edge.address(step["host"], step["address"])
        else:
            self._type(step["command"])

    def _type(self, command: str) -> None:
        """Each command has one place where it can be meant."""
        first, *words = shlex.split(command)
        if first == "ansible-playbook":
            done = self.play(*words)
            if done.status:
                say(f"  {done.messages[-1:]}")
        elif first == "ngrok":
            url = next(word for word in words if word.startswith("--url=")).removeprefix("--url=")
            app = words[-1] if "://" in words[-1] else f"http://127.0.0.1:{words[-1]}"
            self.edge.put(str(urlsplit(url).hostname), app.replace("localhost", "127.0.0.1"))
        else:
            self.shell(f"cd; export USER=$(id -un); {command}")

    # -- one fault ----------------------------------------------------------------------------------------------------

    def problem(self) -> str:
        """What a diagnosis and a visitor still find; empty for nothing at all."""
        told = self.diagnose()
        bad = [one for one in told["findings"] if one["verdict"] not in ("ok", "unknown")]
        self.clean = not (told["status"] or bad) and bool(told["findings"])
        return self.visit() if self.clean else str(told["sentence"])

    def lasting_problem(self) -> str:
        """The last one, where even patience does not help."""
        problem = "not asked"
        for _ in range(PATIENCE):
            problem = self.problem()
            if not problem:
                break
        return problem

    def visit(self) -> str:
        """What a visitor finds."""
        try:
            page = self.visitor.get(f"{PUBLIC}/").status
            socket = self.agent.get("probe_path", STREAM)
            handshake = self.visitor.handshake(PUBLIC + socket, PUBLIC)[0] if socket else 101
        except (aiohttp.ClientError, TimeoutError) as error:
            return f"a visitor gets {error}"
        return "" if (page, handshake) == (200, 101) else f"a visitor gets {page}, and {handshake} for the WebSocket"

    def in_order(self) -> None:
        """Each fault begins on a chain without a finding, whatever the one before has left.

        Where that one was mended, a visitor tells: a diagnosis takes a hundred times as long.
        """
        self.edge.address(DOMAIN, self.address)
        if self.clean and not self.visit():
            return
        if self.problem():
            self.play(UPGRADE)
            self.play(DEPLOY, "-e", f"agent={AGENT}")
            problem = self.lasting_problem()
            assert not problem, f"the chain was not in order: {problem}"

    def check(self, fault: Fault) -> Row:
        say(f"{fault.hop}: {fault.name}")
        self.in_order()
        before = self.inventory
        agent, variables = copy.deepcopy(self.agent), copy.deepcopy(self.variables)
        try:
            with fault.inject(self):
                told = self.diagnose()
                say(f"  {told['sentence']}")
                row = Row(fault, told, self._mended(fault, told["fix"]), told["seconds"])
                say(f"  {row.problem or 'healed'}")
        finally:
            self.agent, self.variables = agent, variables
            if self.deployed not in (None, before):
                if self.deployed != {**before, "vaettir_agents": self.deployed["vaettir_agents"]}:
                    self.play(UPGRADE)
                self.play(DEPLOY, "-e", f"agent={AGENT}")
        return row

    def _mended(self, fault: Fault, fix: str) -> str:
        """What is still wrong after the fix."""
        try:
            if fault.by_hand:
                fault.by_hand(self, fix)
            else:
                self.apply(fix)
        except RigError as error:
            return str(error)
        return self.lasting_problem()


def person(words: str, act: Callable[[Stand], object]) -> Callable[[Stand, str], None]:
    """Somebody who does it if the fix says so."""

    def does(stand: Stand, fix: str) -> None:
        if words not in fix:
            raise RigError(f"it does not say '{words}': {fix}")
        act(stand)

    return does
