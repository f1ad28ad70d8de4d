# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What is kept at the proxy to spare the tunnel's quota, and what never is."""

from __future__ import annotations

import gzip
import itertools
import re
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.rig.edge_client import Edge
from tests.rig.shell import run

from . import stand
from .conftest import STREAMLIT
from .visitor import Reply, ask

HOST = "ocapistaine.vaettir.example"
SCRIPT = b"console.log('sardines');\n" * 400


class App(ThreadingHTTPServer):
    """Answers each path with the headers that the test has set, and counts."""

    daemon_threads = True

    def __init__(self, address: str) -> None:
        super().__init__((address, 0), Handler)
        self.url = f"http://{address}:{self.server_port}"
        self.asked: Counter[str] = Counter()
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.encodings: list[str] = []
        self.hold = threading.Event()
        self.hold.set()


class Handler(BaseHTTPRequestHandler):
    server: App
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # the name is http.server's
        self.server.asked[self.path] += 1
        self.server.encodings.append(self.headers.get("Accept-Encoding", ""))
        self.server.hold.wait(10)
        status, headers, body = self.server.answers.get(self.path, (200, {"Content-Type": "text/javascript"}, SCRIPT))
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def app(outside: dict[str, Any]) -> Iterator[App]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect((outside["ip"], 9))  # nothing is sent: which address of this machine do containers see?
        server = App(probe.getsockname()[0])
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()


@pytest.fixture(scope="module")
def proxy(app: App, agent: Callable[..., dict[str, Any]]) -> Iterator[stand.Proxy]:
    with stand.proxy(agent(target_url=app.url)) as running:
        yield running


numbers = itertools.count(10)


def fresh() -> str:
    """A path of Streamlit's kind that nobody has asked for."""
    return f"/static/js/index.BvxJca{next(numbers)}.js"


def get(proxy: stand.Proxy, path: str, *headers: tuple[str, str]) -> Reply:
    return ask(proxy.ip, "GET", path, [("Host", HOST), *headers])


def test_asset_is_asked_for_once(app: App, proxy: stand.Proxy) -> None:
    path = fresh()
    for _ in range(3):
        reply = get(proxy, path, ("Cookie", "session=1"))
        assert (reply.status, reply.body) == (200, SCRIPT)
    assert app.asked[path] == 1


def test_a_browser_names_its_own_origin(app: App, proxy: stand.Proxy) -> None:
    """Chromium does so with every module script, and those are nearly all of a page."""
    path = fresh()
    for _ in range(2):
        assert get(proxy, path, ("Origin", f"https://{HOST}")).body == SCRIPT
    assert app.asked[path] == 1
    assert get(proxy, path, ("Origin", "https://elsewhere.example")).body == SCRIPT
    assert app.asked[path] == 2


def test_hundred_visitors_at_once_ask_once(app: App, proxy: stand.Proxy) -> None:
    path = fresh()
    app.hold.clear()
    threading.Timer(0.5, app.hold.set).start()
    with ThreadPoolExecutor(100) as pool:
        replies = list(pool.map(lambda _: get(proxy, path), range(100)))
    assert {reply.body for reply in replies} == {SCRIPT}
    assert app.asked[path] == 1


def test_compressed_to_who_wants_it(app: App, proxy: stand.Proxy) -> None:
    path = fresh()
    packed = get(proxy, path, ("Accept-Encoding", "gzip, deflate, br, zstd"))
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == SCRIPT
    assert len(packed.body) < len(SCRIPT) / 5
    assert get(proxy, path).body == SCRIPT
    assert app.asked[path] == 1


def test_compressed_by_the_app(app: App, proxy: stand.Proxy) -> None:
    """One stored answer serves all, those who cannot unpack it included."""
    path = fresh()
    headers = {"Content-Type": "text/javascript", "Content-Encoding": "gzip", "Vary": "Accept-Encoding"}
    app.answers[path] = (200, headers, gzip.compress(SCRIPT))
    app.encodings.clear()
    assert get(proxy, path).body == SCRIPT
    assert gzip.decompress(get(proxy, path, ("Accept-Encoding", "gzip")).body) == SCRIPT
    assert app.asked[path] == 1
    assert app.encodings == ["gzip"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Set-Cookie": "session=1"},
        {"Cache-Control": "no-store"},
        {"Cache-Control": "private"},
        {"Cache-Control": "no-cache"},
        {"Content-Type": "text/html"},
        {"Content-Type": "application/json"},
        {"Content-Type": ""},
        {"Vary": "Cookie"},
        {"Vary": "*"},
        {"ngrok-error-code": "ERR_NGROK_3200"},
    ],
    ids=str,
)
def test_never_kept_because_of_the_answer(app: App, proxy: stand.Proxy, headers: dict[str, str]) -> None:
    path = fresh()
    app.answers[path] = (200, {"Content-Type": "text/javascript", **headers}, SCRIPT)
    for _ in range(2):
        get(proxy, path)
    assert app.asked[path] == 2


