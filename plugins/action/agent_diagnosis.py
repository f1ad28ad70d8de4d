# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Asks what only the control node can, while the module asks the server; the diagnosis is made of both."""

from __future__ import annotations

import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.locki.vaettir.plugins.filter.diagnosis import addresses
from ansible_collections.locki.vaettir.plugins.module_utils import _diagnosis, _probe, _questions, _tunnel
from ansible_collections.locki.vaettir.plugins.plugin_utils import _call

AT_ONCE = 8  # agents
# The module's options that the server needs, and what is not given.
SERVERS = {"root": "", "project": "vaettir", "ports": [], "definition": "", "ca_path": ""}
OWN = {"only": [], "errors": {}, "address": "", "tls": "acme", "tls_ca": ""}


@dataclass(frozen=True)
class Server:
    """Where the agents are, as the control node knows it."""

    name: str
    address: str
    project: str
    tls: str
    tls_ca: str


def visit(agent: dict[str, Any], server: Server) -> dict[str, Any]:
    """The public name, as a visitor; and who stands where."""
    resolved = addresses(agent["domain"])
    own = agent["domain"].endswith(".localhost")  # the control node's, whatever its resolver says
    public = _probe.ask(
        _questions.public_url(agent),
        address=resolved[0] if own else "",
        origin=agent["public_origin"],
        upgrade=_questions.upgrade(agent),
        ca_path=server.tls_ca,
        timeout=_questions.CHAIN_TIMEOUT,
    )
    known: dict[str, Any] = {"addresses": resolved, "server_addresses": addresses(server.address)}
    if agent["tunnel"] == _tunnel.SSH:
        known["ssh"] = knock((resolved or [agent["domain"]])[0], agent["tunnel_port"])
    return {"public": public, "control": known}


def knock(address: str, port: int) -> str:
    """Whether a laptop would get through to the SSH server. It says nothing, so that sshd takes it for no laptop."""
    try:
        with _probe.connection(address, port, _questions.ELSEWHERE_TIMEOUT) as sock:
            return "connected" if sock.recv(4) == b"SSH-" else "something else answers there"
    except OSError as error:
        return error.strerror or str(error)


def elsewhere(agent: dict[str, Any], found: dict[str, Any], tunnel: dict[str, Any]) -> dict[str, Any]:
    """The tunnel from the control node, where the server does not get there: whose fault is it?"""
    if agent["tunnel"] == _tunnel.SSH:
        return {}
    if tunnel and (tunnel["status"] or "handshake" in tunnel["timings"]):
        return {}
    url, upgrade = f"{found['target']}{_questions.path(agent)}", _questions.upgrade(agent)
    return _probe.ask(url, upgrade=upgrade, timeout=_questions.ELSEWHERE_TIMEOUT)


def judge(
    agent: dict[str, Any],
    server: Server,
    stack: dict[str, Any],
    entry: dict[str, Any],
    visited: Future[dict[str, Any]] | None,
) -> dict[str, Any]:
    """An agent's diagnosis, whatever could not be asked."""
    if "failed" in entry:
        return _diagnosis.failed(agent["name"], server.name, entry["failed"], stack)
    try:
        outside = visited.result() if visited else {}
        far = elsewhere(agent, entry["found"], entry["probes"]["tunnel"]) if visited else {}
    except ValueError as error:
        return _diagnosis.failed(agent["name"], server.name, str(error), stack)
    return _diagnosis.diagnosis(
        {
            "agent": _questions.described(agent, server.name, server.project, server.tls),
            "stack": stack,
            "found": entry["found"],
            "probes": {**entry["probes"], "elsewhere": far, "public": outside.get("public", {})},
            "control": {"time": time.time(), **outside.get("control", {})},
        }
    )


def mute(name: str, server: Server, stack: dict[str, Any], called: _call.Called, error: str) -> dict[str, Any]:
    """Of an agent that was not asked: the server does not answer, or its settings are not valid."""
    if error and (stack.get("docker") or {}).get("version"):
        return _diagnosis.invalid(name, server.name, error)
    facts = {"unreachable": called.unreachable, "failed": called.failed}
    return _diagnosis.diagnosis({"agent": {"name": name, "server": server.name}, "stack": stack, **facts})


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        variables, args = task_vars or {}, {**SERVERS, **OWN, **self._task.args}
        about = {key: args[key] for key in ("address", "project", "tls", "tls_ca")}
        server = Server(name=variables["inventory_hostname"], **about)
        only = args["only"]
        wanted = [name for name in args["names"] if name in (only or [name])]
        settings = {one["name"]: one for one in args["agents"] if one["name"] in wanted}
        agents = {name: _questions.asked(one) for name, one in settings.items()}
        with ThreadPoolExecutor(AT_ONCE) as pool:
            outside = [name for name in agents if settings[name]["from_outside"]]
            visits = {name: pool.submit(visit, agents[name], server) for name in outside}
            given = {**{key: args[key] for key in SERVERS}, "agents": list(agents.values())}
            called = _call.call(self, "locki.vaettir.agent_diagnosis", given, variables)
            stack = called.result.get("stack") or {"root": args["root"]}
            entries = {entry["name"]: entry for entry in called.result.get("agents", [])}
            made = {
                name: pool.submit(judge, agents[name], server, stack, entry, visits.get(name))
                for name, entry in entries.items()
            }
            result["diagnoses"] = [
                made[name].result() if name in made else mute(name, server, stack, called, args["errors"].get(name, ""))
                for name in wanted
            ]
        others = [name for name in stack.get("agents", []) if name not in args["names"]]
        return {**result, "changed": False, "others": [name for name in others if name in (only or [name])]}
