# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The tunnel's errors become the page, whatever the request; the app's own answers do not."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.rig.edge.errors import CERTIFICATE_FAULTS, ERRORS
from tests.rig.edge_client import Edge

from . import stand
from .conftest import ECHO
from .visitor import Reply, ask, handshake_headers, shake_hands

HOST = "ocapistaine.vaettir.example"
BROWSER = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
METHODS = ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS")
KINDS = ("plain", "json", "upgrade", "http/1.0", "range")
STATES = {
    **dict.fromkeys(("3200", "3202", "724", "742", "743"), "offline"),
    **dict.fromkeys(("8012", "3004"), "app"),
    **dict.fromkeys(("734", "702", "703"), "limit"),
    **dict.fromkeys(("725", "726", "727", "728", "729", "730", "731"), "quota"),
}


def request(ip: str, method: str, kind: str, path: str = "/some/where?x=1") -> Reply:
    body = b"x" * 5000 if method in ("POST", "PUT") else b""
    host = ("Host", HOST)
    if kind == "json":
        return ask(ip, method, path, [host, ("Accept", "application/json")], body)
    if kind == "upgrade":
        return shake_hands(ip, path, handshake_headers(HOST, f"https://{HOST}"), method)
    if kind == "http/1.0":
        return ask(ip, method, path, [host, BROWSER], body, version="1.0")
    return ask(ip, method, path, [host, BROWSER, *([("Range", "bytes=0-99")] if kind == "range" else [])], body)


def assert_page(reply: Reply, method: str, kind: str, state: str, code: str = "") -> None:
    assert reply.status == 503
    headers = reply.headers
    assert headers["x-vaettir-state"] == state
    assert int(headers["retry-after"]) > 0
    assert headers["cache-control"] == "no-store"
    assert headers["x-robots-tag"] == "noindex"
    assert not headers.keys() & {
        "ngrok-error-code",
        "etag",
        "last-modified",
        "content-encoding",
        "set-cookie",
        "location",
    }
    if method == "HEAD":
        assert reply.body == b""
        return
    assert int(headers.get("content-length", len(reply.body))) == len(reply.body)
    if kind == "upgrade":
        assert headers["content-type"].startswith("text/plain")
        assert len(reply.body) < 100
    elif kind == "json":
        facts = json.loads(reply.body)
        assert (facts["state"], facts.get("ngrok_error_code", "")) == (state, code)
        assert facts["agent"] == "ocapistaine"
        assert facts["discord"] == "https://discord.gg/vaettir"
        assert facts["retry_after"] == int(headers["retry-after"])
    else:
        assert headers["content-type"] == "text/html; charset=utf-8"
        text = reply.body.decode()
        assert f'data-state="{state}"' in text
        assert text.count("<h1>") == 1
        assert "https://discord.gg/vaettir" in text
        assert code in text
        assert text.endswith("</html>\n")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("code", ERRORS)
def test_error_of_the_tunnel(echo: stand.Proxy, edge: Edge, code: str, kind: str) -> None:
    """Every ngrok error x 6 methods x 5 kinds of request. A handshake's answer is ngrok's own, with a name."""
    state = STATES.get(code.removeprefix("ERR_NGROK_"), "refused")
    with edge.faulty(ECHO, code):
        for method in METHODS:
            reply = request(echo.ip, method, kind)
            if kind == "upgrade":
                assert reply.status != 101
                assert (reply.headers["x-vaettir-state"], reply.headers["ngrok-error-code"]) == (state, code)
            else:
                assert_page(reply, method, kind, state, code)


