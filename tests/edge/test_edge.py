# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The contract of the ngrok edge stand-in: what is known of the real edge, row by row and sentence by sentence.

The clients are the standard library's and `websockets`: nothing that the edge itself is made of.
"""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import http.client
import json
import os
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from tests.rig.edge_client import Edge, EdgeError

ROOT = Path(__file__).parents[2]
ECHO = "second.ngrok-free.app"
PAID = "agent.ngrok.app"
BROWSER = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/140.0 Safari/537.36"

# Code and status as the facts have them; None: nobody has documented the status.
ERRORS = {
    "ERR_NGROK_3200": 404,
    "ERR_NGROK_8012": 502,
    "ERR_NGROK_3004": None,
    "ERR_NGROK_6024": 200,
    "ERR_NGROK_734": 403,
    "ERR_NGROK_702": 429,
    "ERR_NGROK_703": None,
    "ERR_NGROK_725": None,
    "ERR_NGROK_727": 402,
    **{f"ERR_NGROK_{number}": None for number in (726, 728, 729, 730, 731)},
    **{f"ERR_NGROK_{number}": None for number in (3208, 338, 8014, 3213, 3206)},
    **{f"ERR_NGROK_{number}": None for number in (3202, 3203, 3205, 724, 742, 743)},
}


class Answer(NamedTuple):
    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @property
    def code(self) -> str | None:
        return self.headers["ngrok-error-code"]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def app_saw(self) -> dict[str, str]:
        """The request's headers as the echo app got them."""
        return {name.lower(): value for name, value in self.json["headers"]}


class World(NamedTuple):
    """The edge under test, on free ports of loopback."""

    edge: Edge
    trust: ssl.SSLContext
    trust_1_2: ssl.SSLContext
    https_port: int
    http_port: int
    echo_port: int

    def line(self, sni: str | None = ECHO) -> ssl.SSLSocket:
        trust = self.trust
        if sni is None:
            trust = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE
        return trust.wrap_socket(
            socket.create_connection(("127.0.0.1", self.https_port), timeout=5), server_hostname=sni
        )

    def connection(self, sni: str | None = ECHO, plain: bool = False) -> http.client.HTTPConnection:
        connection = http.client.HTTPConnection(sni or ECHO, timeout=5)
        if plain:
            connection.sock = socket.create_connection(("127.0.0.1", self.http_port), timeout=5)
        else:
            connection.sock = self.line(sni)
        return connection

    def ask(
        self,
        path: str = "/",
        host: str = ECHO,
        method: str = "GET",
        body: Any = None,
        sni: str | None = "",
        plain: bool = False,
        **headers: Any,
    ) -> Answer:
        connection = self.connection(host.split(":")[0].lower() if sni == "" else sni, plain)
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, {"Host": host, "User-Agent": "probe", **named})
        return read(connection)

    def socket(self, path: str = "/ws", host: str = ECHO, **options: Any) -> ClientConnection:
        options = {"user_agent_header": "probe", "proxy": None, "open_timeout": 5, **options}
        # TLS 1.2: session tickets of 1.3 that come alone make the blocking client of `websockets` hang
        line = socket.create_connection(("127.0.0.1", self.https_port), timeout=5)
        return connect(f"wss://{host}{path}", sock=line, ssl=self.trust_1_2, **options)


