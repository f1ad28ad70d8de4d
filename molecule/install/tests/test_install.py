# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A server without Docker: installed from the distribution when asked for, a clear sentence otherwise."""

from __future__ import annotations

from tests.rig import playbook, snapshot
from tests.rig.shell import run as execute

REFUSED = "vaettir-install-refused"
ORIGIN = "https://second.vaettir.example"


def test_docker_is_the_distributions(server):
    for package in ("docker.io", "docker-cli", "docker-compose"):
        assert server.package(package).is_installed, package
    assert server.check_output("dpkg -S $(readlink -f $(command -v docker))").startswith("docker-cli:")
    assert "docker" in server.user("deploy").groups


def test_docker_starts_with_the_server(server):
    assert server.service("docker").is_running
    assert server.service("docker").is_enabled


def test_deployed_to_the_end(visitor):
    assert visitor.handshake(f"{ORIGIN}/_stcore/stream", ORIGIN)[0] == 101
    assert visitor.handshake(f"{ORIGIN}/_stcore/stream", "https://evil.example")[0] == 403


def test_the_usual_ports_are_not_named(visitor):
    answer = visitor.get("http://second.vaettir.example/path")
    assert answer.headers["location"] == f"{ORIGIN}/path"


def refused(*options: str, **settings) -> str:
    """Deploys to the other server; one sentence comes back, and nothing there has changed."""
    before = snapshot.take(REFUSED)
    run = playbook.run(playbook.DEPLOY, *options, extra={"vaettir_hosts": REFUSED, **settings})
    assert run.status != 0
    assert snapshot.difference(before, snapshot.take(REFUSED)) == []
    (message,) = run.messages
    return message


def test_without_being_asked_nothing_is_installed():
    message = refused()
    assert message.startswith(f"Docker Engine is not installed on {REFUSED}: set stack_install_docker to true")


def test_a_server_whose_user_may_not_use_sudo():
    execute(["docker", "exec", REFUSED, "mv", "/etc/sudoers.d/deploy", "/root/"])
    try:
        before = snapshot.take(REFUSED)
        run = playbook.run(playbook.DEPLOY, extra={"vaettir_hosts": REFUSED, "stack_install_docker": True})
        assert run.status != 0
        assert snapshot.difference(before, snapshot.take(REFUSED)) == []
    finally:
        execute(["docker", "exec", REFUSED, "mv", "/root/deploy", "/etc/sudoers.d/"])
