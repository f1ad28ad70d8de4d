# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A world of its own, deployed by the user's command, and Chromium, whose only authority is the run's CA."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, Playwright, sync_playwright

from tests.rig import ca, demo, machine, servers
from tests.rig.shell import run

SERVER, OUTSIDE = "vaettir-browser", "vaettir-browser-outside"
PATIENCE = 10_000  # ms that a step of a visitor may take
FLAGS = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)


@dataclass
class Notes:
    """What a page said to its developer, and what it asked for in vain."""

    console: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    sockets: list[int] = field(default_factory=list)  # statuses of WebSocket handshakes

    def watch(self, page: Page) -> None:
        def say(message: Any) -> None:
            if message.type in ("error", "warning"):
                self.console.append(f"{message.type}: {message.text}")

        def answered(reply: Any) -> None:
            if reply.status >= 400:
                self.failed.append(f"{reply.request.method} {reply.url}: {reply.status}")

        page.on("console", say)
        page.on("pageerror", lambda error: self.console.append(f"exception: {error}"))
        page.on("response", answered)
        page.on("requestfailed", lambda request: self.failed.append(f"{request.url}: {request.failure}"))
        session = page.context.new_cdp_session(page)
        session.send("Network.enable")
        session.on(
            "Network.webSocketHandshakeResponseReceived",
            lambda event: self.sockets.append(event["response"]["status"]),
        )
        session.on("Network.webSocketFrameError", lambda event: self.console.append(f"WebSocket: {event}"))


def deploy(*options: str) -> None:
    """With the demo's inventory, but to another container than the one it names."""
    demo.deploy("-e", f"ansible_host={SERVER}", *options)


@pytest.fixture(scope="session")
def world() -> Iterator[demo.World]:
    """A server with nothing on it but the agent; KEEP=1 leaves it running."""
    if not (shutil.which("chromium") and shutil.which("certutil")):
        machine.apt_install(["chromium", "libnss3-tools"])
    try:
        started = demo.start(SERVER, OUTSIDE, publish=())
        deploy()
        yield started
    finally:
        if not os.environ.get("KEEP"):
            servers.down([SERVER, OUTSIDE])


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="session")
def launch(playwright: Playwright, world: demo.World, tmp_path_factory: Any) -> Callable[[bool], Browser]:
    """Starts Chromium with a home folder of its own, in whose store of authorities the run's CA is, or is not."""

    def start(trusting: bool) -> Browser:
        home: Path = tmp_path_factory.mktemp("home")
        store = home / ".pki" / "nssdb"
        store.mkdir(parents=True)
        run(["certutil", "-d", f"sql:{store}", "-N", "--empty-password"])
        if trusting:
            run(["certutil", "-d", f"sql:{store}", "-A", "-t", "C,,", "-n", "rig", "-i", ca.FOLDER / "ca.pem"])
        # *.localhost would be this machine; the server has an address of its own.
        rules = f"--host-resolver-rules=MAP *.{demo.DOMAIN} {world.address}"
        return playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=[*FLAGS, rules], env={**os.environ, "HOME": str(home)}
        )

    return start


@pytest.fixture(scope="session")
def browser(launch: Callable[[bool], Browser]) -> Iterator[Browser]:
    started = launch(True)
    yield started
    started.close()


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """A new visitor's page: no cookies, no cache."""
    contexts: list[BrowserContext] = []

    def new(**options: Any) -> Page:
        contexts.append(browser.new_context(**{"locale": "en-GB", "reduced_motion": "reduce", **options}))
        contexts[-1].set_default_timeout(PATIENCE)
        return contexts[-1].new_page()

    yield new
    for context in contexts:
        context.close()


@pytest.fixture(autouse=True)
def healthy(world: demo.World) -> Iterator[None]:
    """Every test begins and ends with the tunnel up."""
    yield
    world.edge.put(demo.TUNNEL, demo.APP)
    world.edge.fault(demo.TUNNEL, None)


@pytest.fixture(scope="session")
def host() -> str:
    return str(urlsplit(demo.URL).hostname)
