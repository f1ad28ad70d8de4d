# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The apps whose pages are programs of their own, in Chromium over HTTP/2."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import Browser, Error, FilePayload, Page, expect, sync_playwright

from tests.browser.conftest import FLAGS, Notes
from tests.rig import ca, machine
from tests.rig.apps.catalogue import APPS
from tests.rig.shell import run

from .stand import DOMAIN, STREAMLIT, World, public

expect.set_options(timeout=15_000)


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


def visit(browser: Browser, steps: Callable[[Page], None]) -> None:
    """A new visitor, without cookies or cache, and nothing that our hops would have to answer for.

    Chromium drops its connections when an interface of the machine changes, as with every container that starts or
    ends meanwhile: then another visitor tries again.
    """
    for attempt in range(5):
        context = browser.new_context(locale="en-GB", reduced_motion="reduce")
        context.set_default_timeout(15_000)
        notes = Notes()
        try:
            page = context.new_page()
            notes.watch(page)
            steps(page)
            clean(notes)
        except (AssertionError, Error) as error:
            disturbed = "ERR_NETWORK_CHANGED" in f"{notes.failed} {notes.console} {error}"
            if not disturbed or attempt == 4:
                raise
        else:
            return
        finally:
            context.close()


def clean(notes: Notes) -> None:
    """A stream that the page itself closes counts as aborted; Gradio asks for fonts and the like elsewhere."""
    ours = [line for line in notes.failed if f".{DOMAIN}" in line and "ERR_ABORTED" not in line]
    assert [line for line in ours if "manifest" not in line] == []
    assert [line for line in notes.console if re.search("websocket|mixed content|cors", line, re.IGNORECASE)] == []
    assert set(notes.sockets) <= {101, 200}  # 200: over HTTP/2 (RFC 8441)


@pytest.mark.parametrize("agent", STREAMLIT)
def test_streamlit(browser: Browser, agent):
    def steps(page: Page) -> None:
        page.goto(public(agent))
        expect(page.get_by_text("7 sardines fill 2 tins")).to_be_visible(timeout=15_000)
        slider = page.get_by_role("slider")
        slider.focus()
        for _ in range(6):
            slider.press("ArrowRight")
        expect(page.get_by_text("13 sardines fill 3 tins")).to_be_visible()
        content = FilePayload(name="sardines.bin", mimeType="application/octet-stream", buffer=os.urandom(3_000_000))
        page.locator("input[type=file]").set_input_files(files=content)
        expect(page.get_by_text("sardines.bin: 3000000 bytes arrived.")).to_be_visible()

    visit(browser, steps)


def test_gradio(browser: Browser):
    def steps(page: Page) -> None:
        page.goto(public("gradio"))
        page.get_by_role("button", name="Tins").click()
        expect(page.get_by_label("Answer")).to_have_value("7 sardines fill 2 tins")
        page.get_by_role("button", name="Count").click()
        expect(page.get_by_label("Answer")).to_have_value("sardine 6")
        page.get_by_role("button", name="Label").click()
        link = page.get_by_role("link", name="22.0 B")
        expect(link).to_have_attribute("href", re.compile(re.escape(public("gradio") + "/")))

    visit(browser, steps)


def flask(page: Page) -> None:
    tins(page)
    expect(page.get_by_text("websocket", exact=True)).to_be_visible()


def tins(page: Page) -> None:
    page.get_by_role("button", name="Tins").click()
    expect(page.get_by_text("7 sardines fill 2 tins")).to_be_visible()


def file(page: Page) -> None:
    tins(page)
    content = FilePayload(name="sardines.bin", mimeType="application/octet-stream", buffer=os.urandom(3_000_000))
    page.locator("input[type=file]").set_input_files(files=content)
    expect(page.get_by_text("sardines.bin: 3000000 bytes arrived.")).to_be_visible()


def next_js(page: Page) -> None:
    tins(page)
    page.get_by_role("button", name="Leave").click()
    expect(page.get_by_text("The sardines have left")).to_be_visible()
    assert page.url == public("next") + "/left"


def login(page: Page) -> None:
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_text("Logged in as Anna")).to_be_visible()
    assert page.url == public("login") + "/"


def jupyter(page: Page) -> None:
    """The kernel's answers come by WebSocket; it takes its time to start."""
    expect(page.get_by_text("Python 3 (ipykernel) | Idle")).to_be_visible(timeout=60_000)
    page.locator(".jp-Notebook .cm-content").first.click()
    page.keyboard.press("Shift+Enter")
    expect(page.get_by_text("7 sardines fill 2 tins")).to_be_visible()


PAGES = {
    "flask": ("/", flask),
    "nicegui": ("/", file),
    "dash": ("/", tins),
    "panel": ("/panel_app", tins),
    "shiny": ("/", file),
    "jupyter": ("/lab/tree/ocapistaine.ipynb?token=sardines", jupyter),
    "next": ("/", next_js),
    "login": ("/", login),
}


def test_every_row_of_the_docs_runs():
    """The last two have no page: test_profiles.py is their visitor."""
    assert set(APPS) <= {*PAGES, *STREAMLIT, "gradio", "fastapi", "workflows"}


@pytest.mark.parametrize("agent", PAGES)
def test_app(browser: Browser, agent):
    path, steps = PAGES[agent]

    def all_steps(page: Page) -> None:
        page.goto(public(agent) + path)
        steps(page)

    visit(browser, all_steps)
