# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What is a valid name or URL here. Patterns are POSIX ERE as well: the container's entry point gets them from here."""

from __future__ import annotations

import ipaddress
import re

AGENT_NAME_REGEX = r"^[a-z]([a-z0-9-]{0,29}[a-z0-9])?$"
# Service names of our own compose project, and words that YAML reads as something else than text.
RESERVED_NAMES = frozenset(
    {"traefik", "docker-api", "offline", "default", "vaettir", "null", "true", "false", "yes", "no", "on", "off"}
)

HOST_REGEX = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?"
DOMAIN_REGEX = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
# An origin (RFC 6454), nothing else: a path would be doubled by the proxy, and credentials would end in logs.
TARGET_URL_REGEX = rf"^https?://{HOST_REGEX}(:[0-9]{{1,5}})?$"
ORIGIN_REGEX = rf"^https?://{HOST_REGEX}(:[0-9]{{1,5}})?$"
# What stands in nginx's, Docker's and compose's own files as it is written in the inventory.
SIZE_REGEX = r"^[1-9][0-9]*[kKmMgG]?$"
TIME_REGEX = r"^[1-9][0-9]*(ms|[smhdwM])?$"
PATH_REGEX = r"^(/[A-Za-z0-9._~/-]*)?$"
PATH_AND_QUERY_REGEX = r"^(/[A-Za-z0-9._~/-]*(\?[A-Za-z0-9._~=&/-]*)?)?$"
COUNT_REGEX = r"^[1-9][0-9]{0,8}$"
MAX_AGE_REGEX = r"^(0|[1-9][0-9]{0,8})?$"
IMAGE_REGEX = r"^[a-z0-9]([A-Za-z0-9._/:@-]{0,253}[A-Za-z0-9])?$"
RESOLVER_REGEX = r"^([0-9.]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$"
NETWORK_REGEX = r"^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$"
SECRET_REGEX = r"^[A-Za-z0-9._~+/=-]{16,256}$"
DISCORD_REGEX = r"^https://(discord\.gg|discord\.com/invite|discordapp\.com/invite)/[A-Za-z0-9-]{1,64}$"


def env_prefix(name: str) -> str:
    """`my-agent` -> `MY_AGENT`: how an agent is spelt in environment names."""
    return name.upper().replace("-", "_")


def target_url_key(name: str) -> str:
    """The agent's key in .env."""
    return env_prefix(name) + "_TARGET_URL"


def conf_file(name: str) -> str:
    """Where the agent's files are in the project folder."""
    return f"proxy-configs/{name}.conf.template"


def ca_file(name: str) -> str:
    return f"proxy-configs/{name}.ca.pem"


def fragment_file(name: str) -> str:
    return f"agents/{name}.yml"


def target_values(url: str) -> dict[str, str]:
    """What the container's entry point makes of a valid target URL, for a conf that goes without that entry point."""
    scheme, authority = url.lower().split("://")
    host, _colon, port = authority.partition(":")
    usual = "443" if scheme == "https" else "80"
    port = port or usual
    authority = host if port == usual else f"{host}:{port}"
    return {
        "TARGET_URL": f"{scheme}://{authority}",
        "TARGET_SCHEME": scheme,
        "TARGET_AUTHORITY": authority,
        "TARGET_HOST": host,
        "TARGET_PORT": port,
        "TARGET_HOST_REGEX": host.replace(".", r"\."),
        "TARGET_IDLE": "60s" if scheme == "https" else "4s",
        "FORWARDED_PROTO": "" if scheme == "https" else "https",
    }


def masked(value: object) -> str:
    """The value as an error message may show it: on one line, short, without credentials or query."""
    # Up to the last @: a password may hold any character, and a scheme may be missing.
    text = re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://)?.*@", r"\1***@", str(value), flags=re.DOTALL)
    text = re.sub(r"[?#].*", "?***", text, flags=re.DOTALL)
    text = text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= 120 else text[:117] + "..."


def matches(regex: str, value: object) -> bool:
    """Full match; `$` of an ERE must not accept a trailing newline."""
    return isinstance(value, str) and re.fullmatch(regex.strip("^$"), value, re.ASCII) is not None


def port_problem(url: str) -> bool:
    """True when the URL's port is outside 1-65535."""
    tail = url.rsplit(":", 1)[-1]
    return tail.isdigit() and not 0 < int(tail) < 65536


