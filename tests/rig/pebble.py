# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Pebble, a certificate authority that speaks ACME, in a container of its own: servers are to it as to the world."""

from __future__ import annotations

import json
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from . import servers
from .edge_client import Edge
from .shell import STATE

NAME = "acme.test"
_PORT, _MANAGEMENT = 14000, 15000
_CONFIG = json.dumps(
    {
        "pebble": {
            "listenAddress": f"0.0.0.0:{_PORT}",
            "managementListenAddress": f"0.0.0.0:{_MANAGEMENT}",
            "certificate": f"{servers.PEBBLE_SETTINGS}/https.pem",
            "privateKey": f"{servers.PEBBLE_SETTINGS}/https.key",
            "httpPort": 80,  # of the server that has to prove itself
            "tlsPort": 443,
            "retryAfter": {"authz": 1, "order": 1},  # seconds
            "certificateValidityPeriod": 90 * 86400,
        }
    }
)


def container(outside: str) -> str:
    """The container that belongs to an outside world."""
    return outside.removesuffix("outside") + "pebble"


class Pebble:
    """The authority of an outside world."""

    def __init__(self, outside: str) -> None:
        self.container = container(outside)
        self.outside, self.edge = servers.address(outside), Edge(servers.control(outside))
        self.folder = STATE / "pebble" / self.container
        # Who asks it trusts the one; who is shown a certificate of its, the other.
        self.https_authority, self.root = self.folder / "https-authority.pem", self.folder / "root.pem"

    def up(self) -> dict[str, Any]:
        """Starts it (kept if it runs as wanted), leads its name to it, and keeps its root: each start makes another."""
        settings = self.folder / "settings"
        config = settings / "config.json"
        if not config.exists() or config.read_text(encoding="ascii") != _CONFIG:
            self._prepare(settings)
            config.write_text(_CONFIG, encoding="ascii")
        started = servers.pebble_up(self.container, self.outside, settings)
        self.edge.address(NAME, started["ip"])
        trust = ssl.create_default_context(cafile=str(self.https_authority))
        trust.check_hostname = False  # asked by its address
        url = f"https://{started['ip']}:{_MANAGEMENT}/roots/0"
        with urllib.request.urlopen(url, timeout=10, context=trust) as reply:
            self.root.write_bytes(reply.read())
        return started

    @contextmanager
    def down(self) -> Iterator[None]:
        """Its name leads to a machine on which nobody listens there: a restart would make another authority of it."""
        self.edge.address(NAME, self.outside)
        try:
            yield
        finally:
            self.edge.address(NAME, servers.address(self.container))

    def _prepare(self, settings: Path) -> None:
        import trustme  # here, so that the rest of the rig needs nothing installed

        settings.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA(organization_name="locki.vaettir test authority")
        leaf = authority.issue_cert(NAME)
        self.https_authority.write_bytes(authority.cert_pem.bytes())
        (settings / "https.key").touch(0o600)
        (settings / "https.key").write_bytes(leaf.private_key_pem.bytes())
        (settings / "https.pem").write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
