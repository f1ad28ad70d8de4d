# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What an agent is asked, and with what, at every hop of its chain. Pure; `agent` are its settings."""

from __future__ import annotations

import re
from typing import Any, Mapping

from . import _names

FOREIGN_ORIGIN = "https://foreign.example"  # of a page that must not get in
# More than nginx' own limit of 1 MB, which a hand-made conf has. No byte of it travels.
UPLOAD = 2 << 20
STREAMLIT = "/_stcore/stream"  # the end of the path of its WebSocket
TIMEOUT = 8  # seconds for a question to the tunnel
CHAIN_TIMEOUT = 12  # seconds where nginx waits for the tunnel in between
ELSEWHERE_TIMEOUT = 5  # seconds, where only whether there is an answer counts
_ALLOWS_UPLOAD = re.compile("([2-9]|[0-9]{2,})[mM]|[0-9]+[gG]")

# What the server must know of an agent to ask its chain.
OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "profile": {"type": "str", "default": ""},
    "tunnel": {"type": "str", "default": "ngrok", "choices": ["ngrok", "ssh"]},
    "tunnel_port": {"type": "int", "default": 2222},
    "target_url": {"type": "str", "required": True},
    "domain": {"type": "str", "required": True},
    "public_origin": {"type": "str", "required": True},
    "public_port": {"type": "int", "default": 443},
    "origin_mode": {"type": "str", "default": "rewrite", "choices": ["rewrite", "preserve"]},
    "probe_path": {"type": "str", "default": ""},
    "stream_path": {"type": "str", "default": ""},
    "max_body_size": {"type": "str", "default": ""},
    "connect_timeout": {"type": "int", "default": 10},
    "maintenance": {"type": "bool", "default": False},
    "tunnel_secret": {"type": "str", "default": "", "no_log": True},
    "ca_file": {"type": "str", "default": ""},
}


def asked(settings: dict[str, Any]) -> dict[str, Any]:
    """Of all of an agent's settings, as the control node has them, those that the server must know."""
    known = {name: settings[name] for name in OPTIONS if name in settings}
    return {**known, "ca_file": _names.ca_file(settings["name"]) if settings["ca_certificate"] else ""}


def path(agent: dict[str, Any]) -> str:
    """Of its WebSocket, or of its stream of events."""
    return str(agent["probe_path"] or agent["stream_path"] or "/")


def public_url(agent: dict[str, Any]) -> str:
    return f"{agent['public_origin']}{path(agent)}"


def container_url(agent: dict[str, Any]) -> str:
    """At its own nginx, which speaks plain HTTP."""
    return f"http://{agent['domain']}{path(agent)}"


def foreign_origin(agent: dict[str, Any]) -> str:
    """Only a WebSocket is open to every website."""
    return FOREIGN_ORIGIN if agent["probe_path"] else ""


def upgrade(agent: Mapping[str, Any]) -> bool:
    """An app without a WebSocket gets a plain GET: Next.js, for one, hangs up on a handshake."""
    return bool(agent["probe_path"])


def upload(agent: dict[str, Any]) -> int:
    """Bytes that its `max_body_size` allows."""
    return UPLOAD if _ALLOWS_UPLOAD.fullmatch(agent["max_body_size"]) and not agent["maintenance"] else 0


def forms(agent: dict[str, Any], managed: bool) -> list[str]:
    """The page has two forms; in an image that is not ours it has what its owner gave it."""
    page = ["application/json", "text/html"] if managed else ["*/*"]
    return page + (["text/event-stream"] if agent["stream_path"] and not agent["probe_path"] else [])


def patience(agent: dict[str, Any]) -> int:
    """Seconds for all questions to a chain together: each may wait for a tunnel that does not answer at all."""
    return 10 + 3 * int(agent["connect_timeout"])


def tunnel_origin(agent: dict[str, Any], target: str) -> str:
    return target if agent["origin_mode"] == "rewrite" else str(agent["public_origin"])


def tunnel_headers(agent: dict[str, Any], origin: str) -> dict[str, str]:
    """What the agent's nginx adds on the way to the tunnel: the forwarded host is the one of the Origin."""
    headers = {"ngrok-skip-browser-warning": "true", "X-Forwarded-Host": origin.partition("://")[2]}
    return {**headers, "X-Vaettir-Secret": agent["tunnel_secret"]} if agent["tunnel_secret"] else headers


def described(agent: dict[str, Any], server: str, project: str, tls: str) -> dict[str, Any]:
    """What a diagnosis may know, and say, of the agent."""
    secret = ("tunnel_secret", "ca_file", "stream_path", "connect_timeout", "maintenance")
    told = {name: agent[name] for name in OPTIONS if name not in secret}
    more = {"ca_certificate": agent["ca_file"], "tunnel_secret": bool(agent["tunnel_secret"])}
    return {**told, **more, "server": server, "project": project, "tls": tls}
