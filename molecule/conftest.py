# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What every scenario's tests look with."""

from __future__ import annotations

import pytest
import testinfra

from tests.rig import scenario
from tests.rig.edge_client import Edge
from tests.rig.visitor import Visitor


@pytest.fixture(scope="session")
def edge() -> Edge:
    """The ngrok edge, to be told what to do and asked what it saw."""
    return Edge(scenario.current()["outside"]["control"])


@pytest.fixture(scope="session")
def servers() -> dict[str, str]:
    """Name and address of each server."""
    found: dict[str, str] = scenario.current()["servers"]
    return found


@pytest.fixture(scope="session")
def server(servers):
    """A shell of the deploy user on the scenario's first server; quick, and without Ansible."""
    return testinfra.get_host(f"docker://deploy@{next(iter(servers))}")


@pytest.fixture(scope="session")
def visitor(servers) -> Visitor:
    """Somebody with a browser, in front of the first server."""
    return Visitor(next(iter(servers.values())))
