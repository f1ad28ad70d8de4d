# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The recipe's own commands, typed in ~/vaettir by the deploy user, with what the recipe says they show."""

from __future__ import annotations

import base64
import os
import re
import textwrap
from contextlib import contextmanager

import pytest

from tests.rig import playbook
from tests.rig.transcript import Transcript

PUBLIC = "https://ocapistaine.vaettir.example:8443"
UP = "docker compose --profile production --profile proxy up -d"
CONF = "proxy-configs/ocapistaine.conf.template"
# On the server itself, which the public name's DNS would lead to.
CURL = "curl --resolve '*:8443:127.0.0.1' --cacert traefik/certs/ca.pem"


@pytest.fixture(scope="module")
def transcript():
    return Transcript("recipe", "The recipe's commands on a deployed server, in ~/vaettir as the deploy user")


@pytest.fixture
def shell(server, transcript):
    """Types a command in ~/vaettir and returns what it shows."""
    return lambda command: transcript.type(server, command)


def container(server, agent="ocapistaine") -> str:
    return str(server.check_output(f"docker inspect -f '{{{{.Id}}}}' vaettir-{agent}-1"))


@contextmanager
def edited(server, path: str):
    """The file is as it was after the block."""
    server.check_output(f"cp -p ~/vaettir/{path} /tmp/before-edit")
    try:
        yield
    finally:
        server.check_output(f"cp -p /tmp/before-edit ~/vaettir/{path}")


def test_build(shell):
    assert re.search(r"naming to \S*vaettir-ocapistaine:proxy", shell("docker compose build ocapistaine"))


def test_up(shell, server, visitor):
    shell(f"{UP} ocapistaine")
    page = visitor.until(PUBLIC, 200)
    assert page.status == 200
    second = container(server)
    shell(f"{UP} ocapistaine")
    assert container(server) == second, "a second `up` replaced the container"


def test_ps(shell):
    shown = shell("docker compose ps ocapistaine")
    assert re.search(r"^vaettir-ocapistaine-1\s+vaettir-ocapistaine:proxy\s.*\bUp\b", shown, re.MULTILINE)


def test_the_origin_in_the_conf(shell):
    shown = shell('docker exec vaettir-ocapistaine-1 cat /etc/nginx/nginx.conf | grep "Origin"')
    # Only the agent's own origin becomes the tunnel's: the map's line and the header that uses it.
    assert f'"{PUBLIC}" "https://ocapistaine.ngrok-free.app"' in shown.replace("websocket:", "").replace('":', '"')
    assert "proxy_set_header Origin $tunnel_origin;" in shown


def test_traefiks_version(shell):
    shown = shell("docker exec vaettir-traefik-1 traefik version")
    version = tuple(int(part) for part in re.search(r"Version:\s+(\d+)\.(\d+)\.(\d+)", shown).groups())
    assert version >= (3, 2, 5)


def test_restart_of_traefik(shell, visitor):
    shell("docker compose restart traefik")
    assert visitor.until(PUBLIC, 200).status == 200


def test_upgrade_with_curl(shell):
    key = base64.b64encode(os.urandom(16)).decode()
    shown = shell(
        f'{CURL} --http1.1 -si --max-time 2 "{PUBLIC}/_stcore/stream" -H "Upgrade: websocket" -H "Connection: Upgrade"'
        f' -H "Sec-WebSocket-Key: {key}" -H "Sec-WebSocket-Version: 13" -H "Origin: {PUBLIC}" | head -10'
    )
    assert shown.startswith("HTTP/1.1 101 Switching Protocols")
    assert "connection: upgrade" in shown.lower()
    assert "upgrade: websocket" in shown.lower()


def test_the_page_of_a_stopped_tunnel(shell, edge):
    with edge.stopped("ocapistaine.ngrok-free.app"):
        shown = shell(f"{CURL} -si {PUBLIC} | grep -E '^HTTP|^x-vaettir|^retry-after|<title|<h1|discord|ERR_NGROK'")
        refused = edge.requests()[-1]
    assert refused.host == "ocapistaine.ngrok-free.app"  # the edge was asked; it answers 404 + ngrok-error-code
    assert shown.startswith("HTTP/2 503")
    assert "ERR_NGROK_3200" in shown
    assert "https://discord.gg/vaettir-test" in shown


