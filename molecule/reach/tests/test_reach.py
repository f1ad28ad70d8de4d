# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A tunnel of one's own with real OpenSSH on both ends: what it brings, how it comes back, and what it never opens."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from tests.rig import load, playbook
from tests.rig.laptop import ended
from tests.rig.reach import AGENT, FAULTS, PUBLIC, TUNNEL, Reach
from tests.rig.releases import note, undisturbed
from tests.rig.shell import run, wait_for

KEPT = 5  # seconds until nginx gives up the connections that it keeps for the next request
FOUND = 30  # seconds until both ends know that a connection is dead
MOST_CALLS = 3  # remote ones, of a run that changes nothing
OPEN = "-R /tunnel/one/app:localhost:9000"


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Reach:
    return Reach.with_laptop(tmp_path_factory.mktemp("laptop"))


def test_the_first_deploy_prints_the_line_that_brings_the_app(stand: Reach) -> None:
    done = stand.deploy(stand.ssh)
    stand.laptop.line, fingerprint = stand.printed(done)
    assert done.row(AGENT).outcome == "offline", done
    assert stand.state() == "offline"
    status = stand.play("locki.vaettir.status", agent=stand.ssh)
    assert re.search(rf"^.*\b{AGENT} .* offline ", status.output, re.MULTILINE), status
    assert fingerprint in stand.shell(f"docker exec {TUNNEL} ssh-keygen -lf /etc/tunnel/host/ssh_host_ed25519_key.pub")
    with stand.laptop.connected():
        note(f"app there {stand.online():.1f} s after `ssh` was started")
        assert stand.visitor.handshake(f"{PUBLIC}/_stcore/stream", PUBLIC)[0] == 101


def test_no_change_is_nothing_and_costs_nothing_more(stand: Reach) -> None:
    with stand.laptop.connected():
        stand.online(20)
        done = stand.deploy(stand.ssh)
    assert done.changed == []
    assert len(done.of("remote")) <= MOST_CALLS, [one.task for one in done.of("remote")]


def test_the_page_comes_at_once_and_the_app_is_back_in_seconds(stand: Reach) -> None:
    with stand.laptop.connected():
        stand.online(20)
    begin = time.monotonic()
    wait_for("the page", lambda: stand.state() == "offline", 5, pause=0.05)
    at_once = time.monotonic() - begin
    with stand.laptop.connected(line=stand.laptop.line.replace(":localhost:9000", ":localhost:9")):
        wait_for("the page of an app that is not started", lambda: stand.state() == "app", 5)
    with stand.laptop.connected():
        back = stand.online()
    note(f"page {at_once:.2f} s after the laptop was gone, app back {back:.1f} s after its reconnection")
    assert at_once < 1


def test_a_release_is_verified_by_the_tunnel_and_closes_nobodys_websocket(stand: Reach) -> None:
    """One that must be online, in its trial as well."""
    with stand.laptop.connected():
        stand.online(20)
        with load.on(PUBLIC, stand.address, sockets=50, per_second=30) as visitors:
            done = stand.deploy({**stand.ssh, "max_body_size": "301m", "require_online": True})
        assert done.row(AGENT).outcome == "released", done
        note(f"a release by ssh: {visitors.saw()}")
        undisturbed(visitors)


def test_a_chain_that_works_and_one_that_does_not_are_told_apart(stand: Reach, tmp_path: Path) -> None:
    with stand.laptop.connected():
        stand.online(20)
        # The app says what it got, which is another answer at each hop, and no Streamlit's.
        told = stand.diagnose(tmp_path, profile="generic", probe_path="/ws")
    note(told["sentence"])
    assert re.search(r" every hop (that answered in time )?works \(", told["sentence"])
    stand.nobody()
    rule, make = FAULTS["another key"]
    with make(stand):
        told = stand.diagnose(tmp_path)
    note(told["sentence"])
    assert (told["rule"], told["hop"], told["broken"]) == (rule, "ssh connection", True), told


