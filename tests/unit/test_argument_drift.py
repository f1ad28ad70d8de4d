# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A role's defaults, its argument specification and what its files use are the same set of variables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.locki.vaettir.plugins.action import agent_release
from ansible_collections.locki.vaettir.plugins.filter import stack
from ansible_collections.locki.vaettir.plugins.module_utils import _questions
from ansible_collections.locki.vaettir.plugins.plugin_utils import _agent_settings

ROOT = Path(__file__).parents[2]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
# What a number counts, or is measured in.
UNIT = re.compile(
    r"\b(seconds?|milliseconds?|minutes?|(?<!')s|ms|bytes|KiB|MiB|MB|ports?|number|connections)\b", re.IGNORECASE
)
# Where an undeclared variable could be used.
USERS = ("tasks/*.yml", "handlers/*.yml", "templates/*", "vars/*.yml", "defaults/*.yml")


def load(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}


def defaults(role: str) -> dict[str, Any]:
    return load(ROOT / "roles" / role / "defaults" / "main.yml")


def private(role: str) -> dict[str, Any]:
    return load(ROOT / "roles" / role / "vars" / "main.yml")


def options(role: str) -> dict[str, Any]:
    specs = load(ROOT / "roles" / role / "meta" / "argument_specs.yml").get("argument_specs", {})
    return specs.get("main", {}).get("options", {})


def words(text: str | list[str]) -> str:
    return text if isinstance(text, str) else " ".join(text)


def files(role: str) -> list[Path]:
    return [path for pattern in USERS for path in sorted((ROOT / "roles" / role).glob(pattern)) if path.is_file()]


def every_option() -> list[Any]:
    return [pytest.param(role, name, id=name) for role in ROLES for name in options(role)]


def test_there_are_roles() -> None:
    assert {"stack", "agent_proxy"} <= set(ROLES)


@pytest.mark.parametrize("role", ROLES)
def test_defaults_and_specification_name_the_same_variables(role: str) -> None:
    required = {name for name, option in options(role).items() if option.get("required")}
    assert set(defaults(role)) == set(options(role)) - required


@pytest.mark.parametrize(("role", "name"), every_option())
def test_option_is_described(role: str, name: str) -> None:
    option = options(role)[name]
    assert name.startswith(f"{role}_")
    assert option.get("type"), "no type"
    assert option["type"] != "list" or option.get("elements"), "a list of what?"
    description = words(option.get("description", ""))
    assert description.endswith("."), "no sentence"
    if option["type"] in ("int", "float"):
        assert UNIT.search(description), f"a number without its unit: {description}"


def unsaid(default: Any, kind: str) -> Any:
    """What a number or a switch is that comes from another variable, which nobody has set."""
    found = re.fullmatch(r"\{\{ \w+ \| default\((\w+)\) \}\}", str(default))
    return yaml.safe_load(found[1]) if found and kind in ("int", "bool") else default


@pytest.mark.parametrize(("role", "name"), every_option())
def test_default_is_the_one_in_force(role: str, name: str) -> None:
    option = options(role)[name]
    if option.get("required"):
        assert "default" not in option
        return
    assert "default" in option, "its default is not documented"
    if name == "agent_proxy_agents":  # where the secrets are
        assert (option["type"], option["default"]) == ("raw", [])
        return
    # repr: 1 and True, or 1 and 1.0, are not the same default
    assert repr(option["default"]) == repr(unsaid(defaults(role)[name], option["type"]))
    if "choices" in option:
        values = option["default"] if option["type"] == "list" else [option["default"]]
        assert set(values) <= {*option["choices"], None}


# What is a path is opened on the control node; what is a list of dictionaries is looked at entry by entry.
OPENED = {
    "ca_certificate",
    "page",
    "stack_acme_ca_certificate",
    "stack_tls_ca",
    "stack_tls_certificate",
    "stack_tls_key",
}
JUDGED = {"agents", "only"}


