# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Every profile with a real app: what its visitors do, and what its proxy must not do to it."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import json
import re
import secrets
import time

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _probe

from tests.rig import ca, servers
from tests.rig.shell import run

from .stand import (
    ENTRIES,
    LAPTOP,
    OUTSIDE,
    SERVER,
    SOCKETS,
    STREAMLIT,
    VERIFIED,
    StreamlitPage,
    World,
    host,
    public,
    slowly,
    tunnel,
)

MB = 1_000_000
TUNNELS = [agent for agent in ENTRIES if agent != "plain"]
FOREIGN = ["https://evil.example", public("nobody"), "https://fastapi.vaettir.example", "null"]
FORGED = {
    **dict.fromkeys(("X-Forwarded-For", "X-Real-IP", "X-Client-IP", "True-Client-IP"), "6.6.6.6"),
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Proto": "http",
    "X-Forwarded-Port": "6666",
    "X-Forwarded-Prefix": "/evil",
    "X-Forwarded-Server": "evil",
    "Forwarded": "for=6.6.6.6;host=evil.example",
}


def lower(pairs) -> dict[str, str]:
    """Doubled names joined, so that none hides."""
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name.lower()] = f"{joined[name.lower()]}, {value}" if name.lower() in joined else value
    return joined


@pytest.fixture
def seen(world: World):
    """What reached the edge during one test."""
    world.edge.reset()
    return world.edge.requests


# -- the deploy itself ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", VERIFIED)
def test_the_deploy_has_verified_the_probe(world: World, agent):
    assert f"{agent} on {SERVER}: WebSocket upgrade verified at {public(agent)}" in world.deployed


def test_an_app_without_a_websocket_is_deployed_too(world: World):
    """Starlette refuses a handshake on a path without one with 403, which is no fault of the origin here."""
    said = f"gradio on {SERVER}: answers at {public('gradio')}; profile gradio has no WebSocket to verify"
    assert f"{said}, but its stream of events is verified (answer 200)" in world.deployed


@pytest.mark.usefixtures("world")
def test_traefik_does_not_end_slow_uploads():
    flags = run(["docker", "exec", SERVER, "docker", "inspect", "-f", "{{json .Args}}", "vaettir-traefik-1"]).stdout
    assert "--entrypoints.websecure.transport.respondingtimeouts.readtimeout=1800" in json.loads(flags)


# -- WebSockets -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", STREAMLIT)
def test_streamlit_talks(world: World, agent):
    async def talk(session):
        page = StreamlitPage(session, agent)
        socket = await page.open()
        assert socket.protocol == "streamlit"
        assert b"sardines fill" in await page.until(b"sardines fill")

    world.visit(talk)


@pytest.mark.parametrize("agent", ["fastapi", "workflows", "plain"])
@pytest.mark.parametrize("letters", [str, str.upper])
def test_messages_come_back(world: World, agent, letters):
    async def talk(session):
        url = public(agent).replace("https", "wss") + SOCKETS[agent]
        async with session.ws_connect(url, origin=letters(public(agent))) as socket:
            if agent == "fastapi":
                # In capitals it is still the agent's own, and the app gets to see the tunnel's.
                assert (await socket.receive_json())["origin"] == f"https://{tunnel(agent)}"
            big = secrets.token_hex(300_000)
            for text in ("hallo", big):
                await socket.send_str(text)
                assert (await socket.receive()).data == text

    world.visit(talk)


@pytest.mark.parametrize("agent", SOCKETS)
def test_a_foreign_origin_never_reaches_the_tunnel(world: World, seen, agent):
    for origin in [*FOREIGN, public("fastapi" if agent != "fastapi" else "legacy")]:
        assert world.visitor.handshake(public(agent) + SOCKETS[agent], origin=origin)[0] == 403, origin
    assert seen() == []


@pytest.mark.parametrize("agent", VERIFIED)
def test_without_an_origin(world: World, agent):
    assert world.visitor.handshake(public(agent) + SOCKETS[agent])[0] == 101


def test_n8n_wants_an_origin(world: World):
    """The proxy lets it pass; the app's own rule (a test double's) then refuses."""
    url = public("workflows") + SOCKETS["workflows"]
    assert world.visitor.handshake(url, say="hallo") == (101, "Invalid origin!")
    assert world.visitor.handshake(url, public("workflows"), say="hallo") == (101, "hallo")


