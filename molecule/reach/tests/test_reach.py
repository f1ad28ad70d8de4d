# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A tunnel of one's own with real OpenSSH on both ends: what it brings, how it comes back, and what it never opens."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.rig import load, playbook, scenario
from tests.rig.laptop import Laptop
from tests.rig.releases import note, undisturbed
from tests.rig.shell import run, wait_for
from tests.rig.stand import Stand

AGENT, PUBLIC = "one", "https://one.vaettir.example"
NGROK: dict[str, Any] = {"name": AGENT, "target_url": "https://second.ngrok-free.app"}
BACK, TAKEN_OVER, MOST_CALLS = 5, 35, 3  # seconds, and remote calls of a run that changes nothing
TUNNEL = "docker exec vaettir-tunnel-ssh-1"


class Reach(Stand):
    """The server, its agent and the laptop."""

    laptop: Laptop

    @property
    def ssh(self) -> dict[str, Any]:
        return {"name": AGENT, "tunnel": "ssh", "target_url": "http://localhost:9000", **self.door}

    @property
    def door(self) -> dict[str, Any]:
        return {"tunnel_key": [self.laptop.public()]}

    def deploy(self, agent: dict[str, Any], *options: str, status: int = 0) -> playbook.Run:
        done = playbook.run(playbook.DEPLOY, *options, extra={"vaettir_agents": [agent]})
        assert bool(done.status) == bool(status), done
        return done

    def diagnose(self, folder: Path) -> dict[str, Any]:
        report = folder / "report.json"
        book, resolver = "locki.vaettir.diagnose_agent", scenario.current()["outside"]["ip"]
        done = playbook.run(
            book, "-e", f"report_file={report}", extra={"vaettir_agents": [self.ssh]}, resolver=resolver
        )
        assert report.exists(), done
        (entry,) = json.loads(report.read_text(encoding="utf-8"))["agents"]
        return dict(entry)

    def online(self, seconds: float = BACK) -> float:
        """Seconds until the app answers."""
        begin = time.monotonic()
        answer = self.visitor.until(f"{PUBLIC}/", 200, seconds)
        assert answer.status == 200, (answer.status, answer.headers)
        return time.monotonic() - begin

    def state(self) -> str:
        return self.visitor.get(f"{PUBLIC}/").headers.get("x-vaettir-state", "")


@pytest.fixture(scope="module")
def stand(tmp_path_factory: pytest.TempPathFactory) -> Reach:
    found = Reach.current()
    app = f"{scenario.current()['outside']['ip']}:9000"
    found.laptop = Laptop(tmp_path_factory.mktemp("laptop"), "", found.address, app)
    found.edge.address("one.vaettir.example", found.address)
    return found


def printed(done: playbook.Run) -> str:
    """The line that the report ends with."""
    found = re.search(
        r"on the laptop: `(ssh [^`]*)` \(the server's key is (SHA256:\S+)\)", " ".join(done.output.split())
    )
    assert found, done
    return found[1]


def test_the_door_opens_and_the_agent_stays_where_it_is(stand: Reach) -> None:
    done = stand.deploy({**NGROK, **stand.door})
    assert done.changed
    assert "SHA256" in stand.shell(f"{TUNNEL} ssh-keygen -lf /etc/tunnel/host/ssh_host_ed25519_key")
    assert stand.online() < BACK


