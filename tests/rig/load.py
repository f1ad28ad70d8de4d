# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Many visitors at once, while something happens to the server: open WebSockets that are used, and a steady stream of
small GETs and POSTs. Every request that failed and every socket that dropped is kept, with its time and its reason.

`python -m tests.rig.load URL ADDRESS FILE`: they come, FILE says that they are there, and they go when it is gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import secrets
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import aiohttp

from .shell import RigError, wait_for
from .visitor import Visitor, _Resolver

SECONDS = 10  # an answer that takes longer is a failed request, a socket that is silent for longer a dropped one
EVERY = 2.0  # seconds between two messages of one socket
LIMIT = 3600  # seconds; nobody's load outlives a test that hangs
OPENING = 32  # handshakes under way at once
WAYS = (("GET", False), ("POST", True), ("POST", False), ("GET", True))  # method, on a connection of its own


class Mishap(NamedTuple):
    at: float  # seconds since the load began
    what: str
    why: str


@dataclass
class Visitors:
    """What they saw so far; may be read while they are at it."""

    sockets: int
    began: float = field(default_factory=time.monotonic)
    answered: int = 0
    took: list[float] = field(default_factory=list)  # seconds, of those that were answered
    failed: list[Mishap] = field(default_factory=list)
    dropped: list[Mishap] = field(default_factory=list)
    open: int = 0  # sockets, now

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.began

    @property
    def p99(self) -> float:
        """Of the answered requests, in seconds."""
        return sorted(self.took)[len(self.took) * 99 // 100]

    def saw(self) -> str:
        """One line for a log or a closing note."""
        parts = [f"{self.answered + len(self.failed)} requests, {_told(self.failed)} failed"]
        if self.sockets:
            parts.append(f"{self.sockets} sockets, {_told(self.dropped)} dropped")
        return "; ".join(parts)

    __str__ = __repr__ = saw


def _told(mishaps: Sequence[Mishap]) -> str:
    if not mishaps:
        return "0"
    reasons = ", ".join(f"{number} x {why}" for why, number in Counter(mishap.why for mishap in mishaps).most_common(4))
    first, last = mishaps[0].at, max(mishap.at for mishap in mishaps)
    return f"{len(mishaps)} (between {first:.1f} and {last:.1f} s: {reasons})"


@contextlib.contextmanager
def on(
    url: str,
    address: str,
    *,
    sockets: int = 50,
    per_second: float = 40,
    socket_path: str = "/ws",
    limit: float = LIMIT,
) -> Iterator[Visitors]:
    """The load on an agent with the echo app behind it, from when all sockets are open to the end of the block."""
    load = _Load(url, address, sockets, per_second, socket_path, limit)
    load.thread.start()
    try:
        load.wait_until_open()
        yield load.visitors
        if load.visitors.seconds > limit:
            raise RigError(f"the load on {url} had ended after {limit:g} s, before what it was there for")
    finally:
        load.end()


class _Load:
    """A thread with an event loop of its own: tests wait for playbooks meanwhile."""

    def __init__(self, url: str, address: str, sockets: int, per_second: float, socket_path: str, limit: float) -> None:
        self.url, self.per_second, self.limit = url.rstrip("/"), per_second, limit
        parts = urlsplit(self.url)
        self.origin = f"{parts.scheme}://{parts.netloc}"
        self.socket_url = f"{self.url.replace('http', 'ws', 1)}{socket_path}"
        self.visitor = Visitor(address)
        self.visitors = Visitors(sockets)
        self.begun, self.ending = threading.Event(), threading.Event()
        self.trouble = ""
        self.thread = threading.Thread(target=lambda: asyncio.run(self._main()), name="load", daemon=True)

    def wait_until_open(self) -> None:
        self.begun.wait(120)
        if self.trouble or not self.begun.is_set():
            raise RigError(f"the load on {self.url} did not begin: {self.trouble or 'no answer in 120 s'}")

    def end(self) -> None:
        self.ending.set()
        self.thread.join(SECONDS * 3)

    def _session(self, *, kept: bool) -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            resolver=_Resolver(self.visitor.address),
            ssl=self.visitor.trust,
            limit=0,
            use_dns_cache=False,
            force_close=not kept,
        )
        return aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(SECONDS))

    async def _main(self) -> None:
        async with self._session(kept=True) as kept, self._session(kept=False) as fresh:
            gate = asyncio.Semaphore(OPENING)
            opened = [asyncio.Event() for _ in range(self.visitors.sockets)]
            holders = [asyncio.create_task(self._hold(kept, gate, event)) for event in opened]
            try:
                await self._request(kept, "GET")
                async with asyncio.timeout(90):
                    await asyncio.gather(*(event.wait() for event in opened))
                if self.visitors.failed or self.visitors.dropped:
                    self.trouble = str(self.visitors)
            except TimeoutError:
                self.trouble = f"{self.visitors.open} of {len(opened)} sockets opened in 90 s"
            self.visitors.began = time.monotonic()
            self.begun.set()
            requests: set[asyncio.Task[None]] = set()
            number = 0
            while not self.ending.is_set() and not self.trouble and self.visitors.seconds < self.limit:
                method, alone = WAYS[number % len(WAYS)]
                task = asyncio.create_task(self._request(fresh if alone else kept, method))
                requests.add(task)
                task.add_done_callback(requests.discard)
                number += 1
                await asyncio.sleep(max(0.0, self.visitors.began + number / self.per_second - time.monotonic()))
            if requests:
                await asyncio.wait(requests, timeout=SECONDS + 2)
            for task in holders:
                task.cancel()
            await asyncio.gather(*holders, return_exceptions=True)

    async def _request(self, session: aiohttp.ClientSession, method: str) -> None:
        at, data = self.visitors.seconds, secrets.token_bytes(200) if method == "POST" else b""
        path = f"/load/{secrets.token_hex(4)}"
        try:
            async with session.request(method, self.url + path, data=data or None, allow_redirects=False) as reply:
                body = await reply.read()
                why = "" if reply.status == 200 else _status(reply)
            if not why:
                told = json.loads(body)
                fits = told["path"] == path and told["method"] == method
                if not fits or told["body"]["sha256"] != hashlib.sha256(data).hexdigest():
                    why = "the wrong body"
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, KeyError, TypeError) as error:
            why = _word(error)
        if why:
            self.visitors.failed.append(Mishap(at, method, why))
        else:
            self.visitors.answered += 1
            self.visitors.took.append(self.visitors.seconds - at)

    async def _hold(self, session: aiohttp.ClientSession, gate: asyncio.Semaphore, opened: asyncio.Event) -> None:
        """One socket; after a drop it comes back, as an app's own page does."""
        while True:
            try:
                async with gate:
                    websocket = await session.ws_connect(self.socket_url, origin=self.origin, autoping=True)
            except (aiohttp.ClientError, TimeoutError, OSError):
                await asyncio.sleep(0.5)
                continue
            opened.set()
            self.visitors.open += 1
            why = "it was ended by nobody"
            try:
                why = await self._talk(websocket)
            finally:
                self.visitors.open -= 1
                with contextlib.suppress(asyncio.CancelledError, aiohttp.ClientError, OSError):
                    await websocket.close()
            self.visitors.dropped.append(Mishap(self.visitors.seconds, "socket", why))

    async def _talk(self, websocket: aiohttp.ClientWebSocketResponse) -> str:
        """Says something now and then, and hears it back; returns why that came to an end."""
        await asyncio.sleep(secrets.randbelow(1000) / 1000 * EVERY)  # not all at the same moment
        while True:
            word = secrets.token_hex(8)
            try:
                await websocket.send_str(word)
                heard = await websocket.receive(timeout=SECONDS)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                return _word(error)
            if heard.type is not aiohttp.WSMsgType.TEXT:
                return f"{heard.type.name.lower()} {websocket.close_code or ''}".strip()
            if heard.data != word:
                return "the wrong echo"
            # A close is heard at once, not at the next word.
            with contextlib.suppress(TimeoutError):
                early = await websocket.receive(timeout=EVERY)
                return f"{early.type.name.lower()} {websocket.close_code or ''}".strip()


def _status(reply: aiohttp.ClientResponse) -> str:
    state = reply.headers.get("X-Vaettir-State")
    return f"{reply.status}{f' ({state})' if state else ''}"


def _word(error: BaseException) -> str:
    return type(error).__name__


def main(url: str, address: str, file: str) -> None:
    there = Path(file)
    there.unlink(missing_ok=True)
    with on(url, address, sockets=20, per_second=20) as visitors:
        there.touch()
        wait_for("their end", lambda: not there.exists(), LIMIT)
    if visitors.failed or visitors.dropped or not visitors.answered:
        raise RigError(str(visitors))
    print(visitors)


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except RigError as error:
        sys.exit(f"error: {error}")
