# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""One small container per server shows the page of every agent whose own container does not run."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from . import stand
from .visitor import ask, handshake_headers, shake_hands

AGENTS = [
    {"name": "ocapistaine", "domains": ["ocapistaine.vaettir.example", "also.one.example"]},
    {"name": "second", "domains": ["second.vaettir.example"]},
]


@pytest.fixture(scope="module")
def pages() -> Iterator[stand.Proxy]:
    settings = {**stand.settings(), "name": "offline"}
    conf = stand.render("offline.conf.template.j2", settings, __agent_proxy_settings=AGENTS)
    with stand.proxy(settings, conf=conf) as proxy:
        yield proxy


@pytest.mark.parametrize("method", ["GET", "POST", "HEAD", "DELETE"])
@pytest.mark.parametrize("agent", AGENTS, ids=lambda agent: agent["name"])
def test_page(pages: stand.Proxy, agent: dict[str, object], method: str) -> None:
    body = b"x" * 3_000_000 if method == "POST" else b""
    for domain in agent["domains"]:  # type: ignore[attr-defined]
        reply = ask(pages.ip, method, "/any/where?x=1", [("Host", domain), ("Accept", "text/html")], body)
        assert (reply.status, reply.headers["x-vaettir-state"]) == (503, "stopped")
        assert reply.headers["cache-control"] == "no-store"
        if method != "HEAD":
            text = reply.body.decode()
            assert f'<span class="name">{agent["name"]}</span> is switched off' in text
            assert 'href="https://discord.gg/vaettir"' in text


def test_others(pages: stand.Proxy) -> None:
    for host in ("unknown.vaettir.example", "vaettir.example", "evil.example"):
        assert ask(pages.ip, "GET", "/", [("Host", host)]).status == 404


def test_json_handshake_and_status(pages: stand.Proxy) -> None:
    host = "second.vaettir.example"
    reply = ask(pages.ip, "GET", "/", [("Host", host), ("Accept", "application/json")])
    assert json.loads(reply.body)["agent"] == "second"
    assert shake_hands(pages.ip, "/ws", handshake_headers(host, f"https://{host}")).status == 503
    reply = ask(pages.ip, "GET", "/__vaettir/status", [("Host", host)])
    assert json.loads(reply.body) == {"up": False, "state": "stopped", "next": 3000}
