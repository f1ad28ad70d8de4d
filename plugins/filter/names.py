# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors

from __future__ import annotations

from typing import Any

from ansible_collections.locki.vaettir.plugins.module_utils import _arguments, _names


def agent_name_error(name: Any) -> str:
    return _names.agent_name_error(name) or ""


def agents_error(agents: Any) -> str:
    return _names.agents_error(agents) or ""


def argument_errors(values: dict[str, Any], options: dict[str, Any]) -> list[str]:
    return _arguments.check(values, options)[1]


def discord_error(url: Any, variable: str) -> str:
    return _names.discord_error(variable, url) or ""


def filled(text: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        text = text.replace(f"${{{name}}}", value)
    return text


def port_error(port: Any, variable: str) -> str:
    return _names.port_error(variable, port) or ""


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "agent_name_error": agent_name_error,
            "agents_error": agents_error,
            "argument_errors": argument_errors,
            "discord_error": discord_error,
            "filled": filled,
            "port_error": port_error,
            "target_url_key": _names.target_url_key,
        }
