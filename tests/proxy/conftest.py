# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The world outside, and agents in front of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.rig import ca, servers
from tests.rig.edge_client import Edge
from tests.rig.shell import run

from . import stand

OUTSIDE = "vaettir-proxy-outside"
ECHO = "second.ngrok-free.app"
STREAMLIT = "ocapistaine.ngrok-free.app"
# A test asks from one address what many visitors would.
MANY_VISITORS = dict.fromkeys(("visitor_websockets", "visitor_requests", "visitor_rate", "visitor_burst"), 9999)


@pytest.fixture(scope="session")
def outside() -> Iterator[dict[str, Any]]:
    world = servers.outside_up(OUTSIDE)
    Edge(world["control"]).wait()
    yield world
    servers.down([OUTSIDE])


@pytest.fixture(scope="session")
def edge(outside: dict[str, Any]) -> Edge:
    return Edge(outside["control"])


@pytest.fixture(scope="module")
def settings(agent: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """Of the agent that `image` and `own` are about; a module may have others."""
    return agent()


@pytest.fixture(scope="module")
def image(settings: dict[str, Any]) -> Iterator[str]:
    tag = stand.build(settings)
    yield tag
    stand.remove_image(tag)


@pytest.fixture(scope="module")
def own(image: str, settings: dict[str, Any]) -> dict[str, str]:
    """What the image and its environment are, in its own words."""
    words = [word for key, value in stand.environment(settings).items() for word in ("-e", f"{key}={value}")]
    return stand.parse_state(run(["docker", "run", "--rm", *words, image, "state"]).stdout)


@pytest.fixture(autouse=True)
def without_faults(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves a fault or a count to the next."""
    yield
    if "edge" in request.fixturenames:
        edge = request.getfixturevalue("edge")
        for host in (ECHO, STREAMLIT):
            edge.fault(host, None)
        edge.reset()


@pytest.fixture(scope="session")
def agent(outside: dict[str, Any]) -> Callable[..., dict[str, Any]]:
    """Settings of an agent that finds and trusts the edge."""

    def make(**entry: Any) -> dict[str, Any]:
        here = {"resolver": [outside["ip"]], "ca_certificate": str(ca.FOLDER / "ca.pem"), "connect_timeout": 2}
        return stand.settings(**{"target_url": f"https://{ECHO}", **MANY_VISITORS, **here, **entry})

    return make


@pytest.fixture(scope="session")
def echo(agent: Callable[..., dict[str, Any]]) -> Iterator[stand.Proxy]:
    """An agent in front of the echo app."""
    with stand.proxy(agent(extra_origins=["https://partner.example"], extra_domains=["also.one.example"])) as proxy:
        yield proxy


@pytest.fixture(scope="session")
def streamlit(agent: Callable[..., dict[str, Any]]) -> Iterator[stand.Proxy]:
    """An agent in front of Streamlit."""
    with stand.proxy(agent(target_url=f"https://{STREAMLIT}")) as proxy:
        yield proxy
