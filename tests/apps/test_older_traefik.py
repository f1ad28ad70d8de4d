# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The same agents behind an older Traefik; the server is put back afterwards."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import pytest

from tests.rig import images, servers
from tests.rig.shell import run

from .stand import SERVER, STREAM, STREAMLIT, StreamlitPage, World, diagnose, play, public


@pytest.fixture(scope="module", autouse=True)
def older(world: World) -> Iterator[None]:
    servers.load([SERVER], [images.TRAEFIK_OLD])
    # A deploy leaves Traefik alone; back it goes the same way.
    play("upgrade-traefik.yml", "-e", "confirm=true", "-e", f"stack_traefik_image={images.TRAEFIK_OLD}")
    yield
    play("upgrade-traefik.yml", "-e", "confirm=true")
    world.visitor.until(public("ocapistaine"), 200)


def test_it_is_the_older_one():
    told = run(["docker", "exec", SERVER, "docker", "exec", "vaettir-traefik-1", "traefik", "version"]).stdout
    assert "3.3.2" in told


@pytest.mark.parametrize("agent", STREAMLIT)
def test_streamlit(world: World, agent):
    async def talk(session):
        page = StreamlitPage(session, agent)
        await page.open()
        assert await page.upload(await page.session(), secrets.token_bytes(5_000_000)) == 204

    assert world.visitor.until(public(agent), 200).status == 200
    world.visit(talk)


def test_foreign_origins_are_refused(world: World):
    world.edge.reset()
    assert world.visitor.handshake(public("ocapistaine") + STREAM, origin="https://evil.example")[0] == 403
    assert world.edge.requests() == []
    assert world.visitor.handshake(public("ocapistaine") + STREAM, origin=public("ocapistaine"))[0] == 101


@pytest.mark.usefixtures("world")
def test_the_diagnosis_finds_nothing_broken():
    told = diagnose("-e", "agent=legacy")["legacy"]
    assert [one for one in told["findings"] if one["verdict"] == "broken"] == []
    assert [one["found"] for one in told["findings"] if one["asked"].startswith("version, ")] == [
        "3.3.2, extended CONNECT not advertised"
    ]
