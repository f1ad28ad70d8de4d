# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A chain in one process: an app, and hops that pass on what is behind them, one of them with a fault."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from ansible_collections.locki.vaettir.plugins.module_utils import _visitor

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PAGE = (
    b"<!doctype html><link rel=stylesheet href=/s/main.css><script type=module src=/s/main.js></script><p>" + b"x" * 400
)
FILES = {
    "/": ("text/html; charset=utf-8", PAGE),
    "/s/main.css": ("text/css", b"p { margin: 0 }\n" * 50),
    "/s/main.js": ("text/javascript", b"console.log('here');\n" * 50),
    "/_stcore/health": ("text/plain", b"ok"),
    "/_stcore/host-config": ("application/json", b"{}"),
}
SOCKET = "/_stcore/stream"
WORD = b"\x82\x07hello" + _visitor.FINISHED
ALWAYS, HALF = "always", "one in two"


def answer(status: int, kind: str, body: bytes, more: str = "") -> bytes:
    head = (
        f"HTTP/1.1 {status} X\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n{more}Connection: close\r\n\r\n"
    )
    return head.encode() + body


@dataclass
class Fault:
    """`where` are the paths that it is about."""

    kind: str
    pattern: str = ALWAYS
    where: str = ".*"
    count: int = 0

    def now(self, path: str) -> bool:
        if not re.fullmatch(self.where, path):
            return False
        self.count += 1
        return self.pattern == ALWAYS or self.count % 2 == 0


@dataclass
class Hop:
    """`behind` is the port of the next one towards the app; 0 is the app itself."""

    behind: int = 0
    fault: Fault | None = None
    port: int = 0

    async def start(self) -> None:
        server = await asyncio.start_server(self.met, "127.0.0.1", 0, limit=1 << 20)
        self.port = server.sockets[0].getsockname()[1]

    async def met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ")[1].decode()
            hit = self.fault is not None and self.fault.now(path)
            if hit and self.fault and self.fault.kind in BEFORE:
                await BEFORE[self.fault.kind](writer)
            else:
                kind = self.fault.kind if hit and self.fault else ""
                await (
                    self.passed(head, reader, writer, kind)
                    if self.behind
                    else self.app(head, path, reader, writer, kind)
                )
        writer.close()

    async def passed(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: str) -> None:
        back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self.behind, limit=1 << 22)
        if kind == "slow":
            await asyncio.sleep(SLOWNESS)
        back_writer.write(head)
        if b"pgrade: websocket" not in head:
            writer.write(changed(await back_reader.read(-1), kind))
            await writer.drain()
            await asyncio.sleep(30 if kind == "stalls" else 0)
            back_writer.close()
            return
        there = asyncio.ensure_future((first_word if kind == "mute later" else pipe)(reader, back_writer))
        if kind == "no subprotocol":
            said = await back_reader.readuntil(b"\r\n\r\n")
            writer.write(re.sub(rb"Sec-WebSocket-Protocol: [^\r]*\r\n", b"", said))
        if kind == "mute":
            writer.write(await back_reader.readuntil(b"\r\n\r\n"))
            await asyncio.sleep(60)
        if kind in CLOSES:
            writer.write(await back_reader.readuntil(b"\r\n\r\n"))
            await asyncio.sleep(CLOSES[kind][0])
            writer.write(CLOSES[kind][1])
            await writer.drain()
        else:
            await pipe(back_reader, writer)
        there.cancel()
        back_writer.close()

    async def app(
        self, head: bytes, path: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, kind: str
    ) -> None:
        if kind == "slow":
            await asyncio.sleep(SLOWNESS)
        if path != SOCKET:
            type_, body = FILES.get(path, ("text/plain", b""))
            writer.write(changed(answer(200 if path in FILES else 404, type_, body), kind))
            await writer.drain()
            await asyncio.sleep(30 if kind == "stalls" else 0)
            return
        found = re.search(rb"Sec-WebSocket-Key: (\S+)", head)
        key = base64.b64encode(hashlib.sha1(found[1] + GUID).digest()) if found else b""
        offered = re.search(rb"Sec-WebSocket-Protocol: ([^,\r]+)", head)
        chosen = b"\r\nSec-WebSocket-Protocol: " + offered[1] if offered else b""
        says = b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        writer.write(says + key + chosen + b"\r\n\r\n")
        if kind in CLOSES:
            await asyncio.sleep(CLOSES[kind][0])
            writer.write(CLOSES[kind][1])
            await writer.drain()
            return
        if kind == "mute":
            await asyncio.sleep(60)
        words = 0
        while True:
            opcode, payload, _raw = await frame(reader)
            words += opcode == 2
            if opcode == 2 and (words == 1 or kind != "mute later"):
                writer.write(WORD)
            elif opcode == 9:
                writer.write(bytes((0x8A, len(payload))) + payload)
            elif opcode == 8:
                writer.write(bytes((0x88, len(payload))) + payload)
                return


