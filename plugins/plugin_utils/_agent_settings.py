# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors

"""One agent's settings: the profile's values, the role's variables and the agent's own entry, in rising order.

Types are checked by the role's argument specification, meaning by the rules of names and URLs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ansible_collections.locki.vaettir.plugins.module_utils import _arguments, _names, _tunnel

PREFIX = "agent_proxy_"
_UNSET = (None, "profile")  # nobody's choice: the profile's value, or what follows from the name
_MONTH = 2_592_000  # seconds, more than any connection lives
_SECONDS = _names.number(1, _MONTH)
_MOST_REQUESTS = 65535  # that nginx can count
_FEWEST_REQUESTS = 16  # at once, in a worker that is of any use
HSTS_MAX_AGE = 180 * 24 * 3600  # what scanners of TLS ask for at least


def _origin_of_target(variable: str, url: str) -> str | None:
    return _names.target_url_error(variable, url.removesuffix("/")) if url else None


def _domain_of_ones_own(variable: str, domain: str) -> str | None:
    return _names.domain_error(variable, domain) if domain else None


def _parent(variable: str, domain: str) -> str | None:
    """One label is enough, which is no public name by itself."""
    if not domain or _names.domain_error("", f"a.{domain}") is None:
        return None
    return _names.refusal(variable, domain, "a lower-case host name like example.org (vaettir_domain)")


# Beyond its type: what a setting, or each element of it, must mean. Paths of files are opened in agents.py.
RULES: dict[str, _arguments.Rule] = {
    "base_image": _names.image_error,
    "cache_size": _names.size("1m", "1024g"),
    "connect_timeout": _SECONDS,
    "domain": _domain_of_ones_own,
    "drain_window": _SECONDS,
    "draining_max": _names.number(1, 1000),
    "extra_domains": _names.domain_error,
    "extra_origins": _names.origin_error,
    "hsts_max_age": _names.number(0, 999_999_999),
    "keep_releases": _names.number(1, 1000),
    "max_body_size": _names.size("1", "1024g"),
    "memory": _names.size("16m", "1024g"),
    "parent_domain": _parent,
    "pids": _names.number(16, 1_000_000),
    "probe_path": _names.fitting(_names.PATH_AND_QUERY_REGEX, "a path like /_stcore/stream or /ws?room=1, or nothing"),
    "public_port": _names.port_error,
    "read_timeout": _SECONDS,
    "resolver": _names.resolver_error,
    "resolver_valid": _SECONDS,
    "send_timeout": _SECONDS,
    "stream_path": _names.fitting(_names.PATH_AND_QUERY_REGEX, "a path like /events?session=1, or nothing"),
    "target_url": _origin_of_target,
    "trusted_proxies": _names.network_error,
    "tunnel_key": _tunnel.key_error,
    "tunnel_port": _names.port_error,
    "tunnel_secret": _names.secret_error,
    "upstream_keepalive": _names.number(1, 65535),
    "visitor_burst": _names.number(1, 1_000_000),
    "visitor_rate": _names.number(1, 1_000_000),
    "visitor_requests": _names.number(1, 9999),
    "visitor_websockets": _names.number(1, 9999),
    # Each takes two files, and a container may have a million.
    "worker_connections": _names.number(64, 250_000),
    "worker_processes": _names.number(1, 64),
    "worker_shutdown_timeout": _names.time("1s", "30d"),
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
    usual = f"https://{name}.ngrok-free.app"
    if settings["tunnel"] == _tunnel.SSH:
        usual = f"http://localhost:{settings['app_port']}"
    settings["target_url"] = (settings["target_url"] or usual).removesuffix("/")
    settings["domain"] = _domain(settings)
    if settings["hsts_max_age"] is None and settings["public_port"] == 443:
        settings["hsts_max_age"] = HSTS_MAX_AGE
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


def _tunnel_errors(settings: dict[str, Any], whose: str) -> Iterator[str]:
    if settings["tunnel_key"] and settings["name"] in _tunnel.USERS:
        yield (
            f"agent name '{settings['name']}' is a user of the SSH server's own: choose another, or leave tunnel_key "
            "out."
        )
    if settings["tunnel"] != _tunnel.SSH:
        return
    if not settings["tunnel_key"]:
        yield (
            f"tunnel_key{whose} is empty, but its tunnel is ssh: set it to the laptop's public key, as "
            "`cat ~/.ssh/id_ed25519.pub` prints it there."
        )
    if not settings["target_url"].startswith("http://"):
        yield (
            f"target_url{whose} '{_names.masked(settings['target_url'])}' is not the app as the laptop reaches it: use "
            f"http://localhost:{settings['app_port']}, or leave it out."
        )


def _own_errors(settings: dict[str, Any]) -> list[str]:
    """What the settings are together: a value of its own may be missing, or be there already."""
    whose, domain = f" of agent {settings['name']}", settings["domain"]
    if not domain:
        return [f"domain{whose} is missing: set vaettir_domain in the inventory, or the agent's own domain."]
    if not settings["resolver"]:
        return [f"resolver{whose} is empty: use an address like 127.0.0.11."]  # nginx does not start without
    origins = [_public_origin(one, settings["public_port"]) for one in settings["domains"]]
    found = [
        *_tunnel_errors(settings, whose),
        _names.domain_error(f"domain{whose}", domain),
        _arguments.twice_error(f"extra_domains{whose}", settings["extra_domains"], [domain]),
        _arguments.twice_error(f"extra_origins{whose}", settings["extra_origins"], origins),
    ]
    if settings["worker_requests"] < _FEWEST_REQUESTS:
        found.append(
            f"worker_connections{whose} is {settings['worker_connections']}, too few next to the "
            f"{settings['upstream_keepalive']} of upstream_keepalive: use more, such as 4096."
        )
    return [error for error in found if error]


def _domain_errors(settings: dict[str, Any], siblings: list[dict[str, Any]]) -> list[str]:
    """Traefik would give a shared name to one of them, nobody knows which."""
    errors = []
    for other in siblings:
        more = other["extra_domains"]
        more = more.split(",") if isinstance(more, str) else more
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
        which, known = ", ".join(map(_names.spelt_key, unknown)), ", ".join(sorted(defaults))
        return _result({}, [f"agent {entry['name']} has unknown settings {which}: use those there are, {known}."])
    plain = {key.removeprefix(PREFIX): option for key, option in options.items()}
    merged = _merged(entry, defaults, profiles)
    settings, errors = _arguments.check(merged, plain, RULES, f" of agent {entry['name']}")
    if not errors:
        settings = _complete(settings)
        others = [_merged(sibling, defaults, profiles) for sibling in siblings or [] if isinstance(sibling, dict)]
        errors = _own_errors(settings) or _domain_errors(settings, others)
    return _result({} if errors else settings, errors)
