# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
from __future__ import annotations

import pytest

from tests.rig import scenario
from tests.rig.pebble import Pebble


@pytest.fixture(scope="session")
def pebble(edge, servers):
    """The authority, to whom each name leads to its server."""
    one, late = servers.values()
    for name, address in {"second": one, "late": late, "astray": late}.items():
        edge.address(f"{name}.vaettir.example", address)
    return Pebble(scenario.outside_name("acme"))
