# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""One measurement each: what a contestant does with small assets, a large body, sockets, and a page."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

from playwright.sync_api import TimeoutError as PageTimeout
from playwright.sync_api import sync_playwright

from tests.rig.shell import RigError, run

from .bed import BODY, NETWORK, PAGE_HOST, TUNNEL, Bed, Contestant

CONNECTIONS = 32
SOCKETS = 200
MESSAGES = 400  # per second, over all sockets
WEIGHED = 500
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
# When the app's title is there, sent over its WebSocket: the visitor can begin. The page's own clock; Playwright polls.
DRAWN = """new MutationObserver((_, self) => {
    if (document.querySelector("h1")?.textContent.includes("Ocapistaine")) { window.drawn = performance.now(); self.disconnect(); }
}).observe(document, { childList: true, subtree: true, characterData: true });"""

Sample = dict[str, float]


def assets(bed: Bed, contestant: Contestant, seconds: int) -> Sample:
    """Small assets as fast as they come, over kept-alive connections; CPU of the proxy; what the tunnel saw of it."""
    url = f"https://{TUNNEL}:443/" if contestant.direct else f"http://{contestant.address}:80/"
    load = ["wrk", "-t1", f"-c{CONNECTIONS}", "-s", "/bench/assets.lua", f"-d{seconds}s", url]
    cpu = 0.0 if contestant.direct else bed.inside("usage", root=contestant.pid)["cpu"]
    handshakes, requests = bed.counters()
    found = json.loads(bed.tools(*load).splitlines()[-1])
    sample = {
        "requests_per_second": found["requests"] / found["seconds"],
        "p50_ms": found["p50_ms"],
        "p99_ms": found["p99_ms"],
        "errors": found["errors"],
    }
    if not contestant.direct:
        after = bed.counters()
        sample["handshakes_per_request"] = (after[0] - handshakes) / max(after[1] - requests, 1)
        sample["cpu_us_per_request"] = (bed.inside("usage", root=contestant.pid)["cpu"] - cpu) / found["requests"] * 1e6
    return sample


def large(bed: Bed, contestant: Contestant) -> Sample:
    """One body of 100 MB."""
    url = f"https://{TUNNEL}" if contestant.direct else f"http://{contestant.address}"
    asked = ["curl", "-sSk", "-o", "/dev/null", "-w", "%{size_download} %{time_total}", f"{url}/bench/large.bin"]
    size, seconds = bed.tools(*asked).split()
    if int(size) != BODY:
        raise RuntimeError(f"{contestant.name}: {size} bytes of {BODY}")
    return {"mb_per_second": BODY / 1e6 / float(seconds)}


def sockets(bed: Bed, contestant: Contestant, seconds: float) -> Sample:
    """Echo round trips with 200 sockets open."""
    address = bed.edge_address if contestant.direct else contestant.address
    return dict(
        bed.inside(
            "sockets",
            address=address,
            host=TUNNEL,
            tls=contestant.direct,
            count=SOCKETS,
            seconds=seconds,
            per_second=MESSAGES,
        )
    )


def memory(bed: Bed, contestant: Contestant) -> Sample:
    """Idle, and what an open socket adds."""
    return dict(bed.inside("weigh", address=contestant.address, host=TUNNEL, root=contestant.pid, count=WEIGHED))


@contextlib.contextmanager
def browser(bed: Bed) -> Iterator[Callable[[Contestant], Sample]]:
    """A function that loads the Streamlit app's page with an empty browser."""
    names = f"--host-resolver-rules=MAP {PAGE_HOST.format(name='*')} {bed.front_address}"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=[*FLAGS, names])

        def load(contestant: Contestant) -> Sample:
            for _ in range(5):
                sample = once(contestant)
                if sample:
                    return sample
            raise RigError(f"{contestant.name}: the page does not load")

        def once(contestant: Contestant) -> Sample | None:
            disturbed: list[str] = []
            time.sleep(0.3)  # what the last page and the emptied cache left to do
            before = bed.counters()
            with contextlib.closing(chromium.new_context(ignore_https_errors=True)) as context:
                page = context.new_page()
                page.on("requestfailed", lambda request: disturbed.append(str(request.failure)))
                page.add_init_script(DRAWN)
                page.goto(f"https://{PAGE_HOST.format(name=contestant.name)}/", wait_until="commit")
                try:
                    page.wait_for_function("window.drawn", timeout=15_000)
                except PageTimeout:
                    # Chromium drops what is on its way when an interface of the host comes or goes, a foreign container's too.
                    if any("NETWORK_CHANGED" in failure for failure in disturbed):
                        return None
                    raise
                seconds = page.evaluate("window.drawn") / 1000
                page.wait_for_load_state("networkidle")
            after = bed.counters()
            return {
                "seconds": seconds,
                "tunnel_requests": after[1] - before[1],
                "tls_handshakes": after[0] - before[0],
            }

        yield load
        chromium.close()


def forget(contestant: Contestant) -> None:
    """Empties the cache of ours."""
    run(["docker", "exec", f"{NETWORK}-{contestant.name}", "sh", "-c", "rm -rf /var/cache/vaettir/*"])


def versions() -> dict[str, Any]:
    """What was measured."""
    asked = {
        "nginx": ["docker", "exec", f"{NETWORK}-ours", "nginx", "-v"],
        "caddy": ["docker", "exec", f"{NETWORK}-tools", "caddy", "version"],
        "haproxy": ["docker", "exec", f"{NETWORK}-tools", "haproxy", "-v"],
        "traefik": ["docker", "exec", f"{NETWORK}-traefik", "traefik", "version"],
        "chromium": ["chromium", "--version"],
    }
    found = {}
    for name, command in asked.items():
        done = run(command)
        found[name] = next(
            word.split("/")[-1].removeprefix("v")
            for word in (done.stdout + done.stderr).split()
            if any(letter.isdigit() for letter in word)
        )
    return found
