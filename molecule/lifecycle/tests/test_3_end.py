# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The whole stack goes, and nothing else does."""

from __future__ import annotations

import re

from tests.rig import playbook

REMOVE = "locki.vaettir.remove_stack"
HOME = "/home/deploy/vaettir"
OWNERS_DOTENV = b'# mine\r\nOWN_KEY="a # b"\r\n# end, without a line end'
OWNERS = ["README.md", "docker-compose.override.yml", "proxy-configs/notes.txt"]


def docker(server, *words: str) -> list[str]:
    return sorted(server.check_output(f"docker {' '.join(words)}").split())


def test_it_wants_a_confirmation(what_changes):
    run = playbook.run(REMOVE)
    assert run.status != 0
    (message,) = run.messages
    assert "takes every agent and Traefik off vaettir-lifecycle-one" in message
    assert "`-e confirm=true`" in message
    assert what_changes() == []


def test_check_mode_shows_the_plan(what_changes):
    run = playbook.run(REMOVE, "--check", "-e", "stack_remove_certificates=true")
    assert run.status == 0, run
    for line in ("vaettir-traefik-1", "agents/offline.yml", "docker-compose.yml", "traefik/certs/key.pem"):
        assert re.search(rf"^ +- {re.escape(line)}$", run.output, re.MULTILINE), line
    assert what_changes() == []


def test_what_is_not_ours_stays(server, visitor):
    edited = f"{HOME}/proxy-configs/second.conf.template"
    server.check_output(f"echo '# by hand' >> {edited}")
    by_hand = server.file(edited).content
    owners = {name: server.file(f"{HOME}/{name}").content for name in OWNERS}
    notes = server.check_output("docker inspect -f '{{.Id}} {{.State.StartedAt}}' vaettir-notes-1")

    run = playbook.run(REMOVE, "-e", "confirm=true")
    assert run.status == 0, run

    assert docker(server, "ps -a --format '{{.Names}}'") == ["vaettir-notes-1"]
    assert server.check_output("docker inspect -f '{{.Id}} {{.State.StartedAt}}' vaettir-notes-1") == notes
    assert not [image for image in docker(server, "images --format '{{.Repository}}'") if image.startswith("vaettir")]
    assert docker(server, "volume ls -q") == ["vaettir_notes"]
    assert "vaettir_default" in docker(server, "network ls --format '{{.Name}}'")  # the owner's service is in it
    assert {name: server.file(f"{HOME}/{name}").content for name in OWNERS} == owners
    # A key of ours had needed a line end before it.
    assert server.file(f"{HOME}/.env").content == OWNERS_DOTENV + b"\r\n"

    left = server.check_output(f"cd {HOME} && find . -path ./.git -prune -o -type f -print").split()
    kept = [name for name in left if name.startswith("./proxy-configs/second.conf.template.")]
    assert [server.file(f"{HOME}/{name}").content for name in kept] == [by_hand]
    certificates = [name for name in left if name.startswith("./traefik/")]
    assert {"./traefik/acme/acme.json", "./traefik/certs/cert.pem", "./traefik/certs/key.pem"} <= set(certificates)
    assert sorted(set(left) - set(kept) - set(certificates)) == sorted(["./.env", *(f"./{name}" for name in OWNERS)])
    assert "vaettir" not in server.file(f"{HOME}/.git/info/exclude").content_string
    assert visitor.until("https://second.vaettir.example", 0).status == 0


def test_a_second_removal_has_nothing_to_do_and_to_ask(what_changes):
    run = playbook.run(REMOVE)
    assert (run.status, run.changed) == (0, []), run
    assert what_changes() == []
