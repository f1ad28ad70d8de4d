# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What the app hears of the visitor, and what the visitor hears of the app."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.rig import ca
from tests.rig.edge_client import Edge
from tests.rig.shell import wait_for

from . import stand
from .conftest import ECHO
from .visitor import ask

HOST = "ocapistaine.vaettir.example"


def app_sees(proxy: stand.Proxy, *headers: tuple[str, str], host: str = HOST) -> dict[str, str]:
    """The headers as the app got them."""
    seen: dict[str, str] = {}
    for name, value in json.loads(ask(proxy.ip, "GET", "/", [("Host", host), *headers]).body)["headers"]:
        assert name.lower() not in seen, f"{name} came twice"
        seen[name.lower()] = value
    return seen


def test_visitor(echo: stand.Proxy) -> None:
    seen = app_sees(echo, ("X-Forwarded-For", "203.0.113.7"))
    assert seen["host"] == ECHO
    assert seen["x-real-ip"] == "203.0.113.7"
    assert seen["x-forwarded-for"].split(", ")[0] == "203.0.113.7"
    assert len(seen["x-forwarded-for"].split(", ")) == 2  # the edge adds the server's
    assert seen["x-forwarded-proto"] == "https"
    assert seen["x-forwarded-host"] == HOST
    assert seen["ngrok-skip-browser-warning"] == "true"


def test_address_is_the_one_that_traefik_saw(echo: stand.Proxy) -> None:
    seen = app_sees(echo, ("X-Forwarded-For", "198.51.100.1, 203.0.113.7"))
    assert seen["x-real-ip"] == "203.0.113.7"
    assert seen["x-forwarded-for"].startswith("203.0.113.7, ")


@pytest.mark.parametrize("host", [HOST, f"{HOST}:9999", "also.one.example", "evil.example"])
def test_public_name(echo: stand.Proxy, host: str) -> None:
    wanted = "also.one.example" if host.startswith("also") else HOST
    assert app_sees(echo, host=host)["x-forwarded-host"] == wanted


FORGED = [
    "Forwarded", "X-Forwarded", "X-Forwarded-By", "X-Forwarded-Host", "X-Forwarded-Port", "X-Forwarded-Prefix",
    "X-Forwarded-Proto", "X-Forwarded-Protocol", "X-Forwarded-Scheme", "X-Forwarded-Server", "X-Forwarded-Ssl",
    "X-Forwarded-Uri", "X-Forwarded-Method", "X-Forwarded-Path", "X-Forwarded-Client-Cert",
    "X-Forwarded-For-Original", "X-Forwarded-Tls-Client-Cert", "X-Original-Host", "X-Original-URL",
    "X-Original-URI", "X-Original-Method", "X-Original-Forwarded-For", "X-Rewrite-URL", "X-Host",
    "X-HTTP-Host-Override", "X-HTTP-Method-Override", "X-Script-Name", "X-Scheme", "X-URL-Scheme",
    "Front-End-Https", "Proxy", "X-Sendfile", "X-Accel-Redirect", "X-Vaettir-Secret", "X_Forwarded_For",
    "X_Real_IP", "X-Real-IP", "X-Client-IP", "X-Cluster-Client-IP", "Client-IP", "True-Client-IP",
    "CF-Connecting-IP", "CF-Connecting-IPv6", "Fastly-Client-IP", "Fly-Client-IP", "X-Azure-ClientIP",
    "X-AppEngine-User-IP", "X-Forwarded-User", "X-Forwarded-Email", "X-Forwarded-Groups", "X-Forwarded-Roles",
    "X-Forwarded-Access-Token", "X-Forwarded-Preferred-Username", "Remote-User", "Remote-Name", "Remote-Email",
    "Remote-Groups", "X-Remote-User", "X-Streamlit-User", "X-Auth-Request-User", "X-Auth-Request-Email",
    "X-Auth-Request-Groups", "X-Auth-Request-Access-Token", "X-Auth-Username", "X-Auth-User", "X-WEBAUTH-USER",
    "X-WebAuth-User", "X-WebAuth-Email", "X-Authentik-Username", "X-Authentik-Email", "X-Authentik-Groups",
    "X-Authenticated-User", "X-Authenticated-Userid", "X-User", "X-User-Id", "X-Username",
    "Ngrok-Auth-User-Email", "Tailscale-User-Login", "Tailscale-User-Name", "Cf-Access-Authenticated-User-Email",
    "Cf-Access-Jwt-Assertion", "X-Goog-Authenticated-User-Email", "X-Goog-Authenticated-User-Id",
    "X-Goog-IAP-JWT-Assertion", "X-MS-Client-Principal", "X-MS-Client-Principal-Name", "X-MS-Client-Principal-Id",
    "X-Amzn-Oidc-Identity", "X-Consumer-Username", "X-Pomerium-Claim-Email", "SSL-Client-S-DN",
    "X-SSL-Client-Verify", "Client-Cert",
]  # fmt: skip

