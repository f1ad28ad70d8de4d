# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A test double, not n8n: only the origin rule of n8n's push connection, beside an echo.

n8n itself is 2.9 GB of packages, and its SQLite has to be compiled. 2.40.5 was tried by hand (NODE_ENV=production), and
does the same.
"""

from __future__ import annotations

from urllib.parse import urlsplit

from aiohttp import web

from . import echo


async def push(request: web.Request) -> web.StreamResponse:
    """The Origin has to be the host that the visitor asked for, which n8n takes from X-Forwarded-Host."""
    wanted = request.headers.get("X-Forwarded-Host", request.headers.get("Host", "")).lower()
    origin = urlsplit(request.headers.get("Origin", ""))
    if (origin.scheme, origin.netloc.lower()) != ("https", wanted):
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        await socket.send_str("Invalid origin!")
        await socket.close(code=1008)
        return socket
    return await echo.socket(request)


app = web.Application(client_max_size=0)
app.router.add_get("/rest/push", push)
app.router.add_route("*", "/{path:.*}", echo.echo)

if __name__ == "__main__":
    web.run_app(app, host="0.0.0.0", port=5678, print=lambda *_: None)
