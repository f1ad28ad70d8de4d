# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The probe at an agent's own nginx with the tunnel behind it, and at the tunnel's edge; websocket_curl agrees."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _websocket

from tests.proxy import stand
from tests.rig import ca, images, servers
from tests.rig.edge_client import Edge

from .conftest import probe
from .test_agreement import agree, both

OUTSIDE = "vaettir-probe-outside"
ECHO = "second.ngrok-free.app"
CA = str(ca.FOLDER / "ca.pem")


class Chain(NamedTuple):
    edge: Edge
    edge_ip: str
    proxy: stand.Proxy

    def agent(self, path: str = "/ws", **given: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        origin = self.proxy.origin
        url = f"http://{origin.split('//')[1]}{path}"
        return both(url, **{"address": self.proxy.ip, "origin": origin, **given})

    def tunnel(self, **given: Any) -> dict[str, Any]:
        """As the agent's nginx asks the edge: it has the header that lets it past the warning page."""
        headers = {"ngrok-skip-browser-warning": "true"}
        more = {"address": self.edge_ip, "origin": f"https://{ECHO}", "ca_path": CA, "headers": headers, **given}
        return probe(f"https://{ECHO}/ws", **more)


@pytest.fixture(scope="module")
def chain() -> Iterator[Chain]:
    images.build_all([images.NGINX, images.OUTSIDE])
    world = servers.outside_up(OUTSIDE)
    try:
        edge = Edge(world["control"])
        edge.wait()
        target = {"target_url": f"https://{ECHO}", "resolver": [world["ip"]], "ca_certificate": CA}
        with stand.proxy(stand.settings(**target, connect_timeout=2)) as proxy:
            yield Chain(edge, world["ip"], proxy)
    finally:
        servers.down([OUTSIDE])


def test_sound(chain: Chain) -> None:
    found, curl = chain.agent(foreign_origin="https://foreign.example", upload=2 << 20)
    assert found["reason"] == "ok", found
    assert found["foreign"]["status"] == 403
    assert found["upload"]["refused"] is False
    agree(found, curl)
    assert chain.tunnel()["reason"] == "ok"


PAGE_FORMS = ["application/json", "text/html"]


@pytest.mark.parametrize("fault", ["ERR_NGROK_3200", "ERR_NGROK_8012", "reset"])
def test_the_page_in_both_forms(chain: Chain, fault: str) -> None:
    with chain.edge.faulty(ECHO, fault):
        found, _curl = chain.agent(accept=PAGE_FORMS)
    assert found["reason"] in _websocket.PAGES, found
    assert [(answer["accept"], answer["status"], answer["sound"]) for answer in found["answers"]] == [
        (form, 503, True) for form in PAGE_FORMS
    ]
    assert found["answers"][0]["ngrok_code"] == (fault if fault.startswith("ERR_") else "")


def test_the_warning_page_is_found_behind_the_page(chain: Chain) -> None:
    with chain.edge.faulty(ECHO, "ERR_NGROK_6024"):
        found, _curl = chain.agent(accept=PAGE_FORMS)
    assert found["reason"] == "interstitial", found
    assert "ERR_NGROK_6024" in found["error"]


def test_a_page_in_another_form_is_no_page(chain: Chain) -> None:
    with chain.edge.stopped(ECHO):
        found, _curl = chain.agent(accept=["application/pdf"])
    assert (found["reason"], found["answers"][0]["sound"]) == ("bad_page", False), found


def test_the_apps_own_answers(chain: Chain) -> None:
    found, _curl = chain.agent(accept=PAGE_FORMS)
    assert found["reason"] == "ok", found
    assert [answer["status"] for answer in found["answers"]] == [400, 400]  # what aiohttp says of a GET for a WebSocket


def test_a_stream_of_events(chain: Chain) -> None:
    stream = {"websocket": False, "accept": ["text/event-stream"]}
    found, _curl = chain.agent("/sse?interval=30", **stream, timeout=4)
    assert (found["reason"], found["upgraded"], found["answers"][0]["sound"]) == ("ok", False, True), found
    assert found["timings"]["accept"] < 2000, "it waited for more than the first event"
    found, _curl = chain.agent("/nothing", **stream)
    assert found["reason"] == "no_stream", found
    found, _curl = chain.agent("/status/401", **stream)
    assert (found["reason"], found["answers"][0]["status"]) == ("ok", 401), found


def test_an_app_that_fails_is_no_app_without_a_websocket(chain: Chain) -> None:
    for path, reason in (("/status/500", "proxy_error"), ("/status/404", "ok"), ("/", "ok")):
        found, _curl = chain.agent(path, websocket=False, accept=["text/html"])
        assert found["reason"] == reason, (path, found)


def test_ping_through_the_chain(chain: Chain) -> None:
    url = f"http://{chain.proxy.origin.split('//')[1]}/ws"
    found = probe(url, address=chain.proxy.ip, origin=chain.proxy.origin)
    assert (found["reason"], found["close_code"]) == ("ok", 1000)
    assert found["timings"]["ping"] > 0


def test_foreign(chain: Chain) -> None:
    found, curl = chain.agent(origin="https://foreign.example")
    assert (found["reason"], found["headers"]["server"]) == ("refused_origin", "nginx")
    agree(found, curl)


def test_no_websocket_there(chain: Chain) -> None:
    found, curl = chain.agent("/nothing")
    assert found["reason"] == "not_a_websocket"
    agree(found, curl)


@pytest.mark.parametrize(
    ("fault", "state", "here", "there"),
    [
        ("ERR_NGROK_3200", "offline", "offline", "offline"),
        ("ERR_NGROK_8012", "app", "app_down", "app_down"),
        ("ERR_NGROK_3004", "app", "app_down", "app_down"),
        ("ERR_NGROK_734", "limit", "rate_limit", "rate_limit"),
        ("ERR_NGROK_702", "limit", "rate_limit", "rate_limit"),
        ("ERR_NGROK_725", "quota", "quota", "quota"),
        ("ERR_NGROK_727", "quota", "quota", "quota"),
        ("ERR_NGROK_3208", "refused", "tunnel_refused", "tunnel_refused"),
        ("ERR_NGROK_6024", "refused", "tunnel_refused", "interstitial"),
        ("reset", "offline", "offline", "tls_failed"),
        ("blackhole", "offline", "offline", "timeout"),
    ],
)
def test_fault(chain: Chain, fault: str, state: str, here: str, there: str) -> None:
    with chain.edge.faulty(ECHO, fault):
        found, curl = chain.agent(timeout=6)
        tunnel = chain.tunnel(timeout=1.5)
    # An answer of ngrok's own to a handshake passes as it is, and is named; where there was none, nginx gives one.
    ngroks = fault.startswith("ERR_")
    status = tunnel["status"] if ngroks else 503
    assert (found["reason"], found["state"], found["status"]) == (here, state, status), found["error"]
    assert ngroks or found["headers"]["retry-after"]
    agree(found, curl)
    assert tunnel["reason"] == there, tunnel["error"]
    assert tunnel["ngrok_code"] == (fault if fault.startswith("ERR_") else "")


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("bad_certificate", "tls_untrusted"), ("wrong_name", "tls_name"), ("expired_certificate", "tls_expired")],
)
def test_certificate_of_the_edge(chain: Chain, fault: str, reason: str) -> None:
    """At the edge only: nginx resumes its TLS sessions, and meets another certificate when they are over."""
    with chain.edge.faulty(ECHO, fault):
        assert chain.tunnel()["reason"] == reason


def test_a_visitor_without_the_agents_header_meets_the_warning_page(chain: Chain) -> None:
    found = chain.tunnel(headers={})
    assert (found["reason"], found["status"], found["ngrok_code"]) == ("interstitial", 200, "ERR_NGROK_6024")
