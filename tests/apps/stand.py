# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The real chain with a real app of every profile at its end, and visitors in front of it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import socket
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from yarl import URL

from tests.rig import ca, images, servers
from tests.rig.apps.catalogue import APPS, IDENTITY
from tests.rig.edge_client import Edge
from tests.rig.playbook import resolving
from tests.rig.shell import ROOT, VENV, run
from tests.rig.visitor import Visitor, _Resolver

SERVER, OUTSIDE, LAPTOP = "vaettir-apps", "vaettir-apps-outside", "vaettir-apps-laptop"
INVENTORY = Path(__file__).parent / "inventory.yml"
DOMAIN, PORT = "vaettir.example", 8443
STREAM = "/_stcore/stream"
# The agents behind the laptop's ports; ocapistaine is the outside world's own, plain is no tunnel.
PORTS = {**{agent: app.port for agent, app in APPS.items()}, "identity": IDENTITY.port}
ENTRIES: dict[str, dict[str, Any]] = {
    entry["name"]: {"profile": "streamlit", **entry}
    for entry in yaml.safe_load(INVENTORY.read_text(encoding="utf-8"))["vaettir"]["vars"]["vaettir_agents"]
}
_PROFILES = yaml.safe_load((ROOT / "roles/agent_proxy/vars/main.yml").read_text(encoding="utf-8"))
_PROBES = {
    agent: entry.get("probe_path", _PROFILES["__agent_proxy_profiles"][entry["profile"]]["probe_path"])
    for agent, entry in ENTRIES.items()
}
VERIFIED = {agent: path for agent, path in _PROBES.items() if path}  # by each deploy
SOCKETS = {**VERIFIED, "workflows": "/rest/push"}  # n8n's own wants a login
STREAMLIT = [agent for agent, entry in ENTRIES.items() if entry["profile"] == "streamlit"]
RERUN = b"\x5a\x00"  # Streamlit's BackMsg with an empty rerun_script: what its page says first
UUID = re.compile(rb"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SECONDS = 30


def host(agent: str) -> str:
    return f"{agent}.{DOMAIN}:{PORT}"


def public(agent: str) -> str:
    return f"https://{host(agent)}"


def tunnel(agent: str) -> str:
    return f"{agent}.ngrok-free.app"


@dataclass
class World:
    address: str  # of the server
    visitor_address: str  # as the server sees it
    edge: Edge
    visitor: Visitor
    deployed: str  # what the playbook said

    @asynccontextmanager
    async def session(self, **options: Any) -> AsyncIterator[aiohttp.ClientSession]:
        """A browser's session: cookies are kept, certificates verified, every name is the server."""
        connector = aiohttp.TCPConnector(resolver=_Resolver(self.address), ssl=self.visitor.trust, limit=0)
        options.setdefault("timeout", aiohttp.ClientTimeout(SECONDS))
        async with aiohttp.ClientSession(
            connector=connector, max_line_size=65536, max_field_size=65536, **options
        ) as session:
            yield session

    def visit(self, work: Callable[[aiohttp.ClientSession], Awaitable[Any]], **options: Any) -> Any:
        """Whatever a visitor does, in a session of its own."""

        async def main() -> Any:
            async with self.session(**options) as session:
                return await work(session)

        return asyncio.run(main())


def play(playbook: str, *options: str, fails: bool | None = False) -> str:
    """The user's command over this inventory, where the world's names are known; its words in one line.

    Where the caller reads a report, its status may be anything: None.
    """
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "PYTHONUNBUFFERED": "1"}
    with tempfile.TemporaryDirectory() as folder:
        command: list[str | Path] = resolving(Path(folder, "resolv.conf"), servers.address(OUTSIDE))
        command += [VENV / "bin" / "ansible-playbook", "-i", INVENTORY, playbook, *options]
        done = run(command, check=fails is False, cwd=ROOT, env=environment, timeout=600)
    assert fails is None or bool(done.returncode) == fails, done.stdout[-6000:]
    return " ".join(done.stdout.split())