@pytest.mark.parametrize(("role", "name"), every_option())
def test_value_has_a_meaning(role: str, name: str) -> None:
    """A type alone takes too much: a rule, or a choice."""
    option, key = options(role)[name], name.removeprefix("agent_proxy_")
    rules = {**_agent_settings.RULES, **stack.RULES}
    assert key in rules or key in OPENED | JUDGED or "choices" in option or option["type"] == "bool"


def test_every_rule_is_of_a_variable() -> None:
    names = {name.removeprefix("agent_proxy_") for role in ROLES for name in options(role)}
    assert {*_agent_settings.RULES, *stack.RULES} <= names


@pytest.mark.parametrize("role", ROLES)
def test_private_variables_are_named_so_and_not_documented(role: str) -> None:
    assert [name for name in private(role) if not name.startswith(f"__{role}")] == []
    assert [name for name in options(role) if name.startswith("_")] == []


@pytest.mark.parametrize("role", ROLES)
def test_every_public_variable_in_use_is_declared(role: str) -> None:
    """Any role's variable in any role's file: neither a misspelt name nor a renamed one stays behind."""
    declared = {name for each in ROLES for name in options(each)}
    # Not part of a longer word, a path, or a plugin's or file's name.
    pattern = re.compile(rf"(?<![\w./-])(?:{'|'.join(ROLES)})_\w+\b(?!\.(?:yml|j2|py)\b)(?!\s*:\s*$)")
    used = {
        (path.relative_to(ROOT), name)
        for path in files(role)
        for name in pattern.findall(without_comments(path))
        if name not in declared
    }
    assert used == set()


@pytest.mark.parametrize("role", ROLES)
def test_every_declared_variable_is_used(role: str) -> None:
    """A setting that nothing reads is a promise that nobody keeps."""
    text = "\n".join(without_comments(path) for path in files(role) if path.parent.name != "defaults")
    filter_source = (ROOT / "plugins" / "plugin_utils" / "_agent_settings.py").read_text(encoding="utf-8")
    keys = read_keys(role) | set(re.findall(r"settings\[\"(\w+)\"\]", filter_source))
    # What the server gets, and what the control node reads itself
    keys |= {*agent_release.PASSED, *_questions.OPTIONS, "from_outside"}
    unread = [
        name
        for name in options(role)
        if not re.search(rf"\b{name}\b", text) and name.removeprefix(f"{role}_") not in keys
    ]
    assert unread == []


def without_comments(path: Path) -> str:
    """What is in force: comments may name what is gone."""
    text = re.sub(r"\{#.*?#\}", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    return re.sub(r"(?m)^\s*#.*$", "", text)


def read_keys(role: str) -> set[str]:
    """The agent's settings that a role's files read: `__agent_proxy.KEY`, or by a template's alias."""
    keys: set[str] = set()
    for path in files(role):
        text = without_comments(path)
        names = "|".join(["__agent_proxy", *re.findall(r"set (\w+) = __agent_proxy\s*-?%}", text)])
        keys |= set(re.findall(rf"(?<![\w./-])(?:{names})(?:\.|\[['\"])(\w+)", text))
    return keys


@pytest.mark.parametrize("role", ROLES)
def test_every_setting_that_is_read_exists(role: str) -> None:
    """The filter itself says which settings an agent has: the arguments and what it derives from them."""
    own = ("agent_proxy_agents", "agent_proxy_only", "agent_proxy_page")  # of all agents together
    arguments = {name: option for name, option in options("agent_proxy").items() if name not in own}
    said = {
        name: unsaid(value, arguments[name]["type"])
        for name, value in defaults("agent_proxy").items()
        if name in arguments
    }
    plain = {name: None if "{{" in str(value) else value for name, value in said.items()}
    entry = {"name": "ocapistaine", "domain": "ocapistaine.example.org", "parent_domain": "", "public_port": 443}
    profiles = private("agent_proxy")["__agent_proxy_profiles"]
    given = _agent_settings.agent_settings(entry, {name: plain.get(name) for name in arguments}, arguments, profiles)
    assert given["errors"] == []
    # Methods of a dictionary are no settings.
    assert read_keys(role) - set(given["settings"]) - set(dir(dict)) == set()
