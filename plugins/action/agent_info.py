# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The module's rows with the server's name, and a row for a server that cannot be asked."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible_collections.locki.vaettir.plugins.module_utils import _questions
from ansible_collections.locki.vaettir.plugins.plugin_utils import _call

NOBODY = {
    **dict.fromkeys(("agent", "release", "released", "by", "verified", "image", "tunnel"), ""),
    "age": None,
    "draining": None,
    "busy": False,
}


def asked(agent: dict[str, Any]) -> dict[str, Any]:
    """Of all of an agent's settings those that the server must know."""
    origin = agent["public_origin"]
    url, upgrade = f"{origin}{agent['probe_path'] or '/'}", _questions.upgrade(agent)
    return {"name": agent["name"], "url": url, "origin": origin, "upgrade": upgrade}


class ActionModule(ActionBase):
    TRANSFERS_FILES = False

    def run(self, tmp: Any = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        given = {**self._task.args, "agents": [asked(agent) for agent in self._task.args["agents"]]}
        called = _call.call(self, "locki.vaettir.agent_info", given, variables)
        problem = "unreachable" if called.unreachable else called.failed
        rows = called.result.get("rows", [])
        if problem or not (rows or self._task.args.get("only")):
            rows = [{**NOBODY, "container": problem or "no agents"}]
        return {
            **result,
            "changed": False,
            "problem": problem,
            "rows": [{"server": variables["inventory_hostname"], **row} for row in rows],
        }
