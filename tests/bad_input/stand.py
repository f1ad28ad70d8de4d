# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""One real server, the playbooks against it, and what a good refusal looks like."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tests.rig import ca, images, playbook, servers, snapshot
from tests.rig.shell import ROOT, run

SERVER = "vaettir-badinput"
OUTSIDE = "vaettir-badinput-outside"
DEPLOY, REMOVE = (str(ROOT / f"{word}-agent.yml") for word in ("deploy", "remove"))  # what a person types
FOLDER = "/home/deploy/vaettir"

GOOD: dict[str, Any] = {
    "vaettir_domain": "vaettir.localhost",
    "vaettir_agents": [{"name": "ocapistaine"}],
    "stack_http_port": 8080,
    "stack_https_port": 8443,
    "stack_discord_invite_url": "https://discord.gg/vaettir",
    "stack_tls": "files",
    "stack_tls_certificate": str(ca.FOLDER / "public.pem"),
    "stack_tls_key": str(ca.FOLDER / "public.key"),
    "stack_tls_ca": str(ca.FOLDER / "ca.pem"),
    "agent_proxy_ca_certificate": str(ca.FOLDER / "ca.pem"),
}
# Words of Ansible's, Python's and Jinja's own complaints, and of a dumped specification.
NOISE = re.compile(
    r"Traceback|exception|jinja|templat(e|ing) (error|string)|undefined|argument_spec|argument_errors|validate_args"
    r"|caused by|filter plugin|Finalization|_Ansible|Error while",
    re.IGNORECASE,
)
FIX = re.compile(r"\b(use|set|add|keep|give|write|choose|put|start|install|move|stop|rename|say|leave)\b")


@contextlib.contextmanager
def server() -> Iterator[str]:
    """Fresh, with Docker and the images; nothing deployed."""
    servers.down([SERVER, OUTSIDE])
    outside = servers.outside_up(OUTSIDE)
    servers.server_up(SERVER, outside["ip"])
    servers.load([SERVER], [images.NGINX, images.TRAEFIK])
    try:
        yield SERVER
    finally:
        servers.down([SERVER, OUTSIDE])


def write_inventory(path: Path, groups: Sequence[str] = ("vaettir",)) -> None:
    host = {
        "ansible_connection": "community.docker.docker",
        "ansible_user": "deploy",
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    inventory: dict[str, Any] = {group: {"hosts": {SERVER: host}} for group in groups}
    path.write_text(json.dumps({"all": {"vars": GOOD, "children": inventory}}), encoding="utf-8")


def inside(*command: str, user: str = "root", text: str | None = None, check: bool = True) -> str:
    """A command on the server."""
    words = ["docker", "exec", "-i", "-u", user, "-w", "/home/deploy", SERVER, *command]
    return run(words, check=check, input=text or "").stdout


def shell(script: str, user: str = "root") -> str:
    return inside("bash", "-ec", script, user=user)


def without_quotations(sentence: str) -> str:
    """Values, commands and other programs' words may hold any dot."""
    return re.sub(r"'[^']*'|`[^`]*`|\([^)]*\)|https?://\S*[^\s.]", "x", sentence)


def refused(done: playbook.Run, *parts: str, secret: str = "") -> str:
    """The one sentence with which a run was refused, checked for everything that a good one has."""
    assert done.status != 0, done
    failed = done.of("failed")
    assert len(failed) == 1, done
    sentence = failed[0].message.strip()
    assert "PLAY [Rollout]" not in done.output, done
    assert done.changed == [], done
    assert not NOISE.search(done.output), (NOISE.search(done.output), done)
    assert not re.search(r"\n|  ", sentence), repr(sentence)
    assert sentence.endswith("."), sentence
    bare = without_quotations(sentence)
    assert len(re.findall(r"[.!?](?:\s|$)", bare)) == 1, f"not one sentence: {bare}"
    assert len(sentence) < 1000, sentence
    assert FIX.search(bare), f"no fix: {sentence}"
    for part in parts:
        assert part in sentence, f"{part!r} is not in: {sentence}"
    if secret:
        assert secret not in done.output
    return sentence


def difference(before: snapshot.Snapshot) -> list[str]:
    return snapshot.difference(before, snapshot.take(SERVER))
