# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Every command of docs/howto.md, typed word for word in the folder that the README makes, for a server behind ssh."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.rig import images, reader, scenario
from tests.rig.edge_client import Edge
from tests.rig.shell import ROOT, run

NAME = "vaettir-howto"
PAGE = reader.sections("docs/howto.md")
BY_HAND, LAST = "Work on the server by hand", "Take everything away"
# Typed as it stands, except where a person is meant to type more, or to look for as long as he likes.
INSTEAD = {
    "docker compose logs -f ocapistaine": "docker compose logs ocapistaine",
    "nano proxy-configs/ocapistaine.conf.template": "echo '# mine' >> proxy-configs/ocapistaine.conf.template",
}


def on_server(script: str, user: str = "deploy") -> str:
    return run(["docker", "exec", "-i", "-u", user, "-w", "/home/deploy", NAME, "bash", "-le"], input=script).stdout


class Reader:
    """The newcomer, after the README's steps."""

    def __init__(self, home: Path, address: str) -> None:
        self.newcomer = reader.Newcomer(home)
        self.newcomer.meets(address, f"git+file://{reader.repository(home / 'source', '0.0.1')}")
        self.inventory = home / "vaettir" / "hosts.yml"
        install, inventory, deploy = (
            step for step in reader.sections("README.md")["Put your app online"] if step.startswith(("mk", "cat", "an"))
        )
        self.types(f"cd ..\n{install}\n{inventory}")
        self.writes(stack_install_docker=False)
        self.types(f". venv/bin/activate\n{deploy}")

    def types(self, script: str) -> str:
        return self.newcomer.types(f"cd vaettir\n{script}")

    def writes(self, **variables: object) -> None:
        """Into the inventory."""
        found = yaml.safe_load(self.inventory.read_text(encoding="utf-8"))
        found["vaettir"]["vars"].update(variables)
        self.inventory.write_text(yaml.safe_dump(found, sort_keys=False), encoding="utf-8")


@pytest.fixture(scope="module", params=[False, True], ids=["trixie", "forky"])
def reads(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    images.build_all([images.SERVER_NEXT, images.OUTSIDE, images.NGINX, images.TRAEFIK])
    platform: dict[str, Any] = {"name": NAME, "connection": "ssh", "next": request.param}
    try:
        state = scenario.up("howto", [platform])
        scenario.load([platform])
        edge = Edge(state["outside"]["control"])
        for agent in ("ocapistaine", "second"):
            edge.put(f"{agent}.ngrok-free.app", "http://127.0.0.1:8501")
        yield Reader(tmp_path_factory.mktemp("home"), state["servers"][NAME])
    finally:
        scenario.down("howto", [platform])


def settings_and_two_agents(reads: Reader) -> None:
    page = (ROOT / "docs" / "howto.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"(?ms)^```ini\n(.*?)^```$", page)
    reads.inventory.with_name("ansible.cfg").write_text(text, encoding="utf-8")
    reads.writes(vaettir_agents=[{"name": "ocapistaine"}, {"name": "second"}])


def one_agent(reads: Reader) -> None:
    reads.writes(vaettir_agents=[{"name": "ocapistaine"}])


def another_release(reads: Reader) -> None:
    reads.writes(agent_proxy_max_body_size="11m")
    reads.types(f". venv/bin/activate\n{PAGE['Deploy'][0].splitlines()[0]}")


def folder_of_the_exporter(_reads: Reader) -> None:
    on_server("install -d -o deploy /var/lib/prometheus/node-exporter", "root")


BEFORE: dict[str, Callable[[Reader], None]] = {
    "Deploy": settings_and_two_agents,
    "Remove an agent": one_agent,
    "Roll back": another_release,
    "Verify, and tell Prometheus": folder_of_the_exporter,
}


def release_to_go_to() -> str:
    """Any but the active one."""
    *there, active = on_server("cd vaettir/releases/ocapistaine; ls -d 2*; sed -n s,^release=,,p current").split()
    return next(name for name in there if name != active)


@pytest.mark.parametrize("title", [title for title in PAGE if PAGE[title] and title not in (BY_HAND, LAST)])
def test_section(reads: Reader, title: str) -> None:
    if title in BEFORE:
        BEFORE[title](reads)
    for command in "".join(PAGE[title]).splitlines():
        if written := re.search(r"release=(\S+)", command):
            command = command.replace(written[1], release_to_go_to())
        said = reads.types(f". venv/bin/activate\n{command}")
        assert "failed=0" in said or "was installed successfully" in said


@pytest.mark.usefixtures("reads")
def test_by_hand() -> None:
    commands = [line.partition("#")[0].strip() for line in PAGE[BY_HAND][0].splitlines()]
    assert set(INSTEAD) <= set(commands)
    on_server("cd vaettir\n" + "\n".join(INSTEAD.get(command, command) for command in commands))
    assert on_server("docker exec vaettir-ocapistaine-1 grep -rl '# mine' /etc/nginx").strip()


def test_take_everything_away(reads: Reader) -> None:
    assert "failed=0" in reads.types(f". venv/bin/activate\n{PAGE[LAST][0]}")
    assert on_server("docker ps --quiet").strip() == ""
