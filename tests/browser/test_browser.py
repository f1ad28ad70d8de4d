# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What a visitor sees: Chromium, Traefik over HTTP/2 and TLS, the agent's nginx, the tunnel, Streamlit, and back."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Error, FilePayload, Page, expect

from tests.rig import ca, demo
from tests.rig.shell import ROOT, run

from .conftest import Notes, deploy

IMAGES = ROOT / "docs" / "images"
# By what their pictures' names say.
DEVICES: dict[str, dict[str, Any]] = {
    "": {"viewport": {"width": 1200, "height": 750}},
    "-phone": {
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 2,
        "is_mobile": True,
        "has_touch": True,
    },
}
# Those of docs/pictures.md.
PICTURES = {f"offline{device}{dark}.png" for device in DEVICES for dark in ("", "-dark")} | {
    "maintenance.png",
    "stopped.png",
}
HEADINGS = {
    "offline": ("is offline", "est hors ligne"),
    "app": ("has not started yet", "n’a pas encore démarré"),
    "limit": ("needs a short break", "fait une courte pause"),
    "quota": ("has reached its monthly limit", "a atteint sa limite mensuelle"),
    "refused": ("cannot be reached", "est injoignable"),
    "busy": ("is busy right now", "est très sollicité"),
    "maintenance": ("is under maintenance", "est en maintenance"),
    "stopped": ("is switched off", "est arrêté"),
}
CODES = {
    "offline": None,
    "app": "ERR_NGROK_8012",
    "limit": "ERR_NGROK_734",
    "quota": "ERR_NGROK_727",
    "refused": "ERR_NGROK_3208",
}
CONTAINER = "vaettir-ocapistaine-1"
DISCORD = "https://discord.gg/vaettir-demo"  # of inventories/demo
UPLOAD = 3_000_000
PROTOCOLS = """performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'))
    .filter(entry => new URL(entry.name).protocol === 'https:').map(entry => entry.nextHopProtocol)"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pictures go; BROWSER_SCREENSHOTS=1 replaces those of docs/images."""
    return IMAGES if os.environ.get("BROWSER_SCREENSHOTS") else tmp_path_factory.mktemp("pictures")


def app(page: Page) -> None:
    """Opens the app and waits until its script has run, which needs the WebSocket."""
    page.goto(demo.URL)
    expect(page.get_by_text("7 sardines fill 2 tins")).to_be_visible()


def test_app(visit: Callable[..., Page], host: str) -> None:
    notes = Notes()
    page = visit()
    notes.watch(page)
    reply = page.goto(demo.URL)
    assert reply
    assert reply.status == 200
    certificate = reply.security_details()
    assert certificate
    assert certificate["protocol"] == "TLS 1.3"
    assert certificate["subjectName"] == f"*.{host.split('.', 1)[1]}"

    expect(page.get_by_role("heading", name="Ocapistaine")).to_be_visible()
    expect(page.get_by_text("7 sardines fill 2 tins")).to_be_visible()
    assert set(page.evaluate(PROTOCOLS)) == {"h2"}

    slider = page.get_by_role("slider")
    slider.focus()
    for _ in range(6):
        slider.press("ArrowRight")
    expect(page.get_by_text("13 sardines fill 3 tins")).to_be_visible()

    content: FilePayload = {
        "name": "sardines.bin",
        "mimeType": "application/octet-stream",
        "buffer": os.urandom(UPLOAD),
    }
    page.locator("input[type=file]").set_input_files(files=[content])
    expect(page.get_by_text(f"sardines.bin: {UPLOAD} bytes arrived.")).to_be_visible()

    assert notes.sockets, "no WebSocket was opened"
    assert set(notes.sockets) <= {101, 200}  # 200: over HTTP/2 (RFC 8441)
    assert notes.failed == []
    assert [line for line in notes.console if re.search("websocket|^error|^exception", line, re.IGNORECASE)] == []


def test_warm_page_costs_five_requests_through_the_tunnel(visit: Callable[..., Page], world: demo.World) -> None:
    """The page, health, host-config, favicon and the WebSocket; what the cache has costs none, cookies or not."""
    app(visit())
    world.edge.reset()
    page = visit()
    app(page)
    page.wait_for_load_state("networkidle")
    asked = [request.path for request in world.edge.requests() if request.host == demo.TUNNEL]
    assert len(asked) <= 5, asked


