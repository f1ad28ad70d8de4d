# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""DNS of the outside world: dnsmasq leads ngrok's names to the edge and forwards all others."""

from __future__ import annotations

import asyncio
import signal

DOMAINS = ("ngrok-free.app", "ngrok-free.dev", "ngrok.app", "edge.test")
STATES = ("up", "down", "silent")


class Dns:
    def __init__(self, ip: str, port: int = 53) -> None:
        self.ip, self.port = ip, port
        self.state = "up"
        self.addresses: dict[str, str] = {}  # hosts that are elsewhere, or with "" nowhere
        self._process: asyncio.subprocess.Process | None = None

    def command(self) -> list[str]:
        own = [option for name in DOMAINS for option in (f"--local=/{name}/", f"--address=/{name}/{self.ip}")]
        others = [f"--address=/{host}/{address}" for host, address in sorted(self.addresses.items())]
        # TTL 1: a changed address is what the resolver under test makes of it
        options = ("--keep-in-foreground", "--no-hosts", "--user=root", "--log-facility=-", "--local-ttl=1")
        return ["dnsmasq", *options, f"--port={self.port}", *own, *others]

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
            await asyncio.sleep(0.1)
            if self._process.returncode is not None:
                raise RuntimeError(f"dnsmasq has ended with {self._process.returncode}")
        if self.state == "silent" and self._process:
            self._process.send_signal(signal.SIGSTOP)

    async def stop(self) -> None:
        if self._process and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        self._process = None
