# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""No deploy restarts Traefik; its own playbook does, and undoes what fails."""

from __future__ import annotations

import json

import pytest

from tests.rig import load, playbook

UPGRADE = "locki.vaettir.upgrade_traefik"
HOME = "/home/deploy/vaettir"
ACME = f"{HOME}/traefik/acme"
PUBLIC = "https://second.vaettir.example"
SOCKETS = 20
OTHER = {"stack_traefik_log_level": "WARN"}  # another definition
CONFIRMED = ("-e", "confirm=true")

pytestmark = pytest.mark.usefixtures("root")


def traefik(server) -> str:
    return str(server.check_output("docker inspect -f '{{.Id}} {{.State.StartedAt}}' vaettir-traefik-1"))


@pytest.fixture
def deploy_stack(tmp_path):
    """A deploy as far as the stack, which is quicker; options and variables as usual."""
    play = tmp_path / "stack.json"
    play.write_text(
        json.dumps([{"hosts": "vaettir", "gather_facts": False, "roles": ["locki.vaettir.stack"]}]), encoding="utf-8"
    )
    return lambda *options, **extra: playbook.run(str(play), *options, extra=extra)


def said(run: playbook.Run) -> str:
    return " ".join(run.output.split())


def test_a_deploy_leaves_it_as_it_runs(server, visitor):
    before = traefik(server)
    with load.on(PUBLIC, visitor.address, sockets=SOCKETS) as visitors:
        run = playbook.run(playbook.DEPLOY, "-e", "agent=second", extra=OTHER)
    assert run.status == 0, run
    assert [line.rsplit(" : ", 1)[-1] for line in run.changed] == ["Write the project folder"]
    assert traefik(server) == before
    assert (visitors.failed, visitors.dropped) == ([], []), visitors
    assert "Traefik''s definition changed" in said(run)
    assert "`ansible-playbook locki.vaettir.upgrade_traefik`" in said(run)


def test_a_deploy_says_what_cannot_work_until_then(deploy_stack):
    run = deploy_stack("--check", **OTHER, stack_https_port=8443)
    assert "because it does not listen on port 8443" in said(run), run


def test_a_stopped_one_is_started_as_it_should_be(deploy_stack, server, visitor):
    before = traefik(server)
    server.check_output("docker stop vaettir-traefik-1")
    run = deploy_stack(**OTHER)
    assert run.status == 0, run
    assert traefik(server) != before
    assert "--log.level=WARN" in server.check_output("docker inspect -f '{{.Config.Cmd}}' vaettir-traefik-1")
    assert visitor.until(PUBLIC, 200).status == 200


def test_an_upgrade_wants_a_confirmation(what_changes):
    run = playbook.run(UPGRADE)
    assert run.status != 0
    (message,) = run.messages
    assert "drops every open WebSocket of vaettir-lifecycle-one" in message
    assert "`-e confirm=true`" in message
    assert what_changes() == []


def test_check_mode_plans_an_upgrade(what_changes):
    run = playbook.run(UPGRADE, "--check")
    assert run.status == 0, run
    assert any("Replace Traefik" in line for line in run.changed)
    assert what_changes() == []


def test_an_upgrade(server, root, visitor):
    before = traefik(server)
    acme = root.file(f"{ACME}/acme.json").content
    with load.on(PUBLIC, visitor.address, sockets=SOCKETS) as visitors:
        run = playbook.run(UPGRADE, *CONFIRMED)
        assert run.status == 0, run
        assert visitor.until(PUBLIC, 200).status == 200
    assert traefik(server) != before
    assert len(visitors.dropped) == SOCKETS, visitors  # what the warning says
    assert root.file(f"{ACME}/acme.json").content == acme
    (backup,) = server.check_output(f"ls {ACME}").replace("acme.json\n", "").split()
    assert (server.file(f"{ACME}/{backup}").mode, server.file(f"{ACME}/{backup}").content) == (0o600, acme)
    for agent in ("ocapistaine", "second"):
        url = f"https://{agent}.vaettir.example"
        assert visitor.handshake(f"{url}/_stcore/stream", url)[0] == 101


def test_a_second_upgrade_has_nothing_to_do_and_to_ask(what_changes):
    run = playbook.run(UPGRADE)
    assert (run.status, run.changed) == (0, []), run
    assert what_changes() == []


def test_an_upgrade_that_fails_is_undone(server, visitor):
    run = playbook.run(UPGRADE, *CONFIRMED, extra={"stack_traefik_image": "nginx:1.30.6"})
    assert run.status != 0
    assert run.messages[-1].startswith("traefik did not start: ")
    assert run.messages[-1].endswith("The previous Traefik serves."), "it never began, so it has no last words"
    assert visitor.until(PUBLIC, 200).status == 200
    assert 'image: "traefik:' in server.file(f"{HOME}/docker-compose.yml").content_string
    again = playbook.run(UPGRADE)
    assert (again.status, again.changed) == (0, []), again
