# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A tunnel of one's own for longer: releases with many WebSockets, a flood, every fault, a move. 20 minutes."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import load, playbook
from tests.rig.laptop import ended
from tests.rig.reach import AGENT, BACK, FAULTS, NGROK, PUBLIC, TUNNEL, Reach
from tests.rig.releases import note, undisturbed
from tests.rig.shell import run, wait_for
from tests.rig.stand import HOME, converged

RELEASES, SOCKETS, PER_SECOND = 20, 200, 40
MEMORY = 40_000  # bytes for each open WebSocket, of the SSH server: 34,300 measured, as OpenSSH buffers a channel
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
                assert done.row(AGENT).outcome == "released", done
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


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_and_mended(stand: Reach, fault: str, tmp_path: Path) -> None:
    rule, make = FAULTS[fault]
    with make(stand):
        told = stand.diagnose(tmp_path)
    note(f"{fault}: {told['sentence']}")
    assert (told["rule"], told["broken"]) == (rule, True), told
    assert told["fix"]
    stand.nobody()
    with stand.laptop.connected():
        stand.online(20)


def test_a_release_and_a_move_to_ngrok_and_back_close_nobodys_websocket(stand: Reach) -> None:
    key = stand.shell("cat tunnel/host/ssh_host_ed25519_key.pub")
    with stand.laptop.connected():
        stand.online(20)
        with load.on(PUBLIC, stand.address, sockets=50, per_second=30) as visitors:
            for agent in ({**stand.ssh, "max_body_size": "301m"}, {**NGROK, **stand.door}, stand.ssh):
                done = stand.deploy(agent)
                assert done.row(AGENT).outcome == "released", done
        note(f"a release, from ssh to ngrok and back: {visitors.saw()}")
        undisturbed(visitors)
        assert stand.online() < BACK
    assert stand.shell("cat tunnel/host/ssh_host_ed25519_key.pub") == key


def test_a_key_that_is_taken_out_is_disconnected_and_no_rollback_brings_it_back(stand: Reach) -> None:
    second = {**stand.ssh, "tunnel_key": [stand.laptop.public("second")]}
    with stand.laptop.connected() as old:
        stand.online(20)
        stand.deploy(second)
        wait_for("the end of the connection", lambda: ended(old), 10)
    stand.play("locki.vaettir.rollback_agent", "-e", f"agent={AGENT}", agent=second)
    assert stand.online() < BACK  # by ngrok, as the previous release was
    assert "Permission denied" in stand.laptop.fails()


def test_who_leaves_ssh_in_one_step_is_served_until_the_switch(stand: Reach) -> None:
    """Its keys go last, and the SSH server once nobody may come to it any more."""
    stand.deploy(stand.ssh)
    with stand.laptop.connected():
        stand.online(20)
        with load.on(PUBLIC, stand.address, sockets=0, per_second=30) as visitors:
            done = stand.deploy(NGROK, "-e", "stack_tunnel=false")
        assert "the SSH server stays, since laptops of one may still come to it." in " ".join(done.output.split())
    undisturbed(visitors)
    stand.deploy(NGROK, "-e", "stack_tunnel=false")
    assert TUNNEL not in stand.shell("docker ps -a --format '{{.Names}}'")
    assert stand.shell("ls tunnel tunnel/keys").split() == [
        "tunnel:",
        "host",
        "image",
        "keys",
        "tunnel/keys:",
        "README",
    ]
    assert stand.shell("docker images -q vaettir-tunnel-ssh; docker network ls -q -f name=tunnel-ssh") == ""
    stand.deploy(stand.ssh)


def test_a_removed_stack_takes_the_ssh_server_along(stand: Reach) -> None:
    """A stopped one, too, which leaves what is another user's."""
    stand.play(playbook.REMOVE, "-e", f"agent={AGENT}", "-e", "confirm=true", agent=stand.ssh)
    left = "tunnel/sockets/left"
    stand.shell(f"docker stop -t 1 {TUNNEL}; mkdir {left}; touch {left}/app; chown -R 1900000009 {left}", user="root")
    stand.play("locki.vaettir.remove_stack", "-e", "confirm=true", agent=stand.ssh)
    docker = "docker ps -aq; docker network ls -q -f name=tunnel-ssh; docker images -q vaettir-tunnel-ssh"
    script = f"ls -d {HOME}/tunnel 2> /dev/null; {docker}"
    assert run(["docker", "exec", stand.server, "bash", "-c", script]).stdout == ""
