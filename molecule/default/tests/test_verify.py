# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The verification alone: what it says of a sound chain, and of each fault that a handshake does not see."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.rig import playbook
from tests.rig.shell import wait_for

VERIFY = "locki.vaettir.verify_agent"
AGENT, CONTAINER, TUNNEL = "ocapistaine", "vaettir-ocapistaine-1", "ocapistaine.ngrok-free.app"
PUBLIC = "https://ocapistaine.vaettir.example:8443"
ON_THE_SERVER = ("-e", "from_outside=false")


def inventory(**settings) -> dict:
    """One setting more than in the scenario's."""
    second = {"name": "second", "extra_domains": ["second.vaettir.localhost"]}
    return {"vaettir_agents": [{"name": AGENT, **settings}, second]}


def verify(*options: str, agent: str = AGENT, extra=None) -> tuple[int, str]:
    """The status, and all that was said, in one line."""
    run = playbook.run(VERIFY, "-e", f"agent={agent}", *options, extra=extra)
    assert run.changed == [], run
    return run.status, " ".join(run.output.split())


@contextlib.contextmanager
def spoiled(server, visitor, edit: str) -> Iterator[None]:
    """What the container reads is another conf inside the block: somebody's hand in a folder that nobody changes."""
    release = server.check_output("sed -n 's/^release=//p' ~/vaettir/releases/ocapistaine/current")
    conf = f"~/vaettir/releases/ocapistaine/{release}/ocapistaine.conf.template"
    change = f"cp -p {conf} /tmp/sound && sed -i '{edit}' {conf} && ! cmp -s {conf} /tmp/sound"
    server.check_output(f"{change} && docker restart {CONTAINER}")  # a reload would leave old workers to Traefik
    try:
        wait_for("the container", lambda: visitor.get(PUBLIC).headers.get("x-vaettir-state") != "stopped", 30)
        yield
    finally:
        server.check_output(f"cp -p /tmp/sound {conf} && docker restart {CONTAINER}")
        visitor.until(PUBLIC, 200)


def test_a_sound_chain(server, visitor, edge):
    visitor.until(PUBLIC, 200)
    edge.reset()
    status, said = verify(*ON_THE_SERVER)
    assert (status, f"WebSocket upgrade verified at {PUBLIC}" in said) == (0, True), said
    asked = [(request.method, int(request.headers.get("content-length", 0))) for request in edge.requests()]
    # announced once, and withdrawn at nginx's `100 Continue`: on a busy machine before the tunnel has heard of it
    assert [size for method, size in asked if method == "POST"] in ([], [2 << 20])
    log = f"docker logs --since 5m {CONTAINER}"
    wait_for("the upload in nginx's log", lambda: '"method":"POST"' in server.check_output(log), 10)
    assert len(asked) <= 6, asked


def test_an_offline_tunnel_and_its_page(edge):
    with edge.stopped(TUNNEL):
        status, said = verify(*ON_THE_SERVER)
        strict = verify(*ON_THE_SERVER, extra={"agent_proxy_require_online": True})
    assert (status, "its tunnel is offline (offline; start `ngrok http --url=" in said) == (0, True), said
    assert strict[0] > 0
    assert "broken at the ngrok agent: no ngrok agent is connected" in strict[1]
    assert "To fix it: on the laptop: `ngrok http --url=" in strict[1]


def test_a_page_that_is_none(server, visitor, edge):
    """A handshake is answered as ever, a browser with ngrok's own error."""
    with edge.stopped(TUNNEL), spoiled(server, visitor, "s/js_.*_filter/# &/"):
        status, said = verify(*ON_THE_SERVER)
    assert status > 0
    assert "broken at nginx: visitors get neither the app nor its page" in said
    assert "To fix it: look at agent_proxy_page" in said


def test_a_foreign_origin_that_is_accepted(server, visitor):
    """By nginx, and told to the app as its own: the recipe's fault."""
    rewritten = f's,default $http_origin;,default "https://{TUNNEL}";,'
    with spoiled(server, visitor, f"s/websocket:no refused/websocket:no accepted/; {rewritten}"):
        status, said = verify(*ON_THE_SERVER)
    assert status > 0
    assert "the foreign Origin https://foreign.example must be refused with 403, but got" in said
    assert "At nginx: the agent's nginx passes a foreign Origin on" in said, said[-1500:]


