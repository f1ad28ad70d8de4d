# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What one visitor may take, and what all together: the others, the health check and the page live whatever they do."""

from __future__ import annotations

import itertools
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.rig.edge_client import Edge
from tests.rig.shell import wait_for

from . import stand
from .conftest import ECHO
from .visitor import Reply, ask, handshake_headers

HOST = "ocapistaine.vaettir.example"
BROWSER = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8")
ONE, OTHER = "203.0.113.1", "203.0.113.2"
WEBSOCKETS, REQUESTS, RATE, BURST = 6, 4, 1, 12
LIMITS = {"visitor_websockets": WEBSOCKETS, "visitor_requests": REQUESTS, "visitor_rate": RATE, "visitor_burst": BURST}
addresses = (f"198.51.{number // 250}.{number % 250 + 1}" for number in itertools.count())


@pytest.fixture(scope="module")
def proxy(agent: Callable[..., dict[str, Any]]) -> Iterator[stand.Proxy]:
    with stand.proxy(agent(**LIMITS, profile="fastapi")) as running:
        yield running


@pytest.fixture
def one() -> str:
    """A visitor that no other test has been."""
    return next(addresses)


def get(proxy: stand.Proxy, visitor: str, path: str = "/", *headers: tuple[str, str], method: str = "GET") -> Reply:
    body = b"x" * 3_000_000 if method == "POST" else b""
    return ask(proxy.ip, method, path, [("Host", HOST), ("X-Forwarded-For", visitor), *headers], body)


