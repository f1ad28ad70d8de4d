# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Three servers over ssh: a canary, then the others; whatever fails stops the rollout and undoes nothing."""

from __future__ import annotations

import itertools
from contextlib import contextmanager

import pytest
import testinfra

from tests.rig import playbook, snapshot
from tests.rig.visitor import Visitor

ONE, TWO, THREE = SERVERS = [f"vaettir-multi-{letter}" for letter in "abc"]
ORIGIN = "https://second.vaettir.example"
# Two at once and then the third: a batch of one stops the rollout by itself, whatever the playbook says.
PAIR = {"vaettir_serial": [2, 1]}
RELEASES = "Copy the configs, build and restart what changed, verify it (a build takes a minute)"
REPORT = "What came of it"
# A change to every agent's conf, never the same twice, so that each test has something to roll out.
SECONDS = itertools.count(3601)


@pytest.fixture
def change():
    return {"agent_proxy_read_timeout": next(SECONDS)}


@pytest.fixture
def what_changes():
    """Tells what on a server is not as it was when the test began."""
    before = {server: snapshot.take(server) for server in SERVERS}
    return lambda server: snapshot.difference(before[server], snapshot.take(server))


def root(server):
    return testinfra.get_host(f"docker://{server}")


def has(server, change) -> bool:
    """Whether the running nginx has the change."""
    conf = root(server).check_output("docker exec vaettir-second-1 cat /etc/nginx/nginx.conf")
    return f"proxy_read_timeout {change['agent_proxy_read_timeout']}s;" in conf


def only(server, value, other) -> str:
    """A setting that one server has differently."""
    return f"{{{{ {value!r} if inventory_hostname == {server!r} else {other!r} }}}}"


@contextmanager
def listening(server, port):
    """Another program has the port."""
    root(server).check_output(f"systemd-run -q --unit taken /usr/bin/python3 -m http.server {port}")
    try:
        root(server).check_output(f"timeout 10 sh -c 'until ss -tln | grep -q :{port}; do sleep .1; done'")
        yield
    finally:
        root(server).check_output("systemctl stop taken")


def cut(server):
    """Nobody can log in any more, and who was logged in is out."""
    root(server).check_output("systemctl stop ssh; pkill -KILL sshd || true")


@contextmanager
def logins_again(server):
    try:
        yield
    finally:
        root(server).check_output("systemctl start ssh")


def reported(run, server) -> str:
    """What the report says of the agent."""
    (found,) = {row.outcome for row in run.rows if (row.server, row.agent) == (server, "second")}
    return found


def deploy(*options, when=None, **settings) -> playbook.Run:
    """One agent of every server: what the rollout does is the same for several, and takes longer."""
    return playbook.run(playbook.DEPLOY, "-e", "agent=second", *options, extra=settings, when=when)


def test_every_server_works(servers):
    for address in servers.values():
        visitor = Visitor(address)
        assert visitor.handshake(f"{ORIGIN}/_stcore/stream", ORIGIN)[0] == 101
        assert visitor.handshake(f"{ORIGIN}/_stcore/stream", "https://evil.example")[0] == 403


def test_each_server_has_its_own_agents(servers):
    for name, address in servers.items():
        expected = 200 if name == THREE else 404
        assert Visitor(address).get("https://only-here.vaettir.example").status == expected, name


def test_one_after_the_other_the_canary_first(change):
    run = deploy(**change)
    assert run.status == 0, run
    assert all(has(server, change) for server in SERVERS)
    begins = {server: run.first(server, RELEASES) for server in SERVERS}
    # But for the report, which is the last task of all and one server's.
    ends = {server: max(found.at for found in run.of("ok", server) if found.task != REPORT) for server in SERVERS}
    assert ends[ONE] < begins[TWO]
    assert ends[TWO] < begins[THREE]
    # All servers are looked at before any of them is changed.
    assert max(run.first(server, "Look at the server") for server in SERVERS) < begins[ONE]


