# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What a Traefik's container says of itself, and what other containers' labels tell it."""

from __future__ import annotations

import re
from typing import Any

from . import _docker, _files

_ROUTER = re.compile(r"traefik\.http\.routers\.([^.]+)\.rule", re.IGNORECASE)
_FILES = ("/etc/traefik/traefik.yml", "/etc/traefik/traefik.yaml", "/etc/traefik/traefik.toml")  # unless it is told
_KEY = re.compile(r"""(["']?)([\w.@/-]+)\1:(?:\s+(.*))?""")
_VERSION_LABEL = "org.opencontainers.image.version"  # on Traefik's own images, whatever they are tagged


def _last(image: str) -> tuple[str, str]:
    """What an image is called, whatever registry and folder it comes from, and its tag."""
    name, _colon, found = image.partition("@")[0].rpartition("/")[2].partition(":")
    return name, found


def tag(image: str, name: str) -> str:
    """The tag of an image that is called so; empty for another one, whose tags count something else."""
    called, found = _last(image)
    return found if called == name else ""


def chosen(containers: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The first that is a Traefik, and not one of its friends."""
    return next((one for one in containers if _last(one["Config"]["Image"])[0] == "traefik"), None)


def version(container: dict[str, Any]) -> str:
    """As its image says, without asking the program."""
    return _docker.labels(container).get(_VERSION_LABEL) or tag(container["Config"]["Image"], "traefik")


def flags(words: list[str]) -> dict[str, str]:
    """Traefik's `--a.b=c`, names in lower case; a flag without a value is true."""
    pairs = (word[2:].partition("=") for word in words if word.startswith("--"))
    return {name.lower(): value if equals else "true" for name, equals, value in pairs}


def _word(text: str) -> str:
    text = text.strip()
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] and text[0] in "\"'" else text


def plain_yaml(text: str) -> dict[str, str]:
    """As flags(), of what Traefik's own examples are: maps by indentation, lists of words. ValueError for more."""
    found: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in text.lstrip("\ufeff").splitlines():
        line = re.sub(r"(^|\s)#.*", "", line).rstrip()
        word = line.strip()
        if word in ("", "---"):
            continue
        indent, item = len(line) - len(line.lstrip(" ")), word.startswith("- ")
        while path and (indent < path[-1][0] or (indent == path[-1][0] and not item)):
            path.pop()
        if item:
            name = ".".join(part for _indent, part in path)
            if not name:
                raise ValueError(f"not plain: {word}")
            if ": " not in word:  # a list of maps says nothing that is asked for
                found[name] = ",".join(part for part in (found[name].replace("true", ""), _word(word[2:])) if part)
            continue
        match = _KEY.fullmatch(word)
        value = match.group(3) or "" if match else "?"
        if not match or (value[:1] in tuple("&*|>!%?{") and value != "{}"):
            raise ValueError(f"not plain: {word}")
        path.append((indent, match.group(2).lower()))
        words = value[1:-1].split(",") if value.startswith("[") else [value]
        known = ",".join(_word(part) for part in words)
        found[".".join(part for _indent, part in path)] = "true" if known in ("", "{}", "null", "~") else known
    return found


def settings(container: dict[str, Any]) -> dict[str, str]:
    """Its static configuration as flags(). Traefik reads one source alone, a file before all others."""
    given = flags([*(container["Config"]["Entrypoint"] or []), *(container["Config"]["Cmd"] or [])])
    told = given.get("configfile")
    for path in [told] if told else _FILES:
        content = _mounted(container, path)
        if content is not None or told:
            try:
                return plain_yaml((content or b"?").decode("utf-8", "replace"))
            except ValueError:
                return {"configfile": path}  # nobody knows
    environment = _docker.environment(container).items()
    prefix = "TRAEFIK_"
    return given or {
        name[len(prefix) :].replace("_", ".").lower(): value for name, value in environment if name.startswith(prefix)
    }


def _mounted(container: dict[str, Any], path: str) -> bytes | None:
    """A file of the server's that the container sees there."""
    for mount in container.get("Mounts") or []:
        place = mount["Destination"].rstrip("/")
        if path == place or path.startswith(f"{place}/"):
            try:
                return _files.read_bytes(mount["Source"] + path[len(place) :])
            except OSError:  # root's, or a directory that Docker made for a missing file
                return b"?"
    return None


def routers(container: dict[str, Any]) -> list[dict[str, Any]]:
    """What a container's labels tell Traefik."""
    labels = {key.lower(): value for key, value in _docker.labels(container).items()}
    found = []
    for key, rule in labels.items():
        match = _ROUTER.fullmatch(key)
        if not match:
            continue
        name, base = match.group(1), f"traefik.http.routers.{match.group(1)}"
        service = labels.get(f"{base}.service", name)
        ports = [value for label, value in labels.items() if label.endswith(".loadbalancer.server.port")]
        used = [word.split("@")[0].strip() for word in labels.get(f"{base}.middlewares", "").split(",")]
        found.append(
            {
                "name": name,
                "rule": rule,
                "container": container["Name"].lstrip("/"),
                "agent": labels.get(_docker.AGENT_LABEL, ""),
                "enable": labels.get("traefik.enable", ""),
                "entrypoints": labels.get(f"{base}.entrypoints", ""),
                "priority": labels.get(f"{base}.priority", ""),
                "certresolver": labels.get(f"{base}.tls.certresolver", ""),
                "port": labels.get(f"traefik.http.services.{service}.loadbalancer.server.port", (ports or [""])[0]),
                "middlewares": [word for word in used if word],
                "retry": any(f"traefik.http.middlewares.{word}.retry.attempts" in labels for word in used if word),
            }
        )
    return found


def owned(found: list[dict[str, Any]], agent: str, container: str) -> list[dict[str, Any]]:
    """With a word on whether they are that agent's. One that drains or is tried is the agent's own, too."""
    return [{**one, "own": one["agent"] == agent or one["container"] == container} for one in found]