# Of browsers, of scripts in them, and of clients of an API.
OWN = [
    "Accept", "Accept-Language", "Authorization", "Cache-Control", "Content-Type", "Cookie", "DNT",
    "Idempotency-Key", "If-Match", "If-Modified-Since", "If-None-Match", "Last-Event-ID", "Prefer", "Priority",
    "Purpose", "Range", "Referer", "Sec-CH-UA", "Sec-Fetch-Dest", "Sec-Fetch-Mode", "Sec-Fetch-Site",
    "Traceparent", "User-Agent", "Upgrade-Insecure-Requests", "X-API-Key", "X-Auth-Token", "X-Access-Token",
    "X-CSRF-Token", "X-CSRFToken", "X-XSRF-Token", "X-Requested-With", "X-Request-ID", "X-Correlation-ID",
    "X-Streamlit-File-Id", "X-Gradio-User-Agent", "X-Hub-Signature-256", "X-GitHub-Event", "Stripe-Signature",
    "X-N8N-API-Key", "Browser-Id", "Push-Ref", "Next-Action", "Next-Router-State-Tree", "RSC", "HX-Request",
    "X-Jupyter-Token", "X-Session-Id", "X-Client-Version", "X-Auth-Key", "X-GitLab-Token", "X-Slack-Signature",
    "X-Telegram-Bot-Api-Secret-Token", "Authentication-Info", "Tus-Resumable", "Upload-Offset",
]  # fmt: skip


def test_nothing_to_forge(echo: stand.Proxy) -> None:
    seen = app_sees(echo, *((name, "forged.example") for name in FORGED))
    assert [name for name, value in seen.items() if "forged" in value] == []


def test_what_is_the_visitors_own_passes(echo: stand.Proxy) -> None:
    seen = app_sees(echo, *((name, "bytes=0-99" if name == "Range" else "own") for name in OWN))
    assert [name for name in OWN if not seen.get(name.lower(), "").startswith(("own", "bytes"))] == []


def test_redirect_and_cookie(echo: stand.Proxy) -> None:
    reply = ask(echo.ip, "GET", "/redirect", [("Host", HOST)])
    assert reply.status == 302
    assert reply.headers["location"] == f"https://{HOST}/landed"
    cookie = reply.headers["set-cookie"].lower()
    assert f"domain={HOST}" in cookie
    assert "secure" in cookie
    assert "httponly" in cookie


def test_plain_target_without_ngrok(agent: Callable[..., dict[str, Any]]) -> None:
    """Any service: no ngrok header, and it hears that the visitor came by https."""
    with stand.proxy(agent(target_url="http://edge.test:9000")) as proxy:
        seen = app_sees(proxy, ("X-Forwarded-For", "203.0.113.7"))
        assert seen["host"] == "edge.test:9000"
        assert "ngrok-skip-browser-warning" not in seen
        assert seen["x-forwarded-proto"] == "https"
        assert seen["x-forwarded-for"] == "203.0.113.7"
    with stand.proxy(agent(target_url="http://edge.test:9999")) as proxy:
        reply = ask(proxy.ip, "GET", "/", [("Host", HOST)])
        assert (reply.status, reply.headers["x-vaettir-state"]) == (503, "app")


def test_other_tls_target(agent: Callable[..., dict[str, Any]], edge: Edge) -> None:
    with stand.proxy(agent(target_url="https://edge.test")) as proxy:
        edge.reset()
        ask(proxy.ip, "GET", "/", [("Host", HOST)])
        assert "ngrok-skip-browser-warning" not in edge.requests()[0].headers


