# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What is a valid name or URL here. Patterns are POSIX ERE as well: the container's entry point gets them from here."""

from __future__ import annotations

import ipaddress
import re
from typing import Any, Callable, Mapping

AGENT_NAME_REGEX = r"^[a-z]([a-z0-9-]{0,29}[a-z0-9])?$"
# Service names of our own compose project, and words that YAML reads as something else than text.
RESERVED_NAMES = frozenset(
    {
        "traefik",
        "docker-api",
        "tunnel-ssh",
        "offline",
        "default",
        "vaettir",
        "null",
        "true",
        "false",
        "yes",
        "no",
        "on",
        "off",
    }
)

HOST_REGEX = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,251}[A-Za-z0-9])?"
DOMAIN_REGEX = r"^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"
# An origin (RFC 6454), nothing else: a path would be doubled by the proxy, and credentials would end in logs.
TARGET_URL_REGEX = rf"^https?://{HOST_REGEX}(:[0-9]{{1,5}})?$"
# What stands in nginx's, Docker's and compose's own files as it is written in the inventory.
PATH_AND_QUERY_REGEX = r"^(/[A-Za-z0-9._~/-]{0,1000}(\?[A-Za-z0-9._~=&/-]{0,1000})?)?$"
COUNT_REGEX = r"^[1-9][0-9]{0,8}$"
# A registry's host, which has a dot or a port; the name; tag and digest (the grammar of Docker's references).
IMAGE_REGEX = (
    rf"^({HOST_REGEX}(:[0-9]{{1,5}})?/)?[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(@sha256:[0-9a-f]{64})?$"
)
EMAIL_REGEX = rf"^[A-Za-z0-9._%+-]{{1,64}}@{HOST_REGEX}$"
ACME_SERVER_REGEX = rf"^https://{HOST_REGEX}(:[0-9]{{1,5}})?(/[A-Za-z0-9._~-]{{1,100}}){{0,20}}/?$"
# Below the root or a home; no folder of it is `.` or `..`.
FOLDER_REGEX = r"^(~[a-z_]?[a-z0-9_-]{0,31})?(/\.?[A-Za-z0-9_@+-]([A-Za-z0-9._@+ -]{0,98}[A-Za-z0-9._@+-])?){1,20}/?$"
SYSTEM_REGEX = r"^/((bin|boot|etc|home|lib|lib64|root|sbin|tmp|usr|var)/?|(dev|proc|run|sys)(/.*)?)$"
# Without units or with those that cannot be mistaken: M of nginx is a month.
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_TIMES = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
RESOLVER_REGEX = r"^([0-9.]+|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$"
NETWORK_REGEX = r"^[0-9A-Fa-f:.]+(/[0-9]{1,3})?$"
SECRET_REGEX = r"^[A-Za-z0-9._~+/=-]{16,256}$"
DISCORD_REGEX = r"^https://(discord\.gg|discord\.com/invite|discordapp\.com/invite)/[A-Za-z0-9-]{1,64}$"


COMPOSE_FILE = "docker-compose.yml"
OVERRIDE = "docker-compose.override.yml"  # the owner's; compose reads it after ours


def playbook(name: str, agent: str = "") -> str:
    """The command that a message tells a person to type: works in a checkout and where the collection is installed."""
    return f"ansible-playbook locki.vaettir.{name}" + (f" -e agent={agent}" if agent else "")


def env_prefix(name: str) -> str:
    """`my-agent` -> `MY_AGENT`: how an agent is spelt in environment names."""
    return name.upper().replace("-", "_")


def listed(only: Any) -> list[str]:
    """The agents of `-e agent=one,two`; none where all are meant."""
    return [name.strip() for name in str(only or "").split(",") if name.strip()]


def filled(text: str, values: Mapping[str, str]) -> str:
    """As envsubst would, with these names alone."""
    for name, value in values.items():
        text = text.replace(f"${{{name}}}", value)
    return text


def target_url_key(name: str) -> str:
    """The agent's key in .env."""
    return env_prefix(name) + "_TARGET_URL"


def conf_file(name: str) -> str:
    """Where the agent's files are in the project folder."""
    return f"proxy-configs/{name}.conf.template"


