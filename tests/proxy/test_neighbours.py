# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Who is taken for Traefik: whom Docker's own DNS calls so, soon and nobody else."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.rig.shell import LABEL, run, wait_for

from . import stand

WILD = "ngrok-free.app"  # of which the rig's DNS knows every name
SECONDS = 15  # asked every second, and nginx reloads; a busy machine takes its time


@pytest.fixture
def network() -> Iterator[str]:
    name = f"vaettir-test-{uuid.uuid4().hex[:12]}"
    run(["docker", "network", "create", "--label", f"{LABEL}=proxy-test", name])
    yield name
    run(["docker", "network", "rm", name])


@contextmanager
def traefik(network: str, image: str, *options: str) -> Iterator[str]:
    """Some container of that name; its address."""
    words = ["docker", "run", "-d", "--label", f"{LABEL}=proxy-test", "--network", network, *options]
    container = run([*words, "--entrypoint", "sleep", image, "60"]).stdout.strip()
    try:
        form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
        yield run(["docker", "inspect", "-f", form, container]).stdout.strip()
    finally:
        run(["docker", "rm", "-f", container])


def neighbours(proxy: stand.Proxy) -> list[str]:
    """Whom nginx lets in."""
    lines = proxy.exec("cat", "/etc/nginx/neighbours.conf").stdout.splitlines()
    return [line.removesuffix(" yes;") for line in lines if line.endswith(" yes;")]


def test_traefik_comes_goes_and_comes_back(
    agent: Callable[..., dict[str, Any]], outside: dict[str, Any], network: str
) -> None:
    settings = agent()
    image = stand.build(settings)
    options = ("--network", network, "--dns", outside["ip"], "--dns-search", WILD)
    called = ("--network-alias", "traefik")
    try:
        with stand.container(image, settings, stand.environment(settings), *options) as proxy:
            assert neighbours(proxy) == ["default"]
            with traefik(network, image, *called) as first:
                wait_for("Traefik's address", lambda: first in neighbours(proxy), SECONDS)
                assert "default" not in neighbours(proxy)
            # What has its address by now, for a while or since a reboot, is not Traefik.
            with traefik(network, image) as sibling:
                assert sibling == first
                run(["docker", "restart", "-t", "1", proxy.container])
                wait_for("a start", lambda: proxy.exec("test", "-s", "/run/nginx.pid", check=False).returncode == 0, 10)
                assert not {"default", sibling} & {*neighbours(proxy)}
                with traefik(network, image, *called) as second:
                    wait_for("Traefik's other address", lambda: second in neighbours(proxy), SECONDS)
                    assert sibling not in neighbours(proxy)
    finally:
        stand.remove_image(image)
