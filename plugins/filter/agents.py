# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The settings of all agents of a server, checked in one place: before anything on it is touched."""

from __future__ import annotations

from typing import Any

from ansible_collections.locki.vaettir.plugins.module_utils import _arguments, _names
from ansible_collections.locki.vaettir.plugins.module_utils._server import PAGE
from ansible_collections.locki.vaettir.plugins.plugin_utils import _local_files
from ansible_collections.locki.vaettir.plugins.plugin_utils._agent_settings import PREFIX, agent_settings
from ansible_collections.locki.vaettir.plugins.plugin_utils._plain import plain

# POSIX regular expressions that the container checks .env with.
PATTERNS = {
    "agent_name": _names.AGENT_NAME_REGEX,
    "target_url": _names.TARGET_URL_REGEX,
    "discord": _names.DISCORD_REGEX,
    "secret": _names.SECRET_REGEX,
}
EXAMPLE = "agent-name"  # in the example's conf, which a person turns into another agent's
# Of all agents together, so that it is no setting of one.
_PAGE_OPTION = {"agent_proxy_page": {"type": "str", "default": ""}}
_PAGE_RULE = {"agent_proxy_page": lambda variable, path: _local_files.page_error(variable, path) if path else None}


# Variables of 0.1.0 that are gone, without their prefix, and what to do instead.
GONE = {
    "agent": "put the agent into agent_proxy_agents, which is vaettir_agents",
    "break_lock": "leave it out, since a run's lock ends with the run",
    "lock_timeout": "leave it out, since a run's lock ends with the run",
    "name": "put the agent into agent_proxy_agents, which is vaettir_agents",
}


def _gone(there: list[str], shown: str) -> str:
    """A sentence about the first; `shown` is how its name stands in the inventory."""
    return f"{shown.format(there[0])} is gone: {GONE[there[0]]}." if there else ""


def gone_error(variables: dict[str, Any]) -> str:
    """Which variable of an earlier version is set."""
    return _gone([name for name in GONE if variables.get(name) not in (None, "")], f"{PREFIX}{{}}")


def _gone_setting(entry: dict[str, Any]) -> str:
    """The same in an agent's entry, which has a name."""
    return _gone([name for name in ("break_lock", "lock_timeout") if name in entry], f"{{}} of agent {entry['name']}")


def _owners_error(settings: dict[str, Any], stack: dict[str, Any], project: str, server: str) -> str:
    """Where compose file and image are the owner's, the agent must fit them."""
    name, owners = settings["name"], stack["owners"]
    where = f"{(stack['compose_files'] or ['none'])[0]} in {stack['root']} on {server}"
    if name not in owners["built"]:
        return (
            f"stack_manage is false, but {where} has no service '{name}' with a `build` (there are "
            f"{', '.join(owners['built']) or 'none'}): give the agent its service's name, or add one."
        )
    if name in owners["named"]:
        return (
            f"container_name '{owners['named'][name]}' of service {name} in {where} hides its container from a deploy, "
            f"which looks for {project}-{name}-1: leave that line out, and run `docker compose up -d {name}`."
        )
    for setting in ("tunnel_secret", "ca_certificate"):
        if settings[setting]:
            return (
                f"{setting} of agent {name} cannot reach the image on {server}, which is its owner's: set stack_manage "
                "to true, or leave it out."
            )
    return ""


def _error(
    settings: dict[str, Any], stack: dict[str, Any] | None, manage: bool, project: str, server: str, tunnels: bool
) -> str:
    """What the settings alone do not tell."""
    name, certificate = settings["name"], settings["ca_certificate"]
    unread = certificate and _local_files.authority_error(f"ca_certificate of agent {name}", certificate)
    if unread:
        return f"{server}: {unread}"
    if stack is None:
        return ""
    if settings["tunnel_key"] and not tunnels:
        return (
            f"tunnel_key of agent {name} has no SSH server on {server} to come to: set stack_tunnel to true, or leave "
            "tunnel_key out."
        )
    if manage and name in stack["owners_services"]:
        return f"agent name '{name}' is a service of the owner's in {stack['root']} on {server}: choose another."
    return "" if manage else _owners_error(settings, stack, project, server)


