# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The machines of one Molecule scenario: its own outside world and its servers, as `platforms` lists them."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from . import ca, images, pebble, servers
from .shell import STATE, RigError

Platform = dict[str, Any]

# What a scenario's `platforms` may say of a server beside `name` and `groups`, with its default.
KEYS: Platform = {
    "connection": "docker",  # or ssh: really, with sshd and a key
    "bare": False,  # without Docker
    "next": False,  # with Docker, Compose and Python of Debian's next release
    "images": [images.NGINX, images.TRAEFIK],  # what the server finds in place of a registry
}


def state_file(name: str) -> Path:
    """Where a scenario's addresses stand."""
    return STATE / "molecule" / f"{name}.json"


def outside_name(name: str) -> str:
    """The container that plays the world outside; one per scenario, so that scenarios run side by side."""
    return f"vaettir-{name.replace('_', '-')}-outside"


def up(name: str, platforms: list[Platform]) -> dict[str, Any]:
    """Starts all of a scenario at once; `instances` is what Molecule wants to know of each server."""
    wanted = [_checked(platform) for platform in platforms]
    outside = servers.outside_up(outside_name(name))

    def one(platform: Platform) -> dict[str, Any]:
        return servers.server_up(platform["name"], outside["ip"], bare=platform["bare"], newer=platform["next"])

    with ThreadPoolExecutor(len(wanted)) as pool:
        started = list(pool.map(one, wanted))
    instances = [_instance(platform, server) for platform, server in zip(wanted, started, strict=True)]
    state = {"outside": outside, "servers": {server["name"]: server["ip"] for server in started}}
    state_file(name).parent.mkdir(parents=True, exist_ok=True)
    state_file(name).write_text(json.dumps(state), encoding="utf-8")
    return {**state, "instances": instances, "changed": any(part["changed"] for part in (outside, *started))}


def load(platforms: list[Platform]) -> dict[str, Any]:
    """Gives every server the images that it would otherwise pull."""
    wanted: dict[tuple[str, ...], list[str]] = {}
    for platform in map(_checked, platforms):
        if platform["images"] and not platform["bare"]:
            wanted.setdefault(tuple(platform["images"]), []).append(platform["name"])
    results = [servers.load(names, tags) for tags, names in wanted.items()]
    return {"changed": any(result["changed"] for result in results)}


def down(name: str, platforms: list[Platform]) -> dict[str, Any]:
    """Removes all of a scenario."""
    state_file(name).unlink(missing_ok=True)
    outside = outside_name(name)
    return servers.down([outside, pebble.container(outside), *(platform["name"] for platform in platforms)])


def current() -> dict[str, Any]:
    """For tests: `outside` (ip, control) and `servers` (name: ip) of the scenario that Molecule runs."""
    state: dict[str, Any] = json.loads(state_file(os.environ["MOLECULE_SCENARIO_NAME"]).read_text(encoding="utf-8"))
    return state


def _checked(platform: Platform) -> Platform:
    unknown = set(platform) - {"name", "groups", "children", *KEYS}
    if unknown:
        raise RigError(f"platform {platform['name']}: unknown {', '.join(sorted(unknown))}; known: {', '.join(KEYS)}")
    return {**KEYS, **platform}


def _instance(platform: Platform, server: dict[str, Any]) -> dict[str, Any]:
    """One entry of Molecule's instance config, from which it makes the inventory."""
    entry = {"instance": server["name"], "user": "deploy"}
    if platform["connection"] == "ssh":
        return {**entry, "connection": "ssh", "address": server["ip"], "port": 22, "identity_file": str(ca.SSH_KEY)}
    return {**entry, "connection": "community.docker.docker", "address": server["name"], "port": None}
