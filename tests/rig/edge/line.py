# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What happens to a connection below TLS: the name it asks for, resets, silence, and a long line."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections import deque
from typing import cast

HIGH_WATER = 8 << 20  # bytes on the way; above 500 MB/s at 30 ms


def reset_on_close(sock: socket.socket) -> None:
    """The socket will end with a TCP reset in place of a FIN."""
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


async def silence(sock: socket.socket) -> None:
    """Swallow whatever comes until the other side gives up."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(OSError), sock:
        while await loop.sock_recv(sock, 65536):
            pass


def _names(hello: bytes) -> list[str | None]:
    """The SNI of a ClientHello in a list of one; an empty list while the ClientHello is incomplete."""
    found: list[str | None] = []
    incoming = ssl.MemoryBIO()
    incoming.write(hello)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.sni_callback = lambda _object, name, _context: found.append(name)
    with contextlib.suppress(ssl.SSLError):
        context.wrap_bio(incoming, ssl.MemoryBIO(), server_side=True).do_handshake()
    return found


async def asked_name(sock: socket.socket) -> str | None:
    """The SNI of the ClientHello that waits in the socket; the bytes stay there."""
    for _ in range(200):  # a ClientHello in several packets: at most a second
        try:
            hello = sock.recv(65536, socket.MSG_PEEK)
        except BlockingIOError:
            hello = b" "
        if not hello:
            return None
        if found := _names(hello):
            return found[0]
        await asyncio.sleep(0.005)
    return None


class _End(asyncio.Protocol):
    """One end of a long line: what it hears, the other end says half a round trip later."""

    other: _End
    transport: asyncio.Transport | None = None

    def __init__(self, half: float, not_before: float) -> None:
        self.half = half
        self.not_before = not_before
        self.loop = asyncio.get_running_loop()
        self.on_the_way: deque[tuple[float, bytes | None]] = deque()
        self.volume = 0
        self.timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._send(data)
        self.volume += len(data)
        if self.volume > HIGH_WATER and self.transport:
            self.transport.pause_reading()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.transport = None
        self._send(None)  # the end of the connection travels too

    def _send(self, data: bytes | None) -> None:
        self.on_the_way.append((max(self.loop.time(), self.not_before) + self.half, data))
        if self.timer is None:
            self.timer = self.loop.call_at(self.on_the_way[0][0], self._arrive)

    def _arrive(self) -> None:
        self.timer = None
        now = self.loop.time() + 0.0005  # timers have the grain of a millisecond
        while self.on_the_way and self.on_the_way[0][0] <= now:
            data = self.on_the_way.popleft()[1]
            if data is not None:
                self.volume -= len(data)
            if self.other.transport:
                if data is None:
                    self.other.transport.close()
                else:
                    self.other.transport.write(data)
        if self.on_the_way:
            self.timer = self.loop.call_at(self.on_the_way[0][0], self._arrive)
        elif self.transport and self.volume <= HIGH_WATER and not self.transport.is_reading():
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        if self.other.transport and self.other.transport.is_reading():
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other.transport and not self.other.transport.is_reading():
            self.other.transport.resume_reading()


async def lengthen(sock: socket.socket, round_trip: float) -> socket.socket:
    """Put a line of this round-trip time between the socket and the one that is returned.

    The kernel has answered the SYN already, so the client's first bytes wait one round trip more: a handshake
    costs what it costs over a real line. Slow start is not imitated.
    """
    loop = asyncio.get_running_loop()
    near, far = socket.socketpair()
    for end in (near, far):
        end.setblocking(False)
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            end.setsockopt(socket.SOL_SOCKET, option, 1 << 20)
    now = loop.time()
    client, inner = _End(round_trip / 2, now + round_trip), _End(round_trip / 2, now)
    client.other, inner.other = inner, client
    await loop.connect_accepted_socket(lambda: inner, near)
    await loop.connect_accepted_socket(lambda: client, sock)
    return far
