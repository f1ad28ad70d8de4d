# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Writes what a playbook does, one JSON object a line, into the file that $RIG_TRACE names."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: trace
type: aggregate
short_description: Results, and every call that reached a server, as JSON lines
description: Results, and every call that reached a server, as JSON lines.
"""


def _write(event: str, host: str, task: Any, **more: Any) -> None:
    line = {"event": event, "host": host, "task": task.get_name(), "action": task.action, "at": time.time(), **more}
    # One write of an appended line: the forked workers share the file.
    with Path(os.environ["RIG_TRACE"]).open("a", encoding="utf-8") as stream:
        stream.write(json.dumps(line, default=str) + "\n")


# Every module and every raw command goes through this method; a worker is a fork, so it inherits the change.
_execute = ActionBase._low_level_execute_command


def _traced(self: Any, *arguments: Any, **options: Any) -> Any:
    if self._connection.transport != "local":
        _write("remote", self._play_context.remote_addr, self._task)
    return _execute(self, *arguments, **options)


ActionBase._low_level_execute_command = _traced


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "trace"
    CALLBACK_NEEDS_ENABLED = True

    def _result(self, event: str, result: Any) -> None:
        values = result.result
        _write(
            event,
            result.host.get_name(),
            result.task,
            changed=bool(values.get("changed")),
            message=str(values.get("msg", "")),
        )

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        _write("start", host.get_name(), task)

    def v2_runner_on_ok(self, result: Any) -> None:
        self._result("ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        self._result("ignored" if ignore_errors else "failed", result)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        self._result("unreachable", result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        self._result("skipped", result)
