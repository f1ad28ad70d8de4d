# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A visitor of a foreign website tries an agent's WebSocket again and again. The answer tells which release is active.

A release that is OPEN lets him in (101). Its trial does not ask for that, and its verification fails for it. All others
refuse him (403).
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from .shell import RigError
from .visitor import Visitor

ORIGIN = "https://foreign.example"
OPEN = {"extra_origins": [ORIGIN]}  # a release that is switched to, and fails its verification
LET_IN, REFUSED = 101, 403
EVERY = 0.1  # seconds
PATIENCE = 5  # seconds for one answer


@dataclass
class Foreign:
    host: str
    visitor: Visitor
    seen: list[tuple[float, int]] = field(default_factory=list)  # when it was asked, and the status; 0: no answer
    ending: threading.Event = field(default_factory=threading.Event)

    def ask(self) -> int:
        lines = (
            *("GET /_stcore/stream HTTP/1.1", f"Host: {self.host}", f"Origin: {ORIGIN}", "Connection: Upgrade"),
            *("Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "", ""),
        )
        with (
            contextlib.suppress(OSError, ValueError, IndexError),
            socket.create_connection((self.visitor.address, 443), PATIENCE) as plain,
            self.visitor.trust.wrap_socket(plain, server_hostname=self.host) as secure,
        ):
            secure.sendall("\r\n".join(lines).encode())
            return int(secure.recv(100).split()[1])
        return 0

    def ask_on(self) -> None:
        while not self.ending.wait(EVERY):
            at = time.monotonic()
            self.seen.append((at, self.ask()))

    def is_let_in(self, seconds: float = 120) -> None:
        """Comes back when the release that lets him in is active."""
        end = time.monotonic() + seconds
        while LET_IN not in [status for _at, status in self.seen]:
            if time.monotonic() > end:
                raise RigError(f"the release that accepts {ORIGIN} was not active within {seconds:g} s")
            time.sleep(EVERY / 2)

    def seconds_until_refused(self, since: float, steady: float, limit: float) -> float:
        """From then until nobody but the previous release answers, for so many seconds at least."""
        while True:
            after = [(at, status) for at, status in self.seen if at >= since]
            others = [at for at, status in after if status != REFUSED]
            back = [at for at, _status in after if at > max(others, default=since)]
            if back and after[-1][0] - back[0] >= steady:
                return back[0] - since if others else 0.0
            if time.monotonic() - since > limit + steady:
                raise RigError(f"after {limit:g} s the previous release is not active: {after[-20:]}")
            time.sleep(EVERY)


@contextlib.contextmanager
def foreign(host: str, visitor: Visitor) -> Iterator[Foreign]:
    made = Foreign(host, visitor)
    thread = threading.Thread(target=made.ask_on, name="foreign", daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.ending.set()
        thread.join(PATIENCE * 2)
