# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A server with two agents, as its visitors and its owner see it."""

from __future__ import annotations

import json
import socket
import ssl

import pytest

AGENTS = ["ocapistaine", "second"]
PROBE = "/_stcore/stream"


def public(agent: str) -> str:
    return f"https://{agent}.vaettir.example:8443"


def tunnel(agent: str) -> str:
    return f"{agent}.ngrok-free.app"


@pytest.fixture
def seen(edge):
    """What reached the tunnels during one test."""
    edge.reset()
    return edge.requests


@pytest.mark.parametrize("agent", AGENTS)
def test_handshake_with_the_agents_own_origin(visitor, seen, agent):
    assert visitor.handshake(public(agent) + PROBE, origin=public(agent))[0] == 101
    upgrade = next(request for request in seen() if request.path == PROBE)
    assert upgrade.host == tunnel(agent)
    assert upgrade.headers["origin"] == f"https://{tunnel(agent)}"
    assert upgrade.headers["ngrok-skip-browser-warning"] == "true"


def test_messages_come_back(visitor):
    assert visitor.handshake(public("second") + "/ws", public("second"), say="hallo") == (101, "hallo")


@pytest.mark.parametrize("origin", ["https://evil.example", public("second"), "https://ocapistaine.vaettir.example"])
def test_a_foreign_origin_is_refused_before_the_tunnel(visitor, seen, origin):
    assert visitor.handshake(public("ocapistaine") + PROBE, origin=origin)[0] == 403
    assert seen() == []


def test_the_streamlit_page(visitor):
    page = visitor.get(public("ocapistaine"))
    assert page.status == 200
    assert "<title>Streamlit</title>" in page.text


def test_what_the_second_app_sees_of_a_visitor(visitor):
    answer = visitor.get(public("second") + "/path?q=1")
    headers = {name.lower(): value for name, value in answer.json["headers"]}
    assert answer.json["path"] == "/path?q=1"
    assert headers["host"] == tunnel("second")
    assert headers["x-forwarded-host"] == "second.vaettir.example:8443"
    assert headers["x-forwarded-proto"] == "https"


def test_http_goes_to_https_on_its_port(visitor):
    answer = visitor.get("http://ocapistaine.vaettir.example:8080/path?q=1")
    assert answer.status in (301, 308)
    assert answer.headers["location"] == public("ocapistaine") + "/path?q=1"


def test_http_2_is_offered(visitor):
    assert visitor.alpn(public("ocapistaine"), "h2", "http/1.1") == "h2"


def tls_1_2(visitor, ciphers: str) -> str | None:
    """The cipher suite that the server chooses of these; None where it takes none."""
    trust = ssl.create_default_context(cafile=str(visitor.authority))
    trust.maximum_version = ssl.TLSVersion.TLSv1_2
    trust.set_ciphers(ciphers)
    try:
        with (
            socket.create_connection((visitor.address, 8443), 10) as plain,
            trust.wrap_socket(plain, server_hostname="second.vaettir.example") as secure,
        ):
            return secure.cipher()[0]
    except ssl.SSLError:
        return None


def test_tls_1_2_has_authenticated_encryption_only(visitor):
    assert tls_1_2(visitor, "AES128-SHA:AES256-SHA:ECDHE-RSA-AES128-SHA:ECDHE-RSA-AES256-SHA:@SECLEVEL=0") is None
    assert tls_1_2(visitor, "ECDHE+AESGCM:ECDHE+CHACHA20") is not None


@pytest.mark.parametrize("agent", AGENTS)
def test_browsers_are_told_to_keep_to_https(visitor, agent):
    assert visitor.get(public(agent)).headers["strict-transport-security"] == "max-age=3600"


@pytest.mark.parametrize("path", ["/", "/dashboard/", "/api/rawdata"])
def test_nobody_else_answers(visitor, path):
    assert visitor.get("https://nobody.vaettir.example:8443" + path).status == 404


@pytest.mark.parametrize("agent", AGENTS)
def test_a_stopped_tunnel_shows_the_page(visitor, edge, agent):
    with edge.stopped(tunnel(agent)):
        page = visitor.get(public(agent), Accept="text/html")
    assert page.status == 503
    assert agent in page.text
    assert "https://discord.gg/vaettir-test" in page.text
    assert visitor.until(public(agent), 200).status == 200


def test_a_stopped_container_shows_the_page_too(visitor, server):
    server.check_output("docker stop vaettir-second-1")
    try:
        page = visitor.until(public("second"), 503)
        handshake = visitor.handshake(public("second") + PROBE, origin=public("second"))[0]
    finally:
        server.check_output("docker start vaettir-second-1")
    assert "second" in page.text
    assert "https://discord.gg/vaettir-test" in page.text
    assert page.headers["x-vaettir-state"] == "stopped"
    assert handshake == 503
    assert visitor.until(public("second"), 200).status == 200


def test_the_recipes_file_names(server):
    for name in ("agent.conf.template.example", "error-offline.html.template", *(f"{a}.conf.template" for a in AGENTS)):
        found = server.file(f"/home/deploy/vaettir/proxy-configs/{name}")
        assert found.is_file, name
        assert found.user == "deploy"


def test_dotenv_holds_our_keys_and_nothing_else(server):
    dotenv = server.file("/home/deploy/vaettir/.env")
    assert (dotenv.user, dotenv.mode) == ("deploy", 0o600)
    assert sorted(dotenv.content_string.splitlines()) == [
        "DISCORD_INVITE_URL=https://discord.gg/vaettir-test",
        "OCAPISTAINE_TARGET_URL=https://ocapistaine.ngrok-free.app",
        "SECOND_TARGET_URL=https://second.ngrok-free.app",
    ]


def test_the_private_key_is_private(server):
    assert server.file("/home/deploy/vaettir/traefik/certs/key.pem").mode == 0o600


@pytest.mark.parametrize("agent", AGENTS)
def test_container_image_and_service_names(server, agent):
    (found,) = json.loads(server.check_output(f"docker inspect vaettir-{agent}-1"))
    labels = found["Config"]["Labels"]
    assert labels["com.docker.compose.project"] == "vaettir"
    assert labels["com.docker.compose.service"] == agent
    assert found["Config"]["Image"] == f"vaettir-{agent}:proxy"
    assert found["State"]["Health"]["Status"] == "healthy"
    assert found["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"


def test_these_containers_and_no_others(server):
    names = server.check_output("docker ps -a --format '{{.Names}}'").splitlines()
    assert sorted(names) == [
        *("vaettir-docker-api-1", "vaettir-ocapistaine-1", "vaettir-offline-1", "vaettir-second-1", "vaettir-traefik-1")
    ]
