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
  siblings:
    description: Entries of all agents of the server, whose domains this one must not have.
    type: list
    elements: dict
    default: []
"""

EXAMPLES = r"""
- ansible.builtin.set_fact:
    __agent: "{{ {'name': 'ocapistaine'} | locki.vaettir.agent_settings(values, options, profiles) }}"
"""

RETURN = r"""
_value:
  description:
    - C(settings), names without prefix, and C(errors), one sentence each. With errors there are no settings, which may
      hold a password in a URL that is not valid.
  type: dict
"""

from typing import Any

from ansible_collections.locki.vaettir.plugins.module_utils import _arguments, _names

PREFIX = "agent_proxy_"
_UNSET = (None, "profile")  # nobody's choice: the profile's value, or what follows from the name
_NGINX_TIME = (_names.TIME_REGEX, "a time of nginx, like 30s or 12h")
_NGINX_SIZE = (_names.SIZE_REGEX, "a size of nginx, like 200m")
_COUNT = (_names.COUNT_REGEX, "a whole number of 1 or more")
_AT_ONCE = (r"[1-9][0-9]{0,3}", "a whole number from 1 to 9999")
_MOST_REQUESTS = 65535  # that nginx can count
_FEWEST_REQUESTS = 16  # at once, in a worker that is of any use
# Beyond its type: what a setting, or each element of it, must look like, and what to use instead.
_RULES = {
    "base_image": (_names.IMAGE_REGEX, "an image like nginx:1.30.6"),
    "cache_size": _NGINX_SIZE,
    "connect_timeout": _COUNT,
    "drain_window": _COUNT,
    "draining_max": _COUNT,
    "keep_releases": _COUNT,
    "max_body_size": _NGINX_SIZE,
    "probe_path": (_names.PATH_REGEX, "a path like /_stcore/stream, or nothing"),
    "read_timeout": _COUNT,
    "resolver_valid": _COUNT,
    "send_timeout": _COUNT,
    "stream_path": (_names.PATH_AND_QUERY_REGEX, "a path like /events?session=1, or nothing"),
    "upstream_keepalive": _COUNT,
    "visitor_burst": _COUNT,
    "visitor_rate": _COUNT,
    "visitor_requests": _AT_ONCE,
    "visitor_websockets": _AT_ONCE,
    "worker_connections": _COUNT,
    "worker_processes": _COUNT,
    "worker_shutdown_timeout": _NGINX_TIME,
}


def _public_origin(domain: str, port: int) -> str:
    return f"https://{domain}" + ("" if port == 443 else f":{port}")


def _merged(entry: dict[str, Any], values: dict[str, Any], profiles: dict[str, dict[str, Any]]) -> dict[str, Any]:
    given = {key: value for key, value in entry.items() if value is not None}
    chosen = {key: value for key, value in {**values, **given}.items() if value not in _UNSET}
    # An unknown profile is one mistake: what another would have filled shall not be complained of as well.
    profile = profiles.get(str(chosen.get("profile")), next(iter(profiles.values()), {}))
    return {**dict.fromkeys(values), **profile, **chosen}


def _domain(settings: dict[str, Any]) -> str:
    parent = settings["parent_domain"]
    return settings["domain"] or (f"{settings['name']}.{parent}" if parent else "")


def _worker_requests(settings: dict[str, Any]) -> int:
    """Requests and WebSockets that a worker takes at once: each has a connection to Traefik and one to the tunnel.

    An eighth of the connections stays free, so that health checks and refusals are answered, come what may.
    """
    connections = settings["worker_connections"]
    return min((connections - connections // 8 - settings["upstream_keepalive"]) // 2, _MOST_REQUESTS)


def _complete(settings: dict[str, Any]) -> dict[str, Any]:
    name = settings["name"]
    settings["target_url"] = (settings["target_url"] or f"https://{name}.ngrok-free.app").removesuffix("/")
    settings["domain"] = _domain(settings)
    valid = _names.matches(_names.TARGET_URL_REGEX, settings["target_url"])
    most = _worker_requests(settings)
    return {
        **settings,
        "target_key": _names.target_url_key(name),
        "target_values": _names.target_values(settings["target_url"]) if valid else {},
        "domains": [settings["domain"], *settings["extra_domains"]],
        "public_origin": _public_origin(settings["domain"], settings["public_port"]),
        "worker_requests": most,
        # One visitor cannot fill a worker, however few connections it has.
        "most_requests": min(settings["visitor_requests"], most // 2),
        "most_websockets": min(settings["visitor_websockets"], most // 2),
        "core": False,  # the form of the conf for an image that is not ours
    }


def _value_errors(settings: dict[str, Any]) -> list[str]:
    name = settings["name"]
    found = [_names.target_url_error(f"target_url of agent {name}", settings["target_url"])]
    found += [_names.domain_error(f"domain of agent {name}", domain) for domain in settings["domains"]]
    found += [_names.origin_error(f"extra_origins of agent {name}", origin) for origin in settings["extra_origins"]]
    # Without any server nginx does not start.
    found += [_names.resolver_error(f"resolver of agent {name}", server) for server in settings["resolver"] or [""]]
    found += [
        _names.network_error(f"trusted_proxies of agent {name}", network) for network in settings["trusted_proxies"]
    ]
    found.append(_names.secret_error(f"tunnel_secret of agent {name}", settings["tunnel_secret"]))
    found.append(_names.port_error(f"public_port of agent {name}", settings["public_port"]))
    for key, (regex, use) in _RULES.items():
        values = settings.get(key)
        for value in values if isinstance(values, list) else [values]:
            found.append(_names.setting_error(f"{key} of agent {name}", "" if value is None else value, regex, use))
    if not any(found) and settings["worker_requests"] < _FEWEST_REQUESTS:
        found.append(
            f"worker_connections of agent {name} is {settings['worker_connections']}, too few next to the "
            f"{settings['upstream_keepalive']} of upstream_keepalive: use more, such as 4096."
        )
    return [error for error in found if error]


def _domain_errors(settings: dict[str, Any], siblings: list[dict[str, Any]]) -> list[str]:
    """Traefik would give a shared name to one of them, nobody knows which."""
    errors = []
    for other in siblings:
        more = other["extra_domains"]
        theirs = [_domain(other), *(more if isinstance(more, list) else [])]
        shared = [domain for domain in settings["domains"] if other["name"] != settings["name"] and domain in theirs]
        errors += [
            f"domain '{domain}' of agent {settings['name']} is agent {other['name']}'s too: give each agent its own."
            for domain in shared
        ]
    return errors


def _result(settings: dict[str, Any], errors: list[str]) -> dict[str, Any]:
    return {"settings": settings, "errors": errors}


def agent_settings(
    entry: dict[str, Any],
    values: dict[str, Any],
    options: dict[str, Any],
    profiles: dict[str, dict[str, Any]],
    siblings: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    name_error = _names.agent_name_error(entry.get("name"))
    if name_error:
        return _result({}, [name_error])
    defaults = {key.removeprefix(PREFIX): value for key, value in values.items()}
    unknown = sorted(map(str, entry.keys() - defaults.keys() - {"name"}))
    if unknown:
        which, known = ", ".join(_names.masked(key) for key in unknown), ", ".join(sorted(defaults))
        return _result({}, [f"agent {entry['name']} has unknown settings {which}: use those there are, {known}."])
    plain = {key.removeprefix(PREFIX): option for key, option in options.items()}
    settings, errors = _arguments.check(_merged(entry, defaults, profiles), plain, f" of agent {entry['name']}")
    if not errors:
        settings = _complete(settings)
        others = [_merged(sibling, defaults, profiles) for sibling in siblings or [] if isinstance(sibling, dict)]
        errors = _value_errors(settings) + _domain_errors(settings, others)
    return _result({} if errors else settings, errors)


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"agent_settings": agent_settings}