def test_a_server_whose_verification_fails_stops_the_rollout(change, what_changes, servers):
    """The app refuses the Origin that the second server sends it."""
    # It is no Streamlit, and would be said to be none.
    profile = {"agent_proxy_profile": "generic", "agent_proxy_probe_path": "/_stcore/stream"}
    run = deploy(**change, **PAIR, **profile, agent_proxy_origin_mode=only(TWO, "preserve", "rewrite"))
    assert run.status != 0
    (message,) = run.messages
    assert message.startswith(f"second on {TWO}: in its trial, which no visitor met: broken at the app: ")
    assert "its own public origin, which origin_mode `preserve` passes on" in message
    assert "It was rolled back to release " in message
    assert has(ONE, change)
    assert Visitor(servers[ONE]).handshake(f"{ORIGIN}/_stcore/stream", ORIGIN)[0] == 101
    assert what_changes(THREE) == []
    assert [reported(run, server) for server in SERVERS] == ["released", "rolled back", "not reached"]
    assert run.output.rstrip().splitlines()[-1].startswith("Once that is fixed, this continues")
    # Once that is fixed, the same command goes on where it stopped; the healthy one is left alone.
    run = deploy(**change, **profile)
    assert run.status == 0, run
    assert not any(line.startswith(ONE) for line in run.changed)
    assert all(has(server, change) for server in SERVERS)


def test_a_docker_that_dies_after_the_preflight_stops_the_rollout(change, what_changes):
    def die():
        root(TWO).check_output("systemctl stop docker.socket docker")

    try:
        run = deploy(**change, when=(RELEASES, die))
        assert run.status != 0
        assert {found.host for found in run.of("failed")} == {TWO}
        assert has(ONE, change)
        assert what_changes(THREE) == []
    finally:
        root(TWO).check_output("systemctl start docker")
    assert deploy(**change).status == 0
    assert all(has(server, change) for server in SERVERS)


def test_a_failed_preflight_changes_no_server(change, what_changes):
    with listening(THREE, 8443):
        run = deploy(**change, stack_https_port=only(THREE, "8443", "443"))
    assert run.status != 0
    assert any("stack_https_port 8443 is taken by" in message for message in run.messages), run.messages
    assert [what_changes(server) for server in SERVERS] == [[], [], []]
    assert [reported(run, server) for server in SERVERS] == ["not reached", "not reached", "failed"]


def test_a_server_that_is_away_from_the_start(change, what_changes):
    with logins_again(TWO):
        cut(TWO)
        run = deploy(**change)
    assert run.status != 0
    assert {found.host for found in run.of("unreachable")} == {TWO}
    assert [what_changes(server) for server in SERVERS] == [[], [], []]
    assert [reported(run, server) for server in SERVERS] == ["not reached", "lost", "not reached"]


def test_a_server_that_goes_away_in_the_rollout(change, what_changes):
    with logins_again(TWO):
        run = deploy(**change, **PAIR, when=(RELEASES, lambda: cut(TWO)))
    assert run.status != 0
    assert has(ONE, change)
    assert what_changes(THREE) == []
    assert [reported(run, server) for server in SERVERS] == ["released", "lost", "not reached"]
    assert f"{TWO} was lost (" in run.output
    run = deploy(**change)
    assert run.status == 0, run
    assert [reported(run, server) for server in SERVERS] == ["unchanged", "released", "released"]


def test_limit(change, what_changes):
    run = deploy("--limit", THREE, **change)
    assert run.status == 0, run
    assert has(THREE, change)
    assert [what_changes(server) for server in (ONE, TWO)] == [[], []]


def test_an_agent_of_one_server_touches_no_other(change, what_changes):
    run = playbook.run(playbook.DEPLOY, "-e", "agent=only-here", extra=change)
    assert run.status == 0, run
    assert [what_changes(server) for server in (ONE, TWO)] == [[], []]
    changes = what_changes(THREE)
    assert any(line.endswith("/proxy-configs/only-here.conf.template") for line in changes)
    assert not any("/second" in line or "-second" in line for line in changes), changes
