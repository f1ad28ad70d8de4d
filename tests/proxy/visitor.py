# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""HTTP as a test wants it: any method, any header twice, HTTP/1.0, a handshake; the answer as it came."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.client
import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455
Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Reply:
    """A whole answer. `headers` by lower-case name, doubled ones joined by a comma."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()


def _reply(response: http.client.HTTPResponse) -> Reply:
    headers: dict[str, str] = {}
    for name, value in response.getheaders():
        headers[name.lower()] = f"{headers[name.lower()]}, {value}" if name.lower() in headers else value
    return Reply(response.status, headers, response.read())


def ask(
    ip: str,
    method: str,
    path: str,
    headers: Headers = (),
    body: bytes = b"",
    version: str = "1.1",
    port: int = 80,
    seconds: float = 20,
) -> Reply:
    """One request on a connection of its own."""
    lines = [f"{method} {path} HTTP/{version}", *(f"{name}: {value}" for name, value in headers)]
    if body or method in ("POST", "PUT", "PATCH"):
        lines.append(f"Content-Length: {len(body)}")
    closes = not any(name.lower() == "connection" for name, _ in headers)
    if closes:
        lines.append("Connection: close")
    with socket.create_connection((ip, port), timeout=seconds) as connection:
        connection.sendall("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        response = http.client.HTTPResponse(connection, method=method)
        response.begin()
        reply = _reply(response)
        if closes and not body:
            # nginx stores an answer after it has sent it, and closes then: whoever asks again before may find none.
            connection.settimeout(2)
            with contextlib.suppress(OSError):
                connection.recv(1)
        return reply


def handshake_headers(host: str, *origins: str) -> list[tuple[str, str]]:
    """A browser's handshake; no, one or several Origin headers."""
    return [
        ("Host", host),
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", base64.b64encode(os.urandom(16)).decode()),
        *(("Origin", origin) for origin in origins),
    ]


def shake_hands(ip: str, path: str, headers: list[tuple[str, str]], method: str = "GET") -> Reply:
    """The answer to a handshake; an accepted one must show that it understood the key."""
    with socket.create_connection((ip, 80), timeout=20) as connection:
        lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
        connection.sendall("\r\n".join(lines).encode("latin-1"))
        response = http.client.HTTPResponse(connection, method=method)
        response.begin()
        if response.status != 101:
            response.will_close = True
            return _reply(response)
        key = next(value for name, value in headers if name == "Sec-WebSocket-Key")
        accept = base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()
        assert response.headers["Sec-WebSocket-Accept"] == accept
        return Reply(101, {name.lower(): value for name, value in response.getheaders()}, b"")
