# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A server's containers as the docker command tells of them, without Docker."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.locki.vaettir.plugins.module_utils import _docker

Said = tuple[int, str, str]  # exit status, output, errors


def container(name: str, agent: str = "", running: bool = True, **more: Any) -> dict[str, Any]:
    """As `docker inspect` shows it."""
    service = agent or name.split("-")[1]
    labels = {f"{_docker.COMPOSE}project": "vaettir", f"{_docker.COMPOSE}service": service}
    return {
        "Id": f"id-of-{name}",
        "Name": f"/{name}",
        "Image": f"sha256:{name}",
        "State": {
            "Status": "running" if running else "exited",
            "Running": running,
            "StartedAt": "2026-11-23T01:30:00Z",
            "Health": {"Status": "healthy"},
        },
        "Config": {
            "Image": "traefik:v3.7.15" if service == "traefik" else f"vaettir-{service}:proxy",
            "Labels": {**labels, **({_docker.AGENT_LABEL: agent} if agent else {})},
            "Env": more.get("env", []),
            "Cmd": ["--ping=true"],
            "Entrypoint": [],
        },
        "NetworkSettings": {"Networks": {"vaettir_default": {"IPAddress": "172.19.0.5"}}, "Ports": {}},
    }


class Docker:
    """In place of _docker.docker: what it is asked is kept in `asked`. `says` answers `docker exec` by the command."""

    def __init__(self, *containers: dict[str, Any], says: dict[str, Said] | None = None) -> None:
        self.containers = {one["Id"]: one for one in containers}
        self.says = says or {}
        self.asked: list[tuple[str, ...]] = []

    def __call__(self, *words: str, **_more: Any) -> Said:
        self.asked.append(words)
        if words[0] == "ps":
            return 0, "\n".join(self.containers), ""
        if words[0] == "inspect" and words[2] == "container":
            return 0, json.dumps([self.containers[one] for one in words[3:]]), ""
        if words[0] == "exec":
            command = " ".join(words[2:])
            return next((said for begin, said in self.says.items() if command.startswith(begin)), (127, "", ""))
        return 1, "", "nothing is known of this"
