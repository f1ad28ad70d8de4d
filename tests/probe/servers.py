# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""`python -m tests.probe.servers NAME PORT [CERTIFICATE KEY]`: one independent WebSocket server on loopback.

All echo on /ws, choose the subprotocol `chat`, and refuse Origins other than https://own.example with 403.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
import sys
from collections.abc import Sequence
from typing import Any

OWN = "https://own.example"
PATH, SUBPROTOCOL = "/ws", "chat"


def tls(files: list[str]) -> ssl.SSLContext | None:
    if not files:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*files)
    return context


async def websockets_server(port: int, files: list[str]) -> None:
    from websockets.asyncio.server import ServerConnection, serve
    from websockets.http11 import Request, Response
    from websockets.typing import Origin, Subprotocol

    async def echo(connection: ServerConnection) -> None:
        async for message in connection:
            await connection.send(message)

    def only_path(connection: ServerConnection, request: Request) -> Response | None:
        return None if request.path == PATH else connection.respond(404, "nothing here\n")

    def select(_connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
        return Subprotocol(SUBPROTOCOL) if SUBPROTOCOL in offered else None

    options: dict[str, Any] = {"select_subprotocol": select, "origins": [Origin(OWN), None]}
    async with serve(echo, "127.0.0.1", port, ssl=tls(files), process_request=only_path, **options):
        await asyncio.Event().wait()


async def aiohttp_server(port: int, files: list[str]) -> None:
    from aiohttp import web

    async def echo(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Origin", OWN) != OWN:
            return web.Response(status=403)
        socket = web.WebSocketResponse(protocols=[SUBPROTOCOL])
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(str(message.data))
        return socket

    app = web.Application()
    app.router.add_get(PATH, echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port, ssl_context=tls(files)).start()
    await asyncio.Event().wait()


async def tornado_server(port: int, files: list[str]) -> None:
    from tornado.httpserver import HTTPServer
    from tornado.web import Application
    from tornado.websocket import WebSocketHandler

    class Echo(WebSocketHandler):
        def check_origin(self, origin: str) -> bool:
            return origin == OWN

        def select_subprotocol(self, subprotocols: list[str]) -> str | None:
            return SUBPROTOCOL if SUBPROTOCOL in subprotocols else None

        def on_message(self, message: str | bytes) -> None:
            self.write_message(message)

    server = HTTPServer(Application([(PATH, Echo)], log_function=lambda _handler: None), ssl_options=tls(files))
    server.listen(port, "127.0.0.1")
    await asyncio.Event().wait()


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    """For uvicorn and hypercorn."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b"nothing here\n"})
        return
    await receive()
    origin = dict(scope["headers"]).get(b"origin", OWN.encode()).decode()
    if origin != OWN or scope["path"] != PATH:
        await send({"type": "websocket.close"})  # a 403 before the handshake is done
        return
    chosen = SUBPROTOCOL if SUBPROTOCOL in scope["subprotocols"] else None
    await send({"type": "websocket.accept", "subprotocol": chosen})
    while (event := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": str(event.get("text"))})


async def uvicorn_server(port: int, files: list[str]) -> None:
    import uvicorn

    more: dict[str, Any] = {"ssl_certfile": files[0], "ssl_keyfile": files[1]} if files else {}
    await uvicorn.Server(uvicorn.Config(asgi, "127.0.0.1", port, log_level="critical", **more)).serve()


async def hypercorn_server(port: int, files: list[str]) -> None:
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    config = Config()
    config.bind, config.loglevel = [f"127.0.0.1:{port}"], "CRITICAL"
    if files:
        config.certfile, config.keyfile = files
    await serve(asgi, config)


SERVERS = {
    "websockets": websockets_server,
    "aiohttp": aiohttp_server,
    "tornado": tornado_server,
    "uvicorn": uvicorn_server,
    "hypercorn": hypercorn_server,
}


if __name__ == "__main__":
    logging.disable()  # they tell of every client that leaves
    asyncio.run(SERVERS[sys.argv[1]](int(sys.argv[2]), sys.argv[3:]))
