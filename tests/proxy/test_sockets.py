# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Many WebSockets at once: they echo, they outlive a reload, and they cost little."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiohttp

from tests.rig.shell import run

from . import stand

SOCKETS = 800
KILOBYTES_EACH = 105  # TLS towards the tunnel is 60 of them; see docs/proxy.md


def memory(proxy: stand.Proxy) -> int:
    """KB of all of the container's processes, shared pages counted once."""
    pids = [line.split()[0] for line in run(["docker", "top", proxy.container, "-o", "pid"]).stdout.splitlines()[1:]]
    texts = [Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii") for pid in pids]
    return sum(int(found[1]) for text in texts if (found := re.search(r"^Pss:\s+(\d+)", text, re.MULTILINE)))


async def meet(proxy: stand.Proxy, new_values: dict[str, str]) -> int:
    """Opens them all, echoes, reloads, echoes again; what they cost together."""
    headers = {"Host": "ocapistaine.vaettir.example", "Origin": proxy.origin, "Cookie": "session=" + "x" * 1000}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def talk(socket: aiohttp.ClientWebSocketResponse, text: str) -> None:
            await socket.send_str(text)
            assert await socket.receive_str(timeout=20) == text

        before = memory(proxy)
        sockets = [
            await session.ws_connect(f"{proxy.url}/_stcore/stream", headers=headers, max_msg_size=0)
            for _ in range(SOCKETS)
        ]
        await asyncio.gather(*(talk(socket, f"{number}" * 50) for number, socket in enumerate(sockets)))
        cost = memory(proxy) - before
        assert proxy.exec("agent-proxy", "reload", env=new_values).stdout == "reloaded\n"
        await asyncio.sleep(1)
        await asyncio.gather(*(talk(socket, f"{number}") for number, socket in enumerate(sockets)))
        await talk(sockets[0], "x" * 3_000_000)
        await asyncio.gather(*(socket.close() for socket in sockets))
    return cost


def test_eight_hundred(agent: Callable[..., dict[str, Any]]) -> None:
    settings = agent()
    with stand.proxy(settings) as proxy:
        new_values = stand.environment(settings, "https://discord.gg/another")
        cost = asyncio.run(asyncio.wait_for(meet(proxy, new_values), 90))
    print(f"{cost / SOCKETS:.0f} KB per open socket")
    assert cost / SOCKETS <= KILOBYTES_EACH
