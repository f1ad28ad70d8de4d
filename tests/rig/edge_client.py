# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Python's side of the edge's control API; standard library only."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple


class EdgeError(Exception):
    """The control API refused; its own words."""


class Request(NamedTuple):
    """A request as the edge received it; `raw_headers` in order and letter case, doubled ones included."""

    at: float
    method: str
    path: str
    host: str
    raw_headers: list[tuple[str, str]]

    @property
    def headers(self) -> dict[str, str]:
        """By lower-case name; doubled ones joined with a comma."""
        joined: dict[str, str] = {}
        for name, value in self.raw_headers:
            joined[name.lower()] = f"{joined[name.lower()]}, {value}" if name.lower() in joined else value
        return joined


class Edge:
    def __init__(self, base_url: str) -> None:
        self.base_url = base_url.rstrip("/")
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # never through a proxy

    def call(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            self.base_url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            with self._opener.open(request, timeout=10) as reply:
                return json.load(reply)
        except urllib.error.HTTPError as error:
            raise EdgeError(json.load(error)["error"]) from None

    def wait(self, seconds: float = 60) -> None:
        """Until the outside world is up: the edge, its DNS and the apps."""
        end = time.monotonic() + seconds
        while True:
            try:
                health = self.call("GET", "/health")
                if health["ok"]:
                    return
            except OSError as error:
                health = error
            if time.monotonic() > end:
                raise EdgeError(f"{self.base_url} is not ready after {seconds:g} s: {health}")
            time.sleep(0.1)

    def tunnels(self) -> dict[str, dict[str, Any]]:
        return dict(self.call("GET", "/tunnels"))

    def put(self, host: str, app: str) -> None:
        """Start a tunnel, or put another app behind it."""
        self.call("PUT", f"/tunnels/{host}", {"app": app})

    def delete(self, host: str) -> None:
        """Stop a tunnel: ERR_NGROK_3200 from now on."""
        self.call("DELETE", f"/tunnels/{host}")

    def fault(self, host: str, fault: str | None, status: int | None = None) -> None:
        """`ERR_NGROK_…` (status overrides the usual one), `reset`, `blackhole`, `bad_certificate`, …; None heals."""
        self.call("PUT", f"/tunnels/{host}/fault", {"fault": fault, "status": status})

    @contextmanager
    def stopped(self, host: str) -> Iterator[None]:
        """The tunnel is offline inside the block."""
        app = self.tunnels()[host]["app"]
        self.delete(host)
        try:
            yield
        finally:
            self.put(host, app)

    @contextmanager
    def faulty(self, host: str, fault: str, status: int | None = None) -> Iterator[None]:
        """The fault is there inside the block."""
        self.fault(host, fault, status)
        try:
            yield
        finally:
            self.fault(host, None)

    def counters(self) -> dict[str, Any]:
        return dict(self.call("GET", "/counters"))

    def reset(self) -> None:
        """Counters to zero, and no requests remembered."""
        self.call("POST", "/counters/reset")

    def requests(self) -> list[Request]:
        """The last 200."""
        return [
            Request(seen["at"], seen["method"], seen["path"], seen["host"], [(n, v) for n, v in seen["headers"]])
            for seen in self.call("GET", "/requests")
        ]

    def delay(self, milliseconds: float) -> None:
        """Round-trip time of the line to the edge; open connections end."""
        self.call("PUT", "/delay", {"ms": milliseconds})

    def idle(self, seconds: float) -> None:
        """After which the edge closes a silent connection (WebSockets at once, others when they are new)."""
        self.call("PUT", "/idle", {"seconds": seconds})

    def dns(self, state: str) -> None:
        """`up`, `down` (port closed) or `silent` (no answer)."""
        self.call("PUT", "/dns", {"state": state})

    def address(self, host: str, address: str | None) -> None:
        """What DNS says of one host; "": there is none; None: the edge's own address again."""
        self.call("PUT", f"/dns/{host}", {"address": address})
