# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""An action plugin's call of its module: whatever becomes of it is a result."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible_collections.locki.vaettir.plugins.plugin_utils._call import Called, call


@pytest.mark.parametrize(
    ("came", "called"),
    [
        ({"rows": []}, Called({"rows": []})),
        ({"failed": True, "msg": "set it."}, Called(failed="set it.")),
        (
            {"failed": True, "msg": "no JSON", "module_stderr": "x\nno such container\n"},
            Called(failed="no such container"),
        ),
        ({"unreachable": True, "msg": ""}, Called(unreachable="a task failed")),
        (AnsibleConnectionFailure("refused"), Called(unreachable="refused")),
        (AnsibleError("Missing sudo password"), Called(failed="Missing sudo password")),
    ],
)
def test_called(came: Any, called: Called) -> None:
    def execute(**_words: Any) -> Any:
        if isinstance(came, Exception):
            raise came
        return came

    plugin: Any = SimpleNamespace(_execute_module=execute)
    assert call(plugin, "locki.vaettir.agent_info", {}, {}) == called