def open_socket(proxy: stand.Proxy, visitor: str) -> tuple[int, socket.socket, str]:
    """The status of a handshake, its connection, and what else the answer says."""
    connection = socket.create_connection((proxy.ip, 80), timeout=20)
    headers = [*handshake_headers(HOST, f"https://{HOST}"), ("X-Forwarded-For", visitor)]
    lines = ["GET /ws HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
    connection.sendall("\r\n".join(lines).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = connection.recv(4096)
        assert data, "closed without an answer"
        answer += data
    return int(answer.split()[1]), connection, answer.decode("latin-1").lower()


@contextmanager
def sockets(proxy: stand.Proxy, visitors: list[str]) -> Iterator[Counter[int]]:
    """As many handshakes, all of them open at once."""
    with ExitStack() as stack:
        found: Counter[int] = Counter()
        for visitor in visitors:
            status, connection, _ = open_socket(proxy, visitor)
            stack.callback(connection.close)
            found[status] += 1
        yield found


def assert_line(reply: Reply) -> None:
    assert (reply.status, reply.headers["x-vaettir-state"]) == (429, "busy")
    assert int(reply.headers["retry-after"]) > 0
    assert reply.body == b"ocapistaine: busy\n"


def test_open_websockets(proxy: stand.Proxy, one: str) -> None:
    with sockets(proxy, [one] * WEBSOCKETS) as found:
        assert found == {101: WEBSOCKETS}
        status, connection, answer = open_socket(proxy, one)
        connection.close()
        assert status == 429
        assert "\r\nretry-after: 10\r\n" in answer
        assert "\r\nx-vaettir-state: busy\r\n" in answer
        with sockets(proxy, [OTHER]) as others:
            assert others == {101: 1}
        assert get(proxy, one).status == 200
    wait_for("a place", lambda: open_socket(proxy, one)[0] == 101, 5)


def test_requests_at_once(proxy: stand.Proxy, one: str) -> None:
    with ThreadPoolExecutor(REQUESTS) as pool:
        slow = [pool.submit(get, proxy, one, "/slow/3") for _ in range(REQUESTS)]
        time.sleep(0.7)
        assert_line(get(proxy, one))
        assert_line(get(proxy, one, "/form", method="POST"))
        assert_line(get(proxy, one, "/", ("Accept", "application/json")))
        page = get(proxy, one, "/", BROWSER)
        assert (page.status, page.headers["x-vaettir-state"]) == (429, "busy")
        assert b'data-state="busy"' in page.body
        assert int(page.headers["retry-after"]) > 0
        assert get(proxy, OTHER).status == 200
        assert {future.result().status for future in slow} == {200}
    assert get(proxy, one).status == 200


@pytest.mark.parametrize(
    "path", ["/", "/dist/a.BvxJcaRd.js?{}", "/dist/a.BvxJc{:03}.js"], ids=["page", "query of an asset", "unknown asset"]
)
def test_requests_through_the_tunnel(proxy: stand.Proxy, edge: Edge, one: str, path: str) -> None:
    edge.reset()
    begin = time.monotonic()
    found = Counter(get(proxy, one, path.format(number)).status for number in range(4 * BURST))
    allowed = 1 + BURST + RATE * (time.monotonic() - begin) + 1
    assert found.keys() == {200, 429}
    assert found[200] <= allowed
    assert edge.counters()["by_host"][ECHO]["requests"] == found[200]
    assert get(proxy, OTHER).status == 200
    # Handshakes go through the tunnel, too.
    status, connection, _ = open_socket(proxy, one)
    connection.close()
    assert status == 429


def test_what_the_cache_has_is_free(agent: Callable[..., dict[str, Any]], edge: Edge, one: str) -> None:
    settings = agent(target_url="https://ocapistaine.ngrok-free.app", **LIMITS)
    with stand.proxy(settings) as streamlit:
        html = get(streamlit, OTHER).body.decode()
        asset = "/static/js/" + html.split("static/js/", 1)[1].split('"', 1)[0]
        assert get(streamlit, OTHER, asset).status == 200
        edge.reset()
        assert {get(streamlit, one, asset).status for _ in range(5 * BURST)} == {200}
        assert edge.requests() == []


def test_visitors_are_counted_by_network(proxy: stand.Proxy) -> None:
    """IPv6: the addresses of one /64 are one visitor's; IPv4: each address is."""
    with sockets(proxy, [f"2001:db8:1:2:{number:x}::{number:x}" for number in range(1, WEBSOCKETS + 3)]) as found:
        assert found == {101: WEBSOCKETS, 429: 2}
        with sockets(proxy, ["2001:db8:1:3::1", "2001:db8:1::1", "192.0.2.1"]) as others:
            assert others == {101: 3}
    with sockets(proxy, [f"::ffff:192.0.2.{number}" for number in range(1, WEBSOCKETS + 3)]) as found:
        assert found == {101: WEBSOCKETS + 2}


def test_what_is_forged_does_not_count(proxy: stand.Proxy, one: str) -> None:
    """Traefik appends the address that it saw."""
    with sockets(proxy, [f"192.0.2.{number}, {one}" for number in range(1, WEBSOCKETS + 2)]) as found:
        assert found == {101: WEBSOCKETS, 429: 1}


def test_one_visitor_with_five_hundred_sockets(agent: Callable[..., dict[str, Any]], one: str) -> None:
    """With few connections and the limits as they come."""
    defaults = {name: value for name, value in stand.settings().items() if name.startswith("visitor_")}
    with stand.proxy(agent(**defaults, worker_connections=256)) as proxy, sockets(proxy, [one] * 520) as found:
        assert found.keys() == {101, 429}
        for _ in range(5):
            assert proxy.healthy()
            assert get(proxy, OTHER).status == 200
        with sockets(proxy, [OTHER]) as others:
            assert others == {101: 1}


def test_above_the_capacity_there_is_an_answer(agent: Callable[..., dict[str, Any]]) -> None:
    settings = agent(worker_connections=256)
    most = settings["worker_requests"] * settings["worker_processes"]
    with stand.proxy(settings) as proxy:
        with sockets(proxy, [next(addresses) for _ in range(2 * most)]) as found:
            assert found.keys() == {101, 429}
            assert most / 2 <= found[101] <= most
            for _ in range(5):
                assert proxy.healthy()
                assert get(proxy, OTHER, "/", BROWSER).headers.get("x-vaettir-state", "busy") == "busy"
        wait_for("places", lambda: get(proxy, OTHER).status == 200, 5)
        assert "not enough" not in proxy.logs()


def test_killed_workers_leave_nothing_in_the_count(agent: Callable[..., dict[str, Any]], one: str) -> None:
    settings = agent(**LIMITS)
    with stand.proxy(settings) as proxy:
        for invite in ("one", "two"):
            with sockets(proxy, [one] * WEBSOCKETS) as found:
                assert found == {101: WEBSOCKETS}, invite
                new = stand.environment(settings, f"https://discord.gg/{invite}")
                assert proxy.exec("agent-proxy", "reload", "now", env=new).stdout == "reloaded\n"
                wait_for("the end of the old workers", lambda: proxy.state()["draining"] == "0", 10)
