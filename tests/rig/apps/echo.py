# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""An app that says what it got: for everything that a test asks about headers, bodies, streams and sockets."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
from urllib.parse import urlsplit

from aiohttp import WSMsgType, web

CHUNK = bytes(range(256)) * 256


async def echo(request: web.Request) -> web.Response:
    """Any method, any path. Headers as pairs, in order."""
    digest, length = hashlib.sha256(), 0
    async for chunk in request.content.iter_any():
        digest.update(chunk)
        length += len(chunk)
    headers = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.raw_headers]
    body = {"length": length, "sha256": digest.hexdigest()}
    status = int(request.match_info.get("status", 200))
    return web.json_response(
        {"method": request.method, "path": request.raw_path, "headers": headers, "body": body, "status": status},
        status=status,
        headers={"X-App": "echo"},
    )


async def headers(request: web.Request) -> web.Response:
    """Response headers of about this many bytes in all, 4000 each."""
    rest, response = int(request.match_info["size"]), web.Response(text="headers\n")
    for number in range(-(-rest // 4000)):
        response.headers[f"X-Filler-{number}"] = "x" * min(4000, rest - number * 4000)
    return response


async def spoof(_request: web.Request) -> web.Response:
    """What a hostile app may try: only the edge sets ngrok's header, only the proxy its own."""
    return web.Response(
        text="the app's own words\n",
        headers={"ngrok-error-code": "ERR_NGROK_3200", "X-Accel-Redirect": "/offline", "X-Accel-Expires": "3600"},
    )


async def body(request: web.Request) -> web.StreamResponse:
    """This many bytes; with ?chunked=1 of a length that is not told."""
    rest = int(request.match_info["size"])
    response = web.StreamResponse(headers={"Content-Type": "application/octet-stream"})
    if "chunked" not in request.query:
        response.content_length = rest
    await response.prepare(request)
    while rest > 0:
        await response.write(CHUNK[: min(rest, len(CHUNK))])
        rest -= len(CHUNK)
    return response


async def break_off(request: web.Request) -> web.StreamResponse:
    """Half an answer."""
    response = web.StreamResponse(headers={"Content-Length": "1000"})
    await response.prepare(request)
    await response.write(b"x" * 500)
    assert request.transport is not None
    request.transport.close()
    return response


async def sse(request: web.Request) -> web.StreamResponse:
    """?count events, ?interval seconds apart; the first at once."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
    await response.prepare(request)
    for number in range(int(request.query.get("count", 5))):
        if number:
            await asyncio.sleep(float(request.query.get("interval", 0.5)))
        await response.write(f"data: {number}\n\n".encode())
    return response


async def slow(request: web.Request) -> web.Response:
    """Answers after this many seconds."""
    await asyncio.sleep(float(request.match_info["seconds"]))
    return web.Response(text="slow\n")


async def socket(request: web.Request) -> web.StreamResponse:
    """Echoes text and binary; the text `close NNNN why` closes with that code."""
    offered = [name.strip() for name in request.headers.get("Sec-WebSocket-Protocol", "").split(",") if name.strip()]
    websocket = web.WebSocketResponse(protocols=offered, max_msg_size=0)
    await websocket.prepare(request)
    async for message in websocket:
        if message.type == WSMsgType.TEXT and message.data.startswith("close "):
            _, code, why = [*message.data.split(" ", 2), ""][:3]
            await websocket.close(code=int(code), message=why.encode())
        elif message.type == WSMsgType.TEXT:
            await websocket.send_str(message.data)
        elif message.type == WSMsgType.BINARY:
            await websocket.send_bytes(message.data)
    return websocket


async def streamlit_like(request: web.Request) -> web.StreamResponse:
    """Streamlit's path with Tornado's rule: no Origin, or one whose host is the request's Host."""
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc.lower() != request.headers.get("Host", "").lower():
        return web.Response(status=403, text="Cross origin websockets not allowed")
    return await socket(request)


async def redirect(request: web.Request) -> web.Response:
    """To an absolute URL on the host that the app believes to be its own, with a cookie for it."""
    host = request.headers.get("Host", "")
    response = web.Response(status=302, headers={"Location": f"https://{host}/landed"})
    response.set_cookie("session", "1", domain=host.split(":")[0], secure=True, httponly=True)
    return response


def application() -> web.Application:
    app = web.Application(client_max_size=0)
    app.router.add_get("/ws", socket)
    app.router.add_get("/_stcore/stream", streamlit_like)
    app.router.add_get("/sse", sse)
    app.router.add_get(r"/headers/{size:\d+}", headers)
    app.router.add_get(r"/body/{size:\d+}", body)
    app.router.add_get(r"/slow/{seconds:[\d.]+}", slow)
    app.router.add_get("/spoof", spoof)
    app.router.add_get("/break", break_off)
    app.router.add_get("/redirect", redirect)
    app.router.add_route("*", r"/status/{status:[2-5]\d\d}", echo)
    app.router.add_route("*", "/{path:.*}", echo)
    return app


async def start(address: str, port: int) -> tuple[web.AppRunner, int]:
    """The app and the port it got."""
    runner = web.AppRunner(application(), access_log=None, auto_decompress=False, max_field_size=256 << 10)
    await runner.setup()
    await web.TCPSite(runner, address, port).start()
    return runner, int(runner.addresses[0][1])


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--address", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=9000)
    options = parser.parse_args()
    await start(options.address, options.port)
    await asyncio.Event().wait()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main())
