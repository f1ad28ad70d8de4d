# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Variables against a role's argument specification: a sentence for each that does not fit."""

from __future__ import annotations

from typing import Any

from ansible.module_utils.common.arg_spec import ArgumentSpecValidator

from . import _names

_SPEC_KEYS = ("type", "elements", "choices", "required")
_NOUNS = {
    "bool": "true or false",
    "dict": "a dictionary",
    "float": "a number",
    "int": "a whole number",
    "list": "a list",
}


def _fix(option: dict[str, Any]) -> str:
    if "choices" in option:
        return "one of " + ", ".join(map(str, option["choices"]))
    return _NOUNS.get(option["type"], "text")


def _converted(value: Any, option: dict[str, Any]) -> tuple[Any, bool]:
    """The value in its type, and whether it fits."""
    if isinstance(value, (dict, list)) and option["type"] not in ("dict", "list"):
        return value, False  # Ansible would write it out as a string
    spec = {"it": {name: option[name] for name in _SPEC_KEYS if name in option}}
    result = ArgumentSpecValidator(spec).validate({"it": value})
    return result.validated_parameters.get("it"), not result.error_messages


def check(values: dict[str, Any], options: dict[str, Any], whose: str = "") -> tuple[dict[str, Any], list[str]]:
    """The values in their types, and what is wrong with them. Null fits where it is the default."""
    checked, errors = dict(values), []
    for name, option in options.items():
        value = values.get(name)
        if value is None:
            # A template may well come out as nothing.
            if option.get("default") is not None and "{{" not in str(option["default"]):
                errors.append(f"{name}{whose} is empty: use {_fix(option)}, or leave it out.")
            continue
        checked[name], fits = _converted(value, option)
        if not fits:
            shown = "***" if option.get("no_log") else _names.masked(value)
            errors.append(f"{name}{whose} '{shown}' is not valid: use {_fix(option)}.")
    return checked, errors