def test_a_move_and_back_closes_nobodys_websocket(stand: Reach) -> None:
    key = stand.shell("cat tunnel/host/ssh_host_ed25519_key.pub")
    stand.laptop.line = (
        "ssh -NT -p 2222 -o ServerAliveInterval=10 -o ServerAliveCountMax=2 -o ExitOnForwardFailure=yes"
        " -R /tunnel/one/app:localhost:9000 one@one.vaettir.example"
    )
    with stand.laptop.connected():
        wait_for("the laptop's socket", lambda: stand.shell("ls tunnel/sockets/one"), 10)
        with load.on(PUBLIC, stand.address, sockets=50, per_second=30) as visitors:
            done = stand.deploy(stand.ssh)
            assert done.row(AGENT).outcome == "released", done
            assert printed(done) == stand.laptop.line
            assert "unix:/run/tunnel/app" in stand.shell("docker exec vaettir-one-1 cat /etc/nginx/nginx.conf")
            back = stand.deploy({**NGROK, **stand.door})
            assert back.row(AGENT).outcome == "released", back
            stand.deploy(stand.ssh)
        note(f"from ngrok to ssh, back and again: {visitors.saw()}")
        undisturbed(visitors)
        assert stand.online() < BACK
        assert stand.visitor.handshake(f"{PUBLIC}/_stcore/stream", PUBLIC)[0] == 101
    assert stand.shell("cat tunnel/host/ssh_host_ed25519_key.pub") == key


def test_no_change_is_nothing_and_costs_nothing_more(stand: Reach) -> None:
    with stand.laptop.connected():
        stand.online(20)
        done = stand.deploy(stand.ssh)
        assert done.changed == []
        assert len(done.of("remote")) <= MOST_CALLS, [one.task for one in done.of("remote")]


def test_the_page_comes_at_once_and_the_app_is_back_in_seconds(stand: Reach) -> None:
    with stand.laptop.connected():
        stand.online(20)
    wait_for("the end of the connection", lambda: stand.state() == "offline", 5)
    begin = time.monotonic()
    assert stand.state() == "offline"
    at_once = time.monotonic() - begin
    with stand.laptop.connected():
        back = stand.online()
    note(f"page after {at_once:.2f} s, app back {back:.1f} s after a reconnection")
    assert at_once < 1


def test_a_connection_that_is_half_dead_is_in_nobodys_way(stand: Reach) -> None:
    """It still holds its socket on the server when the laptop comes again from elsewhere."""
    with stand.laptop.connected() as asleep:
        stand.online(20)
        asleep.send_signal(signal.SIGSTOP)
        with stand.laptop.connected():
            taken_over = stand.online(TAKEN_OVER)
            note(f"a new connection took over from a half-dead one after {taken_over:.1f} s")
            wait_for("the end of the half-dead one", lambda: sessions(stand) == 1, 35)
            assert stand.online(1) < 1


def sessions(stand: Reach) -> int:
    return int(stand.shell(f"{TUNNEL} sh /usr/local/bin/tunnel-ssh state").split()[1])


# --- what a laptop's key opens, and what not

DENIED: dict[str, tuple[tuple[str, ...], str, str]] = {
    "another agent's folder": ((), "-R /tunnel/one/app:", "-R /tunnel/two/app:"),
    "around the corner": ((), "-R /tunnel/one/app:", "-R /tunnel/one/../two/app:"),
    "the server's own folder": ((), "-R /tunnel/one/app:", "-R /tunnel/app:"),
    "a TCP port": ((), "-R /tunnel/one/app:", "-R 0.0.0.0:8080:"),
    "a shell": ((), "-NT", ""),
    "a command": ((), "one@one.vaettir.example", "one@one.vaettir.example id"),
    "another user": ((), " one@", " two@"),
    "root": ((), " one@", " root@"),
}


@pytest.mark.parametrize("what", DENIED)
def test_a_key_opens_nothing_else(stand: Reach, what: str) -> None:
    more, word, other = DENIED[what]
    line = stand.laptop.line.replace(word, other, 1)
    if what in ("a shell", "a command"):
        line = re.sub(r"-R \S+ ", "", line.replace("-NT", ""))
    told = stand.laptop.fails(*more, line=line)
    note(f"{what}: {told.strip().splitlines()[-1]}")
    assert not told.startswith(("stays", "0:")), told
    wait_for("nobody stays connected", lambda: sessions(stand) == 0, 10)


