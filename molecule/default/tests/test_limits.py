# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Who holds a connection and says nothing, or nearly nothing, is cut off; whoever waits for an answer is not."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable

import pytest

NAME = "second.vaettir.example"
PORT = 8443
LIMIT = 6  # stack_traefik_read_timeout in molecule.yml
LATE = 8  # seconds on top; HTTP/2 has a limit of its own until its preface, 10 s in all
CROWD = 300
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def secure(visitor, alpn: str = "http/1.1") -> Streams:
    trust = ssl.create_default_context(cafile=str(visitor.authority))
    trust.set_alpn_protocols([alpn])
    return await asyncio.open_connection(visitor.address, PORT, ssl=trust, server_hostname=NAME)


async def nothing(visitor) -> Streams:
    return await asyncio.open_connection(visitor.address, PORT)


async def half_a_hello(visitor) -> Streams:
    reader, writer = await nothing(visitor)
    writer.write(b"\x16\x03\x01\x02\x00\x01\x00")
    return reader, writer


def says(text: str, alpn: str = "http/1.1") -> Callable[..., Awaitable[Streams]]:
    async def begin(visitor) -> Streams:
        reader, writer = await secure(visitor, alpn)
        writer.write(text.replace("\n", "\r\n").encode())
        return reader, writer

    return begin


HEADERS = says(f"GET / HTTP/1.1\nHost: {NAME}\n")
BODY = says(f"POST /upload HTTP/1.1\nHost: {NAME}\nContent-Length: 100000\n\n")


async def cut(begun: Streams, drip: bytes) -> float:
    """Seconds until the other side closes; a second for each drip."""
    (reader, writer), begin = begun, time.monotonic()
    while time.monotonic() - begin < LIMIT + LATE:
        try:
            writer.write(drip)
            await writer.drain()
            if not await asyncio.wait_for(reader.read(4096), 1):
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    writer.transport.abort()
    return time.monotonic() - begin


HELD = {
    "says nothing": (nothing, b""),
    "half a ClientHello": (half_a_hello, b""),
    "TLS and no request": (says(""), b""),
    "HTTP/2 without its preface": (says("", "h2"), b""),
    "silent headers": (HEADERS, b""),
    "dripped headers": (HEADERS, b"X-Drip: 1\r\n"),
    "silent body": (BODY, b""),
    "dripped body": (BODY, b"x"),
}


@pytest.fixture(scope="module")
def seconds(visitor) -> dict[str, float]:
    """Of each way to hold a connection, all of them at once."""

    async def one(begin, drip) -> float:
        return await cut(await begin(visitor), drip)

    async def each() -> list[float]:
        return await asyncio.gather(*(one(*way) for way in HELD.values()))

    return dict(zip(HELD, asyncio.run(each()), strict=True))


@pytest.mark.parametrize("way", HELD)
def test_a_connection_that_is_only_held_ends(seconds, way):
    assert seconds[way] < LIMIT + LATE


def test_a_crowd_of_them_is_gone(visitor):
    async def crowd() -> list[float]:
        ways = (nothing, half_a_hello, HEADERS)
        begun = await asyncio.gather(*(ways[number % 3](visitor) for number in range(CROWD)))
        return await asyncio.gather(*(cut(streams, b"") for streams in begun))

    seconds = asyncio.run(crowd())
    assert len(seconds) == CROWD
    assert max(seconds) < LIMIT + LATE


def test_a_silent_websocket_outlives_the_limit(visitor):
    async def silent() -> bytes:
        reader, writer = await secure(visitor)
        writer.write(
            f"GET /ws HTTP/1.1\r\nHost: {NAME}:{PORT}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 101")
        await asyncio.sleep(LIMIT + LATE)
        writer.write(b"\x89\x80abcd")  # a ping, with a mask
        return await asyncio.wait_for(reader.readexactly(2), 5)

    assert asyncio.run(silent()) == b"\x8a\x00"
