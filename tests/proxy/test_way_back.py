# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Waiting visitors are brought back soon, and spend next to nothing of the tunnel's quota."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.rig.edge_client import Edge

from . import stand
from .conftest import ECHO
from .visitor import ask

HOST = "ocapistaine.vaettir.example"


@pytest.fixture
def waiting(image: str, settings: dict[str, Any]) -> Iterator[stand.Proxy]:
    """A proxy that has met no outage yet."""
    with stand.container(image, settings, stand.environment(settings)) as proxy:
        yield proxy


def status(proxy: stand.Proxy) -> dict[str, Any]:
    reply = ask(proxy.ip, "GET", "/__vaettir/status", [("Host", HOST)])
    assert reply.status == 200
    assert reply.headers["cache-control"] == "no-store"
    return dict(json.loads(reply.body))


def page(proxy: stand.Proxy) -> int:
    return ask(proxy.ip, "GET", "/", [("Host", HOST)]).status


def test_nobody_waits_nobody_asks(waiting: stand.Proxy, edge: Edge) -> None:
    edge.reset()
    for _ in range(20):
        assert status(waiting) == {"up": True}
    assert edge.requests() == []


def test_many_wait_one_asks(waiting: stand.Proxy, edge: Edge) -> None:
    """60 visitors ask for 7 s as often as they like; the tunnel hears one question per 3 s."""
    with edge.stopped(ECHO):
        assert page(waiting) == 503
        edge.reset()
        end = time.monotonic() + 7

        def visitor(_: int) -> None:
            while time.monotonic() < end:
                assert status(waiting)["up"] is False
                time.sleep(0.2)

        with ThreadPoolExecutor(60) as pool:
            list(pool.map(visitor, range(60)))
        asked = edge.requests()
    assert 2 <= len(asked) <= 3
    assert {(request.method, request.path) for request in asked} == {("HEAD", "/")}
    assert all(later.at - earlier.at > 2.9 for earlier, later in itertools.pairwise(asked))
    assert "cookie" not in asked[0].headers


def test_back_within_five_seconds(waiting: stand.Proxy, edge: Edge) -> None:
    """As the page asks: when it was told to."""
    with edge.stopped(ECHO):
        assert page(waiting) == 503
        answer = status(waiting)
        time.sleep(1)
    begin = time.monotonic()
    while not answer["up"]:
        assert 0 < answer["next"] <= 3000
        time.sleep(answer["next"] / 1000)
        answer = status(waiting)
    assert time.monotonic() - begin < 5
    assert page(waiting) == 200
    assert status(waiting) == {"up": True}


def test_everybody_is_back_within_five_seconds(waiting: stand.Proxy, edge: Edge) -> None:
    """Only one of them makes the probe; the others must not wait for the next."""

    def wait(_visitor: int) -> float:
        while not (answer := status(waiting))["up"]:
            time.sleep(answer["next"] / 1000)
        return time.monotonic()

    with ThreadPoolExecutor(6) as pool:
        with edge.stopped(ECHO):
            assert page(waiting) == 503
            back = pool.map(wait, range(6))
            time.sleep(4)
        begin = time.monotonic()
        assert max(back) - begin < 5


@pytest.mark.parametrize(
    ("code", "state"), [("ERR_NGROK_727", "quota"), ("ERR_NGROK_734", "limit"), ("ERR_NGROK_3208", "refused")]
)
def test_patient_from_the_start(waiting: stand.Proxy, edge: Edge, code: str, state: str) -> None:
    with edge.faulty(ECHO, code):
        page(waiting)
        edge.reset()
        answers = [status(waiting) for _ in range(30)]
        assert len(edge.requests()) == 1
    assert {answer["state"] for answer in answers} == {state}
    assert all(55_000 < answer["next"] <= 60_000 for answer in answers)


def test_unreachable_tunnel_and_back(waiting: stand.Proxy, edge: Edge) -> None:
    with edge.faulty(ECHO, "reset"):
        assert page(waiting) == 503
        assert status(waiting)["state"] == "offline"
    time.sleep(3.1)
    assert status(waiting) == {"up": True}


def test_an_answer_ends_the_outage(waiting: stand.Proxy, edge: Edge) -> None:
    """Found by a visitor who did not wait; the next outage begins with its own first ten minutes."""
    with edge.faulty(ECHO, "ERR_NGROK_727"):
        page(waiting)
        assert status(waiting)["next"] > 50_000
    assert page(waiting) == 200
    edge.reset()
    assert status(waiting) == {"up": True}
    assert edge.requests() == []
    time.sleep(3.1)
    with edge.stopped(ECHO):
        page(waiting)
        assert status(waiting)["next"] <= 3000


def test_other_methods_and_bodies_do_no_harm(waiting: stand.Proxy, edge: Edge) -> None:
    edge.reset()
    for method in ("POST", "PUT", "DELETE", "HEAD"):
        body = b"x" * 1000 if method in ("POST", "PUT") else b""
        assert ask(waiting.ip, method, "/__vaettir/status", [("Host", HOST)], body).status in (200, 405)
    assert edge.requests() == []


def test_maintenance(agent: Callable[..., dict[str, Any]], edge: Edge) -> None:
    """On purpose: the page for all, nothing for the tunnel."""
    with stand.proxy(agent(maintenance=True)) as proxy:
        edge.reset()
        for method in ("GET", "POST"):
            reply = ask(proxy.ip, method, "/any/path", [("Host", HOST), ("Accept", "application/json")])
            assert (reply.status, json.loads(reply.body)["state"]) == (503, "maintenance")
        assert "is under maintenance" in ask(proxy.ip, "GET", "/", [("Host", HOST)]).body.decode()
        assert status(proxy)["state"] == "maintenance"
        assert edge.requests() == []