def test_nothing_behind_the_server_is_reached(stand: Reach) -> None:
    """What comes out at the laptop's end of a forwarding is closed at once."""
    line = stand.laptop.line.replace("-R /tunnel/one/app:localhost:9000", "-W 127.0.0.1:2222")
    assert "administratively prohibited" in stand.laptop.fails(line=line.replace("-NT", ""))
    inside = stand.laptop.line.replace("-R /tunnel/one/app:localhost:9000", "-L 127.0.0.1:18222:/tunnel/one/app")
    with stand.laptop.connected(line=inside):
        wait_for(
            "the laptop's own end",
            lambda: run(["curl", "-s", "http://127.0.0.1:18222"], check=False).returncode != 7,
            8,
        )
        assert run(["curl", "-s", "http://127.0.0.1:18222"], check=False).returncode != 0


def test_a_neighbour_does_not_reach_the_socket(stand: Reach) -> None:
    """Neither another container of the project nor another user of the server."""
    with stand.laptop.connected():
        stand.online(20)
        assert "/run/tunnel" not in stand.shell("docker inspect vaettir-offline-1")
        assert "tunnel-ssh" not in stand.shell("docker inspect -f '{{json .NetworkSettings.Networks}}' vaettir-one-1")
        curl = "curl -s -o /dev/null --unix-socket /home/deploy/vaettir/tunnel/sockets/one/app http://x/"
        assert stand.shell(f"su -s /bin/bash nobody -c '{curl}' || echo refused", user="root").strip() == "refused"
        assert stand.shell(f"{curl} && echo connected").strip() == "connected"


# --- faults: made, named, and mended by what is printed


@contextmanager
def fails(stand: Reach, *more: str, key: str = "key", **replaced: str) -> Iterator[None]:
    """A laptop that does it wrong once, and is gone."""
    line = stand.laptop.line
    for word, other in replaced.items():
        line = line.replace({"folder": "/tunnel/one/app", "user": " one@", "quiet": "-NT "}[word], other, 1)
    stand.laptop.fails(*more, key=key, line=line)
    yield


@contextmanager
def connected(stand: Reach, *, wait: float = 2, stop: bool = False, line: str = "") -> Iterator[None]:
    """A laptop that stays, and is not as it should be."""
    with stand.laptop.connected(line=line) as process:
        wait_for("the connection", lambda: sessions(stand) == 1, 10)
        time.sleep(wait if not stop else 1)
        if stop:
            process.send_signal(signal.SIGSTOP)
            time.sleep(wait)
        yield


@contextmanager
def shell(stand: Reach, makes: str, mends: str) -> Iterator[None]:
    stand.shell(makes, user="root")
    yield
    stand.shell(mends, user="root")


@contextmanager
def strange_host(stand: Reach) -> Iterator[None]:
    known, other = stand.laptop.folder / "known_hosts", stand.laptop.public("another")
    before = known.read_text(encoding="ascii")
    known.write_text(f"[{stand.address}]:2222 {' '.join(other.split()[:2])}\n", encoding="ascii")
    stand.laptop.fails()
    try:
        yield
    finally:
        known.write_text(before, encoding="ascii")  # ssh-keygen -R, and the right one accepted


def drop(rule: str) -> tuple[str, str]:
    return f"iptables -I DOCKER-USER {rule}", f"iptables -D DOCKER-USER {rule}"


