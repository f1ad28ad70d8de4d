# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What is kept at the proxy to spare the tunnel's quota, and what never is."""

from __future__ import annotations

import gzip
import itertools
import re
import socket
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
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
        self.methods: defaultdict[str, list[str]] = defaultdict(list)
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        self.encodings: list[str] = []
        self.hold = threading.Event()
        self.hold.set()


class Handler(BaseHTTPRequestHandler):
    server: App
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:  # the name is http.server's
        self.server.asked[self.path] += 1
        self.server.methods[self.path].append(self.command)
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.encodings.append(self.headers.get("Accept-Encoding", ""))
        self.server.hold.wait(10)
        status, headers, body = self.server.answers.get(self.path, (200, {"Content-Type": "text/javascript"}, SCRIPT))
        self.send_response(status)
        if headers.get("Connection") != "close":
            headers = {**headers, "Content-Length": str(len(body))}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 as above

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
        reply = get(proxy, path)
        assert (reply.status, reply.body) == (200, SCRIPT)
    assert app.asked[path] == 1


@pytest.mark.parametrize(
    ("says", "asked"),
    [("public", 1), ("max-age=60, public", 1), ("s-maxage=60", 1), ("", 3), ("max-age=60", 3), ("x-public-ish", 3)],
)
def test_answer_to_a_cookie_is_for_all_if_the_app_says_so(app: App, proxy: stand.Proxy, says: str, asked: int) -> None:
    """It may be one to a login."""
    path = fresh()
    app.answers[path] = (200, {"Content-Type": "text/javascript", **({"Cache-Control": says} if says else {})}, SCRIPT)
    for headers in ([("Cookie", "session=1")], [("Cookie", "session=1")], []):
        assert get(proxy, path, *headers).body == SCRIPT
    assert app.asked[path] == asked


def test_what_has_expired_is_not_served(app: App, proxy: stand.Proxy) -> None:
    """Whatever the app says by then, and though it may not be kept: it is what a visitor gets."""
    javascript = {"Content-Type": "text/javascript"}
    paths = {
        fresh(): (404, javascript, b"gone"),
        fresh(): (403, javascript, b"no"),
        fresh(): (500, javascript, b"broken"),
        fresh(): (200, {**javascript, "Cache-Control": "no-store"}, b"new"),
        fresh(): (200, {**javascript, "Set-Cookie": "a=1"}, b"new"),
        fresh(): (200, {"Content-Type": "text/html"}, b"<html>"),
    }
    for path in paths:
        app.answers[path] = (200, {**javascript, "Cache-Control": "public, max-age=1"}, SCRIPT)
        assert [get(proxy, path).body for _ in range(2)] == [SCRIPT, SCRIPT]
        assert app.asked[path] == 1
    time.sleep(2.1)
    app.answers.update(paths)
    for path, (status, _headers, body) in paths.items():
        for _ in range(3):
            reply = get(proxy, path)
            assert (reply.status, reply.body) == (status, body)


def test_what_has_expired_is_asked_for_by_its_validator(app: App, proxy: stand.Proxy) -> None:
    path = fresh()
    headers = {"Content-Type": "text/javascript", "Cache-Control": "public, max-age=1", "ETag": '"one"'}
    app.answers[path] = (200, headers, SCRIPT)
    get(proxy, path)
    time.sleep(2.1)
    app.answers[path] = (304, headers, b"")
    for _ in range(2):
        assert (get(proxy, path).status, get(proxy, path).body) == (200, SCRIPT)
    assert app.asked[path] == 2


def test_age(app: App, proxy: stand.Proxy) -> None:
    """RFC 9111, section 5.1: the app's Date, and how long ago that was; none in an answer that is new."""
    path = fresh()
    first = get(proxy, path)
    assert "age" not in first.headers
    time.sleep(2.1)
    stored = get(proxy, path)
    assert 2 <= int(stored.headers["age"]) <= 4
    date = parsedate_to_datetime(stored.headers["date"])
    assert (datetime.now(UTC) - date).total_seconds() >= 2
    app.answers[other := fresh()] = (200, {"Content-Type": "text/javascript", "Age": "500"}, SCRIPT)
    get(proxy, other)
    assert get(proxy, other).headers["age"] == "500"