def test_a_declared_origin(world: World):
    assert world.visitor.handshake(public("fastapi") + "/ws", origin="https://partner.example")[0] == 101


@pytest.mark.parametrize(
    ("agent", "arrives"),
    [
        ("ocapistaine", f"https://{tunnel('ocapistaine')}"),
        ("legacy", f"https://{tunnel('legacy')}"),
        ("login", public("login")),
        ("workflows", public("workflows")),
    ],
)
def test_origin_mode(world: World, seen, agent, arrives):
    """`preserve` for st.login and n8n, the tunnel's own for all others."""
    assert world.visitor.handshake(public(agent) + SOCKETS[agent], origin=public(agent))[0] == 101
    assert [request.headers["origin"] for request in seen()] == [arrives]


# Agent, the name in its Origin, the name in X-Forwarded-Host, and its answer. Host is the tunnel's.
COMPARED = [
    ("ocapistaine", tunnel, tunnel, 101),
    ("ocapistaine", host, host, 403),
    ("panel", tunnel, tunnel, 101),
    ("panel", host, host, 403),
    ("flask", tunnel, tunnel, 101),
    ("flask", tunnel, host, 400),
    ("flask", host, host, 101),
    ("nicegui", host, host, 101),
    ("shiny", host, host, 101),
]


@pytest.mark.usefixtures("world")
@pytest.mark.parametrize(("agent", "own", "forwarded", "status"), COMPARED)
def test_what_an_app_compares(agent, own, forwarded, status):
    """Straight at the tunnel: only what `rewrite` sends suits all of them."""
    found = _probe.ask(
        f"https://{tunnel(agent)}{SOCKETS[agent]}",
        address=servers.address(OUTSIDE),
        origin=f"https://{own(agent)}",
        headers={"X-Forwarded-Host": forwarded(agent), "ngrok-skip-browser-warning": "true"},
        ca_path=str(ca.FOLDER / "ca.pem"),
    )
    assert found["status"] == status, found


@pytest.mark.parametrize(("agent", "named"), [("fastapi", tunnel), ("workflows", host)])
def test_origin_and_forwarded_host_agree(world: World, agent, named):
    """`rewrite` and `preserve`; what comes from elsewhere stays what it is."""
    for origin, seen, name in [
        (public(agent), f"https://{named(agent)}", named(agent)),
        (FOREIGN[0], FOREIGN[0], host(agent)),
    ]:
        headers = lower(world.visitor.get(public(agent) + "/seen", Origin=origin).json["headers"])
        told = (headers["host"], headers["origin"], headers["x-forwarded-host"])
        assert told == (tunnel(agent), seen, name)


def test_streamlit_refuses_a_preserved_origin_that_it_does_not_know(world: World):
    """`login` needs its corsAllowedOrigins: the same app without it says no."""
    app = world.edge.tunnels()[tunnel("login")]["app"]
    other = world.edge.tunnels()[tunnel("legacy")]["app"]
    world.edge.put(tunnel("login"), other)
    try:
        assert world.visitor.handshake(public("login") + SOCKETS["login"], origin=public("login"))[0] == 403
    finally:
        world.edge.put(tunnel("login"), app)


def test_subprotocols_are_untouched(world: World):
    offered = ["vaettir.v1", "token.QUJD-_.", "vaettir.v2"]

    async def talk(session):
        url = public("fastapi").replace("https", "wss") + "/ws"
        async with session.ws_connect(url, origin=public("fastapi"), protocols=offered) as socket:
            assert socket.protocol == offered[-1]
            assert (await socket.receive_json())["offered"] == offered

    world.visit(talk)


def test_800_sockets_of_one_agent(world: World):
    """All open at once, each with an answer; Traefik, the agent and the edge carry them."""

    async def talk(session):
        begin, gate = time.monotonic(), asyncio.Semaphore(100)
        url = public("fastapi").replace("https", "wss") + "/ws"

        async def start():
            async with gate:
                socket = await session.ws_connect(url, origin=public("fastapi"))
                await socket.receive()
                return socket

        sockets = await asyncio.gather(*(start() for _ in range(800)))

        async def ask(number, socket):
            await socket.send_str(str(number))
            return (await socket.receive()).data

        answers = await asyncio.gather(*(ask(number, socket) for number, socket in enumerate(sockets)))
        assert answers == [str(number) for number in range(800)]
        print(f"800 sockets open and answered after {time.monotonic() - begin:.1f} s")
        await asyncio.gather(*(socket.close() for socket in sockets))

    world.visit(talk)