def test_a_half_dead_connection_is_in_nobodys_way_and_both_ends_find_it(stand: Reach) -> None:
    with stand.laptop.connected() as old:
        stand.online(20)
        with stand.cut(stand.last_port()):
            begin = time.monotonic()
            time.sleep(KEPT)
            with stand.laptop.connected():
                wait_for("the new connection", lambda: stand.sessions() == 2, 10)
                taken_over = stand.online()
                wait_for("the laptop's end", lambda: ended(old), FOUND)
                by_laptop = time.monotonic() - begin
                wait_for("the server's end", lambda: stand.sessions() == 1, FOUND)
                by_server = time.monotonic() - begin
                assert stand.online(1) < 1
    note(
        f"a new connection took over from a half-dead one after {taken_over:.1f} s; the laptop found it after "
        f"{by_laptop:.0f} s, the server after {by_server:.0f} s"
    )
    assert max(by_laptop, by_server) < FOUND


# --- what a laptop's key opens, and what not

DENIED = {
    "another agent's folder": ("-R /tunnel/one/app:", "-R /tunnel/two/app:"),
    "around the corner": ("-R /tunnel/one/app:", "-R /tunnel/one/../two/app:"),
    "the folder above": ("-R /tunnel/one/app:", "-R /tunnel/app:"),
    "another place": ("-R /tunnel/one/app:", "-R /dev/shm/app:"),
    "a TCP port": ("-R /tunnel/one/app:", "-R 0.0.0.0:8080:"),
    "a shell": (OPEN, "-tt"),
    "another agent": (" one@", " two@"),
    "root": (" one@", " root@"),
    "a password": ("ssh ", "ssh -o PubkeyAuthentication=no "),
}


@pytest.mark.parametrize("what", DENIED)
def test_a_key_opens_nothing_else(stand: Reach, what: str) -> None:
    line = stand.laptop.line.replace(*DENIED[what])
    assert line != stand.laptop.line
    line = line.replace("-NT ", "") if what == "a shell" else line
    told = stand.laptop.fails(line=line)
    note(f"{what}: {told.strip().splitlines()[-1]}")
    assert not told.startswith(("stays", "0:")), told
    stand.nobody(10)


def test_nothing_behind_the_server_is_reached(stand: Reach) -> None:
    """What comes out at the laptop's end of a forwarding is closed at once."""
    there = stand.laptop.line.replace("-NT ", "").replace(OPEN, "-W 127.0.0.1:2222")
    assert "administratively prohibited" in stand.laptop.fails(line=there)
    inside = stand.laptop.line.replace(OPEN, "-L 127.0.0.1:18222:/tunnel/one/app")
    with stand.laptop.connected(line=inside) as name:
        ask = [
            "docker",
            "exec",
            name,
            "bash",
            "-c",
            "exec 3<>/dev/tcp/127.0.0.1/18222; echo GET / >&3; timeout 3 cat <&3",
        ]
        wait_for("the laptop's own end", lambda: "refused" not in run(ask, check=False).stderr, 8)
        assert run(ask, check=False).stdout == ""
        assert "open failed" in run(["docker", "logs", name]).stderr


def test_a_neighbour_does_not_reach_the_socket(stand: Reach) -> None:
    """Neither another container of the project nor another user of the server; what else a laptop leaves is removed."""
    with stand.laptop.connected("-R", "/tunnel/one/more:localhost:9"):
        stand.online(20)
        assert "/run/tunnel" not in stand.shell("docker inspect vaettir-offline-1")
        assert "tunnel-ssh" not in stand.shell("docker inspect -f '{{json .NetworkSettings.Networks}}' vaettir-one-1")
        curl = "curl -s -o /dev/null --unix-socket /home/deploy/vaettir/tunnel/sockets/one/app http://x/"
        assert stand.shell(f"su -s /bin/bash nobody -c '{curl}' || echo refused", user="root").strip() == "refused"
        assert stand.shell(f"{curl} && echo connected").strip() == "connected"
        users = stand.shell(f"docker exec {TUNNEL} cut -d: -f1 /etc/passwd").split()
        assert users == ["root", "sshd", AGENT]  # the system's own, such as `news`, may be agents' names
        wait_for("one socket", lambda: stand.shell("ls tunnel/sockets/one").split() == ["app"], 5)


def test_a_removed_agent_leaves_no_door(stand: Reach) -> None:
    stand.play(playbook.REMOVE, "-e", "agent=one", "-e", "confirm=true", agent=stand.ssh)
    wait_for("the folder's end", lambda: not stand.shell("ls tunnel/sockets").strip(), 10)
    assert stand.shell(f"docker exec {TUNNEL} ls /etc/tunnel/keys").split() == ["README"]
    assert not stand.laptop.fails().startswith("stays")
