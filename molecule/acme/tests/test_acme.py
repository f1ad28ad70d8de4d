# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Certificates of a real authority, which looks whether the server is where the name leads, over the usual ports."""

from __future__ import annotations

import json
import re

import pytest
import testinfra

from tests.rig import playbook
from tests.rig.visitor import Visitor

ONE, LATE = "vaettir-acme-one", "vaettir-acme-late"
DIAGNOSE, VERIFY = "locki.vaettir.diagnose_agent", "locki.vaettir.verify_agent"
ACME = "/home/deploy/vaettir/traefik/acme"
ON_LATE = {"vaettir_hosts": LATE}
NO_BROWSER_KNOWS = {"stack_tls_ca": ""}  # Pebble's root is trusted by nobody, as that of Let's Encrypt's staging server


def deploy(*options: str, **extra) -> tuple[playbook.Run, str]:
    """A deploy that goes well, and what it says."""
    run = playbook.run(playbook.DEPLOY, *options, extra=extra)
    assert run.status == 0, run
    return run, run.said


@pytest.fixture
def verify():
    """The line that it says of each agent; the exit status must fit."""

    def run(agent: str, good: bool, **extra) -> str:
        done = playbook.run(VERIFY, "-e", f"agent={agent}", extra=extra)
        assert (done.status == 0) is good, done
        return done.said

    return run


@pytest.fixture
def diagnose(tmp_path):
    """The diagnosis of a broken chain."""

    def run(agent: str, **extra) -> dict:
        report = tmp_path / "report.json"
        done = playbook.run(DIAGNOSE, "-e", f"agent={agent}", extra={"report_file": str(report), **extra})
        assert done.status != 0, done
        (found,) = json.loads(report.read_text(encoding="utf-8"))["agents"]
        return found

    return run


def apply(fix: str, server: str) -> None:
    """What is to be typed on the server, typed there."""
    (command,) = re.findall(rf"on {server}: `([^`]+)`", fix)
    testinfra.get_host(f"docker://deploy@{server}").check_output(command)


def served(servers, pebble, server: str, agent: str) -> bool:
    """Whether somebody who trusts that authority alone gets through to the app."""
    visitor, url = Visitor(servers[server], pebble.root), f"https://{agent}.vaettir.example"
    visitor.until(url, 200)
    return visitor.handshake(f"{url}/_stcore/stream", url)[0] == 101


def test_a_first_deploy_is_verified_without_a_hand(pebble, servers):
    _run, said = deploy()
    assert f"second on {ONE}: WebSocket upgrade verified at https://second.vaettir.example" in said
    assert served(servers, pebble, ONE, "second")


def test_a_second_deploy_touches_nothing():
    root = testinfra.get_host(f"docker://{ONE}")
    (there,) = root.check_output(f"ls -A {ACME}").split()
    before = root.check_output(f"stat -c '%a %U %i %y' {ACME}/{there}; sha256sum {ACME}/{there}")
    assert (there, before.split()[:2]) == ("acme.json", ["600", "root"])
    run, _said = deploy()
    assert run.changed == []
    assert root.check_output(f"stat -c '%a %U %i %y' {ACME}/{there}; sha256sum {ACME}/{there}") == before


def test_a_certificate_that_no_browser_knows(verify, diagnose):
    _run, said = deploy(**NO_BROWSER_KNOWS)
    assert "the certificate comes from a staging authority" in said
    assert "tls pending" not in said
    assert "staging authority" in verify("second", good=False, **NO_BROWSER_KNOWS)
    found = diagnose("second", **NO_BROWSER_KNOWS)
    assert (found["hop"], found["rule"]) == ("TLS", "tls_staging")


def test_an_authority_that_is_down(pebble, servers, verify, diagnose):
    with pebble.down():
        _run, said = deploy("-e", "agent=late", **ON_LATE)
        assert "deployed; tls pending" in said
        assert "connection refused" in said
        assert "tls pending" in verify("late", good=False, **ON_LATE)
        found = diagnose("late", **ON_LATE)
        assert (found["hop"], found["rule"]) == ("TLS", "tls_authority")
    apply(found["fix"], LATE)
    assert served(servers, pebble, LATE, "late")
    assert "WebSocket upgrade verified" in verify("late", good=True, **ON_LATE)


def test_a_name_that_leads_elsewhere(edge, pebble, servers, verify, diagnose):
    """Over port 80 this time; the other agent of the server is served all the while."""
    right = servers[LATE]
    edge.address("astray.vaettir.example", pebble.outside)
    _run, said = deploy("-e", "agent=astray", **ON_LATE)
    assert "deployed; tls pending" in said
    found = diagnose("astray", **ON_LATE)
    assert (found["hop"], found["rule"]) == ("TLS", "tls_pending")
    assert f"point astray.vaettir.example at {LATE}" in found["fix"]
    edge.address("astray.vaettir.example", right)
    visitor, late = Visitor(right, pebble.root), "https://late.vaettir.example"
    apply(found["fix"], LATE)
    assert visitor.handshake(f"{late}/_stcore/stream", late)[0] == 101
    assert served(servers, pebble, LATE, "astray")
    assert "WebSocket upgrade verified" in verify("astray", good=True, **ON_LATE)
