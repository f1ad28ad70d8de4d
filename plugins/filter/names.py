# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors

from __future__ import annotations

from typing import Any

from ansible_collections.locki.vaettir.plugins.module_utils import _names


def agent_name_error(name: Any) -> str:
    return _names.agent_name_error(name) or ""


def agents_error(agents: Any) -> str:
    return _names.agents_error(agents) or ""


def filled(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"${{{name}}}", value)
    return text


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "agent_name_error": agent_name_error,
            "agents_error": agents_error,
            "filled": filled,
            "listed": _names.listed,
            "target_url_key": _names.target_url_key,
        }
