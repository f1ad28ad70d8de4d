# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The probe against servers that others wrote: right in all."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .conftest import HOST, Files, probe
from .servers import OWN, PATH, SERVERS, SUBPROTOCOL

Ask = Callable[..., dict[str, Any]]
HTTP2 = {"hypercorn"}


@pytest.fixture(params=[(name, secure) for name in SERVERS for secure in (False, True)], ids=str)
def ask(request: pytest.FixtureRequest, server: Callable[..., int], files: Files) -> Ask:
    name, secure = request.param
    port = server(name, secure)

    def probed(path: str = PATH, **given: Any) -> dict[str, Any]:
        url = f"{'wss' if secure else 'ws'}://{HOST}:{port}{path}"
        return probe(url, **{"origin": OWN, "ca_path": files.ca if secure else "", **given})

    return probed


def test_ok(ask: Ask) -> None:
    found = ask()
    assert (found["reason"], found["error"], found["status"], found["upgraded"]) == ("ok", "", 101, True)
    assert found["subprotocol"] == ""
    assert found["address"] == "127.0.0.1"
    assert found["close_code"] == 1000
    assert {"dns", "connect", "handshake", "ping", "total"} <= set(found["timings"])
    assert 0 < found["timings"]["ping"] < found["timings"]["total"]


def test_subprotocol(ask: Ask) -> None:
    found = ask(subprotocols=["other", SUBPROTOCOL])
    assert (found["reason"], found["subprotocol"]) == ("ok", SUBPROTOCOL)


def test_subprotocol_that_nobody_speaks(ask: Ask) -> None:
    found = ask(subprotocols=["other"])
    assert found["reason"] == "bad_subprotocol", "as a browser judges"
    assert "none of the subprotocols other" in found["error"]


def test_refused_origin(ask: Ask) -> None:
    found = ask(origin="https://foreign.example")
    assert (found["reason"], found["status"], found["upgraded"]) == ("refused_origin", 403, False)
    assert found["error"] == "answer 403 instead of 101: the Origin https://foreign.example is refused"


def test_foreign_origin(ask: Ask) -> None:
    found = ask(foreign_origin="https://foreign.example")
    assert found["reason"] == "ok"
    assert found["foreign"]["refused"] is True
    assert (found["foreign"]["status"], found["foreign"]["reason"]) == (403, "refused_origin")


def test_foreign_origin_that_is_let_in(ask: Ask) -> None:
    found = ask(foreign_origin=OWN)
    assert found["reason"] == "foreign_origin"
    assert found["upgraded"] is True
    assert (found["foreign"]["refused"], found["foreign"]["status"]) == (False, 101)


def test_another_path(ask: Ask, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.params["ask"][0]
    found = ask("/nothing")
    refused = name in ("uvicorn", "hypercorn")  # ASGI refuses a WebSocket with 403, whatever the reason
    assert (found["status"], found["reason"]) == ((403, "refused_origin") if refused else (404, "no_route"))


def test_upload(ask: Ask) -> None:
    """None of these limits what it has not read; some answer, some wait."""
    found = ask(upload=2 << 20)
    assert found["reason"] == "ok"
    assert found["upload"]["refused"] is False
    assert found["timings"]["upload"] < 4000


def test_http2(ask: Ask, request: pytest.FixtureRequest) -> None:
    name, secure = request.node.callspec.params["ask"]
    found = ask(http2=True, subprotocols=[SUBPROTOCOL])
    assert found["reason"] == "ok"
    if not secure or name not in HTTP2:
        assert found["http2"]["reason"] == "no_http2"
        assert found["http2"]["settings"] == {}
        return
    assert found["http2"] == {
        "reason": "ok",
        "error": "",
        "settings": found["http2"]["settings"],
        "extended_connect": True,
        "works": True,
        "status": 200,
    }
    assert found["http2"]["settings"]["SETTINGS_ENABLE_CONNECT_PROTOCOL"] == 1


def test_http2_refuses_as_http1_does(ask: Ask, request: pytest.FixtureRequest) -> None:
    found = ask(http2=True, origin="https://foreign.example")
    assert found["reason"] == "refused_origin"
    if request.node.callspec.params["ask"] == ("hypercorn", True):
        assert (found["http2"]["reason"], found["http2"]["status"]) == ("refused_origin", 403)
        assert found["http2"]["error"] == "answer 403, as over HTTP/1.1"


def test_certificate(ask: Ask, request: pytest.FixtureRequest) -> None:
    certificate = ask()["certificate"]
    if not request.node.callspec.params["ask"][1]:
        assert certificate == {}
        return
    assert certificate["names"] == [HOST, "*.probe.example", "127.0.0.1"]
    assert (certificate["issuer"], certificate["subject"]) == ("probe tests", HOST)
    assert certificate["not_before"] < "2026" < certificate["not_after"]
