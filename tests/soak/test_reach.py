# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A tunnel of one's own for longer: releases with many open WebSockets through it, a flood, every fault. 15 minutes."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import load
from tests.rig.reach import BACK, FAULTS, MORE_FAULTS, PUBLIC, TUNNEL, Reach
from tests.rig.releases import note, undisturbed
from tests.rig.shell import wait_for
from tests.rig.stand import converged

RELEASES, SOCKETS, PER_SECOND = 20, 200, 40
MEMORY = 30_000  # bytes for each open WebSocket, of the SSH server
STRANGERS = 200  # connections that never say anything


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reach]:
    with converged("reach"):
        stand = Reach.with_laptop(tmp_path_factory.mktemp("laptop"))
        stand.laptop.line = stand.printed(stand.deploy(stand.ssh))[0]
        # The container without the folder is replaced, and ends the sockets that it still gets.
        wait_for("its end", lambda: "-old-" not in stand.shell("docker ps -a --format '{{.Names}}'"), 60)
        yield stand


def memory(stand: Reach) -> int:
    """Of the SSH server, without what the kernel caches for it."""
    path = "/sys/fs/cgroup/memory" if stand.shell("ls -d /sys/fs/cgroup/memory || true").strip() else "/sys/fs/cgroup"
    told = stand.shell(f"docker exec {TUNNEL} grep -h '^anon \\|^total_rss \\|^slab ' {path}/memory.stat")
    return sum(int(line.split()[1]) for line in told.splitlines())


def test_releases(stand: Reach) -> None:
    with stand.laptop.connected():
        stand.online(20)
        before = memory(stand)
        with load.on(PUBLIC, stand.address, sockets=SOCKETS, per_second=PER_SECOND) as visitors:
            each = (memory(stand) - before) / SOCKETS
            for number in range(RELEASES):
                done = stand.deploy({**stand.ssh, "max_body_size": f"{301 + number}m"})
                assert done.row("one").outcome == "released", done
        note(f"{RELEASES} releases by ssh: {visitors.saw()}; {each / 1000:.1f} KB of the SSH server for each socket")
        undisturbed(visitors)
        assert each < MEMORY


def test_who_floods_the_port_keeps_nobody_else_out(stand: Reach) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(STRANGERS):
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_connection((stand.address, 2222), 2))
        with stand.laptop.connected():
            note(f"with {STRANGERS} strangers at the port the app is there after {stand.online(BACK):.1f} s")


@pytest.mark.parametrize("fault", [*FAULTS, *MORE_FAULTS])
def test_a_fault_is_named_and_mended(stand: Reach, fault: str, tmp_path: Path) -> None:
    rule, make = {**FAULTS, **MORE_FAULTS}[fault]
    with make(stand):
        told = stand.diagnose(tmp_path)
    note(f"{fault}: {told['sentence']}")
    assert (told["rule"], told["broken"]) == (rule, True), told
    stand.nobody()
    with stand.laptop.connected():
        stand.online(20)