@pytest.mark.parametrize("status", [201, 301, 404, 403, 500, 503])
def test_errors_are_not_kept(app: App, proxy: stand.Proxy, status: int) -> None:
    path = fresh()
    app.answers[path] = (status, {"Content-Type": "text/javascript"}, b"no")
    assert [get(proxy, path).status for _ in range(2)] == [status, status]
    assert app.asked[path] == 2


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/index.html",
        "/_stcore/health",
        "/_stcore/static.BvxJcaR1.js",
        "/static/js/index.js",
        "/static/js/development.js",
        "/media/a1b2c3d4e5f6a7b8.png",
        "/component/x/index.BvxJcaR1.js",
        "/static/js/..%2f..%2fprofile%2fa.BvxJcaR1.js",
        "/static/js/x;a.BvxJcaR2.js",
        "/static/js/a.BvxJcaR3.js?user=1",
        "/static/js/a.BvxJcaR4.json",
    ],
)
def test_never_kept_because_of_the_path(app: App, proxy: stand.Proxy, path: str) -> None:
    before = app.asked[path]
    for _ in range(2):
        get(proxy, path)
    assert app.asked[path] - before == 2


def test_authorization_neither_stores_nor_takes(app: App, proxy: stand.Proxy) -> None:
    path = fresh()
    login = ("Authorization", "Basic eDp5")
    get(proxy, path, login)
    get(proxy, path)
    assert app.asked[path] == 2
    get(proxy, path, login)
    assert app.asked[path] == 3


def test_generic_profile_keeps_what_the_app_allows(app: App, agent: Callable[..., dict[str, Any]]) -> None:
    with stand.proxy(agent(target_url=app.url, profile="generic")) as running:
        allowed, silent = "/dist/app-3fa9c1d2e4.css", "/dist/app-3fa9c1d2e5.css"
        app.answers[allowed] = (200, {"Content-Type": "text/css", "Cache-Control": "max-age=600"}, b"a{}")
        app.answers[silent] = (200, {"Content-Type": "text/css"}, b"a{}")
        for path in (allowed, silent, allowed, silent):
            get(running, path)
        assert (app.asked[allowed], app.asked[silent]) == (1, 2)


def test_switched_off(app: App, agent: Callable[..., dict[str, Any]]) -> None:
    with stand.proxy(agent(target_url=app.url, static_cache=False)) as running:
        path = fresh()
        get(running, path)
        get(running, path)
        assert app.asked[path] == 2


def test_survives_a_replaced_container(edge: Edge, agent: Callable[..., dict[str, Any]]) -> None:
    """Streamlit's own assets: warm after the container was replaced, and while the tunnel is down."""
    settings = agent(target_url=f"https://{STREAMLIT}")
    tag = stand.build(settings)
    volume = run(["docker", "volume", "create", "--label", "vaettir-rig=proxy-test"]).stdout.strip()
    try:
        mount = ("-v", f"{volume}:/var/cache/vaettir")
        with stand.container(tag, settings, stand.environment(settings), *mount) as first:
            html = get(first, "/").body.decode()
            assets = re.findall(r'(?:src|href)="\.?(/static/[^"]+)"', html)
            assert assets
            bodies = {path: get(first, path).body for path in assets}
        edge.reset()
        with stand.container(tag, settings, stand.environment(settings), *mount) as second, edge.stopped(STREAMLIT):
            assert get(second, "/").status == 503
            assert {path: get(second, path).body for path in assets} == bodies
            assert [request.path for request in edge.requests()] == ["/"]
            # What the cache answers does not mean that the tunnel is back.
            assert b'"up":false' in get(second, "/__vaettir/status").body
    finally:
        stand.remove_image(tag)
        run(["docker", "volume", "rm", "-f", volume], check=False)
