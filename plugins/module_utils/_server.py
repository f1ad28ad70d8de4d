# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What a run knows of a server, and what it wants there."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any, Mapping

from . import _names

PAGE = "offline"  # the agent that is the server's page container
# Inputs of every agent's image; those of one agent stand next to them.
SHARED = tuple(
    f"proxy-configs/{name}" for name in ("Dockerfile", "entrypoint.sh", "offline.js", "error-offline.html.template")
)


def tunnel(name: str) -> str:
    """The secret that the tunnel asks for."""
    return f"secrets/{name}/tunnel"


def agent_files(name: str) -> tuple[str, ...]:
    """The fragment goes first: a compose file that names a missing one breaks every other agent's commands."""
    return (
        _names.fragment_file(name),
        _names.conf_file(name),
        _names.ca_file(name),
        tunnel(name),
        _names.keys_file(name),
    )


def released_as(name: str, managed: bool) -> dict[str, str]:
    """The files that make a release, and their names in it."""
    if not managed:
        return {_names.conf_file(name): os.path.basename(_names.conf_file(name))}
    plain = (*SHARED, _names.conf_file(name), _names.ca_file(name))
    others = {_names.fragment_file(name): "compose.yml", tunnel(name): "tunnel"}
    return {**{path: os.path.basename(path) for path in plain}, **others}


@dataclass(frozen=True)
class Server:
    """What all agents of a server have in common."""

    root: str
    project: str
    name: str = ""  # as the inventory calls it
    by: str = ""  # who releases
    touch: bool = True  # false in check mode
    ca_path: str = ""  # the authority of Traefik's certificate; empty: those that the server trusts
    acme: bool = False
    listings: tuple[Mapping[str, str], ...] = ()
    stack: Mapping[str, Any] = field(default_factory=dict)  # what stack_info told, for the diagnosis


@dataclass(frozen=True)
class File:
    path: str
    content: bytes
    mode: int = 0o644
    secret: bool = False
    keep: bool = False  # the owner's, where git tracks it


@dataclass(frozen=True)
class Wanted:
    """An agent as it is to be."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[File, ...] = ()
    absent: tuple[str, ...] = ()
    released_as: Mapping[str, str] = field(default_factory=dict)  # path -> name in a release, of all that make one
    env: Mapping[str, str] = field(default_factory=dict)
    release: str = ""  # a kept one to roll back to, instead of `files`
    instead_of: str = ""  # the release that must be the active one; empty: whichever is
    image: str = ""  # the owner's; empty: ours