# -- uploads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("agent", STREAMLIT)
def test_streamlit_takes_a_file_with_its_xsrf_cookie_only(world: World, agent):
    async def send(session):
        page = StreamlitPage(session, agent)
        await page.open()
        name = await page.session()
        assert await page.upload(name, secrets.token_bytes(20 * MB)) == 204
        assert await page.upload(name, b"fish", token=False) == 403

    world.visit(send)


@pytest.mark.parametrize("agent", ["fastapi", "workflows", "plain"])
def test_uploads_arrive_byte_for_byte(world: World, agent):
    body = secrets.token_bytes(20 * MB)

    async def send(session):
        async with session.post(public(agent) + "/upload", data=body) as reply:
            told = await reply.json()
            told = told.get("body", told)
            assert (told["length"], told["sha256"]) == (len(body), hashlib.sha256(body).hexdigest())

    world.visit(send)


def test_an_upload_is_passed_on_while_it_comes(world: World, seen):
    """Chunked, of a length that nobody tells; the app hears of it before its end."""

    async def send(session):
        answer = asyncio.create_task(session.post(public("fastapi") + "/upload", data=slowly(3 * MB, 3)))
        await asyncio.sleep(1)
        assert [request.method for request in await asyncio.to_thread(seen)] == ["POST"]
        async with await answer as reply:
            assert (await reply.json())["length"] == 3 * MB

    world.visit(send)


@pytest.mark.parametrize(("agent", "size"), [("fastapi", 101), ("legacy", 202), ("plain", 101)])
def test_more_than_the_profile_allows(world: World, seen, agent, size):
    async def pieces():
        for _ in range(size):
            yield bytes(1 << 20)

    async def send(session):
        headers = {"Content-Length": str(size << 20)}
        async with session.post(public(agent) + "/upload", headers=headers, data=pieces()) as reply:
            assert reply.status == 413

    world.visit(send)
    assert seen() == []


# -- streams --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("agent", "path"), [("fastapi", "/sse"), ("plain", "/sse?interval=0.4")])
def test_events_come_one_by_one(world: World, agent, path):
    async def listen(session):
        begin = time.monotonic()
        async with session.get(public(agent) + path, headers={"Accept": "text/event-stream"}) as reply:
            assert reply.content_type == "text/event-stream"
            lines = [(time.monotonic(), line) async for line in reply.content]
        times = [at - begin for at, line in lines if line.startswith(b"data:")]
        assert len(times) == 5
        assert times[0] < 1, times
        assert min(later - earlier for earlier, later in itertools.pairwise(times)) > 0.2, times

    world.visit(listen)


@pytest.mark.parametrize(("agent", "path"), [("fastapi", "/headers/32000"), ("plain", "/headers/32000")])
def test_response_headers_of_32_kb(world: World, agent, path):
    async def ask(session):
        async with session.get(public(agent) + path) as reply:
            filler = [value for name, value in reply.headers.items() if name.lower().startswith("x-filler")]
            assert (reply.status, sum(map(len, filler))) == (200, 32000)

    world.visit(ask)


# -- what the app sees, and what its answers become -----------------------------------------------------------------


@pytest.mark.parametrize("forged", [{}, FORGED], ids=["honest", "forged"])
@pytest.mark.parametrize(("agent", "path"), [("fastapi", "/seen"), ("workflows", "/seen"), ("plain", "/seen")])
def test_what_the_app_sees_of_a_visitor(world: World, agent, path, forged):
    answer = world.visitor.get(public(agent) + path, **{name.replace("-", "_"): text for name, text in forged.items()})
    headers = lower(answer.json["headers"])
    assert headers["x-real-ip"] == world.visitor_address
    # The tunnel's edge appends its own peer, the server.
    assert headers["x-forwarded-for"].split(", ")[0] == world.visitor_address
    assert headers["x-forwarded-host"] == host(agent)
    assert headers["x-forwarded-proto"] == "https"
    assert "6.6.6.6" not in answer.text
    assert "evil" not in answer.text
    if agent == "fastapi":
        assert answer.json["url"] == f"https://{tunnel(agent)}/seen"