def test_a_body_that_a_closed_connection_ends_is_not_kept(app: App, proxy: stand.Proxy) -> None:
    path = fresh()
    app.answers[path] = (200, {"Content-Type": "text/javascript", "Connection": "close"}, SCRIPT)
    for _ in range(2):
        assert get(proxy, path).body == SCRIPT
    assert app.asked[path] == 2


def test_a_get_with_a_body_is_another_question(app: App, proxy: stand.Proxy) -> None:
    path = fresh()
    for body in (b"user=1", b"", b""):
        ask(proxy.ip, "GET", path, [("Host", HOST)], body)
    assert app.asked[path] == 2


def test_head_stays_head(app: App, proxy: stand.Proxy) -> None:
    path = fresh()
    for method in ("HEAD", "GET", "HEAD"):
        reply = ask(proxy.ip, method, path, [("Host", HOST)])
        assert (reply.status, reply.body) == (200, SCRIPT if method == "GET" else b"")
    assert app.methods[path] == ["HEAD", "GET", "HEAD"]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST", "PATCH"])
def test_who_writes_makes_the_cache_forget(app: App, proxy: stand.Proxy, method: str) -> None:
    path, body = fresh(), b"new" if method != "DELETE" else b""
    get(proxy, path)
    assert ask(proxy.ip, method, path, [("Host", HOST)], body).status == 200
    app.answers[path] = (200, {"Content-Type": "text/javascript"}, b"new")
    assert get(proxy, path).body == b"new"
    assert app.methods[path] == ["GET", method, "GET"]


def test_a_refused_writer_changes_nothing(app: App, proxy: stand.Proxy) -> None:
    path = fresh()
    get(proxy, path)
    app.answers[path] = (403, {}, b"no")
    assert ask(proxy.ip, "PUT", path, [("Host", HOST)], b"x").status == 403
    assert get(proxy, path).body == SCRIPT


def test_each_public_name_has_its_own(app: App, agent: Callable[..., dict[str, Any]]) -> None:
    """The app is told the name, so it may answer by it."""
    with stand.proxy(agent(target_url=app.url, extra_domains=["also.one.example"])) as running:
        path = fresh()
        for host in (HOST, "also.one.example", HOST, "also.one.example", "unknown.example"):
            ask(running.ip, "GET", path, [("Host", host)])
        assert app.asked[path] == 2


def test_purge(app: App, proxy: stand.Proxy) -> None:
    path = fresh()
    get(proxy, path)
    assert int(proxy.exec("agent-proxy", "purge").stdout.split()[0]) >= 1
    for _ in range(2):
        assert get(proxy, path).body == SCRIPT
    assert app.asked[path] == 2
    assert proxy.exec("agent-proxy", "purge").stdout == "1 assets removed\n"


def test_purge_where_the_login_user_is_root(app: App, agent: Callable[..., dict[str, Any]]) -> None:
    """With no more capabilities than the compose service has."""
    capabilities = [f"--cap-add={name}" for name in ("CHOWN", "KILL", "SETGID", "SETUID")]
    with stand.proxy(agent(target_url=app.url), "--user=0:0", "--cap-drop=ALL", *capabilities) as running:
        path = fresh()
        get(running, path)
        assert running.exec("agent-proxy", "purge").stdout == "1 assets removed\n"
        get(running, path)
        assert app.asked[path] == 2


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
        "/static/js/main-sidebar2.js",
        "/static/media/logo-1920x1080.png",
        "/static/media/report-20261128.svg",
        "/static/js/../../profile/a.BvxJcaR5.js",
        "/static/js//a.BvxJcaR6.js",
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
        tomorrow = format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True)
        kept, not_kept = [{"Cache-Control": "max-age=600"}], [{}, {"Cache-Control": "public"}, {"Expires": tomorrow}]
        for number, headers in enumerate([*kept, *not_kept]):
            path = f"/dist/app-3fa9c1d2e{number}.css"
            app.answers[path] = (200, {"Content-Type": "text/css", **headers}, b"a{}")
            for _ in range(2):
                get(running, path)
            assert app.asked[path] == (1 if headers in kept else 2), headers


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
