# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A rollout over five servers, each with a Docker and an sshd of its own, and what stops it. The reports: .rig/logs."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.rig import fleet, load, playbook, snapshot
from tests.rig.molecule_run import LOGS
from tests.rig.shell import wait_for
from tests.rig.visitor import Visitor

SERVERS = [f"vaettir-{fleet.NAME}-{number}" for number in range(1, 6)]
ONE, TWO, THREE, FOUR, FIVE = SERVERS
AGENT = {"name": "second"}  # behind its tunnel is the app that echoes
SETTINGS = {"vaettir_agents": [AGENT], "agent_proxy_from_outside": False}
REFUSING = "refusing.ngrok-free.app"
ORIGIN = "https://second.vaettir.example"
STORE = f"{fleet.HOME}/releases/second"
# A change to the agent's conf, never the same twice.
SECONDS = itertools.count(3601)


@pytest.fixture(scope="module")
def stand() -> Iterator[fleet.Fleet]:
    LOGS.mkdir(parents=True, exist_ok=True)
    with fleet.up(len(SERVERS), SETTINGS) as found:
        done = deploy()
        assert done.status == 0, done
        yield found


@pytest.fixture
def change() -> dict[str, Any]:
    return {"agent_proxy_read_timeout": next(SECONDS)}


def deploy(word: str = "", when: playbook.When | None = None, **settings: Any) -> playbook.Run:
    """A run; `word` is what its report is called."""
    done = playbook.run(playbook.DEPLOY, extra=settings, when=when)
    if word:
        begin = done.output.find("\nSERVER ")
        Path(LOGS, f"report-{word}.txt").write_text(done.output[begin:].strip() + "\n", encoding="utf-8")
    return done


def outcomes(done: playbook.Run) -> list[str]:
    """Of the agent on each server."""
    found = {row.server: row.outcome for row in done.rows if row.agent == "second"}
    return [found[server] for server in SERVERS]


def has(stand: fleet.Fleet, server: str, change: dict[str, Any]) -> bool:
    conf = stand.root(server, "docker exec vaettir-second-1 cat /etc/nginx/nginx.conf")
    return f"proxy_read_timeout {change['agent_proxy_read_timeout']}s;" in conf


def whole(stand: fleet.Fleet, server: str) -> None:
    """What visitors get, and that the active release is one that was verified."""
    visitor = Visitor(stand.servers[server])
    assert visitor.handshake(f"{ORIGIN}/_stcore/stream", ORIGIN)[0] == 101
    assert visitor.handshake(f"{ORIGIN}/_stcore/stream", "https://evil.example")[0] == 403
    active = stand.root(server, f"sed -n s/^release=//p {STORE}/current").strip()
    assert '"verified": "2' in stand.root(server, f"cat {STORE}/{active}/release.json")


def in_its_switch(stand: fleet.Fleet, server: str) -> None:
    """Comes back when the server has made its new release active, and has not verified it."""
    stand.root(server, f"timeout 500 sh -c 'until [ -e {STORE}/pending ]; do sleep .02; done'")


def settled(stand: fleet.Fleet, server: str) -> None:
    """Nobody is there any more; whatever the server had begun, it ends alone."""
    gone = f"[ ! -e {STORE}/pending ] || flock -n {STORE}/pending true"
    wait_for(f"the end of {server}'s release", lambda: stand.root(server, f"{gone} && echo yes", check=False), 90)


@contextmanager
def unchanged(*servers: str) -> Iterator[None]:
    """Files (digest, mode, owner, time), images and containers."""
    before = {server: snapshot.take(server) for server in servers}
    yield
    assert {name: snapshot.difference(before[name], snapshot.take(name)) for name in servers} == {
        name: [] for name in servers
    }


@contextmanager
def logins_again(stand: fleet.Fleet, server: str) -> Iterator[None]:
    try:
        yield
    finally:
        stand.root(server, "systemctl start ssh")


@contextmanager
def visitors(stand: fleet.Fleet) -> Iterator[dict[str, load.Visitors]]:
    """On every server, all the time."""
    with ExitStack() as stack:
        yield {
            server: stack.enter_context(load.on(ORIGIN, address, sockets=2, per_second=4))
            for server, address in stand.servers.items()
        }