def test_an_upload_that_is_refused(server, visitor):
    with spoiled(server, visitor, "s/client_max_body_size .*;/client_max_body_size 1m;/"):
        status, said = verify(*ON_THE_SERVER)
    assert status > 0
    assert "broken at nginx: nginx refuses an upload of 2 MB (413)" in said
    assert "To fix it: set max_body_size of agent ocapistaine" in said


def test_websockets_over_http_2_that_are_broken(server, visitor):
    """Advertised, and broken: curl sees nothing of it."""
    override = "services: {traefik: {environment: {GODEBUG: http2xconnect=1}}}"
    restart = "docker compose up -d traefik"
    server.check_output(f"cd ~/vaettir && echo '{override}' > docker-compose.override.yml && {restart}")
    try:
        visitor.until(PUBLIC, 200)
        status, said = verify(*ON_THE_SERVER)
        insisted = {"stack_insist": ["traefik_http2"], **inventory(read_timeout=3601)}
        release = playbook.run(playbook.DEPLOY, "-e", f"agent={AGENT}", *ON_THE_SERVER, extra=insisted)
    finally:
        server.check_output(f"cd ~/vaettir && rm docker-compose.override.yml && {restart}")
        visitor.until(PUBLIC, 200)
    assert status > 0
    assert "broken at Traefik: Traefik advertises WebSockets over HTTP/2 and breaks them" in said
    assert "locki.vaettir.upgrade_traefik" in said
    # No release of ours broke it, and none fixes it.
    assert release.status > 0
    assert "It was so before this release, which stays." in release.messages[-1], release
    assert "read_timeout 3601s" in server.check_output(f"docker exec {CONTAINER} cat /etc/nginx/nginx.conf")
    assert playbook.run(playbook.DEPLOY, "-e", f"agent={AGENT}").status == 0


def test_a_release_behind_ngroks_warning_page_is_undone(visitor):
    """curl is no browser, so its handshake meets no such page."""
    run = playbook.run(playbook.DEPLOY, "-e", f"agent={AGENT}", extra=inventory(ngrok="false"))
    assert run.status > 0
    assert "broken at nginx: visitors get ngrok's warning page" in run.messages[-1], run
    assert "To fix it: set ngrok of agent ocapistaine to 'true'" in run.messages[-1]
    assert "rolled back to release" in run.messages[-1]
    assert visitor.until(PUBLIC, 200).status == 200


@pytest.fixture
def loopback(servers) -> Iterator[None]:
    """This machine's 127.0.0.1:8443, to which *.localhost leads, is the server's."""
    (server,) = servers.values()

    def pump(here: socket.socket, there: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := here.recv(65536):
                there.sendall(data)
            there.shutdown(socket.SHUT_WR)

    def serve(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                here = listener.accept()[0]
                there = socket.create_connection((server, 8443))
                for pair in ((here, there), (there, here)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    try:
        listener = socket.create_server(("127.0.0.1", 8443))
    except OSError as taken:
        pytest.skip(f"the demo's port is taken: {taken}")
    with listener:
        threading.Thread(target=serve, args=(listener,), daemon=True).start()
        yield


@pytest.mark.usefixtures("loopback")
def test_the_public_name_from_the_control_node():
    agents = {"vaettir_agents": [{"name": "second", "domain": "second.vaettir.localhost"}]}
    status, said = verify(agent="second", extra=agents)
    assert (status, "verified at https://second.vaettir.localhost:8443" in said) == (0, True), said


def test_a_public_name_that_leads_nowhere(server):
    """The world's DNS does not know it: a deploy warns, a verification fails."""
    status, said = verify()
    assert status > 0
    warned = f"WARNING: {AGENT} on vaettir-default-one: its public name does not answer from the control node"
    assert f"{AGENT} on vaettir-default-one: WebSocket upgrade verified at {PUBLIC}" in said
    assert warned in said
    assert f"{AGENT} on vaettir-default-one: not verified. Why, and what fixes it: `ansible-playbook" in said
    run = playbook.run(playbook.DEPLOY, "-e", f"agent={AGENT}")
    assert (run.status, run.changed) == (0, []), run
    assert warned in " ".join(run.output.split())
    report = "/home/deploy/agents.prom"
    assert verify("-e", f"textfile={report}")[0] > 0
    told = server.file(report).content_string
    assert 'vaettir_agent_verified{agent="ocapistaine"} 1\n' in told
    assert 'vaettir_agent_public{agent="ocapistaine"} 0\n' in told
    server.check_output(f"rm {report}")
