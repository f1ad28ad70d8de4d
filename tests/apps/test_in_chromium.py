# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The apps whose pages are programs of their own, in Chromium over HTTP/2; and what a page costs the tunnel."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.browser.conftest import FLAGS, Notes
from tests.rig import ca, machine
from tests.rig.shell import run

from .stand import DOMAIN, World, public, tunnel

TUNNEL_REQUESTS = 8  # of a first page through a warm cache


@pytest.fixture(scope="module")
def browser(world: World, tmp_path_factory) -> Iterator[Browser]:
    """Chromium with the run's CA, for which every agent is on our server."""
    if not (shutil.which("chromium") and shutil.which("certutil")):
        machine.apt_install(["chromium", "libnss3-tools"])
    home = tmp_path_factory.mktemp("home")
    store = home / ".pki" / "nssdb"
    store.mkdir(parents=True)
    run(["certutil", "-d", f"sql:{store}", "-N", "--empty-password"])
    run(["certutil", "-d", f"sql:{store}", "-A", "-t", "C,,", "-n", "rig", "-i", ca.FOLDER / "ca.pem"])
    rules = f"--host-resolver-rules=MAP *.{DOMAIN} {world.address}, MAP * ~NOTFOUND, EXCLUDE {world.address}"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=[*FLAGS, rules], env={**os.environ, "HOME": str(home)}
        )
        yield started
        started.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A new visitor: no cookies, no cache."""
    made = browser.new_context(locale="en-GB", reduced_motion="reduce")
    made.set_default_timeout(15_000)
    yield made
    made.close()


@pytest.fixture
def page(context: BrowserContext) -> Page:
    return context.new_page()


def clean(notes: Notes) -> None:
    """Nothing that has to do with our hops was complained of; a Gradio page asks for fonts and the like elsewhere."""
    ours = [line for line in notes.failed if f".{DOMAIN}" in line and "manifest" not in line]
    assert ours == []
    assert [line for line in notes.console if re.search("websocket|mixed content|cors", line, re.IGNORECASE)] == []


@pytest.mark.parametrize("agent", ["ocapistaine", "legacy", "login"])
def test_streamlit(page: Page, agent):
    notes = Notes()
    notes.watch(page)
    page.goto(public(agent))
    expect(page.get_by_text("7 sardines fill 2 tins")).to_be_visible(timeout=15_000)
    slider = page.get_by_role("slider")
    slider.focus()
    for _ in range(6):
        slider.press("ArrowRight")
    expect(page.get_by_text("13 sardines fill 3 tins")).to_be_visible()
    content = {"name": "sardines.bin", "mimeType": "application/octet-stream", "buffer": os.urandom(3_000_000)}
    page.locator("input[type=file]").set_input_files(files=[content])
    expect(page.get_by_text("sardines.bin: 3000000 bytes arrived.")).to_be_visible()
    assert set(notes.sockets) <= {101, 200}
    assert notes.sockets
    clean(notes)


def test_gradio(page: Page):
    notes = Notes()
    notes.watch(page)
    page.goto(public("gradio"))
    page.get_by_role("button", name="Tins").click()
    expect(page.get_by_label("Answer")).to_have_value("7 sardines fill 2 tins")
    page.get_by_role("button", name="Count").click()
    expect(page.get_by_label("Answer")).to_have_value("sardine 6")
    clean(notes)


def test_the_next_visitors_first_page_costs_the_tunnel_little(world: World, browser: Browser):
    """The first one filled the cache; hashed assets are then the proxy's."""
    counts = []
    for _ in range(2):
        visitor = browser.new_context()
        page = visitor.new_page()
        world.edge.reset()
        page.goto(public("ocapistaine"))
        expect(page.get_by_text("7 sardines fill 2 tins")).to_be_visible(timeout=15_000)
        page.wait_for_load_state("networkidle")
        counts.append(world.edge.counters()["by_host"][tunnel("ocapistaine")]["requests"])
        asked = [request.path for request in world.edge.requests()]
        visitor.close()
    print(f"tunnel requests of a page, one after the other: {counts}")
    assert counts[-1] <= TUNNEL_REQUESTS, asked
