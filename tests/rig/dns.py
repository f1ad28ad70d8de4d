# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""DNS of the outside world: dnsmasq leads ngrok's names to the edge and forwards all others."""

from __future__ import annotations

import asyncio
import signal
import socket

DOMAINS = ("ngrok-free.app", "ngrok-free.dev", "ngrok.app", "edge.test")
RESERVED = ("example", "test")  # RFC 6761: the world knows none of these
STATES = ("up", "down", "silent")
# RFC 1035, section 4.1: one question, edge.test IN A
_QUESTION = b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x04edge\x04test\x00\x00\x01\x00\x01"
_TRIES = 50  # of 0.3 s at most


class Dns:
    def __init__(self, ip: str, port: int = 53) -> None:
        self.ip, self.port = ip, port
        self.state = "up"
        self.addresses: dict[str, str] = {}  # hosts that are elsewhere, or with "" nowhere
        self._process: asyncio.subprocess.Process | None = None

    def command(self) -> list[str]:
        names = {**dict.fromkeys(DOMAINS, self.ip), **dict(sorted(self.addresses.items()))}
        # local: nobody else is asked, for their IPv6 address either
        own = [f"--local=/{name}/" for name in (*RESERVED, *names)]
        own += [f"--address=/{name}/{ip}" for name, ip in names.items()]
        # TTL 1: a changed address is what the resolver under test makes of it
        options = ("--keep-in-foreground", "--no-hosts", "--user=root", "--log-facility=-", "--local-ttl=1")
        return ["dnsmasq", *options, f"--port={self.port}", *own]

    async def set(self, state: str | None = None, host: str | None = None, address: str | None = None) -> None:
        """A new state, or a new address of one host ("": there is no such name; None: the edge's own again)."""
        self.state = state or self.state
        if host:
            self.addresses.pop(host, None)
            if address is not None:
                self.addresses[host] = address
        await self.stop()
        if self.state != "down":
            self._process = await asyncio.create_subprocess_exec(*self.command())
            await self._answers()
        if self.state == "silent" and self._process:
            self._process.send_signal(signal.SIGSTOP)

    async def _answers(self) -> None:
        """On a busy machine it takes its time."""
        for _ in range(_TRIES):
            if self._process and self._process.returncode is not None:
                raise RuntimeError(f"dnsmasq has ended with {self._process.returncode}")
            if await asyncio.to_thread(self._asked):
                return
            await asyncio.sleep(0.1)
        raise RuntimeError("dnsmasq does not answer")

    def _asked(self) -> bool:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            asking.settimeout(0.2)
            try:
                asking.sendto(_QUESTION, ("127.0.0.1", self.port))
                return bool(asking.recv(512))
            except OSError:
                return False

    async def stop(self) -> None:
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self._process = None