def read(connection: http.client.HTTPConnection) -> Answer:
    reply = connection.getresponse()
    return Answer(reply.status, reply.headers, reply.read())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("edge")
    ca = trustme.CA()
    names = {"edge": ["*.ngrok-free.app", "*.ngrok-free.dev", "*.ngrok.app", "edge.test"], "other": ["other.example"]}
    for name, hosts in names.items():
        issued = ca.issue_cert(*hosts)
        issued.private_key_pem.write_to_path(str(folder / f"{name}.key"))
        (folder / f"{name}.pem").write_bytes(b"".join(blob.bytes() for blob in issued.cert_chain_pems))
    trust, trust_1_2 = ssl.create_default_context(), ssl.create_default_context()
    for context in (trust, trust_1_2):
        ca.configure_trust(context)
    trust_1_2.maximum_version = ssl.TLSVersion.TLSv1_2
    ports = {name: free_port() for name in ("https", "http", "control", "echo")}
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.rig.outside", "--address=127.0.0.1", "--no-dns", "--no-streamlit"),
            *(f"--{name}-port={port}" for name, port in ports.items()),
            *(f"--cert={folder / 'edge.pem'}", f"--key={folder / 'edge.key'}"),
            *("--wrong-name", str(folder / "other.pem"), str(folder / "other.key")),
        ],
        cwd=ROOT,
    )
    edge = Edge(f"http://127.0.0.1:{ports['control']}")
    try:
        edge.wait(10)
        yield World(edge, trust, trust_1_2, ports["https"], ports["http"], ports["echo"])
    finally:
        process.terminate()
        assert process.wait(10) == 0


@pytest.fixture(autouse=True)
def _as_at_start(world: World) -> None:
    """Every test finds two whole tunnels to the echo app, one free and one paid."""
    for host in world.edge.tunnels():
        world.edge.delete(host)
    for host in (ECHO, PAID):
        world.edge.put(host, f"http://127.0.0.1:{world.echo_port}")
    world.edge.idle(300)
    if world.edge.call("GET", "/delay")["ms"]:
        world.edge.delay(0)
    world.edge.reset()


@pytest.fixture
def raw_app(world: World) -> Iterator[Callable[[Callable[[socket.socket], None]], None]]:
    """Puts an app behind the echo tunnel that treats each connection with a function."""
    listener = socket.create_server(("127.0.0.1", 0))

    def put(treat: Callable[[socket.socket], None]) -> None:
        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    peer, _ = listener.accept()
                    with contextlib.suppress(OSError), peer:
                        treat(peer)

        threading.Thread(target=serve, daemon=True).start()
        world.edge.put(ECHO, f"http://127.0.0.1:{listener.getsockname()[1]}")

    yield put
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


# -- the table ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("code", ERRORS)
def test_error_has_its_header_and_status(world: World, code: str) -> None:
    world.edge.fault(ECHO, code)
    for method in ("GET", "HEAD", "POST"):
        answer = world.ask(method=method, body=b"x" * 100_000 if method == "POST" else None)
        assert answer.code == code
        assert answer.status == (ERRORS[code] or answer.status)
        assert (method == "HEAD") == (answer.body == b"")
    with pytest.raises(InvalidStatus) as refused:
        world.socket()
    assert refused.value.response.headers["ngrok-error-code"] == code
    world.edge.fault(ECHO, None)
    assert world.ask().code is None


@pytest.mark.parametrize("status", [200, 402, 403, 404, 429, 502])
def test_the_same_page_arrives_with_many_statuses(world: World, status: int) -> None:
    world.edge.fault(ECHO, "ERR_NGROK_3200", status)
    assert world.ask()[0] == status


def test_3200_when_no_tunnel_has_the_name(world: World) -> None:
    assert world.ask(host="nobody.ngrok-free.app")[0] == 404
    with world.edge.stopped(ECHO):
        text, page = world.ask(), world.ask(User_Agent=BROWSER)
    assert (text.status, text.code) == (page.status, page.code) == (404, "ERR_NGROK_3200")
    assert text.headers.get_content_type() == "text/plain"
    assert b"ERR_NGROK_3200" in text.body
    assert page.headers.get_content_type() == "text/html"
    assert page.body.startswith(b"<!DOCTYPE html>")
    assert world.ask().status == 200


