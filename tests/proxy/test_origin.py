# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Who may open the agent's WebSocket, and what Origin the tunnel gets to see."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.rig.edge_client import Edge

from . import stand
from .conftest import ECHO
from .visitor import ask, handshake_headers, shake_hands

HOST = "ocapistaine.vaettir.example"
OWN = f"https://{HOST}"
TUNNEL = f"https://{ECHO}"
STREAM = "/_stcore/stream"

HOSTILE = [
    "null",
    "https://evil.example",
    "https://second.vaettir.example",  # a sibling
    "https://vaettir.example",
    "https://OCAPISTAINE.vaettir.example.evil.example",
    f"{OWN}.evil.example",
    "https://evil-ocapistaine.vaettir.example",
    "https://evilocapistaine.vaettir.example",
    "https://x.ocapistaine.vaettir.example",
    f"{OWN}:443",
    f"{OWN}:8443",
    f"{OWN}:80",
    f"{OWN}/",
    f"{OWN}/path",
    f"{OWN}?",
    f"{OWN}#",
    f"{OWN}.",
    f"http://{HOST}",
    f"wss://{HOST}",
    f"https://{HOST}@evil.example",
    f"https://user@{HOST}",
    f"https://user:pass@{HOST}",
    "https://evil.example/https://ocapistaine.vaettir.example",
    f"https://evil.example?{OWN}",
    f"https://evil.example#{OWN}",
    "https://ocapistaine.vaettir-example",
    "https://ocapistainexvaettir.example",  # a dot is a dot
    "https://xn--ocapistane-57b.vaettir.example",  # punycode of a look-alike
    "https://ocapistaıne.vaettir.example".encode().decode("latin-1"),
    "https:/ocapistaine.vaettir.example",
    "https:ocapistaine.vaettir.example",
    "//ocapistaine.vaettir.example",
    HOST,
    "*",
    f"{OWN} https://evil.example",
    f"{OWN},https://evil.example",
    f"{OWN}, {OWN}",
    f"{OWN}%00.evil.example",
    f"{OWN}\\evil.example",
    TUNNEL,  # the tunnel's own page is another site, too
    "https://127.0.0.1",
    "https://localhost",
    "file://",
    "chrome-extension://abcdefghijklmnop",
]


@pytest.mark.parametrize("origin", HOSTILE)
def test_hostile_origin(echo: stand.Proxy, edge: Edge, origin: str) -> None:
    edge.reset()
    assert shake_hands(echo.ip, STREAM, handshake_headers(HOST, origin)).status == 403
    assert edge.requests() == []


@pytest.mark.parametrize(
    "origins", [(OWN, "https://evil.example"), ("https://evil.example", OWN), (OWN, OWN), ("", "https://evil.example")]
)
def test_doubled_header(echo: stand.Proxy, edge: Edge, origins: tuple[str, str]) -> None:
    edge.reset()
    assert shake_hands(echo.ip, STREAM, handshake_headers(HOST, *origins)).status in (400, 403)
    assert edge.requests() == []


@pytest.mark.parametrize("upgrade", ["websocket", "WebSocket", "WEBSOCKET"])
@pytest.mark.parametrize("path", [STREAM, "/", "/static/js/index.BvxJcaR1.js", "/__vaettir/status"])
def test_refused_on_every_path(echo: stand.Proxy, path: str, upgrade: str) -> None:
    headers = [
        ("Upgrade", upgrade) if name == "Upgrade" else (name, value) for name, value in handshake_headers(HOST, "null")
    ]
    assert shake_hands(echo.ip, path, headers).status == 403


@pytest.mark.parametrize(
    ("origins", "seen"),
    [
        ((), None),
        ((OWN,), TUNNEL),
        ((OWN.upper(),), TUNNEL),
        (("https://Ocapistaine.Vaettir.Example",), TUNNEL),
        (("https://also.one.example",), TUNNEL),
        (("https://partner.example",), TUNNEL),
    ],
)
def test_accepted(echo: stand.Proxy, edge: Edge, origins: tuple[str, ...], seen: str | None) -> None:
    edge.reset()
    assert shake_hands(echo.ip, STREAM, handshake_headers(HOST, *origins)).status == 101
    (request,) = edge.requests()
    assert request.headers.get("origin") == seen
    assert request.headers["upgrade"] == "websocket"
    assert request.headers["connection"].lower() == "upgrade"


@pytest.mark.parametrize(
    ("origin", "seen"),
    [
        (None, None),
        (OWN, TUNNEL),
        ("https://evil.example", "https://evil.example"),
        ("https://second.vaettir.example", "https://second.vaettir.example"),
        ("https://partner.example", "https://partner.example"),  # needs the app's CORS answer for itself
        ("null", "null"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST", "OPTIONS"])
def test_plain_request(echo: stand.Proxy, edge: Edge, method: str, origin: str | None, seen: str | None) -> None:
    edge.reset()
    headers = [("Host", HOST), *([("Origin", origin)] if origin else [])]
    assert ask(echo.ip, method, "/", headers).status == 200
    assert edge.requests()[0].headers.get("origin") == seen


@pytest.mark.parametrize("upgrade", ["h2c", "TLS/1.0", "websocket, h2c", "websocketx", ""])
def test_nothing_else_is_upgraded(echo: stand.Proxy, edge: Edge, upgrade: str) -> None:
    edge.reset()
    reply = ask(
        echo.ip, "GET", "/", [("Host", HOST), ("Upgrade", upgrade), ("Connection", "Upgrade"), ("Connection", "close")]
    )
    assert reply.status == 200
    assert not edge.requests()[0].headers.keys() & {"upgrade", "connection"}


def test_preserve_and_a_port(agent: Callable[..., dict[str, Any]], edge: Edge) -> None:
    """The public origin has its port; an app that compares it with X-Forwarded-Host (n8n) finds them equal."""
    with stand.proxy(agent(profile="n8n", public_port=8443)) as proxy:
        assert shake_hands(proxy.ip, "/ws", handshake_headers(f"{HOST}:8443", OWN)).status == 403
        edge.reset()
        assert shake_hands(proxy.ip, "/ws", handshake_headers(f"{HOST}:8443", f"{OWN}:8443")).status == 101
        (request,) = edge.requests()
        assert request.headers["origin"] == f"{OWN}:8443"
        assert request.headers["x-forwarded-host"] == f"{HOST}:8443"


def test_protocols_and_cookies_pass(echo: stand.Proxy, edge: Edge) -> None:
    edge.reset()
    headers = [
        *handshake_headers(HOST, OWN),
        ("Sec-WebSocket-Protocol", "streamlit, token"),
        ("Cookie", "_streamlit_xsrf=2|a|b; x=1"),
    ]
    reply = shake_hands(echo.ip, STREAM, headers)
    assert reply.headers["sec-websocket-protocol"] in ("streamlit", "token")
    (request,) = edge.requests()
    assert request.headers["sec-websocket-protocol"] == "streamlit, token"
    assert request.headers["cookie"] == "_streamlit_xsrf=2|a|b; x=1"