def test_a_every_server(stand: fleet.Fleet, change: dict[str, Any]) -> None:
    done = deploy("a", **change)
    assert done.status == 0, done
    assert outcomes(done) == ["released"] * 5
    assert all(has(stand, server, change) for server in SERVERS)
    begins = [
        done.first(server, "build and restart what changed, verify it (a build takes a minute)") for server in SERVERS
    ]
    # One, a quarter of five, the rest.
    assert begins[0] < begins[1] < min(begins[2:])
    again = deploy(**change)
    assert (again.status, again.changed) == (0, []), again
    assert outcomes(again) == ["unchanged"] * 5


def test_b_the_canarys_tunnel_refuses(stand: fleet.Fleet, change: dict[str, Any]) -> None:
    """It stops after one server; the canary is as before, the others were not touched. A tunnel that is away would be
    the page's business, but here agents have to be online."""
    stand.edge.put(REFUSING, stand.edge.tunnels()["second.ngrok-free.app"]["app"])
    target = f"https://{{{{ '{REFUSING}' if inventory_hostname == '{ONE}' else 'second.ngrok-free.app' }}}}"
    agents = [{**AGENT, "target_url": target}]
    with unchanged(*SERVERS[1:]), stand.edge.faulty(REFUSING, "ERR_NGROK_3205"):
        done = deploy("b", vaettir_agents=agents, agent_proxy_require_online=True, **change)
    assert done.status != 0
    assert outcomes(done) == ["rolled back", *["not reached"] * 4]
    assert not has(stand, ONE, change)
    whole(stand, ONE)
    done = deploy(**change)
    assert (done.status, outcomes(done)) == (0, ["released"] * 5), done


def test_c_the_third_is_lost_in_its_switch(stand: fleet.Fleet, change: dict[str, Any]) -> None:
    """The run names it; the server verifies or undoes its release alone. The next run completes."""

    def cut() -> None:
        stand.root(THREE, "systemctl stop ssh; pkill -KILL sshd || true")

    with logins_again(stand, THREE):
        done = deploy("c", when=(lambda: in_its_switch(stand, THREE), cut), **change)
        settled(stand, THREE)
        whole(stand, THREE)
    assert done.status != 0
    assert outcomes(done) == ["released", "released", "lost", "released", "released"]
    assert f"{THREE} was lost (" in done.output
    for server in (ONE, TWO, FOUR, FIVE):
        assert has(stand, server, change)
        whole(stand, server)
    done = deploy("c-rerun", **change)
    assert done.status == 0, done
    assert outcomes(done)[2] in ("released", "unchanged")
    assert [outcome for index, outcome in enumerate(outcomes(done)) if index != 2] == ["unchanged"] * 4
    assert has(stand, THREE, change)


def test_d_two_fail_the_preflight(stand: fleet.Fleet, change: dict[str, Any]) -> None:
    """No server is touched, whichever they are, and both are named."""
    bad = (FOUR, FIVE)
    port = f"{{{{ '8443' if inventory_hostname in {list(bad)} else '443' }}}}"
    for server in bad:
        stand.root(server, "systemd-run -q --unit taken /usr/bin/python3 -m http.server 8443")
        stand.root(server, "timeout 10 sh -c 'until ss -tln | grep -q :8443; do sleep .1; done'")
    try:
        with unchanged(*SERVERS):
            done = deploy("d", stack_https_port=port, **change)
    finally:
        for server in bad:
            stand.root(server, "systemctl stop taken")
    assert done.status != 0
    assert outcomes(done) == [*["not reached"] * 3, *["failed"] * 2]
    assert all(f"{server}: stack_https_port 8443 is taken by" in done.output for server in bad)


def test_e_ansible_is_killed_in_the_second_batch(stand: fleet.Fleet, change: dict[str, Any]) -> None:
    """Nobody sees a failed request, in that run or in the next one, which completes."""
    with visitors(stand) as seen:
        deploy(when=(lambda: in_its_switch(stand, TWO), playbook.kill), **change)
        settled(stand, TWO)
        assert has(stand, ONE, change)
        assert not any(has(stand, server, change) for server in (THREE, FOUR, FIVE))
        whole(stand, TWO)
        done = deploy("e-rerun", **change)
    assert done.status == 0, done
    assert outcomes(done)[0] == "unchanged"
    assert outcomes(done)[2:] == ["released"] * 3
    assert all(has(stand, server, change) for server in SERVERS)
    with Path(LOGS, "report-e-rerun.txt").open("a", encoding="utf-8") as stream:
        stream.writelines(f"visitors of {server}: {found.saw()}\n" for server, found in seen.items())
    for found in seen.values():
        assert not found.failed, found
        assert not found.dropped, found
        assert found.answered > 20, found
