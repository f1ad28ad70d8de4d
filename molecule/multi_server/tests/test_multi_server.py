# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The server as its owner sees it."""

from tests.rig import scenario


def test_docker_answers_the_deploy_user(host):
    assert host.user().name == "deploy"
    assert host.check_output("docker ps -q") == ""


def test_dns_is_the_outside_world(host):
    assert host.addr("ocapistaine.ngrok-free.app").ipv4_addresses == [scenario.current()["outside"]["ip"]]
