# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A visitor of the agents: pages and WebSockets by their public names, with the certificate verified."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from . import ca

SECONDS = 20


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class _Resolver(AbstractResolver):
    """The world's DNS in one line: every name is this server."""

    def __init__(self, address: str) -> None:
        self.address = address

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return [ResolveResult(hostname=host, host=self.address, port=port, family=family, proto=0, flags=0)]

    async def close(self) -> None: ...


class Visitor:
    def __init__(self, address: str, authority: Path = ca.FOLDER / "ca.pem") -> None:
        self.address, self.authority = address, authority
        self.trust = ssl.create_default_context(cafile=str(authority))

    def get(self, url: str, method: str = "GET", **headers: str) -> Answer:
        """One answer; redirects are not followed."""

        async def ask() -> Answer:
            async with (
                self._session() as session,
                session.request(method, url, headers=_names(headers), allow_redirects=False) as reply,
            ):
                return Answer(
                    reply.status, {name.lower(): text for name, text in reply.headers.items()}, await reply.read()
                )

        return asyncio.run(ask())

    def handshake(self, url: str, origin: str | None = None, say: str | None = None) -> tuple[int, str | None]:
        """Status of a WebSocket handshake (101: key and Accept fit, aiohttp checks) and what came back for `say`."""

        async def shake() -> tuple[int, str | None]:
            async with self._session() as session:
                try:
                    async with session.ws_connect(url, origin=origin) as websocket:
                        if say is None:
                            return 101, None
                        await websocket.send_str(say)
                        return 101, await websocket.receive_str(timeout=SECONDS)
                except aiohttp.WSServerHandshakeError as error:
                    return error.status, None

        return asyncio.run(shake())

    def alpn(self, url: str, *offered: str) -> str | None:
        """The protocol that the server chooses."""
        parts = urlsplit(url)
        trust = ssl.create_default_context(cafile=str(self.authority))
        trust.set_alpn_protocols(list(offered))
        with (
            socket.create_connection((self.address, parts.port or 443), SECONDS) as plain,
            trust.wrap_socket(plain, server_hostname=parts.hostname) as secure,
        ):
            return secure.selected_alpn_protocol()

    def until(self, url: str, status: int, seconds: float = SECONDS) -> Answer:
        """The first answer with that status; the last one, or status 0 for none, when the time is over."""
        end = time.monotonic() + seconds
        while True:
            try:
                answer = self.get(url)
            except (aiohttp.ClientConnectionError, TimeoutError) as error:
                answer = Answer(0, {}, str(error).encode())
            if answer.status == status or time.monotonic() > end:
                return answer
            time.sleep(0.2)

    def _session(self) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(resolver=_Resolver(self.address), ssl=self.trust, use_dns_cache=False)
        return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(SECONDS))


def _names(headers: dict[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
