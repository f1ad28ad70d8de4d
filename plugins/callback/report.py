# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The report of a whole run. Only a callback speaks after a run that stopped in the middle: no play comes then."""

from __future__ import annotations

DOCUMENTATION = r"""
name: report
type: aggregate
short_description: What came of each agent of each server, at the very end
version_added: 0.2.0
description:
  - The last thing on the screen after a deploy, a rollback, a verification or a removal, whatever happened. It says
    what came of each agent of each server of the run. Where a run stopped, it names the servers that were lost and
    those that were not reached, and the command that continues.
  - With the extra variable C(report_file) the same is written into that file on the control node, as JSON.
  - Without this callback the playbooks' last play prints the table, but no play comes after a rollout that stopped.
author:
  - the locki.vaettir authors (@locki)
requirements:
  - C(callbacks_enabled = locki.vaettir.report) in the section C([defaults]) of ansible.cfg
"""

import contextlib
import json
from pathlib import Path
from typing import Any

from ansible import constants, context
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.callback import CallbackBase
from ansible.template import Templar
from ansible_collections.locki.vaettir.plugins.plugin_utils import _rollout

RELEASE = "locki.vaettir.agent_release"
CURL = "locki.vaettir.websocket_curl"
NOT_REACHED = "__vaettir_not_reached"  # variable of a task that fails for another server's sake
GROUP = "vaettir_rollout"  # the servers that a deploy has chosen
SKIPPED = "vaettir_not_concerned"  # those that have none of its agents


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "locki.vaettir.report"
    CALLBACK_NEEDS_ENABLED = True

    def __init__(self) -> None:
        super().__init__()
        self.servers: dict[str, _rollout.Server] = {}
        self.play: Any = None

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self.play = play

    def v2_runner_on_ok(self, result: Any) -> None:
        self._of(result).note(self._kind(result), result.result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        server = self._of(result)
        server.note(self._kind(result), result.result)
        if not ignore_errors and not result.task.vars.get(NOT_REACHED):
            server.failed = str(result.result.get("msg", "a task failed"))

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._of(result).lost = str(result.result.get("msg", "unreachable"))

    def _of(self, result: Any) -> _rollout.Server:
        name = result.host.get_name()
        return self.servers.setdefault(name, _rollout.Server(name))

    def _kind(self, result: Any) -> str:
        return {RELEASE: "release", CURL: "curl"}.get(result.task.action, "")

    def v2_playbook_on_stats(self, stats: Any) -> None:  # noqa: ARG002 - they count tasks, not agents
        if self.play is None:
            return
        variables = self.play.get_variable_manager()
        servers = self._all(variables)
        if not servers:
            return
        rows = [row for server in servers for row in server.rows()]
        command = "" if _rollout.whole(rows) else _rollout.again(context.CLIARGS, constants.DEFAULT_HOST_LIST)
        skipped = _members(variables._inventory, SKIPPED)
        self._display.display("\n" + "\n".join(_rollout.lines(rows, command, skipped)))
        path = variables.extra_vars.get("report_file")
        if path:
            text = json.dumps({"again": command, "agents": rows, "skipped": skipped}, indent=2)
            Path(str(path)).expanduser().write_text(f"{text}\n", encoding="utf-8")

    def _all(self, variables: Any) -> list[_rollout.Server]:
        """In the inventory's order. A run that releases nothing, and has chosen no server to do so, has no report."""
        inventory = variables._inventory
        chosen = _members(inventory, GROUP)
        released = [name for name, server in self.servers.items() if server.released is not None]
        if not chosen and not released:
            return []
        failed = [name for name, server in self.servers.items() if server.failed or server.lost]
        names = {*chosen, *released, *failed}
        # All hosts: while a rollout's step runs, get_hosts() only knows those of the step.
        found = [self.servers.get(name, _rollout.Server(name)) for name in inventory.hosts if name in names]
        for server in found:
            if server.released is None:
                server.agents = self._agents(variables, inventory.get_host(server.name))
        return found

    def _agents(self, variables: Any, host: Any) -> list[str]:
        """Those that this run was about."""
        known = variables.get_vars(play=self.play, host=host)
        declared = known.get("vaettir_agents") or []
        with contextlib.suppress(AnsibleError):  # a value that is not there is no reason to say nothing
            declared = Templar(DataLoader(), variables=known).template(declared)
        return _rollout.names(declared, known.get("agent"))


def _members(inventory: Any, group: str) -> list[str]:
    """Also those that a step of a rollout does not see, in the inventory's order."""
    found = {host.name for host in inventory.groups[group].get_hosts()} if group in inventory.groups else set()
    return [name for name in inventory.hosts if name in found]