def deploy(*options: str) -> str:
    """What a user types."""
    return play("deploy-agent.yml", *options)


def diagnose(*options: str, broken: bool | None = False) -> dict[str, dict[str, Any]]:
    """The report that the diagnosis writes, by agent."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "report.json")
        play("diagnose-agent.yml", "-e", f"report_file={path}", *options, fails=broken)
        return {one["agent"]: one for one in json.loads(path.read_text())["agents"]}


def up() -> World:
    images.build_all()
    images.build_all([images.APPS])
    ca.ensure()
    outside = servers.outside_up(OUTSIDE)
    laptop = servers.apps_up(LAPTOP)
    server = servers.server_up(SERVER, outside["ip"])
    servers.load([SERVER], [images.NGINX, images.TRAEFIK])
    edge = Edge(outside["control"])
    for agent, port in PORTS.items():
        edge.put(tunnel(agent), f"http://{laptop['ip']}:{port}")
    for name in (DOMAIN, SERVER):  # of the agents, and of the server in the inventory
        edge.address(name, server["ip"])
    deployed = deploy()
    with socket.create_connection((server["ip"], PORT)) as connection:
        return World(server["ip"], connection.getsockname()[0], edge, Visitor(server["ip"]), deployed)


@pytest.fixture(scope="session")
def world() -> Iterator[World]:
    """KEEP=1 leaves it running."""
    try:
        yield up()
    finally:
        if not os.environ.get("KEEP"):
            servers.down([SERVER, LAPTOP, OUTSIDE])


class StreamlitPage:
    """What Streamlit's page does before and after its WebSocket opens, without a browser."""

    def __init__(self, session: aiohttp.ClientSession, agent: str) -> None:
        self.http, self.url = session, public(agent)
        self.xsrf = ""

    async def open(self) -> aiohttp.ClientWebSocketResponse:
        # Tornado sets the cookie with the health answer, the newer server with the page.
        for path in ("/", "/_stcore/health"):
            async with self.http.get(self.url + path) as reply:
                assert reply.status == 200, reply.status
        cookies = self.http.cookie_jar.filter_cookies(URL(self.url))
        self.xsrf = cookies["_streamlit_xsrf"].value
        self.socket = await self.http.ws_connect(
            self.url.replace("https", "wss") + STREAM, origin=self.url, protocols=["streamlit"], max_msg_size=0
        )
        await self.socket.send_bytes(RERUN)
        return self.socket

    async def until(self, wanted: bytes) -> bytes:
        """All that came, up to the message with those bytes."""
        came = b""
        while wanted not in came:
            came += await self.socket.receive_bytes(timeout=SECONDS)
        return came

    async def listen(self) -> None:
        """Answers Streamlit's pings, as a browser does all the time."""
        async for _ in self.socket:
            pass

    async def upload(self, session: str, body: Any, *, token: bool = True) -> int:
        """Sends a file as the page does."""
        form = aiohttp.MultipartWriter("form-data")
        part = form.append(body, {"Content-Type": "application/octet-stream"})
        part.set_content_disposition("form-data", name="file", filename="sardines.bin")
        headers = {"Origin": self.url, **({"X-Xsrftoken": self.xsrf} if token else {})}
        url = f"{self.url}/_stcore/upload_file/{session}/{secrets.token_hex(8)}"
        async with self.http.put(url, data=form, headers=headers) as reply:
            return reply.status

    async def session(self) -> str:
        """Which of the identifiers in the first messages is the session that takes files."""
        came = await self.until(b"sardines fill")
        found = {name.decode() for name in UUID.findall(came)}
        for name in found:
            if await self.upload(name, b"fish") == 204:
                return name
        raise AssertionError(f"none of {found} takes a file")


def slowly(size: int, seconds: float, pieces: int = 30) -> AsyncIterator[bytes]:
    """A visitor's thin line."""

    async def body() -> AsyncIterator[bytes]:
        piece = secrets.token_bytes(size // pieces)
        for _ in range(pieces):
            yield piece
            await asyncio.sleep(seconds / pieces)

    return body()
