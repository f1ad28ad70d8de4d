# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A FastAPI app as people write them, run by uvicorn as its documentation tells for an app behind a proxy."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Response, WebSocket, WebSocketDisconnect
from fastapi.responses import RedirectResponse, StreamingResponse

app = FastAPI()


@app.get("/seen")
async def seen(request: Request) -> dict[str, Any]:
    """What the app believes of its visitor and of itself."""
    pairs = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in request.headers.raw]
    return {"url": str(request.url), "headers": pairs}


@app.get("/items/")
async def items() -> list[str]:
    """Without the slash FastAPI redirects here, by an absolute URL of its own host."""
    return ["sardine"]


@app.get("/login")
async def login(request: Request) -> Response:
    """Goes on to its own host in plain http, and leaves a cookie for it."""
    host = request.headers["host"]
    response = RedirectResponse(f"http://{host}/items/")
    response.set_cookie("session", secrets.token_hex(8), domain=host, secure=True, httponly=True, samesite="lax")
    return response


@app.get("/form")
async def form(response: Response) -> None:
    response.set_cookie("_xsrf", f"2|{secrets.token_hex(4)}|{secrets.token_hex(16)}|1700000000", samesite="strict")


@app.post("/form")
async def send(request: Request) -> str:
    """The double-submit rule of Tornado and others: the cookie has to come back in a header as well."""
    cookie = request.cookies.get("_xsrf")
    if not cookie or cookie != request.headers.get("x-xsrftoken"):
        raise HTTPException(403, "XSRF cookie does not match")
    return cookie


@app.get("/sse")
async def sse(count: int = 5, interval: float = 0.4) -> StreamingResponse:
    async def events() -> AsyncIterator[str]:
        for number in range(count):
            yield f"id: {number}\ndata: sardine {number}\n\n"
            await asyncio.sleep(interval)

    return StreamingResponse(events(), media_type="text/event-stream")


@app.get("/headers/{size}")
async def headers(size: int, response: Response) -> None:
    """Response headers of that many bytes, 4000 a line: signed cookies and policies grow so large."""
    for number in range(-(-size // 4000)):
        response.headers[f"X-Filler-{number}"] = "x" * min(4000, size - number * 4000)


@app.post("/upload")
async def upload(request: Request) -> dict[str, Any]:
    digest, length = hashlib.sha256(), 0
    async for chunk in request.stream():
        digest.update(chunk)
        length += len(chunk)
    return {"length": length, "sha256": digest.hexdigest()}


@app.websocket("/ws")
async def ws(websocket: WebSocket) -> None:
    """Takes the last subprotocol that is offered and echoes; the first message tells what arrived."""
    offered = websocket.scope["subprotocols"]
    await websocket.accept(subprotocol=offered[-1] if offered else None)
    await websocket.send_json({"offered": offered, "origin": websocket.headers.get("origin")})
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect:
        return


if __name__ == "__main__":
    # No pings: they would keep the hops of a silent WebSocket awake, which is what is tried here.
    uvicorn.run(
        app,
        host="0.0.0.0",
        port=8000,
        proxy_headers=True,
        forwarded_allow_ips="*",
        ws_ping_interval=None,
        log_level="warning",
    )
