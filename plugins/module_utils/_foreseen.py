# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What the diagnosis would find after a deploy, as far as it is known before anything is touched. Pure."""

from __future__ import annotations

from typing import Any

from . import _diagnosis, _traefik
from ._chain import STOP


def _proxies(server: dict[str, Any]) -> list[dict[str, Any]]:
    """The Traefik that is wanted, and the one that stays as it runs."""
    wanted, runs = server["wanted"], server["stack"]["traefik"]
    found: list[dict[str, Any]] = []
    if wanted:
        tag = _traefik.tag(wanted.get("image") or "", "traefik")
        found.append({"version": tag, "flags": _traefik.flags(wanted.get("command") or [])})
    if server["stays"] and runs["status"] == "running":
        found.append({**runs, "flags": _traefik.flags(runs["command"]), "ports": {}})
    return found or [{}]


def _facts(
    server: dict[str, Any], proxy: dict[str, Any], agents: list[dict[str, Any]], agent: dict[str, Any], domain: str
) -> dict[str, Any]:
    stack, name = server["stack"], agent.get("name", "")
    # Those of the agents of this run are made again.
    others = [router for router in stack["routers"] if router["agent"] not in [one["name"] for one in agents]]
    image = agent.get("base_image", "") if server["wanted"] else ""  # else the owner's
    control = {"time": stack["control_time"], "server_addresses": server["addresses"]}
    if domain in server["resolved"]:
        control["addresses"] = server["resolved"][domain]
    return {
        "agent": {**agent, "domain": domain, "server": server["name"], "project": server["project"]},
        "stack": stack,
        "found": {
            **{key: stack[key] for key in ("time", "disk_free", "inodes_free")},
            "traefik": proxy,
            "container": {"nginx": _traefik.tag(image, "nginx")},
            "routers": _traefik.owned(others, name, f"{server['project']}-{name}-1"),
        },
        "control": control,
    }


def findings(server: dict[str, Any], agents: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Of a server, and what its agents add to that."""
    proxies = _proxies(server)
    found = [one for proxy in proxies for one in _diagnosis.beforehand(_facts(server, proxy, [], {}, ""))]
    known = {one["rule"] for one in found}
    asked = [(proxy, agent, domain) for agent in agents for domain in agent["domains"] for proxy in proxies]
    added = [one for who in asked for one in _diagnosis.beforehand(_facts(server, who[0], agents, *who[1:]))]
    found += [one for one in added if one["rule"] not in known]
    return [one for index, one in enumerate(found) if one not in found[:index]]


def foreseen(server: dict[str, Any], agents: list[dict[str, Any]], insist: list[str] | str | None) -> dict[str, Any]:
    """Why a run stops, in one sentence, and of what it only warns."""
    wished = insist.split(",") if isinstance(insist, str) else insist or []
    stops, warnings = [], []
    for one in findings(server, agents):
        if one["verdict"] == STOP and one["rule"] not in wished:
            stops.append(one)
        else:
            insisted = f" ({one['rule']}, insisted)" if one["verdict"] == STOP else ""
            warnings.append(f"{server['name']}: {one['why']}{insisted}. To fix it: {one['fix']}.")
    rules = ",".join(dict.fromkeys([*wished, *(one["rule"] for one in stops)]))
    told = "; ".join(f"{one['why']}; to fix it: {one['fix']}" for one in stops)
    error = f"{server['name']}: {told}; to go on all the same, add `-e stack_insist={rules}`." if stops else ""
    return {"error": error, "warnings": warnings}
