# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Asks what only the control node can, while the module asks the server; the diagnosis is made of both."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from ansible.module_utils.urls import open_url
from ansible.plugins.action import ActionBase
from ansible_collections.locki.vaettir.plugins.filter.diagnosis import addresses
from ansible_collections.locki.vaettir.plugins.module_utils import (
    _bisect,
    _diagnosis,
    _facts,
    _probe,
    _questions,
    _tunnel,
    _visitor,
)
from ansible_collections.locki.vaettir.plugins.module_utils._at_once import AtOnce, at_once
from ansible_collections.locki.vaettir.plugins.plugin_utils import _call

OUTSIDE = 16.0  # seconds for what is asked from here
SECOND = 9.0  # seconds of a second round
LIMIT = 27.0  # seconds of all rounds
NGROK_API = "http://127.0.0.1:4040/api/tunnels"
# The module's options that the server needs, and what is not given.
SERVERS = {"root": "", "project": "vaettir", "ports": [], "definition": "", "ca_path": ""}
OWN = {"only": [], "errors": {}, "address": "", "tls": "acme", "tls_ca": "", "app_url": ""}


@dataclass(frozen=True)
class Server:
    """Where the agents are, as the control node knows it."""

    name: str
    address: str
    project: str
    tls: str
    tls_ca: str
    app_url: str = ""


def visit(agent: dict[str, Any], server: Server, more: dict[str, int]) -> dict[str, Any]:
    """The public name and the app, as a visitor; and who stands where. `more` questions only, where there are some."""
    resolved = addresses(agent["domain"])
    own = agent["domain"].endswith(".localhost")  # the control node's, whatever its resolver says
    plan = _visitor.plan(agent)
    plan = _bisect.again(plan, more) if more else plan
    origin, names = str(agent["public_origin"]), _visitor.own_names(agent)
    public = _visitor.Place("public", origin, tuple(resolved), origin, ca_path=server.tls_ca)

    def ask() -> dict[str, Any]:
        return _probe.ask(
            _questions.public_url(agent),
            address=resolved[0] if own else "",
            origin=origin,
            upgrade=_questions.upgrade(agent),
            ca_path=server.tls_ca,
            timeout=min(_questions.CHAIN_TIMEOUT, plan.seconds),  # who is not waited for has said nothing
        )

    work: dict[str, Callable[[], Any]] = {"probe": ask}
    if resolved:
        work["public"] = partial(_visitor.visit, public, plan, names)
    if server.app_url:
        laptop = _visitor.Place("laptop", server.app_url.rstrip("/"), (), server.app_url.rstrip("/"))
        work["laptop"] = partial(_visitor.visit, laptop, plan, names)
    if agent["tunnel"] == _tunnel.SSH:
        work["ssh"] = partial(knock, (resolved or [agent["domain"]])[0], agent["tunnel_port"])
    else:
        url = f"{agent['target_url']}{_questions.path(agent)}"
        upgrade = _questions.upgrade(agent)
        work["elsewhere"] = partial(_probe.ask, url, upgrade=upgrade, timeout=_questions.ELSEWHERE_TIMEOUT)
        if server.app_url:
            work["ngrok"] = ngrok
    done = at_once(work, plan.seconds + _visitor.GRACE)
    known = {"addresses": resolved, "server_addresses": addresses(server.address)}
    return {
        "public": done.get("probe", {}),
        "control": {**known, **({"ssh": done["ssh"]} if "ssh" in done else {})},
        "visits": {name: done[name] for name in ("public", "laptop") if name in done},
        "ngrok": done.get("ngrok", {}),
        "elsewhere": done.get("elsewhere", {}),
    }