@pytest.mark.parametrize("status", [200, 204, 206, 302, 304, 400, 402, 403, 404, 416, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("kind", ["plain", "upgrade", "range"])
def test_status_does_not_matter(echo: stand.Proxy, edge: Edge, status: int, kind: str) -> None:
    with edge.faulty(ECHO, "ERR_NGROK_3200", status):
        for method in ("GET", "HEAD", "POST"):
            reply = request(echo.ip, method, kind)
            assert reply.status == (status if kind == "upgrade" else 503)
            assert reply.headers["x-vaettir-state"] == "offline"


@pytest.mark.parametrize("kind", KINDS)
def test_tunnel_that_cannot_be_reached(echo: stand.Proxy, edge: Edge, kind: str) -> None:
    with edge.faulty(ECHO, "reset"):
        for method in METHODS:
            assert_page(request(echo.ip, method, kind), method, kind, "offline")


@pytest.mark.parametrize("fault", CERTIFICATE_FAULTS)
def test_tunnel_that_cannot_be_verified(agent: Callable[..., dict[str, Any]], edge: Edge, fault: str) -> None:
    """A proxy of its own: a resumed TLS session would accept the edge without a look at its certificate."""
    with edge.faulty(ECHO, fault), stand.proxy(agent()) as proxy:
        for kind in KINDS:
            for method in METHODS:
                assert_page(request(proxy.ip, method, kind), method, kind, "offline")


def test_tunnel_that_swallows_everything(echo: stand.Proxy, edge: Edge) -> None:
    with edge.faulty(ECHO, "blackhole"):
        begin = time.monotonic()
        assert_page(request(echo.ip, "GET", "plain"), "GET", "plain", "offline")
        assert time.monotonic() - begin < 6  # connect_timeout, twice at most


def test_large_upload_to_a_stopped_tunnel(echo: stand.Proxy, edge: Edge) -> None:
    with edge.stopped(ECHO):
        reply = ask(echo.ip, "POST", "/upload", [("Host", HOST), BROWSER], b"x" * 20_000_000)
    assert_page(reply, "POST", "plain", "offline", "ERR_NGROK_3200")


@pytest.mark.parametrize("dns", ["down", "silent"])
def test_starts_and_answers_with_dns_dead(agent: Callable[..., dict[str, Any]], edge: Edge, dns: str) -> None:
    edge.dns(dns)
    try:
        with stand.proxy(agent()) as proxy:
            begin = time.monotonic()
            assert_page(request(proxy.ip, "GET", "plain"), "GET", "plain", "offline")
            assert time.monotonic() - begin < 1
            edge.dns("up")
            while request(proxy.ip, "GET", "plain").status != 200:
                assert time.monotonic() - begin < 10
                time.sleep(0.2)
    finally:
        edge.dns("up")


# --- The app's own ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "status", [200, 201, 206, 301, 304, 400, 401, 403, 404, 405, 409, 413, 418, 422, 429, 500, 501, 502, 503, 504]
)
def test_status_of_the_app(echo: stand.Proxy, status: int) -> None:
    for method in METHODS:
        body = b"y" * 1000 if method in ("POST", "PUT") else b""
        path = f"/status/{status}"
        through = ask(echo.ip, method, path, [("Host", HOST), BROWSER], body)
        assert through.status == status
        assert through.headers["x-app"] == "echo"
        assert "x-vaettir-state" not in through.headers
        if method != "HEAD" and status != 304:
            seen = json.loads(through.body)
            assert seen["body"] == {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}


@pytest.mark.parametrize("query", ["", "?chunked=1"])
def test_large_body_byte_for_byte(echo: stand.Proxy, outside: dict[str, Any], query: str) -> None:
    path = f"/body/{50_000_000}{query}"
    through = ask(echo.ip, "GET", path, [("Host", HOST)])
    straight = ask(outside["ip"], "GET", path, [("Host", HOST)], port=9000)
    assert len(through.body) == 50_000_000
    assert through.sha256 == straight.sha256


def test_upload_of_the_default_size(echo: stand.Proxy) -> None:
    body = b"z" * 190_000_000
    seen = json.loads(ask(echo.ip, "POST", "/upload", [("Host", HOST)], body, seconds=60).body)
    assert seen["body"] == {"length": len(body), "sha256": hashlib.sha256(body).hexdigest()}


def test_larger_than_the_profile_allows(echo: stand.Proxy) -> None:
    reply = ask(echo.ip, "DELETE", "/upload", [("Host", HOST), ("Content-Length", str(300 << 20))])
    assert reply.status == 413


def test_response_headers_of_32_kb(echo: stand.Proxy) -> None:
    reply = ask(echo.ip, "GET", "/headers/32000", [("Host", HOST)])
    assert reply.status == 200
    assert sum(len(value) for name, value in reply.headers.items() if name.startswith("x-filler")) == 32000


def test_first_event_at_once(echo: stand.Proxy) -> None:
    """Events are not held back until a buffer is full."""
    with socket.create_connection((echo.ip, 80), timeout=5) as connection:
        begin = time.monotonic()
        connection.sendall(f"GET /sse?count=3&interval=2 HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        got = b""
        while b"data: 0" not in got:
            got += connection.recv(4096)
        assert time.monotonic() - begin < 1
        assert b"data: 1" not in got


def test_the_app_cannot_steer_the_proxy(echo: stand.Proxy) -> None:
    reply = ask(echo.ip, "GET", "/spoof", [("Host", HOST)])
    assert reply.body == b"the app's own words\n"
    assert not [name for name in reply.headers if name.startswith("x-accel") or name == "ngrok-error-code"]


# --- The page itself ------------------------------------------------------------------------------------------------


def page(proxy: stand.Proxy, edge: Edge, *headers: tuple[str, str]) -> Reply:
    with edge.stopped(ECHO):
        return ask(proxy.ip, "GET", "/", [("Host", HOST), BROWSER, *headers])


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("fr-FR,fr;q=0.9,en;q=0.8", "fr"),
        ("en-GB,en;q=0.9,fr;q=0.8", "en"),
        ("de-DE,de;q=0.9,fr;q=0.5,en;q=0.3", "fr"),
        ("de,ja", "en"),
        ("fr;q=0", "en"),
        ("*", "en"),
        ("fr;q=nonsense,,;;", "en"),
    ],
)
def test_language(echo: stand.Proxy, edge: Edge, accepted: str, language: str) -> None:
    reply = page(echo, edge, *([("Accept-Language", accepted)] if accepted else []))
    text = reply.body.decode()
    assert f'<html lang="{language}"' in text
    assert reply.headers["content-language"] == language
    assert ("est hors ligne" in text, "is offline" in text) == (language == "fr", language == "en")


def test_page_needs_nothing_and_allows_nothing(echo: stand.Proxy, edge: Edge) -> None:
    reply = page(echo, edge)
    text = reply.body.decode()
    assert len(reply.body) < 15_000
    assert not re.search(
        r"""(src|href)\s*=\s*["']?(?!["']?https://discord\.gg/)|@import|url\(""", text.split("<script>")[0]
    )
    assert "@" + "STATE@" not in text
    assert "${" not in text
    policy = reply.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "frame-ancestors 'none'" in policy
    for tag in ("style", "script"):
        (content,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in policy


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("application/json", "json"),
        ("application/json, text/plain, */*", "json"),
        ("application/problem+json", "json"),
        ("*/*", "html"),
        ("text/html, application/json;q=0.9", "html"),
        ("text/event-stream", "html"),
    ],
)
def test_form_of_the_page(echo: stand.Proxy, edge: Edge, accept: str, kind: str) -> None:
    with edge.stopped(ECHO):
        reply = ask(echo.ip, "GET", "/", [("Host", HOST), ("Accept", accept)])
    assert reply.headers["content-type"].startswith({"json": "application/json", "html": "text/html"}[kind])
