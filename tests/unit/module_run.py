# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Runs a module's main in this process, as Ansible would on a server."""

from __future__ import annotations

import json
from types import ModuleType
from typing import Any

import pytest
from ansible.module_utils.testing import patch_module_args


def run_module(module: ModuleType, capsys: pytest.CaptureFixture[str], check: bool = False, **arguments: Any) -> Any:
    given = {**arguments, "_ansible_check_mode": check, "_ansible_diff": True}
    with patch_module_args(given), pytest.raises(SystemExit):
        module.main()
    answer = json.loads(capsys.readouterr().out)
    answer.pop("_ansible_new_secrets", None)  # from 2.22 on: what the control node shall mask
    return answer