LINE = "-R /tunnel/one/app:localhost:9000"
PORT = "-p tcp --dport 2222 -j REJECT"
KEYS = "/home/deploy/vaettir/tunnel/keys/one"
FOLDER = "/home/deploy/vaettir/tunnel/sockets/one"
FAULTS: dict[str, tuple[str, Callable[[Reach], AbstractContextManager[None]]]] = {
    "nobody is connected": ("ssh_offline", lambda _stand: nullcontext()),
    "another key": ("ssh_wrong_key", lambda stand: fails(stand, key="another")),
    "another user": ("ssh_wrong_user", lambda stand: fails(stand, user=" app@")),
    "a server that the laptop does not know": ("ssh_unknown_host", strange_host),
    "another agent's folder": ("ssh_other_folder", lambda stand: fails(stand, folder="/tunnel/two/app")),
    "a TCP port": ("ssh_tcp", lambda stand: fails(stand, folder="8080")),
    "a shell": ("ssh_shell", lambda stand: fails(stand, quiet="")),
    "old algorithms": (
        "ssh_old_client",
        lambda stand: fails(stand, "-o", "KexAlgorithms=diffie-hellman-group14-sha256"),
    ),
    "no forwarding": ("ssh_no_forward", lambda stand: connected(stand, line=stand.laptop.line.replace(LINE, ""))),
    "an app that was not started": (
        "ssh_app_not_listening",
        lambda stand: connected(stand, line=stand.laptop.line.replace(":localhost:9000", ":127.0.0.1:9")),
    ),
    "an app on another port": (
        "ssh_app_not_listening",
        lambda stand: connected(stand, line=stand.laptop.line.replace(":localhost:9000", ":127.0.0.1:9001")),
    ),
    "another app": (
        "ssh_app_websocket",
        lambda stand: connected(
            stand, line=stand.laptop.line.replace("localhost:9000", f"{stand.laptop.app[:-5]}:4040")
        ),
    ),
    "a laptop that just fell asleep": ("ssh_app_silent", lambda stand: connected(stand, stop=True, wait=0)),
    "a laptop that sleeps": ("ssh_asleep", lambda stand: connected(stand, stop=True, wait=32)),
    "the SSH server stopped": (
        "ssh_server_stopped",
        lambda stand: shell(stand, "docker stop vaettir-tunnel-ssh-1", "docker start vaettir-tunnel-ssh-1"),
    ),
    "a firewall": ("ssh_port_closed", lambda stand: shell(stand, *drop(PORT))),
    "no keys": (
        "ssh_keys_gone",
        lambda stand: shell(stand, f"cp {KEYS} /tmp/keys; : > {KEYS}", f"cp /tmp/keys {KEYS}"),
    ),
    "the agent's folder closed": (
        "ssh_folder",
        lambda stand: shell(stand, f"chmod 700 {FOLDER}", "docker restart -t 1 vaettir-tunnel-ssh-1"),
    ),
    "the SSH server removed": ("ssh_server_missing", lambda stand: removed(stand)),
}


@contextmanager
def removed(stand: Reach) -> Iterator[None]:
    stand.shell("docker rm -f vaettir-tunnel-ssh-1")
    yield
    stand.deploy(stand.ssh)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_and_mended(stand: Reach, fault: str, tmp_path: Path) -> None:
    rule, make = FAULTS[fault]
    with ExitStack() as stack:
        stack.enter_context(make(stand))
        told = stand.diagnose(tmp_path)
        note(f"{fault}: {told['sentence']}")
        assert told["rule"] == rule, told
        assert told["broken"]
        assert told["fix"]
    wait_for("the end of the connections", lambda: sessions(stand) == 0, 40)
    with stand.laptop.connected():
        assert stand.online(20) < 20


# --- the end


def test_a_key_that_is_taken_out_is_disconnected_at_once(stand: Reach) -> None:
    with stand.laptop.connected() as old:
        stand.online(20)
        stand.deploy({**stand.ssh, "tunnel_key": [stand.laptop.public("second")]})
        old.wait(10)
        told = stand.laptop.fails()
        assert "Permission denied" in told
        with stand.laptop.connected(key="second"):
            stand.online(20)


def test_a_removed_agent_leaves_no_door(stand: Reach) -> None:
    done = playbook.run(playbook.REMOVE, "-e", "agent=one", "-e", "confirm=true", extra={"vaettir_agents": [stand.ssh]})
    assert done.status == 0, done
    wait_for("the folder's end", lambda: not stand.shell("ls tunnel/sockets; ls tunnel/keys").strip(), 10)
    assert not stand.laptop.fails(key="second").startswith("stays")
