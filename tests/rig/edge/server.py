# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The edge itself: routes by SNI and Host, passes to the app, counts."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import subprocess
import tempfile
import time
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import aiohttp
from aiohttp import web
from aiohttp.web_protocol import RequestHandler
from multidict import CIMultiDict
from yarl import URL

from ..dns import DOMAINS, Dns
from . import control, errors, line

IDLE_SECONDS = 300.0
HEADER_LIMIT = 256 << 10  # one header line; the limits under test are the proxy's, not ours
BUFFER = 256 << 10
HOP_BY_HOP = {"connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade", "expect"}
EDGE_ONLY = {"ngrok-error-code"}  # nothing but the edge can set it


@dataclass
class Tunnel:
    app: str
    fault: str | None = None
    status: int | None = None  # overrides the fault's usual status


@dataclass
class Counters:
    connections: int = 0
    tls_handshakes: int = 0
    requests: int = 0
    upgrades: int = 0
    by_host: defaultdict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "by_host": {host: dict(count) for host, count in self.by_host.items()}}


@dataclass(frozen=True)
class Seen:
    """A request as the edge received it."""

    at: float
    method: str
    path: str
    host: str
    headers: tuple[tuple[bytes, bytes], ...]

    def as_json(self) -> dict[str, Any]:
        pairs = [[name.decode("latin-1"), value.decode("latin-1")] for name, value in self.headers]
        return {"at": self.at, "method": self.method, "path": self.path, "host": self.host, "headers": pairs}


class Connection(RequestHandler):
    """aiohttp's HTTP/1.1 server side of one connection, which also knows how it came about."""

    def __init__(self, edge: Edge, sock: socket.socket, peer: str, tls: bool) -> None:
        super().__init__(
            edge.web_server,
            loop=asyncio.get_running_loop(),
            access_log=cast(Any, None),
            auto_decompress=False,
            keepalive_timeout=edge.idle,
            lingering_time=2.0,
            max_line_size=HEADER_LIMIT,
            max_field_size=HEADER_LIMIT,
            max_headers=1024,
            read_bufsize=BUFFER,
        )
        self.edge = edge
        self.sock = sock
        self.peer = peer
        self.tls = tls
        self.host: str | None = None  # SNI, or the first Host of a plain connection
        self.busy = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.edge.open.add(self)
        if self.tls:
            self.host = getattr(transport.get_extra_info("ssl_object"), "asked_name", None)
            self.edge.counters.tls_handshakes += 1
            if self.host:
                self.edge.counters.by_host[self.host].update(connections=1, tls_handshakes=1)

    def connection_lost(self, exc: BaseException | None) -> None:
        self.edge.open.discard(self)
        super().connection_lost(exc)

    def cut(self, with_reset: bool = False) -> None:
        if self.transport is None:
            return
        if with_reset:
            line.reset_on_close(self.sock)
        self.transport.abort()


class Answer(web.StreamResponse):
    """The app's answer with nothing added but what HTTP itself needs."""

    async def _prepare_headers(self) -> None:
        own = set(self._headers)
        await super()._prepare_headers()
        for name in ("Server", "Content-Type"):
            if name not in own:
                self._headers.pop(name, None)


class Pipe:
    """Bytes of one direction of an upgraded connection, as they come: frames, pings and close codes untouched."""

    def __init__(self, source: Any, target: Any) -> None:
        self.source, self.target = source, target
        self.waiting = aiohttp.StreamReader(source, BUFFER, loop=asyncio.get_running_loop())
        self.last = time.monotonic()
        if isinstance(source, Connection):
            source.set_parser(cast(Any, self))
        else:  # aiohttp's client side
            source.set_parser(self, self.waiting)

    def feed_data(self, data: bytes) -> tuple[bool, bytes]:  # called by aiohttp's protocol
        self.last = time.monotonic()
        self.waiting.feed_data(data)
        return False, b""

    def feed_eof(self) -> None:
        self.waiting.feed_eof()

    def set_exception(self, exc: BaseException, _cause: BaseException | None = None) -> None:
        self.waiting.set_exception(exc)

    async def run(self) -> None:
        while data := await self.waiting.readany():
            if self.target.transport is None:
                return
            self.target.transport.write(data)
            await self.target._drain_helper()