def agents_settings(
    entries: Any,
    role: dict[str, Any],
    server: str,
    stack: dict[str, Any] | None = None,
    manage: bool = True,
    project: str = "vaettir",
    page: str = "",
    gone: dict[str, Any] | None = None,
    tunnels: bool = False,
) -> dict[str, Any]:
    wrong = gone_error(gone or {}) or _names.agents_error(entries)
    if wrong:
        return {"agents": [], "errors": {"": f"{server}: {wrong}"}, "example": {}, "patterns": PATTERNS}
    entries, role = plain(entries), plain(role)
    rules = (role["values"], role["options"], role["profiles"])
    found, errors = [], {}
    for entry in entries:
        made = agent_settings(entry, *rules, siblings=entries)
        told = _gone_setting(entry) or " ".join(made["errors"])
        error = f"{server}: {told}" if told else ""
        error = error or _error(made["settings"], stack, manage, project, server, tunnels)
        if error:
            errors[entry["name"]] = error
        else:
            found.append(made["settings"])
    _page, wrong_page = _arguments.check({"agent_proxy_page": page}, _PAGE_OPTION, _PAGE_RULE)
    if wrong_page:
        errors[PAGE] = f"{server}: {wrong_page[0]}"
    domain = None if role["values"].get("agent_proxy_parent_domain") else f"{EXAMPLE}.example.org"
    example = agent_settings({"name": EXAMPLE, "domain": domain}, *rules)
    if example["errors"] and not errors:
        # A variable that every agent has differently is used all the same, as by the page container.
        errors[PAGE] = f"{server}: {PREFIX}{example['errors'][0]}".replace(f" of agent {EXAMPLE}", "")
    return {"agents": found, "errors": errors, "example": example["settings"], "patterns": PATTERNS}


def chosen(agents: list[dict[str, Any]], only: Any = "") -> list[dict[str, Any]]:
    """Those that are named; all of them where none is. What is no entry is somebody else's complaint."""
    names = _names.listed(only)
    return [one for one in agents if not names or (isinstance(one, dict) and one.get("name") in names)]


def selection_error(agents: Any, only: Any, everywhere: list[Any], server: str, one: bool = False) -> str:
    """What is wrong with the list of agents, or with the names of those that a run is about."""
    wrong = _names.agents_error(agents)
    if wrong:
        return f"{server}: {wrong}"
    if isinstance(only, (dict, list)):
        return _names.refusal("agent", only, "names of vaettir_agents, separated by commas, like ocapistaine")
    lists = [entries for entries in everywhere if isinstance(entries, list)]
    declared = [entry.get("name") for entries in lists for entry in entries if isinstance(entry, dict)]
    known = sorted({str(name) for name in declared if not _names.agent_name_error(name)})
    missing = [name for name in _names.listed(only) or ([] if only is None else [""]) if name not in known]
    there = ", ".join(known) or "none"
    if one and only is None:
        return f"agent is not set: say which one, as in `-e agent=ocapistaine`. There are {there}."
    if not missing:
        return ""
    return (
        f"agent '{_names.masked(missing[0])}' is not declared for any server of this run: add it to vaettir_agents in "
        f"the inventory, or use one of those there are ({there})."
    )


def removed_agents(only: Any, role: dict[str, Any]) -> list[dict[str, Any]]:
    """They may not be declared any more: where one is asked, its release knows."""
    below = role["values"].get("agent_proxy_parent_domain")
    rules = (role["values"], role["options"], role["profiles"])
    entries = ({"name": name, "domain": None if below else f"{name}.invalid"} for name in _names.listed(only))
    return [agent_settings(entry, *rules)["settings"] or entry for entry in entries]


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "agents_settings": agents_settings,
            "chosen": chosen,
            "removed_agents": removed_agents,
            "selection_error": selection_error,
        }