async def frame(reader: asyncio.StreamReader) -> tuple[int, bytes, bytes]:
    """A short one of a visitor's: opcode, payload, and as it came."""
    head = await reader.readexactly(6)
    masked = await reader.readexactly(head[1] & 127)
    return head[0] & 15, bytes(byte ^ head[2 + i % 4] for i, byte in enumerate(masked)), head + masked


async def first_word(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Passes on what a visitor says first, and his control frames."""
    words = 0
    with suppress(OSError, asyncio.IncompleteReadError):
        while True:
            opcode, _payload, raw = await frame(reader)
            words += opcode == 2
            if opcode != 2 or words == 1:
                writer.write(raw)


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


def changed(whole: bytes, kind: str) -> bytes:
    """An answer with a fault in it."""
    head, _end, body = whole.partition(b"\r\n\r\n")
    if kind in ("truncated", "stalls"):
        return whole[: len(whole) - len(body) // 2]
    if kind == "altered":
        return head + b"\r\n\r\n" + body[:-9] + b"#" * min(9, len(body))
    if kind == "html":
        return answer(200, "text/html", b"<p>somebody else's page</p>")
    if kind == "empty":
        return answer(200, "text/html", b"")
    if kind == "packed":
        return head + b"\r\nContent-Encoding: gzip\r\n\r\n" + body
    if kind == "type":
        return re.sub(rb"Content-Type: [^\r]*", b"Content-Type: application/octet-stream", head) + b"\r\n\r\n" + body
    return whole


def closing(code: int) -> bytes:
    return b"\x88\x02" + code.to_bytes(2, "big")


SLOWNESS = 4.0
CLOSES = {  # seconds, bytes
    "closes 1011": (0.0, closing(1011)),
    "closes 1000": (0.0, closing(1000)),
    "cut": (0.0, b""),
    "silence": (1.2, b""),
    "closes in silence": (1.2, closing(1001)),
}


def says(status: int, kind: str = "text/html", more: str = "") -> Callable[[asyncio.StreamWriter], Awaitable[None]]:
    async def write(writer: asyncio.StreamWriter) -> None:
        writer.write(answer(status, kind, b"<p>no</p>", more))
        await writer.drain()

    return write


async def hang(_writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(30)


async def reset(writer: asyncio.StreamWriter) -> None:
    writer.transport.abort()


BEFORE = {
    **{str(status): says(status) for status in (404, 429, 500, 502)},
    "busy": says(429, more="X-Vaettir-State: busy\r\n"),
    "hangs": hang,
    "reset": reset,
}


@contextmanager
def chain(at: str, fault: Fault | None, names: tuple[str, ...]) -> Iterator[dict[str, int]]:
    """The port of each place, from the app to the visitor."""
    loop = asyncio.new_event_loop()
    worker = threading.Thread(target=loop.run_forever, daemon=True)
    worker.start()
    ports: dict[str, int] = {}
    try:
        behind = 0
        for name in names:
            hop = Hop(behind, fault if name == at else None)
            asyncio.run_coroutine_threadsafe(hop.start(), loop).result(5)
            ports[name] = behind = hop.port
        yield ports
    finally:
        asyncio.run_coroutine_threadsafe(end(), loop).result(5)
        loop.call_soon_threadsafe(loop.stop)
        worker.join(5)


async def end() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
