# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The edge's control API: JSON over plain HTTP, for tests and benchmarks."""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from aiohttp import web

from .. import dns
from . import errors

if TYPE_CHECKING:
    from .server import Edge

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
HOST = re.compile(r"(?=.{1,253}$)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
APP = re.compile(r"https?://[A-Za-z0-9.-]+(:[0-9]{1,5})?")


class RefusedError(Exception):
    def __init__(self, status: int, reason: str) -> None:
        super().__init__(reason)
        self.status = status


@web.middleware
async def refusals_as_json(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except RefusedError as refused:
        return web.json_response({"error": str(refused)}, status=refused.status)
    except web.HTTPException as error:
        return web.json_response({"error": f"{request.method} {request.path}: {error.reason}"}, status=error.status)


async def fields(request: web.Request, required: set[str], optional: frozenset[str] = frozenset()) -> dict[str, Any]:
    """The request's JSON object, with just these keys."""
    try:
        body = await request.json()
    except ValueError:
        raise RefusedError(400, "the body is not JSON") from None
    if not isinstance(body, dict) or not required <= set(body) <= required | optional:
        wanted = ", ".join(sorted(required) + [f"{name} (optional)" for name in sorted(optional)])
        raise RefusedError(400, f"the body must be a JSON object with these keys: {wanted}")
    return body


def number(body: dict[str, Any], key: str, low: float, high: float) -> float:
    value = body[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise RefusedError(400, f"{key} must be a number from {low:g} to {high:g}, not {value!r}")
    return value


def application(edge: Edge) -> web.Application:
    routes = web.RouteTableDef()

    def tunnel_host(request: web.Request, known: bool = True) -> str:
        host = request.match_info["host"].lower()
        if not HOST.fullmatch(host):
            raise RefusedError(400, f"{host!r} is not a host name")
        if known and host not in edge.tunnels:
            raise RefusedError(404, f"no tunnel {host}; there are: {', '.join(sorted(edge.tunnels)) or 'none'}")
        return host

    def tunnels() -> dict[str, Any]:
        return {host: dataclasses.asdict(tunnel) for host, tunnel in sorted(edge.tunnels.items())}

    @routes.get("/tunnels")
    async def show_tunnels(_request: web.Request) -> web.StreamResponse:
        return web.json_response(tunnels())

    @routes.put("/tunnels/{host}")
    async def put_tunnel(request: web.Request) -> web.StreamResponse:
        host = tunnel_host(request, known=False)
        app = (await fields(request, {"app"}))["app"]
        if not isinstance(app, str) or not APP.fullmatch(app):
            raise RefusedError(400, f"app must be a URL like http://127.0.0.1:8501, without a path, not {app!r}")
        edge.put(host, app)
        return web.json_response(tunnels()[host])

    @routes.delete("/tunnels/{host}")
    async def delete_tunnel(request: web.Request) -> web.StreamResponse:
        edge.remove(tunnel_host(request))
        return web.json_response(tunnels())

    @routes.put("/tunnels/{host}/fault")
    async def put_fault(request: web.Request) -> web.StreamResponse:
        host = tunnel_host(request)
        body = await fields(request, {"fault"}, frozenset({"status"}))
        fault, status = body["fault"], body.get("status")
        if fault is not None and fault not in errors.FAULTS:
            raise RefusedError(400, f"unknown fault {fault!r}; there are: {', '.join(errors.FAULTS)}, or null")
        if status is not None:
            if fault not in errors.ERRORS:
                raise RefusedError(400, "status goes with a fault ERR_NGROK_… only")
            status = int(number(body, "status", 200, 599))
        try:
            if fault:
                await edge.prepare_fault(fault)
        except LookupError as missing:
            raise RefusedError(409, str(missing)) from None
        edge.set_fault(host, fault, status)
        return web.json_response(tunnels()[host])

    @routes.get("/counters")
    async def show_counters(_request: web.Request) -> web.StreamResponse:
        return web.json_response(edge.counters.as_json())

    @routes.post("/counters/reset")
    async def reset_counters(_request: web.Request) -> web.StreamResponse:
        edge.reset_counters()
        return web.json_response(edge.counters.as_json())

    @routes.get("/requests")
    async def show_requests(_request: web.Request) -> web.StreamResponse:
        return web.json_response([seen.as_json() for seen in edge.seen])

    @routes.get("/delay")
    async def show_delay(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"ms": edge.delay * 1000})

    @routes.put("/delay")
    async def put_delay(request: web.Request) -> web.StreamResponse:
        edge.set_delay(number(await fields(request, {"ms"}), "ms", 0, 10_000) / 1000)
        return await show_delay(request)

    @routes.get("/idle")
    async def show_idle(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"seconds": edge.idle})

    @routes.put("/idle")
    async def put_idle(request: web.Request) -> web.StreamResponse:
        edge.idle = number(await fields(request, {"seconds"}), "seconds", 0.1, 86_400)
        return await show_idle(request)

    def name_server() -> dns.Dns:
        if edge.dns is None:
            raise RefusedError(409, "the edge was started without DNS")
        return edge.dns

    @routes.get("/dns")
    async def show_dns(_request: web.Request) -> web.StreamResponse:
        server = name_server()
        return web.json_response({"state": server.state, "ip": server.ip, "addresses": server.addresses})

    @routes.put("/dns")
    async def put_dns(request: web.Request) -> web.StreamResponse:
        server, state = name_server(), (await fields(request, {"state"}))["state"]
        if state not in dns.STATES:
            raise RefusedError(400, f"state must be one of {', '.join(dns.STATES)}, not {state!r}")
        await server.set(state=state)
        return await show_dns(request)

    @routes.put("/dns/{host}")
    async def put_address(request: web.Request) -> web.StreamResponse:
        host, server = tunnel_host(request, known=False), name_server()
        address = (await fields(request, {"address"}))["address"]
        try:
            if address:
                ipaddress.ip_address(str(address))
        except ValueError:
            raise RefusedError(400, f"address must be an IP address, '' or null, not {address!r}") from None
        await server.set(host=host, address=address)
        return await show_dns(request)

    @routes.get("/health")
    async def show_health(_request: web.Request) -> web.StreamResponse:
        return web.json_response({"ok": edge.ready})

    app = web.Application(middlewares=[refusals_as_json])
    app.add_routes(routes)
    return app
