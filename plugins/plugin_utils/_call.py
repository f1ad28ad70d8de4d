# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""An action plugin's one call of its module on the server, whatever becomes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.locki.vaettir.plugins.module_utils import _docker


@dataclass(frozen=True)
class Called:
    """What the module returned, or why it did not."""

    result: dict[str, Any] = field(default_factory=dict)
    unreachable: str = ""
    failed: str = ""


def call(action: ActionBase, module: str, arguments: dict[str, Any], task_vars: dict[str, Any]) -> Called:
    try:
        result = action._execute_module(module_name=module, module_args=arguments, task_vars=task_vars)
    except AnsibleConnectionFailure as error:
        return Called(unreachable=str(error) or "unreachable")
    except AnsibleError as error:  # sudo wants a password, say
        return Called(failed=str(error) or "a task failed")
    if not (result.get("unreachable") or result.get("failed")):
        return Called(result)
    # Where the module did not come to its own words, the server's last ones say more.
    told = _docker.last_line(str(result.get("module_stderr") or "")) or str(result.get("msg") or "a task failed")
    return Called(unreachable=told) if result.get("unreachable") else Called(failed=told)