def test_an_edit_by_hand_becomes_active(shell, server, visitor):
    with edited(server, CONF):
        shell(f"sed -i 's/server_tokens off;/server_tokens off; add_header X-Edited by-hand always;/' {CONF}")
        shell("docker compose build ocapistaine")
        shell(f"{UP} ocapistaine")
        visitor.until(PUBLIC, 200)
        assert visitor.get(PUBLIC).headers.get("x-edited") == "by-hand"
    server.check_output(f"cd ~/vaettir && docker compose build -q ocapistaine && {UP} ocapistaine")
    visitor.until(PUBLIC, 200)
    assert "x-edited" not in visitor.get(PUBLIC).headers


SERVICE = """\
services:
  third:
    image: vaettir-third:proxy
    build: {context: ./proxy-configs, args: {AGENT_NAME: third}}
    profiles: [proxy]
    environment:
      THIRD_TARGET_URL: ${THIRD_TARGET_URL-}
      DISCORD_INVITE_URL: ${DISCORD_INVITE_URL-}
    labels:
      traefik.enable: "true"
      traefik.http.routers.third.rule: Host(`third.vaettir.example`)
      traefik.http.routers.third.entrypoints: websecure
      traefik.http.services.third.loadbalancer.server.port: "80"
"""


def test_an_agent_made_by_hand_from_the_example(shell, server, visitor, edge):
    """In the recipe's order, which leaves ${third_TARGET_URL}: its second replacement finds nothing any more."""
    first, origin = container(server), "https://third.vaettir.example:8443"
    edge.put("third.ngrok-free.app", "http://127.0.0.1:9000")
    try:
        with edited(server, ".env"):
            shell("cp proxy-configs/agent.conf.template.example proxy-configs/third.conf.template")
            shell("sed -i 's/AGENT_NAME/third/g' proxy-configs/third.conf.template")
            shell("sed -i 's/AGENT_NAME_TARGET_URL/THIRD_TARGET_URL/g' proxy-configs/third.conf.template")
            assert "${third_TARGET_URL}" in shell("grep -m1 _TARGET_URL proxy-configs/third.conf.template")
            # The edge's certificate is the rig's own, so an agent made by hand needs its CA as well.
            shell("cp proxy-configs/ocapistaine.ca.pem proxy-configs/third.ca.pem")
            shell(f"cat > docker-compose.override.yml <<'END'\n{SERVICE}END")
            shell("echo THIRD_TARGET_URL=https://third.ngrok-free.app >> .env")
            shell("docker compose build third")
            shell(f"{UP} third")
            assert visitor.until(origin, 200).status == 200
            assert visitor.handshake(f"{origin}/_stcore/stream", origin)[0] == 101
            assert visitor.handshake(f"{origin}/_stcore/stream", PUBLIC)[0] == 403
            # A deploy on a server with a hand-made agent leaves it alone.
            before = container(server, "third")
            run = playbook.run(playbook.DEPLOY, "-e", "agent=ocapistaine")
            assert (run.status, run.changed) == (0, []), run
            assert (container(server), container(server, "third")) == (first, before)
    finally:
        edge.delete("third.ngrok-free.app")
        server.run(
            textwrap.dedent("""\
            cd ~/vaettir && docker rm -f vaettir-third-1 && docker image rm vaettir-third:proxy
            rm -f docker-compose.override.yml proxy-configs/third.*""")
        )


def test_the_server_is_as_it_was(server):
    """So that a test can go before these or after them."""
    run = playbook.run(playbook.DEPLOY)
    assert (run.status, run.changed) == (0, []), run
    assert server.check_output("ls ~/vaettir/proxy-configs | grep -c third || true") == "0"
