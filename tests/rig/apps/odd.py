# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The echo app with something before it that is wrong: `python -m rig.apps.odd PORT KIND [VALUE]`."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import Awaitable, Callable

from aiohttp import web

from . import echo

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Before = Callable[[web.Request, str], Awaitable[web.StreamResponse | None]]


def is_handshake(request: web.Request) -> bool:
    return request.headers.get("Upgrade", "").lower() == "websocket"


async def error(_request: web.Request, _value: str) -> web.StreamResponse | None:
    """Breaks on whatever comes."""
    raise web.HTTPInternalServerError


async def login(_request: web.Request, url: str) -> web.StreamResponse | None:
    """Nobody gets in without a cookie, and nobody has one."""
    raise web.HTTPFound(url)


async def password(request: web.Request, _value: str) -> web.StreamResponse | None:
    if "Authorization" not in request.headers:
        raise web.HTTPUnauthorized(headers={"WWW-Authenticate": 'Basic realm="tunnel"'})
    return None


async def policy(request: web.Request, secret: str) -> web.StreamResponse | None:
    """A traffic policy that denies whoever goes around the proxy."""
    if request.headers.get("X-Vaettir-Secret") != secret:
        raise web.HTTPForbidden
    return None


async def origin(request: web.Request, wanted: str) -> web.StreamResponse | None:
    """WebSockets from one website only."""
    if not is_handshake(request):
        return healthy(request)
    if request.headers.get("Origin") != wanted:
        raise web.HTTPForbidden
    return await echo.socket(request)


async def closing(request: web.Request, _value: str) -> web.StreamResponse | None:
    """Takes every WebSocket, and fails at once."""
    if not is_handshake(request):
        return healthy(request)
    websocket = web.WebSocketResponse()
    await websocket.prepare(request)
    await websocket.close(code=1011)
    return websocket


async def scripts(request: web.Request, _value: str) -> web.StreamResponse | None:
    """Its page names a script that is gone."""
    if request.path == "/gone.js":
        raise web.HTTPNotFound
    page = '<!doctype html><script src="/gone.js"></script>'
    return web.Response(text=page, content_type="text/html") if request.path == "/" else None


COUNT = itertools.count()


async def half(_request: web.Request, _value: str) -> web.StreamResponse | None:
    """Fails one time in two."""
    if next(COUNT) % 2:
        raise web.HTTPBadGateway
    return None


def healthy(request: web.Request) -> web.StreamResponse | None:
    return web.Response(text="ok") if request.path == "/_stcore/health" else None


KINDS: dict[str, Before] = {
    kind.__name__: kind for kind in (error, login, password, policy, origin, closing, scripts, half)
}


async def main(port: int, kind: str, value: str = "") -> None:
    @web.middleware
    async def before(request: web.Request, handler: Handler) -> web.StreamResponse:
        return await KINDS[kind](request, value) or await handler(request)

    app = echo.application()
    app.middlewares.append(before)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:]))