def test_offline_page_and_back(visit: Callable[..., Page], world: demo.World) -> None:
    page = visit()
    app(page)
    world.edge.delete(demo.TUNNEL)
    reply = page.reload()
    assert reply
    assert reply.status == 503
    expect(page.get_by_role("heading", name="ocapistaine is offline")).to_be_visible()
    link = page.get_by_role("link", name="Discord")
    expect(link).to_be_visible()
    assert link.get_attribute("href") == DISCORD
    expect(page.get_by_text("it brings you back by itself")).to_be_visible()
    page.wait_for_timeout(4000)  # still the page: at least one question was answered with no
    expect(page.get_by_role("heading", name="ocapistaine is offline")).to_be_visible()

    world.edge.put(demo.TUNNEL, demo.APP)
    begin = time.monotonic()
    expect(page.get_by_text("7 sardines fill 2 tins")).to_be_visible(timeout=15_000)
    assert time.monotonic() - begin <= 5


def test_a_visitor_without_the_authority_is_warned(launch: Callable[[bool], Browser]) -> None:
    """The browser of the other tests verifies the certificate, too."""
    browser = launch(False)
    try:
        with pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"):
            browser.new_page().goto(demo.URL)
    finally:
        browser.close()


def until(page: Page, state: str | None) -> None:
    """Opens the address until it shows that state, or the app."""
    for _ in range(100):
        reply = page.goto(demo.URL)
        if reply and reply.headers.get("x-vaettir-state") == state and (state or reply.status == 200):
            return
        page.wait_for_timeout(200)
    raise AssertionError(f"no {state or 'app'} after 20 s")


def upload(world: demo.World, host: str) -> ssl.SSLSocket:
    """One that does not end. Where something else of this visitor's is under way it is refused at once."""
    context = ssl.create_default_context(cafile=ca.FOLDER / "ca.pem")
    for _ in range(20):
        plain = socket.create_connection((world.address, urlsplit(demo.URL).port), timeout=10)
        line = context.wrap_socket(plain, server_hostname=host)
        line.sendall(f"POST /upload HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9\r\n\r\n".encode())
        line.settimeout(1)
        try:
            line.recv(1)
        except TimeoutError:
            return line
        line.close()
    raise AssertionError("no upload is under way")


@contextlib.contextmanager
def showing(page: Page, world: demo.World, host: str, state: str) -> Iterator[None]:
    """The page in that state, by what brings it about; the app again at the end."""
    if state == "maintenance":
        deploy("-e", "maintenance=true")
    elif state == "busy":
        # One upload that does not end is all that a visitor may do at once.
        deploy("-e", "agent_proxy_visitor_requests=1")
        waiting = upload(world, host)
    elif state == "stopped":
        run(["docker", "exec", world.server, "docker", "stop", CONTAINER])
    elif CODES[state]:
        world.edge.fault(demo.TUNNEL, CODES[state])
    else:
        world.edge.delete(demo.TUNNEL)
    try:
        until(page, state)
        yield
    finally:
        if state == "busy":
            waiting.close()
        if state in ("maintenance", "busy"):
            deploy()
        elif state == "stopped":
            run(["docker", "exec", world.server, "docker", "start", CONTAINER])
        world.edge.put(demo.TUNNEL, demo.APP)
        world.edge.fault(demo.TUNNEL, None)
        until(page, None)


@pytest.mark.parametrize("state", HEADINGS)
def test_page_is_accessible(visit: Callable[..., Page], world: demo.World, host: str, folder: Path, state: str) -> None:
    """WCAG 2.2 A and AA, as far as a program can tell; nothing spills over a small phone. It makes the pictures."""
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    looks = itertools.product(zip(["en-GB", "fr-FR"], HEADINGS[state], strict=True), ["light", "dark"], DEVICES)
    with showing(visit(), world, host, state):
        for (locale, heading), scheme, device in looks:
            page = visit(locale=locale, color_scheme=scheme, **DEVICES[device])
            page.goto(demo.URL)
            expect(page.get_by_role("heading", name=f"ocapistaine {heading}")).to_be_visible()
            found = Axe().run(page, options={"runOnly": {"type": "tag", "values": rules}})
            assert found.violations_count == 0, f"{locale}, {scheme}{device}: {found.generate_report()}"
            picture = f"{state}{device}{'-dark' if scheme == 'dark' else ''}.png"
            if locale == "en-GB" and picture in PICTURES:
                page.screenshot(path=folder / picture)
            page.set_viewport_size({"width": 320, "height": 640})
            assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{locale}, {scheme}{device}"
            page.close()


def test_picture_of_the_app(visit: Callable[..., Page], folder: Path) -> None:
    for suffix, device in DEVICES.items():
        page = visit(color_scheme="light", **device)
        app(page)
        expect(page.get_by_test_id("stFileUploaderDropzone")).to_be_visible()  # the last thing to be drawn
        page.screenshot(path=folder / f"app{suffix}.png")
