# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors

from __future__ import annotations

from typing import Any

from ansible_collections.locki.vaettir.plugins.module_utils import _names


def agent_name_error(name: Any) -> str:
    return _names.agent_name_error(name) or ""


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"agent_name_error": agent_name_error, "listed": _names.listed}
