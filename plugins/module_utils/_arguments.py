# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Variables against a role's argument specification and its rules: a sentence for each that does not fit."""

from __future__ import annotations

import re
from typing import Any, Callable, Mapping

from . import _names

LONGEST = 100  # elements of a list; an authority puts so many names into a certificate
_NOUNS = {"bool": "true or false", "int": "a whole number", "list": "a list", "str": "text"}
_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}", re.ASCII)
_TRUE, _FALSE = ("true", "yes", "on", "1"), ("false", "no", "off", "0")

# A sentence about a value of the right type, or None; it gets the variable's name and the value.
Rule = Callable[[str, Any], "str | None"]


def _fix(option: dict[str, Any]) -> str:
    if "choices" in option:
        return "one of " + ", ".join(map(str, option["choices"]))
    return _NOUNS[option["type"]]


def boolean(value: Any) -> bool:
    word = str(value).lower() if isinstance(value, (bool, int, str)) else ""
    if word not in (*_TRUE, *_FALSE):
        raise TypeError
    return word in _TRUE


def _int(value: Any) -> int:
    """A number of Jinja's may be a float; in a file it would be spelt as one."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and _WHOLE.fullmatch(value):
        return int(value)
    raise TypeError


def _str(value: Any) -> str:
    """YAML reads 1.30 as 1.3 and a date as another type, so that these must stand in quotes."""
    if isinstance(value, str):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    raise TypeError


def _raw(value: Any) -> Any:
    return value


_TYPES: dict[str, Callable[[Any], Any]] = {"bool": boolean, "int": _int, "raw": _raw, "str": _str}


def _one(value: Any, kind: str, option: dict[str, Any]) -> Any:
    choices = option.get("choices")
    if choices and isinstance(value, bool):
        value = str(value).lower()  # YAML's own reading of an unquoted choice
    made = _TYPES[kind](value)
    if choices and made not in choices:
        raise TypeError
    return made


def _typed(value: Any, option: dict[str, Any]) -> Any:
    """The value in its type; TypeError where it does not fit."""
    if option["type"] != "list":
        if option.get("no_log") and isinstance(value, int):
            raise TypeError  # 0123 is 83
        return _one(value, option["type"], option)
    if isinstance(value, str):
        value = value.split(",") if value else []
    if not isinstance(value, list):
        raise TypeError
    return [_one(one, option["elements"], option) for one in value]


def _list_error(variable: str, values: list[Any], rule: Rule) -> str | None:
    if len(values) > LONGEST:
        return f"{variable} has {len(values)} elements: use {LONGEST} at most."
    found = next((error for error in (rule(variable, one) for one in values) if error), None)
    return found or twice_error(variable, values)


def twice_error(variable: str, values: list[str], already: list[str] | None = None) -> str | None:
    """What stands twice, whatever its case, or is there `already`: nginx does not start with it."""
    seen = {one.lower() for one in already or []}
    for one in values:
        if one.lower() in seen:
            return f"{variable} '{_names.masked(one)}' is there already: keep it once."
        seen.add(one.lower())
    return None


def _meaning_error(variable: str, value: Any, option: dict[str, Any], rule: Rule | None) -> str | None:
    if rule is None:
        return None
    return _list_error(variable, value, rule) if option["type"] == "list" else rule(variable, value)


def check(
    values: dict[str, Any], options: dict[str, Any], rules: Mapping[str, Rule], whose: str = ""
) -> tuple[dict[str, Any], list[str]]:
    """The values in their types, and what is wrong with them. Null fits where it is the default."""
    checked, errors = dict(values), []
    for name, option in options.items():
        variable, value = f"{name}{whose}", values.get(name)
        if value is None:
            # A template may well come out as nothing.
            if option.get("default") is not None and "{{" not in str(option["default"]):
                errors.append(f"{variable} is empty: use {_fix(option)}, or leave it out.")
            continue
        try:
            checked[name] = _typed(value, option)
        except TypeError:
            errors.append(_names.refusal(variable, "***" if option.get("no_log") else value, _fix(option)))
            continue
        error = _meaning_error(variable, checked[name], option, rules.get(name))
        errors += [error] if error else []
    return checked, errors
