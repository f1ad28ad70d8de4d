# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A server, an agent with a tunnel of its own and its laptop: what may go wrong there, and how to make it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Self

from . import playbook, scenario
from .laptop import Laptop
from .shell import run, wait_for
from .stand import HOME, Stand

AGENT, PUBLIC = "one", "https://one.vaettir.example"
NGROK: dict[str, Any] = {"name": AGENT, "target_url": "https://second.ngrok-free.app"}
TUNNEL = "vaettir-tunnel-ssh-1"
BACK = 5  # seconds


class Reach(Stand):
    laptop: Laptop

    @classmethod
    def with_laptop(cls, folder: Path) -> Self:
        found, outside = cls.current(), scenario.current()["outside"]
        found.laptop = Laptop(folder, found.address, outside["name"])
        found.edge.address("one.vaettir.example", found.address)
        return found

    @property
    def ssh(self) -> dict[str, Any]:
        return {"name": AGENT, "tunnel": "ssh", "target_url": "http://localhost:9000", **self.door}

    @property
    def door(self) -> dict[str, Any]:
        return {"tunnel_key": [self.laptop.public()]}

    def deploy(self, agent: dict[str, Any], *options: str) -> playbook.Run:
        return self.play(playbook.DEPLOY, *options, agent=agent)

    def play(self, book: str, *options: str, agent: dict[str, Any]) -> playbook.Run:
        resolver = scenario.current()["outside"]["ip"]
        done = playbook.run(book, *options, extra={"vaettir_agents": [agent]}, resolver=resolver)
        assert done.status == 0, done
        return done

    def diagnose(self, folder: Path, **more: Any) -> dict[str, Any]:
        report = folder / "report.json"
        book, resolver = "locki.vaettir.diagnose_agent", scenario.current()["outside"]["ip"]
        done = playbook.run(
            book, "-e", f"report_file={report}", extra={"vaettir_agents": [{**self.ssh, **more}]}, resolver=resolver
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
        """The page's, or nothing."""
        return self.visitor.get(f"{PUBLIC}/").headers.get("x-vaettir-state", "")

    def sessions(self) -> int:
        """Connections of the agent's laptops, as the SSH server counts them."""
        return int(self.shell(f"docker exec {TUNNEL} sh /usr/local/bin/tunnel-ssh state").split()[1])

    def nobody(self, seconds: float = 40) -> None:
        wait_for("the end of the connections", lambda: self.sessions() == 0, seconds)

    def last_port(self) -> str:
        """From which the laptop's last connection came."""
        log = self.shell(f"docker logs {TUNNEL} 2>&1 | grep 'Accepted publickey' | tail -n 1")
        found = re.search(r" port (\d+) ", log)
        assert found, log
        return found[1]

    def printed(self, done: playbook.Run) -> tuple[str, str]:
        """The line that the report ends with, and the fingerprint."""
        told = " ".join(done.output.split())
        found = re.search(r"on the laptop: `(ssh [^`]*)` \(the server's key is (SHA256:\S+)\)", told)
        assert found, done
        return found[1], found[2]

    @contextmanager
    def cut(self, port: str) -> Iterator[None]:
        """As a NAT does that forgets a connection: neither end is told."""
        rules = [f"DOCKER-USER -p tcp --{end} {port} -j DROP" for end in ("sport", "dport")]
        self.shell("; ".join(f"iptables -I {rule}" for rule in rules), user="root")
        try:
            yield
        finally:
            self.shell("; ".join(f"iptables -D {rule}" for rule in rules), user="root")


# --- faults

Fault = tuple[str, Callable[[Reach], AbstractContextManager[None]]]  # the rule that names it, and what makes it


@contextmanager
def fails(stand: Reach, *more: str, key: str = "key", word: str = "", other: str = "") -> Iterator[None]:
    """A laptop that does it wrong once, and is gone."""
    said = stand.laptop.fails(*more, key=key, line=stand.laptop.line.replace(word, other, 1))
    assert not said.startswith("stays"), said
    yield


@contextmanager
def stays(stand: Reach, word: str = "", other: str = "", *, asleep: float = 0) -> Iterator[None]:
    """A laptop that is connected and not as it should be."""
    with stand.laptop.connected(line=stand.laptop.line.replace(word, other, 1)) as name:
        wait_for("the connection", lambda: stand.sessions() == 1, 10)
        time.sleep(1)
        if asleep:
            run(["docker", "pause", name])
            time.sleep(asleep)
        yield


@contextmanager
def shell(stand: Reach, makes: str, mends: str) -> Iterator[None]:
    stand.shell(makes, user="root")
    try:
        yield
    finally:
        stand.shell(mends, user="root")


@contextmanager
def strange_host(stand: Reach) -> Iterator[None]:
    """Another server has had this address."""
    known, other = stand.laptop.folder / "known_hosts", stand.laptop.public("another")
    before = known.read_text(encoding="ascii")
    known.write_text(f"[{stand.address}]:2222 {' '.join(other.split()[:2])}\n", encoding="ascii")
    try:
        stand.laptop.fails()
        yield
    finally:
        known.write_text(before, encoding="ascii")  # ssh-keygen -R, and the right one accepted


@contextmanager
def removed(stand: Reach) -> Iterator[None]:
    stand.shell(f"docker rm -f {TUNNEL}")
    try:
        yield
    finally:
        stand.deploy(stand.ssh)


@contextmanager
def another_folder(stand: Reach) -> Iterator[None]:
    """Without keys the agent has no folder; with them it gets another one."""
    away = f"mv {_KEYS} /tmp/keys; sleep 4; mv /tmp/keys {_KEYS}; sleep 4"
    with shell(stand, away, "docker restart -t 1 vaettir-one-1"), stays(stand):
        yield


_DROP = "DOCKER-USER -p tcp --dport 2222 -j REJECT"
_KEYS, _FOLDER = f"{HOME}/tunnel/keys/one", f"{HOME}/tunnel/sockets/one"
FAULTS: dict[str, Fault] = {
    "nobody is connected": ("ssh_offline", lambda _stand: nullcontext()),
    "another key": ("ssh_wrong_key", lambda stand: fails(stand, key="another")),
    "another user": ("ssh_wrong_user", lambda stand: fails(stand, word=" one@", other=" app@")),
    "a server that the laptop does not know": ("ssh_unknown_host", strange_host),
    "another agent's folder": (
        "ssh_other_folder",
        lambda stand: fails(stand, word="/tunnel/one/app", other="/tunnel/two/app"),
    ),
    "a TCP port": ("ssh_tcp", lambda stand: fails(stand, word="/tunnel/one/app", other="8080")),
    "old algorithms": (
        "ssh_old_client",
        lambda stand: fails(stand, "-o", "KexAlgorithms=diffie-hellman-group14-sha256"),
    ),
    "no forwarding": ("ssh_no_forward", lambda stand: stays(stand, "-R /tunnel/one/app:localhost:9000")),
    "an app that was not started": (
        "ssh_app_not_listening",
        lambda stand: stays(stand, ":localhost:9000", ":localhost:9"),
    ),
    "the SSH server stopped": (
        "ssh_server_stopped",
        lambda stand: shell(stand, f"docker stop -t 1 {TUNNEL}", f"docker start {TUNNEL}"),
    ),
    "a firewall": ("ssh_port_closed", lambda stand: shell(stand, f"iptables -I {_DROP}", f"iptables -D {_DROP}")),
    "no keys": (
        "ssh_keys_gone",
        lambda stand: shell(stand, f"cp {_KEYS} /tmp/keys; : > {_KEYS}", f"cp /tmp/keys {_KEYS}"),
    ),
    "a shell": ("ssh_shell", lambda stand: fails(stand, word="-NT ")),
    "another app": ("ssh_app_other", lambda stand: stays(stand, ":localhost:9000", ":localhost:4040")),
    "a laptop that just fell asleep": ("ssh_app_silent", lambda stand: stays(stand, asleep=0.1)),
    "a laptop that sleeps": ("ssh_asleep", lambda stand: stays(stand, asleep=28)),
    "the agent's folder closed": (
        "ssh_folder",
        lambda stand: shell(stand, f"chmod 700 {_FOLDER}", f"docker restart -t 1 {TUNNEL}"),
    ),
    "the agent's folder removed": ("ssh_folder_removed", another_folder),
    "the SSH server removed": ("ssh_server_missing", removed),
}