def test_8012_when_nothing_listens(world: World) -> None:
    world.edge.put(ECHO, f"http://127.0.0.1:{free_port()}")
    answer = world.ask()
    assert (answer.status, answer.code) == (502, "ERR_NGROK_8012")
    with pytest.raises(InvalidStatus) as refused:
        world.socket()
    assert refused.value.response.headers["ngrok-error-code"] == "ERR_NGROK_8012"


@pytest.mark.parametrize("garbage", [b"", b"\x15\x03\x01\x00\x02\x02\x16", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 2"])
def test_3004_when_the_app_does_not_speak_http(world: World, raw_app: Any, garbage: bytes) -> None:
    def treat(peer: socket.socket) -> None:
        peer.recv(65536)
        peer.sendall(garbage)

    raw_app(treat)
    assert world.ask().code == "ERR_NGROK_3004"
    assert world.ask(method="POST", body=b"x").code == "ERR_NGROK_3004"


@pytest.mark.parametrize(
    ("agent", "skip", "host", "shown"),
    [
        (BROWSER, False, ECHO, True),
        (BROWSER, True, ECHO, False),
        ("curl/8.14", False, ECHO, False),
        (BROWSER, False, PAID, False),
    ],
)
def test_6024_only_for_browsers_without_the_skip_header_on_free_hosts(
    world: World, agent: str, skip: bool, host: str, shown: bool
) -> None:
    world.edge.put(host, f"http://127.0.0.1:{world.echo_port}")
    skip_header: dict[str, Any] = {"ngrok_skip_browser_warning": "true"} if skip else {}
    answer = world.ask(host=host, User_Agent=agent, **skip_header)
    assert answer.status == 200
    assert answer.code == ("ERR_NGROK_6024" if shown else None)
    assert answer.headers.get_content_type() == ("text/html" if shown else "application/json")


def test_6024_on_the_other_free_domain(world: World) -> None:
    world.edge.put("third.ngrok-free.dev", f"http://127.0.0.1:{world.echo_port}")
    assert world.ask(host="third.ngrok-free.dev", User_Agent=BROWSER).code == "ERR_NGROK_6024"


def test_3206_for_an_upgrade_without_its_connection_header(world: World) -> None:
    assert world.ask("/ws", Upgrade="websocket").code == "ERR_NGROK_3206"


def test_only_the_edge_sets_its_error_header(world: World) -> None:
    answer = world.ask("/spoof")
    assert (answer.status, answer.code) == (200, None)
    assert answer.headers["X-Accel-Redirect"] == "/offline", "any other header is the app's own business"


# -- routing and forwarded headers ----------------------------------------------------------------------------------


def test_routes_by_host_and_passes_it_on(world: World) -> None:
    assert world.ask(host=f"{ECHO}:443").app_saw["host"] == f"{ECHO}:443"
    assert world.ask(host=ECHO.upper()).app_saw["host"] == ECHO.upper()


def test_the_tls_name_must_be_the_host(world: World) -> None:
    answer = world.ask(host=ECHO, sni="ocapistaine.ngrok-free.app")
    assert (answer.status, answer.code) == (421, None)


def test_3003_without_a_tls_name(world: World) -> None:
    assert world.ask(host=ECHO, sni=None).code == "ERR_NGROK_3003"


def test_forwarded_headers(world: World) -> None:
    bare = world.ask().app_saw
    assert bare["x-forwarded-for"] == "127.0.0.1"
    assert bare["x-forwarded-proto"] == "https"
    assert bare["x-forwarded-host"] == ECHO
    full = world.ask(X_Forwarded_For="203.0.113.7", X_Forwarded_Proto="https", X_Forwarded_Host="a.example").app_saw
    assert full["x-forwarded-for"] == "203.0.113.7, 127.0.0.1"
    assert full["x-forwarded-proto"] == "https, https"
    assert full["x-forwarded-host"] == "a.example"
    assert world.ask(plain=True).app_saw["x-forwarded-proto"] == "http"


def test_hop_by_hop_headers_end_at_the_edge_and_all_others_pass(world: World) -> None:
    answer = world.ask(
        Connection="X-Mine, keep-alive", X_Mine="1", Keep_Alive="timeout=5", Cookie="a=1; b=2", Origin="x://y"
    )
    assert not {"x-mine", "keep-alive"} & set(answer.app_saw)
    assert (answer.app_saw["cookie"], answer.app_saw["origin"]) == ("a=1; b=2", "x://y")
    assert answer.headers["X-App"] == "echo"


def test_path_and_query_pass_byte_for_byte(world: World) -> None:
    for path in ("/a%2Fb//c/../d;e?x=%20+&y=%C3%A9", "/%7Euser", "//host/x"):
        assert world.ask(path).json["path"] == path


# -- bodies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [201, 204, 301, 304, 400, 401, 403, 404, 418, 429, 500, 502, 503, 504])
def test_the_apps_own_answers_pass(world: World, status: int) -> None:
    for method in ("GET", "POST", "HEAD"):
        answer = world.ask(f"/status/{status}", method=method)
        assert (answer.status, answer.code, answer.headers["X-App"]) == (status, None, "echo")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PROPFIND"])
def test_any_method_with_a_body(world: World, method: str) -> None:
    answer = world.ask("/x", method=method, body=b"abc")
    assert (answer.json["method"], answer.json["body"]["length"]) == (method, 3)


def test_200_mb_up_with_and_without_a_length(world: World) -> None:
    piece, pieces = os.urandom(1 << 20), 200
    digest = hashlib.sha256(piece * pieces).hexdigest()
    lengths: list[dict[str, Any]] = [{"Content_Length": str(len(piece) * pieces)}, {}]
    for headers in lengths:
        answer = world.ask("/up", method="PUT", body=(piece for _ in range(pieces)), **headers)
        assert answer.json["body"] == {"length": len(piece) * pieces, "sha256": digest}


def test_100_mb_down_with_and_without_a_length(world: World) -> None:
    size = 100 << 20
    expected = hashlib.sha256(bytes(range(256)) * (size // 256)).hexdigest()
    for path, length in ((f"/body/{size}", str(size)), (f"/body/{size}?chunked=1", None)):
        answer = world.ask(path)
        assert answer.headers["Content-Length"] == length
        assert hashlib.sha256(answer.body).hexdigest() == expected


def test_compressed_bodies_stay_compressed(world: World, raw_app: Any) -> None:
    packed = gzip.compress(b"hello" * 100)

    def treat(peer: socket.socket) -> None:
        peer.recv(65536)
        head = (
            f"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {len(packed)}\r\nConnection: close\r\n\r\n"
        )
        peer.sendall(head.encode() + packed)

    up = world.ask(method="POST", body=packed, Content_Encoding="gzip")
    assert up.json["body"]["sha256"] == hashlib.sha256(packed).hexdigest()
    raw_app(treat)
    answer = world.ask(Accept_Encoding="gzip")
    assert (answer.body, answer.headers["Content-Encoding"]) == (packed, "gzip")
    assert answer.headers["Content-Type"] is None, "nothing is made up"


def test_doubled_and_large_response_headers(world: World, raw_app: Any) -> None:
    def treat(peer: socket.socket) -> None:
        peer.recv(65536)
        large = "x" * 32_000
        peer.sendall(f"HTTP/1.1 200 Fine\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nX-L: {large}\r\n\r\nbody".encode())

    assert sum(map(len, world.ask("/headers/32768").headers.values())) > 32768
    raw_app(treat)
    answer = world.ask()
    assert answer.headers.get_all("Set-Cookie") == ["a=1", "b=2"]
    assert (len(answer.headers["X-L"]), answer.body) == (32_000, b"body")


def test_upload_is_not_held_back(world: World, raw_app: Any) -> None:
    """The app answers to the first half before the second is sent."""

    def treat(peer: socket.socket) -> None:
        got = b""
        while b"first" not in got:
            got += peer.recv(65536)
        peer.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\ngot1")
        while b"second" not in got:
            got += peer.recv(65536)

    raw_app(treat)
    with world.line() as line:
        line.sendall(f"POST / HTTP/1.1\r\nHost: {ECHO}\r\nContent-Length: 11\r\n\r\nfirst".encode())
        assert b"got1" in until(line, b"got1")
        line.sendall(b"second")


def test_events_are_not_held_back(world: World) -> None:
    start = time.monotonic()
    with world.line() as line:
        line.sendall(f"GET /sse?count=2&interval=0.6 HTTP/1.1\r\nHost: {ECHO}\r\n\r\n".encode())
        until(line, b"data: 0")
        assert time.monotonic() - start < 0.4
        until(line, b"data: 1")
        assert time.monotonic() - start > 0.5


def test_half_an_answer_stays_half(world: World) -> None:
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        world.ask("/break")


def test_100_continue(world: World) -> None:
    with world.line() as line:
        line.sendall(f"PUT / HTTP/1.1\r\nHost: {ECHO}\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n".encode())
        assert until(line, b"\r\n\r\n").startswith(b"HTTP/1.1 100 Continue\r\n")
        line.sendall(b"abc")
        assert b'"length": 3' in until(line, b'"length": 3')


def test_http_1_0(world: World) -> None:
    with world.line() as line:
        line.sendall(f"GET /body/1000?chunked=1 HTTP/1.0\r\nHost: {ECHO}\r\n\r\n".encode())
        answer = until(line, None)
    assert b"chunked" not in answer.lower()
    assert len(answer.split(b"\r\n\r\n", 1)[1]) == 1000


def until(line: socket.socket, mark: bytes | None) -> bytes:
    """What comes, up to the mark, or to the end."""
    got = b""
    while mark is None or mark not in got:
        piece = line.recv(65536)
        if not piece:
            assert mark is None, got
            break
        got += piece
    return got


# -- WebSockets -----------------------------------------------------------------------------------------------------


def test_websocket_messages_pings_and_subprotocols(world: World) -> None:
    with world.socket(subprotocols=[Subprotocol("streamlit"), Subprotocol("token")], max_size=None) as peer:
        assert peer.subprotocol == "streamlit"
        peer.send("é" * 1000)
        assert peer.recv(timeout=5) == "é" * 1000
        large = os.urandom(3 << 20)
        peer.send(large)
        assert peer.recv(timeout=5) == large
        peer.send(["in ", "three ", "frames"])
        assert peer.recv(timeout=5) == "in three frames"
        assert peer.ping().wait(5)


@pytest.mark.parametrize(("code", "reason"), [(1000, "done"), (1001, ""), (4321, "app's own")])
def test_websocket_close_codes(world: World, code: int, reason: str) -> None:
    with world.socket() as peer:
        peer.send(f"close {code} {reason}")
        with pytest.raises(ConnectionClosed) as closed:
            peer.recv(timeout=5)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (code, reason)


@pytest.mark.parametrize(
    ("origin", "accepted"), [(f"https://{ECHO}", True), (None, True), ("https://evil.example", False)]
)
def test_websocket_origin_is_for_the_app_to_judge(world: World, origin: str | None, accepted: bool) -> None:
    if accepted:
        with world.socket("/_stcore/stream", origin=origin) as peer:
            peer.send("hello")
            assert peer.recv(timeout=5) == "hello"
        return
    with pytest.raises(InvalidStatus) as refused:
        world.socket("/_stcore/stream", origin=origin)
    response = refused.value.response
    assert (response.status_code, response.body) == (403, b"Cross origin websockets not allowed")
    assert "ngrok-error-code" not in response.headers


def test_websocket_handshake_reaches_the_app_unchanged(world: World) -> None:
    key = base64.b64encode(os.urandom(16)).decode()
    accept = base64.b64encode(hashlib.sha1(f"{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11".encode()).digest()).decode()
    with world.line() as line:
        line.sendall(
            f"GET /ws HTTP/1.1\r\nHost: {ECHO}\r\nUpgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
            + b"\x81\x82\x00\x00\x00\x00hi"  # does not wait for the 101
        )
        head, _, frames = until(line, b"\x81\x02hi").partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert accept.encode() in head
        assert frames == b"\x81\x02hi"
    refused = world.ask(
        "/ws", Upgrade="websocket", Connection="Upgrade", Sec_WebSocket_Version="13", Sec_WebSocket_Key="x"
    )
    assert (refused.status, refused.code) == (400, None), "the app's own refusal"


def test_a_websocket_ends_with_its_client_and_with_its_tunnel(world: World, raw_app: Any) -> None:
    with world.socket() as peer, world.edge.stopped(ECHO), pytest.raises(ConnectionClosed):
        peer.recv(timeout=5)
    gone = threading.Event()

    def treat(app: socket.socket) -> None:
        app.recv(65536)
        app.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        while app.recv(65536):
            pass
        gone.set()

    raw_app(treat)
    with world.line() as line:
        line.sendall(f"GET / HTTP/1.1\r\nHost: {ECHO}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".encode())
        until(line, b"\r\n\r\n")
    assert gone.wait(5)


# -- connections ----------------------------------------------------------------------------------------------------


def test_keeps_connections_alive_and_counts(world: World) -> None:
    world.edge.reset()
    connection = world.connection()
    for number in range(3):
        connection.request("GET", f"/{number}", headers={"X-Number": str(number)})
        assert read(connection).status == 200
    with world.socket():
        pass
    with contextlib.suppress(ssl.SSLError), socket.create_connection(("127.0.0.1", world.https_port)) as stranger:
        stranger.sendall(b"no TLS\r\n\r\n")
    time.sleep(0.1)
    counters = world.edge.counters()
    assert counters["by_host"].pop(ECHO) == {"connections": 2, "tls_handshakes": 2, "requests": 4, "upgrades": 1}
    assert counters == {"connections": 3, "tls_handshakes": 2, "requests": 4, "upgrades": 1, "by_host": {}}
    seen = world.edge.requests()
    assert [request.path for request in seen] == ["/0", "/1", "/2", "/ws"]
    assert (seen[1].method, seen[1].host, seen[1].headers["x-number"]) == ("GET", ECHO, "1")
    world.edge.reset()
    assert world.edge.counters()["requests"] == len(world.edge.requests()) == 0


def test_idle_connections_close(world: World) -> None:
    assert world.edge.call("GET", "/idle") == {"seconds": 300}, "five minutes"
    world.edge.idle(0.5)
    connection = world.connection()
    connection.request("GET", "/")
    assert read(connection).status == 200
    start = time.monotonic()
    assert connection.sock.recv(1) == b""
    assert 0.3 < time.monotonic() - start < 2


def test_idle_websockets_close_and_busy_ones_do_not(world: World) -> None:
    world.edge.idle(0.5)
    with world.socket() as peer:
        for _ in range(4):
            time.sleep(0.25)
            peer.send("here")
            assert peer.recv(timeout=5) == "here"
        start = time.monotonic()
        with pytest.raises(ConnectionClosed):
            peer.recv(timeout=5)
        assert 0.3 < time.monotonic() - start < 2


def test_reset(world: World) -> None:
    kept = world.connection()
    kept.request("GET", "/")
    assert read(kept).status == 200
    with world.edge.faulty(ECHO, "reset"):
        with pytest.raises(ConnectionResetError):
            world.ask()
        with pytest.raises(ConnectionResetError):
            socket.socket.recv(kept.sock, 1)  # below TLS, which takes a reset for an end
        assert world.ask(host=PAID).status == 200, "only this tunnel"
    assert world.ask().status == 200


def test_blackhole(world: World) -> None:
    with world.edge.faulty(ECHO, "blackhole"):
        raw = socket.create_connection(("127.0.0.1", world.https_port), timeout=0.5)
        with pytest.raises(TimeoutError):
            world.trust.wrap_socket(raw, server_hostname=ECHO)
        assert world.ask(host=PAID).status == 200, "only this tunnel"
    assert world.ask().status == 200


@pytest.mark.parametrize(("fault", "words"), [("bad_certificate", "self-signed"), ("wrong_name", "not valid for")])
def test_certificates(world: World, fault: str, words: str) -> None:
    with world.edge.faulty(ECHO, fault):
        with pytest.raises(ssl.SSLCertVerificationError, match=words):
            world.ask()
        assert world.ask(host=PAID).status == 200, "only this tunnel"
    assert world.ask().status == 200


def test_a_long_line_costs_a_round_trip_for_tcp_for_tls_and_for_each_request(world: World) -> None:
    world.edge.delay(60)
    start = time.monotonic()
    connection = world.connection()
    times = []
    for _ in range(3):
        connection.request("GET", "/")
        assert read(connection).status == 200
        times.append(time.monotonic() - start)
        start = time.monotonic()
    assert 0.17 < times[0] < 0.28
    assert all(0.055 < seconds < 0.1 for seconds in times[1:])
    assert len(world.ask("/body/3000000").body) == 3_000_000
    world.edge.delay(0)
    assert world.ask().status == 200


# -- the control API ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "body", "words"),
    [
        ("PUT", "/tunnels/a b", {"app": "http://127.0.0.1:1"}, "'a b' is not a host name"),
        ("PUT", f"/tunnels/{ECHO}", {"app": "127.0.0.1:1"}, "app must be a URL like"),
        ("PUT", f"/tunnels/{ECHO}", {"app": "http://127.0.0.1:1/x"}, "without a path"),
        ("PUT", f"/tunnels/{ECHO}", {}, "with these keys: app"),
        ("DELETE", "/tunnels/nobody.example", None, "no tunnel nobody.example; there are:"),
        ("PUT", "/tunnels/nobody.example/fault", {"fault": None}, "no tunnel nobody.example"),
        ("PUT", f"/tunnels/{ECHO}/fault", {"fault": "ERR_NGROK_1"}, "unknown fault 'ERR_NGROK_1'; there are:"),
        ("PUT", f"/tunnels/{ECHO}/fault", {"fault": "ERR_NGROK_734", "status": 99}, "status must be a number from 200"),
        ("PUT", f"/tunnels/{ECHO}/fault", {"fault": "reset", "status": 500}, "status goes with a fault ERR_NGROK"),
        ("PUT", f"/tunnels/{ECHO}/fault", {"fault": "expired_certificate"}, "without a certificate for the fault"),
        ("PUT", "/delay", {"ms": "30"}, "ms must be a number from 0 to 10000, not '30'"),
        ("PUT", "/delay", {"ms": True}, "ms must be a number"),
        ("PUT", "/idle", {"seconds": 0}, "seconds must be a number from 0.1"),
        ("PUT", "/dns", {"state": "up"}, "started without DNS"),
        ("GET", "/nothing", None, "Not Found"),
    ],
)
def test_control_refuses_with_a_clear_sentence(world: World, method: str, path: str, body: Any, words: str) -> None:
    with pytest.raises(EdgeError, match=words.replace("(", r"\(")):
        world.edge.call(method, path.replace(" ", "%20"), body)


def test_control_shows_tunnels(world: World) -> None:
    app = f"http://127.0.0.1:{world.echo_port}"
    world.edge.fault(ECHO, "ERR_NGROK_734", 429)
    assert world.edge.tunnels()[ECHO] == {"app": app, "fault": "ERR_NGROK_734", "status": 429}
    world.edge.put(ECHO, app)
    assert world.ask()[0] == 429, "another app does not end a fault"
