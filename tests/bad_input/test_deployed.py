# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""With one agent deployed: what a hand writes into .env, and what must not stand in a log."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.rig import playbook
from tests.rig.shell import run, wait_for

from . import stand

CONTAINER = "vaettir-ocapistaine-1"
UP = "docker compose --profile production --profile proxy up -d ocapistaine 2>&1"
SECRETS = {"OWNER_TOKEN": "s3cret-of-the-owner", "DATABASE_URL": "postgres://u:pass-of-the-owner@db/x"}
TUNNEL_SECRET = "tunnel-secret-0123456789abcdef"


@pytest.fixture(scope="module")
def log(server: str) -> Iterator[str]:
    """All that the runs on this server said at -vvv with --diff: the first, a new certificate, a changed .env."""
    lines = "".join(f"{key}={value}\n" for key, value in SECRETS.items())
    assert server == stand.SERVER
    stand.inside("bash", "-ec", f"mkdir -p {stand.FOLDER}; cat > {stand.FOLDER}/.env", user="deploy", text=lines)
    agent = {"name": "ocapistaine", "tunnel_secret": TUNNEL_SECRET}
    # From ansible-core 2.21 on the arguments of modules are shown only where they are asked for.
    talk = ("-vvv", "--diff", "-e", "ansible_inject_invocation=true")
    first = playbook.run(stand.DEPLOY, *talk, extra={"vaettir_agents": [agent]})
    assert first.status == 0, first
    stand.inside(
        "bash", "-ec", f"echo OCAPISTAINE_TARGET_URL=https://u:old-by-hand@x >> {stand.FOLDER}/.env", user="deploy"
    )
    other = {key: stand.GOOD[key].replace("public.", "edge.") for key in ("stack_tls_certificate", "stack_tls_key")}
    changed = playbook.run(stand.DEPLOY, *talk, "--check", extra={"vaettir_agents": [agent], **other})
    assert changed.status == 0, changed
    # One that is refused has no settings to show.
    bad = {**agent, "target_url": "https://u:typed-by-mistake@x"}
    refused = playbook.run(stand.DEPLOY, *talk, extra={"vaettir_agents": [bad]})
    yield "".join(done.output for done in (first, changed, refused))
    # As fresh as it was: other tests want its ports.
    stand.shell(f"docker rm -fv $(docker ps -aq); docker network prune -f; rm -r {stand.FOLDER}")


def test_log_is_the_long_one(log: str) -> None:
    assert '"module_args"' in log or "invocation:" in log
    assert "+++" in log


@pytest.mark.parametrize("name", ["public", "edge"])
def test_log_holds_no_private_key(name: str, log: str) -> None:
    key = Path(stand.GOOD["stack_tls_key"]).with_name(f"{name}.key").read_text(encoding="ascii")
    lines = [line for line in key.splitlines() if len(line) > 20 and "KEY" not in line]
    assert lines, "an empty key would say nothing"
    assert [line for line in lines if line in log] == []
    assert not re.search(r"BEGIN [A-Z ]*PRIVATE KEY", log)


@pytest.mark.parametrize(
    "secret", [*SECRETS.values(), TUNNEL_SECRET, "pass-of-the-owner", "old-by-hand", "typed-by-mistake"]
)
def test_log_holds_no_secret(secret: str, log: str) -> None:
    assert secret not in log


@pytest.mark.usefixtures("log")
def test_owners_lines_survive() -> None:
    text = stand.inside("cat", f"{stand.FOLDER}/.env")
    assert text.startswith("".join(f"{key}={value}\n" for key, value in SECRETS.items()))
    assert stand.inside("stat", "-c", "%a", f"{stand.FOLDER}/.env").strip() == "600"


def edit(key: str, value: str) -> None:
    """As a person would with an editor."""
    text = stand.inside("cat", f"{stand.FOLDER}/.env")
    lines = [line for line in text.splitlines() if not line.startswith(f"{key}=")]
    new = "\n".join([*lines, f"{key}={value}", ""])
    stand.inside("bash", "-ec", f"cat > {stand.FOLDER}/.env", user="deploy", text=new)


def up() -> None:
    stand.inside("bash", "-c", f"cd {stand.FOLDER} && {UP}", user="deploy", check=False)


def said(text: str) -> bool:
    return text in run(["docker", "exec", stand.SERVER, "bash", "-c", f"docker logs {CONTAINER} 2>&1"]).stdout


@pytest.mark.usefixtures("log")
def test_target_by_hand_is_refused_at_start() -> None:
    good = "https://ocapistaine.ngrok-free.app"
    edit("OCAPISTAINE_TARGET_URL", "https://user:by-hand@a.example")
    up()
    try:
        refusal = "OCAPISTAINE_TARGET_URL 'https://***@a.example' is not valid"
        wait_for("the log with it", lambda: said(refusal), 15)
        assert not said("by-hand")
        assert not said("nginx: [emerg]")
    finally:
        edit("OCAPISTAINE_TARGET_URL", good)
        up()
    state = "docker inspect -f '{{.State.Health.Status}}' " + CONTAINER
    wait_for("the fixed agent", lambda: stand.shell(state).strip() == "healthy", 30)