class Edge:
    """Give it a certificate and addresses; port 0 takes a free one, None leaves a listener out."""

    def __init__(
        self,
        certificate: Path | str,
        key: Path | str,
        *,
        address: str = "0.0.0.0",
        https_port: int | None = 443,
        http_port: int | None = 80,
        control_address: str = "0.0.0.0",
        control_port: int = 4040,
        tunnels: Mapping[str, str] | None = None,
        spare_certificates: Mapping[str, tuple[Path | str, Path | str]] | None = None,
        dns: Dns | None = None,
    ) -> None:
        self.dns = dns
        self.ready = False  # whoever starts the apps says so
        self.address = address
        self.https_port, self.http_port, self.control_port = https_port, http_port, control_port
        self.control_address = control_address
        self.tunnels = {host: Tunnel(app) for host, app in (tunnels or {}).items()}
        self.idle = IDLE_SECONDS
        self.delay = 0.0
        self.counters = Counters()
        self.seen: deque[Seen] = deque(maxlen=200)
        self.open: set[Connection] = set()
        self._context = self._tls(certificate, key)
        self._context.sni_callback = self._choose_certificate
        self._spare = {fault: self._tls(*pair) for fault, pair in (spare_certificates or {}).items()}
        self._tasks: set[asyncio.Task[None]] = set()
        self._listeners: list[socket.socket] = []

    # -- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        self.web_server = web.Server(self._handle, handler_cancellation=True)
        self.session = aiohttp.ClientSession(
            # 2 s: an idle connection is given up before any app's own time-out can cut a POST on it
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=2, ssl=False),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
            auto_decompress=False,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            read_bufsize=BUFFER,
            max_line_size=HEADER_LIMIT,
            max_field_size=HEADER_LIMIT,
            max_headers=1024,
        )
        if self.https_port is not None:
            self.https_port = self._listen(self.https_port, tls=True)
        if self.http_port is not None:
            self.http_port = self._listen(self.http_port, tls=False)
        self._control = web.AppRunner(control.application(self), access_log=None)
        await self._control.setup()
        site = web.TCPSite(self._control, self.control_address, self.control_port)
        await site.start()
        self.control_port = self._control.addresses[0][1]
        if self.dns:
            await self.dns.set("up")

    async def stop(self) -> None:
        if self.dns:
            await self.dns.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for listener in self._listeners:
            listener.close()
        for connection in list(self.open):
            connection.cut()
        await self.web_server.shutdown(1)
        await self.session.close()
        await self._control.cleanup()

    def _listen(self, port: int, *, tls: bool) -> int:
        listener = socket.create_server((self.address, port), backlog=4096)
        listener.setblocking(False)
        self._listeners.append(listener)
        self._spawn(self._accept(listener, tls))
        return int(listener.getsockname()[1])

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # -- connections ----------------------------------------------------------------------------------------------

    async def _accept(self, listener: socket.socket, tls: bool) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, peer = await loop.sock_accept(listener)
            except OSError:  # out of file descriptors: wait until some are free again
                await asyncio.sleep(0.05)
                continue
            self.counters.connections += 1
            self._spawn(self._welcome(sock, peer[0], tls))

    async def _welcome(self, sock: socket.socket, peer: str, tls: bool) -> None:
        loop = asyncio.get_running_loop()
        sock.setblocking(False)
        if tls and any(tunnel.fault in errors.LINE_FAULTS for tunnel in self.tunnels.values()):
            tunnel = self.tunnels.get(hostname(await line.asked_name(sock)))
            if tunnel and tunnel.fault == "reset":
                line.reset_on_close(sock)
                sock.close()
                return
            if tunnel and tunnel.fault == "blackhole":
                await line.silence(sock)
                return
        if self.delay:
            sock = await line.lengthen(sock, self.delay)
        with contextlib.suppress(OSError, TimeoutError):  # a handshake that failed is the client's to report
            await loop.connect_accepted_socket(
                lambda: Connection(self, sock, peer, tls), sock, ssl=self._context if tls else None
            )

    @staticmethod
    def _tls(certificate: Path | str, key: Path | str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key)
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _choose_certificate(self, ssl_object: Any, name: str | None, _context: ssl.SSLContext) -> None:
        ssl_object.asked_name = hostname(name) or None
        tunnel = self.tunnels.get(hostname(name))
        if tunnel and tunnel.fault in errors.CERTIFICATE_FAULTS:
            ssl_object.context = self._spare[tunnel.fault]

    async def prepare_fault(self, fault: str) -> None:
        """Raises LookupError when the certificate that the fault shows is not there."""
        if fault == "bad_certificate" and fault not in self._spare:
            names = ",".join(f"DNS:*.{domain}" for domain in DOMAINS)
            with tempfile.TemporaryDirectory() as folder:
                pair = Path(folder, "certificate.pem"), Path(folder, "key.pem")
                await asyncio.to_thread(
                    subprocess.run,
                    [
                        *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                        *("-subj", "/CN=impostor", "-addext", f"subjectAltName={names}"),
                        *("-out", str(pair[0]), "-keyout", str(pair[1])),
                    ],
                    check=True,
                    capture_output=True,
                )
                self._spare[fault] = self._tls(*pair)
        if fault in errors.CERTIFICATE_FAULTS and fault not in self._spare:
            raise LookupError(f"the edge was started without a certificate for the fault {fault}")

    def set_fault(self, host: str, fault: str | None, status: int | None) -> None:
        tunnel = self.tunnels[host]
        below_http = (*errors.LINE_FAULTS, *errors.CERTIFICATE_FAULTS)
        # A fault below HTTP shows on new connections only, so the old ones end; and silence ends with its fault.
        if fault in below_http or tunnel.fault in below_http:
            for connection in [c for c in self.open if c.host == host]:
                connection.cut(with_reset=fault == "reset")
        tunnel.fault, tunnel.status = fault, status

    def put(self, host: str, app: str) -> None:
        """A new tunnel, or another app behind a known one, whose fault stays unless it was the ngrok agent's."""
        tunnel = self.tunnels.setdefault(host, Tunnel(app))
        tunnel.app = app
        if tunnel.fault in errors.OF_THE_AGENT:
            tunnel.fault = tunnel.status = None

    def remove(self, host: str) -> None:
        """The ngrok agent goes away: what it was carrying breaks off, idle connections to the edge stay."""
        del self.tunnels[host]
        for connection in [c for c in self.open if c.host == host and c.busy]:
            connection.cut()

    def set_delay(self, seconds: float) -> None:
        """Every open connection ends, so that none has the old delay."""
        self.delay = seconds
        for connection in list(self.open):
            connection.cut()

    def reset_counters(self) -> None:
        self.counters = Counters()
        self.seen.clear()

    # -- requests -------------------------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast(Connection, request.protocol)
        host = hostname(request.headers.get("Host"))
        if connection.host is None and not connection.tls:
            connection.host = host
            self.counters.by_host[host]["connections"] += 1
        self.counters.requests += 1
        self.counters.by_host[host]["requests"] += 1
        self.seen.append(Seen(time.time(), request.method, request.raw_path, host, request.raw_headers))
        connection.busy = True
        try:
            return await self._route(request, connection, host)
        finally:
            connection.busy = False

    async def _route(self, request: web.BaseRequest, connection: Connection, host: str) -> web.StreamResponse:
        if connection.tls and connection.host is None:
            return errors.answer(request, host, "ERR_NGROK_3003")
        if connection.tls and connection.host != host:
            return web.Response(status=421, text="The request's Host is not the name of the TLS handshake.\n")
        tunnel = self.tunnels.get(host)
        if tunnel is None:
            return errors.answer(request, host, "ERR_NGROK_3200")
        if tunnel.fault in errors.ERRORS:
            return errors.answer(request, host, tunnel.fault, tunnel.status)
        if tunnel.fault == "reset":
            connection.cut(with_reset=True)
        if tunnel.fault == "blackhole":
            await asyncio.Event().wait()  # cancelled when the client leaves
        upgrade = request.headers.get("Upgrade", "").lower() == "websocket"
        if upgrade and "upgrade" not in tokens(request.headers.getall("Connection", [])):
            return errors.answer(request, host, "ERR_NGROK_3206")
        if errors.wants_interstitial(request, host):
            return errors.answer(request, host, "ERR_NGROK_6024")
        return await self._pass_on(request, connection, host, tunnel.app, upgrade)

    async def _pass_on(
        self, request: web.BaseRequest, connection: Connection, host: str, app: str, upgrade: bool
    ) -> web.StreamResponse:
        headers = end_to_end(request.headers)
        append(headers, "X-Forwarded-For", connection.peer)
        append(headers, "X-Forwarded-Proto", "https" if connection.tls else "http")
        headers.setdefault("X-Forwarded-Host", request.headers.get("Host", ""))
        if upgrade:
            headers["Connection"], headers["Upgrade"] = "Upgrade", request.headers["Upgrade"]
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        answer: Answer | None = None
        try:
            async with self.session.request(
                request.method,
                URL(app + request.raw_path, encoded=True),
                headers=headers,
                data=request.content if request.can_read_body else None,
                allow_redirects=False,
            ) as reply:
                answer = Answer(
                    status=reply.status,
                    reason=reply.reason,
                    headers=end_to_end(reply.headers),
                )
                if reply.status == 101 and upgrade:
                    return await self._switch(request, connection, host, reply, answer)
                if reply.content.is_eof():  # all of it is here already: one write
                    body = reply.content.read_nowait()
                    answer._send_headers_immediately = False
                    await answer.prepare(request)
                    await answer.write_eof(body)
                    return answer
                await answer.prepare(request)
                async for chunk in reply.content.iter_any():
                    await answer.write(chunk)
                await answer.write_eof()
                return answer
        except aiohttp.ClientConnectorError:
            return errors.answer(request, host, "ERR_NGROK_8012")
        except (aiohttp.ClientError, ValueError):
            if answer is None or not answer.prepared:
                return errors.answer(request, host, "ERR_NGROK_3004")
            connection.cut()  # the app broke off in the middle, and so do we
            return answer

    async def _switch(
        self,
        request: web.BaseRequest,
        connection: Connection,
        host: str,
        reply: aiohttp.ClientResponse,
        answer: Answer,
    ) -> web.StreamResponse:
        """A WebSocket: after the app's 101 both sides are byte pipes."""
        assert reply.connection is not None
        app = reply.connection.protocol
        answer.headers["Connection"], answer.headers["Upgrade"] = "Upgrade", reply.headers.get("Upgrade", "websocket")
        await answer.prepare(request)
        self.counters.upgrades += 1
        self.counters.by_host[host]["upgrades"] += 1
        pipes = Pipe(connection, app), Pipe(app, connection)
        work = {asyncio.ensure_future(pipe.run()) for pipe in pipes}
        try:
            while True:
                rest = max(pipe.last for pipe in pipes) + self.idle - time.monotonic()
                if rest <= 0:
                    break
                done, _ = await asyncio.wait(work, timeout=min(rest, 1), return_when=asyncio.FIRST_COMPLETED)
                if done:
                    break
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            reply.close()
            connection.force_close()
        return answer


def hostname(text: str | None) -> str:
    """Host header or SNI, without its port."""
    return (text or "").lower().rsplit(":", 1)[0].rstrip(".")


def tokens(values: list[str]) -> set[str]:
    return {token.strip().lower() for value in values for token in value.split(",")}


def end_to_end(headers: Mapping[str, str]) -> CIMultiDict[str]:
    dropped = HOP_BY_HOP | EDGE_ONLY
    if "Connection" in headers:
        dropped = dropped | tokens([headers["Connection"]])
    return CIMultiDict((name, value) for name, value in headers.items() if name.lower() not in dropped)


def append(headers: CIMultiDict[str], name: str, value: str) -> None:
    headers[name] = ", ".join([*headers.getall(name, []), value])
