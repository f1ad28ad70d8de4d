# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What a visitor sees: Chromium, Traefik over HTTP/2 and TLS, the agent's nginx, the tunnel, Streamlit, and back."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Error, FilePayload, Page, expect

from tests.rig import demo
from tests.rig.shell import ROOT

from .conftest import Notes

IMAGES = ROOT / "docs" / "images"
DESKTOP = {"viewport": {"width": 1200, "height": 750}}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}
DISCORD = "https://discord.gg/vaettir-demo"  # of inventories/demo
UPLOAD = 3_000_000
PROTOCOLS = """performance.getEntriesByType('navigation').concat(performance.getEntriesByType('resource'))
    .filter(entry => new URL(entry.name).protocol === 'https:').map(entry => entry.nextHopProtocol)"""


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
    """Proof that the other tests verify the certificate."""
    browser = launch(False)
    try:
        with pytest.raises(Error, match="ERR_CERT_AUTHORITY_INVALID"):
            browser.new_page().goto(demo.URL)
    finally:
        browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    ("fault", "heading"),
    [
        (None, "is offline"),
        ("ERR_NGROK_8012", "has not started yet"),
        ("ERR_NGROK_734", "needs a short break"),
        ("ERR_NGROK_727", "has reached its monthly limit"),
        ("ERR_NGROK_3208", "cannot be reached"),
    ],
)
def test_page_is_accessible(
    visit: Callable[..., Page], world: demo.World, fault: str | None, heading: str, scheme: str
) -> None:
    """WCAG 2.2 A and AA, as far as a program can tell; nothing spills over the edge of a small phone."""
    if fault:
        world.edge.fault(demo.TUNNEL, fault)
    else:
        world.edge.delete(demo.TUNNEL)
    page = visit(color_scheme=scheme, viewport={"width": 320, "height": 640})
    page.goto(demo.URL)
    expect(page.get_by_role("heading", name=heading)).to_be_visible()
    rules = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
    found = Axe().run(page, options={"runOnly": {"type": "tag", "values": rules}})
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_screenshots(visit: Callable[..., Page], world: demo.World, tmp_path: Path) -> None:
    """README's pictures; BROWSER_SCREENSHOTS=1 replaces those of docs/images."""
    folder = IMAGES if os.environ.get("BROWSER_SCREENSHOTS") else tmp_path
    for name, device in (("app", DESKTOP), ("app-phone", PHONE)):
        page = visit(color_scheme="light", **device)
        app(page)
        expect(page.get_by_test_id("stFileUploaderDropzone")).to_be_visible()  # the last thing to be drawn
        page.screenshot(path=folder / f"{name}.png")
    world.edge.delete(demo.TUNNEL)
    for scheme in ("light", "dark"):
        for suffix, device in (("", DESKTOP), ("-phone", PHONE)):
            page = visit(color_scheme=scheme, **device)
            page.goto(demo.URL)
            expect(page.get_by_role("heading", name="ocapistaine is offline")).to_be_visible()
            dark = "-dark" if scheme == "dark" else ""
            page.screenshot(path=folder / f"offline{suffix}{dark}.png")