def agent_name_error(name: object) -> str | None:
    if not matches(AGENT_NAME_REGEX, name):
        return (
            f"agent name '{masked(name)}' is not valid: use 1 to 31 lower-case letters, digits and dashes, "
            "beginning with a letter and not ending in a dash."
        )
    if name in RESERVED_NAMES:
        return f"agent name '{name}' is reserved ({', '.join(sorted(RESERVED_NAMES))}): choose another."
    return None


def _entry_error(number: int, entry: object, before: list[object]) -> str | None:
    which = f"entry {number} of vaettir_agents"
    if not isinstance(entry, dict):
        return f"{which} '{masked(entry)}' is not a dictionary: write it as `- name: ocapistaine`."
    if entry.get("name") in (None, ""):
        return f"{which} has no name: add one, as in `- name: ocapistaine`."
    if entry["name"] in before:
        return f"agent '{masked(entry['name'])}' stands twice in vaettir_agents: keep one entry, or rename the other."
    return agent_name_error(entry["name"])


def agents_error(agents: object) -> str | None:
    """What is wrong with the inventory's list of agents, before anything reads a setting of one."""
    if not isinstance(agents, list):
        return f"vaettir_agents '{masked(agents)}' is not a list: write entries like `- name: ocapistaine`."
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in agents]
    errors = (_entry_error(index + 1, entry, names[:index]) for index, entry in enumerate(agents))
    return next((error for error in errors if error), None)


def target_url_error(variable: str, url: object) -> str | None:
    if not matches(TARGET_URL_REGEX, url) or port_problem(str(url)):
        return (
            f"{variable} '{masked(url)}' is not valid: use https://HOST or http://HOST:PORT, "
            "without path, credentials, spaces or quotes."
        )
    return None


def origin_error(variable: str, origin: object) -> str | None:
    if not matches(ORIGIN_REGEX, origin) or port_problem(str(origin)):
        return f"{variable} '{masked(origin)}' is not valid: use an origin like https://app.example.org."
    return None


def setting_error(variable: str, value: object, regex: str, use: str) -> str | None:
    if not matches(regex, str(value)):
        return f"{variable} '{masked(value)}' is not valid: use {use}."
    return None


def resolver_error(variable: str, server: str) -> str | None:
    """No name: nginx would look it up before it starts."""
    address = server[1:].partition("]")[0] if server.startswith("[") else server.partition(":")[0]
    try:
        valid = matches(RESOLVER_REGEX, server) and bool(ipaddress.ip_address(address))
    except ValueError:
        valid = False
    if not valid or port_problem(server[server.rfind("]") + 1 :]):
        return (
            f"{variable} '{masked(server)}' is not valid: use an address like 127.0.0.11, [fd00::53] or 10.0.0.53:5353."
        )
    return None


def network_error(variable: str, network: str) -> str | None:
    """nginx warns of bits behind the prefix."""
    try:
        if matches(NETWORK_REGEX, network) and ipaddress.ip_network(network):
            return None
    except ValueError:
        pass
    return f"{variable} '{masked(network)}' is not valid: use a network like 172.16.0.0/12."


def port_error(variable: str, port: object) -> str | None:
    if not matches(COUNT_REGEX, str(port)) or int(str(port)) > 65535:
        return f"{variable} '{masked(port)}' is not valid: use a TCP port, 1 to 65535."
    return None


def domain_error(variable: str, domain: object) -> str | None:
    if not domain:
        return f"{variable} is missing: set vaettir_domain in the inventory, or the agent's own domain."
    if not matches(DOMAIN_REGEX, domain) or len(str(domain)) > 253:
        return f"{variable} '{masked(domain)}' is not valid: use a lower-case host name like app.example.org."
    return None


def secret_error(variable: str, secret: object) -> str | None:
    """Names the variable and the fix, never the value."""
    if secret and not matches(SECRET_REGEX, secret):
        return f"{variable} '***' is not valid: use 16 to 256 of the characters A-Z a-z 0-9 . _ ~ + / = - only."
    return None


def discord_error(variable: str, url: object) -> str | None:
    if url and not matches(DISCORD_REGEX, url):
        return f"{variable} '{masked(url)}' is not a Discord invite: use https://discord.gg/CODE."
    return None
