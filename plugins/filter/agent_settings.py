# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors

from __future__ import annotations

DOCUMENTATION = r"""
name: agent_settings
short_description: One agent's settings, merged, completed and checked
version_added: 0.1.0
author: the locki.vaettir authors (@locki)
description:
  - Merges, in rising order, the profile's values, the role's variables and the agent's own entry in the inventory.
  - Checks types by the role's argument specification and meaning by the rules of names and URLs.
options:
  _input:
    description: The agent's entry in C(vaettir_agents).
    type: dict
    required: true
  values:
    description: The role's variables, with their prefix.
    type: dict
    required: true
  options:
    description: The role's argument specification.
    type: dict
    required: true
  profiles:
    description: Values by profile. They fill what nobody has set.
    type: dict
    required: true
"""

EXAMPLES = r"""
- ansible.builtin.set_fact:
    __agent: "{{ {'name': 'ocapistaine'} | locki.vaettir.agent_settings(values, options, profiles) }}"
"""

RETURN = r"""
_value:
  description:
    - C(settings), names without prefix, and C(errors), one sentence each.
    - C(patterns), the POSIX regular expressions that the container checks C(.env) with.
  type: dict
"""

from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from ansible_collections.locki.vaettir.plugins.module_utils import _names

PREFIX = "agent_proxy_"
_UNSET = (None, "profile")  # nobody's choice: the profile's value, or what follows from the name
_SPEC_KEYS = ("type", "elements", "choices", "required")


def _public_origin(domain: str, port: int) -> str:
    return f"https://{domain}" + ("" if port == 443 else f":{port}")


def _type_errors(settings: dict[str, Any], options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    spec = {
        key.removeprefix(PREFIX): {name: option[name] for name in _SPEC_KEYS if name in option}
        for key, option in options.items()
    }
    result = ArgumentSpecValidator(spec).validate({key: value for key, value in settings.items() if value is not None})
    return {**settings, **result.validated_parameters}, [f"{message}." for message in result.error_messages]


def _complete(settings: dict[str, Any]) -> dict[str, Any]:
    name = settings["name"]
    settings["target_url"] = (settings["target_url"] or f"https://{name}.ngrok-free.app").removesuffix("/")
    parent = settings["parent_domain"]
    settings["domain"] = settings["domain"] or (f"{name}.{parent}" if parent else "")
    target = (
        urlsplit(settings["target_url"]) if _names.matches(_names.TARGET_URL_REGEX, settings["target_url"]) else None
    )
    return {
        **settings,
        "target_key": _names.target_url_key(name),
        "target_host": target.hostname if target else "",
        "domains": [settings["domain"], *settings["extra_domains"]],
        "public_origin": _public_origin(settings["domain"], settings["public_port"]),
    }


def _value_errors(settings: dict[str, Any]) -> list[str]:
    name = settings["name"]
    found = [_names.target_url_error(f"target_url of agent {name}", settings["target_url"])]
    found += [_names.domain_error(f"domain of agent {name}", domain) for domain in settings["domains"]]
    found += [_names.origin_error(f"extra_origins of agent {name}", origin) for origin in settings["extra_origins"]]
    return [error for error in found if error]


PATTERNS = {
    "agent_name": _names.AGENT_NAME_REGEX,
    "target_url": _names.TARGET_URL_REGEX,
    "discord": _names.DISCORD_REGEX,
}


def _result(settings: dict[str, Any], errors: list[str]) -> dict[str, Any]:
    return {"settings": settings, "errors": errors, "patterns": PATTERNS}


def agent_settings(
    entry: dict[str, Any], values: dict[str, Any], options: dict[str, Any], profiles: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    name_error = _names.agent_name_error(entry.get("name"))
    if name_error:
        return _result({}, [name_error])
    defaults = {key.removeprefix(PREFIX): value for key, value in values.items()}
    unknown = sorted(entry.keys() - defaults.keys())
    if unknown:
        known = ", ".join(sorted(defaults))
        return _result({}, [f"agent {entry['name']} has unknown settings {unknown}: known are {known}."])
    chosen = {key: value for key, value in {**defaults, **entry}.items() if value not in _UNSET}
    filled = {**dict.fromkeys(defaults), **profiles.get(str(chosen.get("profile")), {}), **chosen}
    settings, errors = _type_errors(filled, options)
    if not errors:
        settings = _complete(settings)
        errors = _value_errors(settings)
    return _result(settings, errors)


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"agent_settings": agent_settings}
