# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A test double, not n8n: only the origin rule of n8n's push connection, beside an echo.

n8n itself needs a newer Node.js than Debian has.
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
        return web.Response(status=403, text="Invalid origin!")
    return await echo.socket(request)


app = web.Application(client_max_size=0)
app.router.add_get("/rest/push", push)
app.router.add_route("*", "/{path:.*}", echo.echo)

if __name__ == "__main__":
    web.run_app(app, host="0.0.0.0", port=5678, print=lambda *_: None)