def ca_file(name: str) -> str:
    return f"proxy-configs/{name}.ca.pem"


def keys_file(name: str) -> str:
    """The public keys of an agent's laptops, for the server's SSH server."""
    return f"tunnel/keys/{name}"


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


def kind(value: object) -> str:
    """What it is, where the value itself may hold a secret."""
    if value is None or isinstance(value, bool):
        return "null" if value is None else str(value).lower()
    kinds = {dict: "a dictionary", list: "a list", str: "text", int: "a number", float: "a number"}
    return next((noun for one, noun in kinds.items() if isinstance(value, one)), "of another type")


def refusal(variable: str, value: object, use: str) -> str:
    """The sentence for a value that is not valid; a structure is not shown, since anything may stand in it."""
    if isinstance(value, (dict, list)):
        return f"{variable} is {kind(value)}: use {use}."
    return f"{variable} '{masked(value)}' is not valid: use {use}."


def spelt_key(key: object) -> str:
    """A key as far as it can be a variable's name: what stands behind may be a value whose blank was forgotten."""
    return re.sub(r"[^A-Za-z0-9_-].*", "***", str(key), flags=re.DOTALL)[:40]


def matches(regex: str, value: object) -> bool:
    """Full match; `$` of an ERE must not accept a trailing newline."""
    return isinstance(value, str) and re.fullmatch(regex.strip("^$"), value, re.ASCII) is not None


def port_problem(url: str) -> bool:
    """True when the URL's port is outside 1-65535."""
    tail = url.rsplit(":", 1)[-1]
    return tail.isdigit() and not 0 < int(tail) < 65536


def agent_name_error(name: object) -> str | None:
    if not matches(AGENT_NAME_REGEX, name):
        return refusal(
            "agent name",
            name,
            "1 to 31 lower-case letters, digits and dashes, beginning with a letter and not ending in a dash",
        )
    if name in RESERVED_NAMES:
        return f"agent name '{name}' is reserved ({', '.join(sorted(RESERVED_NAMES))}): choose another."
    return None


def _entry_error(number: int, entry: object, before: list[object]) -> str | None:
    which = f"entry {number} of vaettir_agents"
    if not isinstance(entry, dict):
        return f"{which} is {kind(entry)}, not a dictionary: write it as `- name: ocapistaine`."
    if entry.get("name") in (None, ""):
        return f"{which} has no name: add one, as in `- name: ocapistaine`."
    error = agent_name_error(entry["name"])
    if error is None and entry["name"] in before:
        return f"agent '{entry['name']}' stands twice in vaettir_agents: keep one entry, or rename the other."
    return error


def agents_error(agents: object) -> str | None:
    """What is wrong with the inventory's list of agents, before anything reads a setting of one."""
    if not isinstance(agents, list):
        return f"vaettir_agents is {kind(agents)}, not a list: write entries like `- name: ocapistaine`."
    names = [entry.get("name") if isinstance(entry, dict) else None for entry in agents]
    errors = (_entry_error(index + 1, entry, names[:index]) for index, entry in enumerate(agents))
    return next((error for error in errors if error), None)


def target_url_error(variable: str, url: object) -> str | None:
    unix = matches("https?://unix(:[0-9]+)?", str(url).lower())  # nginx takes it for the way to a socket
    if unix or origin_error(variable, url):
        return refusal(variable, url, "https://HOST or http://HOST:PORT, without path, credentials, spaces or quotes")
    return None


def origin_error(variable: str, origin: object) -> str | None:
    if not matches(TARGET_URL_REGEX, origin) or port_problem(str(origin)):
        return refusal(variable, origin, "an origin like https://app.example.org")
    return None


def fitting(regex: str, use: str) -> Callable[[str, object], str | None]:
    """The rule of what fits a pattern."""
    return lambda variable, value: None if matches(regex, value) else refusal(variable, value, use)


def number(low: int, high: int) -> Callable[[str, int], str | None]:
    """The rule of whole numbers."""
    use = f"a whole number from {low} to {high}"
    return lambda variable, value: None if low <= value <= high else refusal(variable, value, use)


