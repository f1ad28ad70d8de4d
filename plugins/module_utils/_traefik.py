# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What a Traefik's container says of itself, and what other containers' labels tell it."""

from __future__ import annotations

import re
from typing import Any

from . import _docker

_ROUTER = re.compile(r"traefik\.http\.routers\.([^.]+)\.rule", re.IGNORECASE)
_VERSION_LABEL = "org.opencontainers.image.version"  # on Traefik's own images, whatever they are tagged


def tag(image: str, name: str) -> str:
    """The tag of an image that is called so; empty for another one, whose tags count something else."""
    path, _colon, found = image.partition("@")[0].rpartition("/")[2].partition(":")
    return found if path == name else ""


def version(container: dict[str, Any]) -> str:
    """As its image says, without asking the program."""
    return _docker.labels(container).get(_VERSION_LABEL) or tag(container["Config"]["Image"], "traefik")


def flags(words: list[str]) -> dict[str, str]:
    """Traefik's `--a.b=c`, names in lower case; a flag without a value is true."""
    pairs = (word[2:].partition("=") for word in words if word.startswith("--"))
    return {name.lower(): value if equals else "true" for name, equals, value in pairs}


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