def test_a_plain_target_gets_no_ngrok_headers(world: World, seen):
    headers = lower(world.visitor.get(public("plain") + "/").json["headers"])
    assert headers["host"] == "edge.test:9000"
    assert not [name for name in headers if "ngrok" in name]
    assert seen() == []


@pytest.mark.parametrize("agent", TUNNELS)
def test_a_browser_meets_no_interstitial(world: World, agent):
    page = world.visitor.get(public(agent), User_Agent="Mozilla/5.0 (X11; Linux x86_64) Chrome/156.0")
    assert page.status in (200, 302, 404)
    assert "ngrok-error-code" not in page.headers


@pytest.mark.parametrize("path", ["/items", "/login"])
def test_redirects_stay_on_the_public_name(world: World, path):
    answer = world.visitor.get(public("fastapi") + path)
    assert answer.status == 307
    assert answer.headers["location"] == public("fastapi") + "/items/"


def test_cookies_of_the_tunnels_host_become_the_agents(world: World):
    cookie = world.visitor.get(public("fastapi") + "/login").headers["set-cookie"]
    assert re.search(r"domain=fastapi\.vaettir\.example(;|$)", cookie, re.IGNORECASE)
    for attribute in ("HttpOnly", "Secure", "SameSite=lax"):
        assert attribute.lower() in cookie.lower()


def test_xsrf_cookies_are_untouched(world: World):
    async def submit(session):
        url = public("fastapi") + "/form"
        async with session.get(url) as reply:
            (line,) = reply.headers.getall("Set-Cookie")
        found = re.fullmatch(r'_xsrf="?(2\|[0-9a-f]{8}\|[0-9a-f]{32}\|1700000000)"?; Path=/; SameSite=strict', line)
        assert found, line
        async with session.post(url, headers={"X-Xsrftoken": found[1], "Cookie": f"_xsrf={found[1]}"}) as reply:
            assert (reply.status, await reply.json()) == (200, found[1])
        async with session.post(url, headers={"X-Xsrftoken": found[1]}, cookies={"_xsrf": "other"}) as reply:
            assert reply.status == 403

    world.visit(submit)


# -- Gradio ---------------------------------------------------------------------------------------------------------


def test_gradio_knows_its_public_address(world: World):
    """Its page loads everything from the address that it takes from X-Forwarded-Host and -Proto."""
    config = world.visitor.get(public("gradio") + "/config")
    assert config.json["root"] == public("gradio")
    page = world.visitor.get(public("gradio"), Accept="text/html")
    assert tunnel("gradio") not in page.text


GRADIO_VISITOR = """
import os, sys, tempfile, time
from gradio_client import Client, handle_file
client = Client(sys.argv[1], verbose=False)
assert client.predict(7, api_name="/tins") == "7 sardines fill 2 tins"
begin, times = time.monotonic(), []
for answer in client.submit(4, api_name="/count"):
    times.append(time.monotonic() - begin)
assert len(times) >= 4 and times[0] < 1 and times[-1] - times[0] > 0.5, times
with tempfile.NamedTemporaryFile(suffix=".bin") as file:
    file.write(os.urandom(20_000_000)); file.flush()
    assert client.predict(handle_file(file.name), api_name="/size") == 20_000_000
print("first answer of a stream after %.2f s" % times[0])
"""


def test_gradio_client(world: World):
    """A call, a stream, a file of 20 MB, by Gradio's own client in another container."""
    done = run(
        [
            *("docker", "run", "--rm", "-i", "--name", f"{LAPTOP}-visitor", "--entrypoint", "python3"),
            *("--add-host", f"{host('gradio').split(':')[0]}:{world.address}"),
            *("-v", f"{ca.FOLDER}/ca.pem:/ca.pem:ro", "-e", "SSL_CERT_FILE=/ca.pem", "-e", "PYTHONPATH=/opt/gradio"),
            *("-e", "HF_HUB_OFFLINE=1", "-e", "GRADIO_ANALYTICS_ENABLED=False"),
            *("vaettir-rig/apps:1", "-", public("gradio")),
        ],
        input=GRADIO_VISITOR,
        timeout=120,
    )
    print(done.stdout)