def _amount(value: str, units: Mapping[str, int]) -> int:
    found = re.fullmatch("([1-9][0-9]{0,17})([A-Za-z]?)", value, re.ASCII)
    return int(found[1]) * units.get(found[2], 0) if found else 0


def _within(low: str, high: str, units: Mapping[str, int], use: str) -> Callable[[str, str], str | None]:
    least, most = _amount(low, units), _amount(high, units)
    return lambda variable, value: None if least <= _amount(value, units) <= most else refusal(variable, value, use)


def size_in_bytes(value: object) -> int:
    """Of nginx' 200m; 0 for what is none."""
    return _amount(str(value).lower(), _SIZES)


def size(low: str, high: str) -> Callable[[str, str], str | None]:
    """The rule of sizes in nginx's units."""
    units = {**_SIZES, **{unit.upper(): factor for unit, factor in _SIZES.items()}}
    return _within(low, high, units, f"a size of nginx from {low} to {high}, like 200m")


def time(low: str, high: str) -> Callable[[str, str], str | None]:
    """The rule of times in nginx's units."""
    return _within(low, high, _TIMES, f"a time of nginx from {low} to {high}, like 30s or 12h")


def resolver_error(variable: str, server: str) -> str | None:
    """No name: nginx would look it up before it starts."""
    address = server[1:].partition("]")[0] if server.startswith("[") else server.partition(":")[0]
    try:
        valid = matches(RESOLVER_REGEX, server) and bool(ipaddress.ip_address(address))
    except ValueError:
        valid = False
    if not valid or port_problem(server[server.rfind("]") + 1 :]):
        return refusal(variable, server, "an address like 127.0.0.11, [fd00::53] or 10.0.0.53:5353")
    return None


def network_error(variable: str, network: str) -> str | None:
    """nginx warns of bits behind the prefix."""
    try:
        if matches(NETWORK_REGEX, network) and ipaddress.ip_network(network):
            return None
    except ValueError:
        pass
    return refusal(variable, network, "a network like 172.16.0.0/12")


def port_error(variable: str, port: object) -> str | None:
    if not matches(COUNT_REGEX, str(port)) or int(str(port)) > 65535:
        return refusal(variable, port, "a TCP port, 1 to 65535")
    return None


def image_error(variable: str, image: object) -> str | None:
    if not matches(IMAGE_REGEX, image) or len(str(image)) > 255:
        return refusal(variable, image, "an image's name in quotes, like 'nginx:1.30.6'")
    return None


def folder_error(variable: str, folder: object) -> str | None:
    """Of a server, which is its owner's for nothing else."""
    if not matches(FOLDER_REGEX, folder) or matches(SYSTEM_REGEX, folder):
        return (
            f"{variable} '{masked(folder)}' is not a path on the server: use one like ~/vaettir or /srv/vaettir, of "
            "letters, digits and ._@+- only."
        )
    return None


def acme_server_error(variable: str, url: object) -> str | None:
    if not matches(ACME_SERVER_REGEX, url) or any(map(port_problem, re.findall("(?<=//)[^/]*", str(url)))):
        return refusal(variable, url, "the directory URL of an authority, like https://ca.example.org/directory")
    return None


def email_error(variable: str, address: object) -> str | None:
    if address and not matches(EMAIL_REGEX, address):
        return (
            f"{variable} '{masked(address)}' is not an e-mail address: use one like owner@example.org, without quotes."
        )
    return None


def domain_error(variable: str, domain: object) -> str | None:
    if not matches(DOMAIN_REGEX, domain) or len(str(domain)) > 253:
        return refusal(variable, domain, "a lower-case host name like app.example.org")
    return None


def secret_error(variable: str, secret: object) -> str | None:
    """Names the variable and the fix, never the value."""
    if secret and not matches(SECRET_REGEX, secret):
        return refusal(variable, "***", "16 to 256 letters, digits or ._~+/=- in quotes")
    return None


def discord_error(variable: str, url: object) -> str | None:
    if url and not matches(DISCORD_REGEX, url):
        return f"{variable} '{masked(url)}' is not a Discord invite: use https://discord.gg/CODE."
    return None