def ngrok() -> dict[str, Any]:
    """What the ngrok agent of this machine says of its tunnels, by their public names."""
    try:
        with contextlib.closing(open_url(NGROK_API, timeout=3, use_proxy=False)) as answer:
            tunnels = json.load(answer)["tunnels"]
        return {"tunnels": {one["public_url"]: one["config"]["addr"] for one in tunnels}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        return {"error": str(error)}


def knock(address: str, port: int) -> str:
    """Whether a laptop would get through to the SSH server. It says nothing, so that sshd takes it for no laptop."""
    try:
        with _probe.connection(address, port, _questions.ELSEWHERE_TIMEOUT) as sock:
            return "connected" if sock.recv(4) == b"SSH-" else "something else answers there"
    except OSError as error:
        return error.strerror or str(error)


@dataclass(frozen=True)
class Round:
    """What the server and the control node were told at the same moment."""

    called: _call.Called
    outside: dict[str, dict[str, Any]]
    late: list[str]

    @property
    def entries(self) -> dict[str, dict[str, Any]]:
        return {entry["name"]: entry for entry in self.called.result.get("agents", [])}


@dataclass
class Judged:
    """An agent's diagnosis, and the visits that it rests on."""

    told: dict[str, Any]
    visits: dict[str, Any] = field(default_factory=dict)


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        self.begin = time.monotonic()
        self.variables, self.args = task_vars or {}, {**SERVERS, **OWN, **self._task.args}
        about = {key: self.args[key] for key in ("address", "project", "tls", "tls_ca", "app_url")}
        self.server = Server(self.variables["inventory_hostname"], **about)
        only = self.args["only"] or self.args["names"]
        wanted = [name for name in self.args["names"] if name in only]
        self.settings = {one["name"]: one for one in self.args["agents"] if one["name"] in wanted}
        found = self.ask(list(self.settings), {})
        self.stack = found.called.result.get("stack") or {"root": self.args["root"]}
        made = self.judge(found)
        made.update(self.judge_again(made))
        others = [name for name in self.stack.get("agents", []) if name not in self.args["names"]]
        return {
            **result,
            "changed": False,
            "diagnoses": [made[name].told if name in made else self.mute(name, found.called) for name in wanted],
            "others": [name for name in others if name in (self.args["only"] or [name])],
        }

    def ask(self, names: list[str], again: dict[str, dict[str, int]]) -> Round:
        """The server and, at the same moment, everything else that can be asked; or only some questions of a visitor's
        again."""
        agents = {name: _questions.asked(self.settings[name]) for name in names}
        group = AtOnce(min(OUTSIDE, self.left))
        outside = {
            name: group.begin(f"{name} from outside", partial(visit, one, self.server, again.get(name, {})), {})
            for name, one in agents.items()
            if self.settings[name]["from_outside"]
        }
        given = {**{key: self.args[key] for key in SERVERS}, "agents": list(agents.values()), "again": again}
        given["seconds"] = min(_facts.LIMIT, self.left)
        called = _call.call(self, "locki.vaettir.agent_diagnosis", given, self.variables)
        return Round(called, {name: one() for name, one in outside.items()}, group.late)

    def judge(self, found: Round, before: dict[str, Judged] | None = None) -> dict[str, Judged]:
        """The agents' diagnoses, whatever could not be asked; `before` are those of the first round."""
        group = AtOnce(LIMIT)
        work = {
            name: group.begin(name, partial(self.judge_one, entry, found, (before or {}).get(name)), None)
            for name, entry in found.entries.items()
        }
        made = {name: one() for name, one in work.items()}
        return {name: one for name, one in made.items() if one}

    def judge_one(self, entry: dict[str, Any], found: Round, before: Judged | None) -> Judged | None:
        name, server = entry["name"], self.server
        if "failed" in entry:
            return Judged(_diagnosis.failed(name, server.name, entry["failed"], self.stack))
        agent, outside = _questions.asked(self.settings[name]), found.outside.get(name, {})
        # The tunnel from the control node, where the server does not get there: whose fault is it?
        far = outside.get("elsewhere", {}) if entry["found"]["target"] == agent["target_url"] else {}
        visits = {**entry.get("visits", {}), **outside.get("visits", {})}
        visits = _bisect.joined(before.visits, visits) if before else visits
        facts = {
            "agent": _questions.described(agent, server.name, server.project, server.tls),
            "stack": self.stack,
            "found": entry["found"],
            "late": [*entry.get("late", []), *("what visitors get from outside" for one in found.late if name in one)],
            "seconds": time.monotonic() - self.begin,
            "visits": visits,
            "ngrok": outside.get("ngrok", {}),
            "probes": {**entry["probes"], "elsewhere": far, "public": outside.get("public", {})},
            "control": {"time": time.time(), **outside.get("control", {})},
        }
        return Judged(_diagnosis.diagnosis(facts), visits)

    def judge_again(self, made: dict[str, Judged]) -> dict[str, Judged]:
        """Where only another place's answer is held against a hop, both are asked once more, at the same moment: routes
        may have settled meanwhile."""
        doubtful = {
            name: _bisect.uncertain(one.visits) or {_visitor.PAGE: 1}
            for name, one in made.items()
            if _diagnosis.is_between_askers(one.told)
        }
        if not doubtful or self.left < SECOND:
            return {}
        return self.judge(self.ask(list(doubtful), doubtful), made)

    @property
    def left(self) -> float:
        return self.begin + LIMIT - time.monotonic()

    def mute(self, name: str, called: _call.Called) -> dict[str, Any]:
        """Of an agent that was not asked: the server does not answer, or its settings are not valid."""
        error = self.args["errors"].get(name, "")
        if error and (self.stack.get("docker") or {}).get("version"):
            return _diagnosis.invalid(name, self.server.name, error)
        about = {"agent": {"name": name, "server": self.server.name}, "stack": self.stack}
        return _diagnosis.diagnosis({**about, "unreachable": called.unreachable, "failed": called.failed})
