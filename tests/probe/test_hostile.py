# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""1,000 servers that wish us ill: no crash, no hang, no memory, and where only one reason is right, that one."""

from __future__ import annotations

import json
import resource
import ssl
import time
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _probe, _websocket

from . import hostile
from .conftest import HOST, Files, free_port, probe, process

CASES_HTTP1, CASES_HTTP2 = 660, 340
TIMEOUT = 0.6
LATE = 1.0  # seconds; this machine is shared
MEMORY_ONE, MEMORY_ALL = 3 << 20, 64 << 20  # bytes


class Servers(NamedTuple):
    port: int
    tls_port: int
    contexts: dict[str, ssl.SSLContext]

    def ask(self, kind: str, number: int, timeout: float = TIMEOUT) -> tuple[dict[str, Any], float]:
        start = time.monotonic()
        if kind == "http1":
            url = f"ws://{HOST}:{self.port}/{number}"
            found = probe(url, self.contexts, timeout=timeout, accept=["application/json"])
        else:
            url = f"wss://case-{number}.probe.example:{self.tls_port}/ws"
            found = probe(url, self.contexts, timeout=timeout, http2=True)
        return found, time.monotonic() - start


@pytest.fixture(scope="module")
def servers(files: Files) -> Iterator[Servers]:
    port, tls_port = free_port(), free_port()
    arguments = (str(port), str(tls_port), files.certificate, files.key)
    with process("tests.probe.hostile", *arguments, port=port):
        yield Servers(port, tls_port, _probe.tls_contexts(files.ca, True, True))


def told(kind: str, number: int, found: dict[str, Any]) -> str:
    return f"{hostile.behaviour(hostile.KINDS[kind], number)[0].__name__} {number}: {found['reason']}: {found['error']}"


def right(kind: str, number: int, found: dict[str, Any]) -> bool:
    """Whether the reason is one that the case can have."""
    allowed = hostile.behaviour(hostile.KINDS[kind], number)[1]
    return (kind == "http1" or found["upgraded"]) and (not allowed or found["reason"] in allowed)


def wrong(kind: str, number: int, found: dict[str, Any], seconds: float) -> str:
    """What no server may bring about, or nothing."""
    what = told(kind, number, found)
    if found["reason"] not in _websocket.REASONS or found["reason"] == "unforeseen":
        return what
    if bool(found["error"]) is (found["reason"] == "ok") or "\n" in found["error"] or len(found["error"]) > 600:
        return f"{what} (its sentence)"
    if seconds > TIMEOUT + _probe.GRACE + LATE:
        return f"{what} after {seconds:.1f} s"
    json.dumps(found)
    return ""


def test_a_thousand(servers: Servers) -> None:
    cases = [("http1", number) for number in range(CASES_HTTP1)] + [("http2", number) for number in range(CASES_HTTP2)]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with ThreadPoolExecutor(12) as pool:
        results = list(pool.map(lambda case: (*case, *servers.ask(*case)), cases))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    faults = [fault for result in results if (fault := wrong(*result))]
    # A server that did not get its turn in time is asked again, alone and with more patience.
    again = [(kind, number) for kind, number, found, _seconds in results if not right(kind, number, found)]
    second = [(*case, servers.ask(*case, timeout=4)[0]) for case in again[:50]]
    faults += [told(*result) for result in second if not right(*result)]
    longest = max(seconds for _kind, _number, _found, seconds in results)
    reasons = Counter(found["reason"] for _kind, _number, found, _seconds in results)
    print(
        f"{len(results)} hostile servers: longest {longest:.2f} s, memory +{grown >> 20} MiB, "
        f"{len(again)} asked again, {dict(reasons)}"
    )
    assert faults == []
    assert len(again) <= 50
    assert len(results) >= 1000
    assert grown < MEMORY_ALL


@pytest.mark.parametrize("kind", ["http1", "http2"])
def test_memory_of_each_kind(servers: Servers, kind: str) -> None:
    """One after another, with every allocation counted."""
    peaks = {}
    tracemalloc.start()
    try:
        for number, work in enumerate(hostile.KINDS[kind]):
            tracemalloc.reset_peak()
            before = tracemalloc.get_traced_memory()[0]
            servers.ask(kind, number)
            peaks[work.__name__] = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    print(f"{kind}: {max(peaks.values()) >> 10} KiB at most ({max(peaks, key=lambda name: peaks[name])})")
    assert {name: peak for name, peak in peaks.items() if peak > MEMORY_ONE} == {}


def test_the_servers_would_be_fine_without_ill_will(servers: Servers) -> None:
    """So that a fault of theirs is not taken for the probe's patience."""
    found = probe(f"wss://case-1.probe.example:{servers.tls_port}/ws", servers.contexts)
    assert found["reason"] == "ok"
