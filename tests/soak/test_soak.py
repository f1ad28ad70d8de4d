# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Patience: silence, a file as large as the app takes, and a thin line. About ten minutes, all at once."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import aiohttp

from tests.apps.stand import SOCKETS, STREAMLIT, StreamlitPage, World, public, slowly

SILENCE = 600  # seconds
SLOW = 90  # seconds, beyond Traefik's default limit of 60
MB = 1 << 20
Job = Callable[[aiohttp.ClientSession, str], Awaitable[str]]
PATIENCE = aiohttp.ClientTimeout(SILENCE + 60)


async def silent_socket(session: aiohttp.ClientSession, agent: str) -> str:
    """No message and no ping in either direction until the end, and then an answer."""
    url = public(agent).replace("https", "wss") + SOCKETS[agent]
    async with session.ws_connect(url, origin=public(agent), autoping=False) as websocket:
        if agent == "fastapi":
            await websocket.receive()
        begin = time.monotonic()
        await asyncio.sleep(SILENCE)
        await websocket.send_str("still here")
        message = await websocket.receive()
        assert message.data == "still here", f"{agent}: {message} after {time.monotonic() - begin:.0f} s"
        return f"{agent}: a WebSocket silent for {SILENCE} s answers"


async def large_file(session: aiohttp.ClientSession, agent: str) -> str:
    page = StreamlitPage(session, agent)
    await page.open()
    name, begin = await page.session(), time.monotonic()
    assert await page.upload(name, bytes(199 * MB)) == 204, agent
    return f"{agent}: 199 MB taken in {time.monotonic() - begin:.1f} s"


async def slow_upload(session: aiohttp.ClientSession, agent: str) -> str:
    begin = time.monotonic()
    async with session.post(public(agent) + "/upload", data=slowly(9 * 10**6, SLOW)) as reply:
        told: dict[str, Any] = await reply.json()
    assert told.get("body", told)["length"] == 9 * 10**6, agent
    return f"{agent}: an upload of {time.monotonic() - begin:.0f} s arrives"


async def slow_file(session: aiohttp.ClientSession, agent: str) -> str:
    page = StreamlitPage(session, agent)
    await page.open()
    name, begin = await page.session(), time.monotonic()
    listening = asyncio.create_task(page.listen())
    assert await page.upload(name, slowly(9 * 10**6, SLOW)) == 204, agent
    listening.cancel()
    return f"{agent}: a file of {time.monotonic() - begin:.0f} s is taken"


def test_patience(world: World) -> None:
    async def alone(job: Job, agent: str) -> str:
        """Each visitor has cookies of its own."""
        async with world.session(timeout=PATIENCE) as session:
            return await job(session, agent)

    async def large_ones() -> list[str]:
        return [await alone(large_file, agent) for agent in STREAMLIT]

    async def main() -> list[str]:
        open_ones = ("fastapi", "workflows", "plain")
        jobs = [alone(job, agent) for job in (silent_socket, slow_upload) for agent in open_ones]
        jobs += [alone(slow_file, agent) for agent in STREAMLIT]
        large, small = await asyncio.gather(large_ones(), asyncio.gather(*jobs))
        return large + small

    world.edge.idle(86_400)
    try:
        for line in asyncio.run(main()):
            print(line)
    finally:
        world.edge.idle(300)
