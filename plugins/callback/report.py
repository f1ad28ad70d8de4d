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
  - After a diagnosis it is the table of each chain that does not work, and last a sentence for each agent. After a
    status it is a sentence for each server that cannot be asked. Where something is broken it ends the run itself, with
    exit status 2 and without a failed task. Callbacks that come later in C(callbacks_enabled) do not hear of that end.
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
from ansible_collections.locki.vaettir.plugins.module_utils import _diagnosis
from ansible_collections.locki.vaettir.plugins.plugin_utils import _rollout

DIAGNOSIS = "locki.vaettir.agent_diagnosis"
STATUS = "locki.vaettir.agent_info"
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
        self.diagnoses: dict[str, list[dict[str, Any]]] = {}  # by server
        self.problems: dict[str, str] = {}  # of servers whose status was asked for
        self.play: Any = None

    def v2_playbook_on_play_start(self, play: Any) -> None:
        self.play = play

    def v2_runner_on_ok(self, result: Any) -> None:
        name, action = result.host.get_name(), result.task.action
        if action == DIAGNOSIS:
            self.diagnoses[name] = result.result["diagnoses"]
        elif action == STATUS:
            self.problems[name] = result.result["problem"]
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
        self._judge(list(variables._inventory.hosts))
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

    def _judge(self, hosts: list[str]) -> None:
        """What was diagnosed, in the inventory's order. A failed task would be a block of lines after the sentences."""
        made = [one for name in hosts for one in self.diagnoses.get(name, [])]
        problems = [_rollout.problem(name, self.problems[name]) for name in hosts if self.problems.get(name)]
        tables = [[*_diagnosis.table(one), ""] for one in made if _diagnosis.table(one)]
        told = [line for one in tables for line in one] + [one["sentence"] for one in made] + problems
        if told:
            self._display.display("\n" + "\n".join(told))
        if problems or any(one["broken"] for one in made):
            raise SystemExit(2)

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