def test_secret(agent: Callable[..., dict[str, Any]], tmp_path: Any) -> None:
    (tmp_path / "tunnel").write_text("s3cret-of-the-tunnel\n", encoding="ascii")
    (tmp_path / "tunnel").chmod(0o600)
    with stand.proxy(agent(), "-v", f"{tmp_path}:/etc/vaettir/secret:ro") as proxy:
        assert app_sees(proxy, ("X-Vaettir-Secret", "forged"))["x-vaettir-secret"] == "s3cret-of-the-tunnel"
        assert "s3cret" not in proxy.exec("cat", "/etc/nginx/nginx.conf").stdout + proxy.logs()
        assert proxy.exec("stat", "-c", "%a", "/etc/nginx/tunnel-secret.conf").stdout.strip() == "600"


def test_log(echo: stand.Proxy, edge: Edge) -> None:
    path = f"/logged-{time.time_ns()}"
    with edge.faulty(ECHO, "ERR_NGROK_734"):
        ask(
            echo.ip,
            "GET",
            f"{path}?token=hidden",
            [("Host", HOST), ("X-Forwarded-For", "203.0.113.7"), ("User-Agent", 'a"b\\c')],
        )
    wait_for("the line in the log", lambda: path in echo.logs(), 5)
    (line,) = [json.loads(line) for line in echo.logs().splitlines() if path in line]
    assert line["path"] == path
    assert line["visitor"] == "203.0.113.7"
    assert (line["status"], line["upstream_status"]) == (503, "403")
    assert (line["ngrok_error"], line["state"]) == ("ERR_NGROK_734", "limit")
    assert float(line["upstream_seconds"]) <= line["seconds"] + 0.001
    assert line["user_agent"] == 'a"b\\c'


def test_inside_only(echo: stand.Proxy) -> None:
    for path in ("/nginx", "/health", "/__vaettir/probe", "/__vaettir/nginx"):
        reply = ask(echo.ip, "GET", path, [("Host", HOST)])
        assert b"Active connections" not in reply.body
    assert ask(echo.ip, "GET", "/__vaettir/probe", [("Host", HOST)]).status == 404
    with pytest.raises(ConnectionRefusedError):
        ask(echo.ip, "GET", "/health", [("Host", HOST)], port=8081)
    inside = "exec 3<>/dev/tcp/127.0.0.1/8081; printf 'GET /nginx HTTP/1.0\\r\\n\\r\\n' >&3; cat <&3"
    assert "Active connections" in echo.exec("bash", "-c", inside).stdout


def test_health_never_asks_the_tunnel(agent: Callable[..., dict[str, Any]], edge: Edge) -> None:
    with edge.stopped(ECHO), stand.proxy(agent()) as proxy:
        edge.reset()
        assert proxy.healthy()
        proxy.exec("touch", "/run/vaettir/drain")
        assert not proxy.healthy()
        assert edge.requests() == []


def test_kept_alive_and_resumed(agent: Callable[..., dict[str, Any]], edge: Edge) -> None:
    with stand.proxy(agent()) as proxy:
        edge.reset()
        for _ in range(300):
            assert ask(proxy.ip, "GET", "/", [("Host", HOST)]).status == 200
        assert edge.counters()["by_host"][ECHO]["tls_handshakes"] <= 3


def test_follows_a_changed_address(agent: Callable[..., dict[str, Any]], edge: Edge) -> None:
    """valid=2: what DNS says now is used soon, without a reload."""
    with stand.proxy(agent(resolver_valid=2)) as proxy:
        # nginx resolves its upstream after its start
        wait_for("the app", lambda: ask(proxy.ip, "GET", "/", [("Host", HOST)]).status == 200, 5)
        try:
            edge.address(ECHO, "127.0.0.9")
            edge.delay(0)
            end = time.monotonic() + 10
            while ask(proxy.ip, "GET", "/", [("Host", HOST)]).status == 200:
                assert time.monotonic() < end
                edge.delay(0)
                time.sleep(0.3)
        finally:
            edge.address(ECHO, None)
        end = time.monotonic() + 10
        while ask(proxy.ip, "GET", "/", [("Host", HOST)]).status != 200:
            assert time.monotonic() < end
            time.sleep(0.3)


def test_own_authority_is_needed(agent: Callable[..., dict[str, Any]]) -> None:
    """Without the rig's CA the edge is a stranger: the image's own bundle verifies."""
    assert (ca.FOLDER / "ca.pem").exists()
    with stand.proxy(agent(ca_certificate="")) as proxy:
        assert ask(proxy.ip, "GET", "/", [("Host", HOST)]).status == 503
