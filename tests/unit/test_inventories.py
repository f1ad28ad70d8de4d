# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The example's servers and agents, and which of them a run is about. There is no server: its Python is /bin/false."""

from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.vars.manager import VariableManager
from ansible_collections.locki.vaettir.plugins.filter.agents import agents_settings

from tests.rig.shell import ROOT, VENV

from .test_agents import ROLE

EXAMPLE = ROOT / "inventories" / "example"
SECRET = "a-secret-of-the-tests"
PARIS1, PARIS2, MONTREAL = "paris1", "paris2", "montreal1"
EUROPE = {(server, agent) for server in (PARIS1, PARIS2) for agent in ("ocapistaine", "second")}


@dataclass
class Run:
    status: int
    output: str
    report: dict[str, Any]

    @property
    def about(self) -> set[tuple[str, str]]:
        return {(row["server"], row["agent"]) for row in self.report["agents"]}


def deploy(folder: Path, *options: str) -> Run:
    """Up to the first question to a server."""
    file = folder / "report.json"
    extra = {
        "ansible_connection": "local",
        "ansible_python_interpreter": "/bin/false",
        "report_file": str(file),
        "vault_sardines_tunnel_secret": SECRET,
    }
    words: list[str | Path] = [
        VENV / "bin" / "ansible-playbook",
        "-i",
        EXAMPLE,
        "deploy-agent.yml",
        "-e",
        json.dumps(extra),
        *options,
    ]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "ANSIBLE_FORCE_COLOR": "0"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    report = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return Run(done.returncode, done.stdout + done.stderr, report)


RUNS = {
    "all": (),
    "some agents": ("-e", "agent=second,sardines"),
    "a limit": ("--limit", "america"),
    "other hosts": ("-e", "vaettir_hosts=europe"),
    "an agent that no server has": ("-e", "agent=nobody"),
    "an agent of others": ("--limit", MONTREAL, "-e", "agent=sardines"),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """All at once: most of such a run is waiting."""
    with ThreadPoolExecutor(len(RUNS)) as pool:
        made = {name: pool.submit(deploy, tmp_path_factory.mktemp("run"), *options) for name, options in RUNS.items()}
    return {name: one.result() for name, one in made.items()}


def test_every_server_and_agent(runs: dict[str, Run]) -> None:
    assert runs["all"].about == {*EUROPE, (PARIS2, "sardines"), (MONTREAL, "ocapistaine")}


def test_some_agents_and_a_word_for_who_has_none(runs: dict[str, Run]) -> None:
    run = runs["some agents"]
    assert run.about == {(PARIS1, "second"), (PARIS2, "second"), (PARIS2, "sardines")}
    assert run.report["skipped"] == [MONTREAL]
    assert f"\nSkipped, since no agent of theirs was named: {MONTREAL}.\n" in run.output


def test_a_limit(runs: dict[str, Run]) -> None:
    assert runs["a limit"].about == {(MONTREAL, "ocapistaine")}


def test_other_hosts(runs: dict[str, Run]) -> None:
    assert runs["other hosts"].about == {*EUROPE, (PARIS2, "sardines")}
    assert runs["other hosts"].report["skipped"] == []


def test_an_agent_that_no_server_has(runs: dict[str, Run]) -> None:
    run = runs["an agent that no server has"]
    assert run.status == 2
    assert "agent 'nobody' is not declared for any server of this run" in run.output
    assert "(ocapistaine, sardines, second)" in run.output
    assert not run.report


def test_an_agent_of_servers_that_the_limit_leaves_out(runs: dict[str, Run]) -> None:
    run = runs["an agent of others"]
    assert run.status == 2
    assert "agent 'sardines' is not declared for any server of this run" in run.output
    assert "(ocapistaine)" in run.output


def test_the_secret_is_in_no_output(runs: dict[str, Run]) -> None:
    assert not [name for name, run in runs.items() if SECRET in run.output + json.dumps(run.report)]


def settings(server: str, **more: str) -> dict[str, Any]:
    """Of the server's agents, as a deploy reads the example."""
    loader = DataLoader()
    inventory = InventoryManager(loader=loader, sources=[str(EXAMPLE)])
    manager = VariableManager(loader=loader, inventory=inventory)
    known = {**manager.get_vars(host=inventory.get_host(server)), **more}
    return agents_settings(Templar(loader, variables=known).template(known["vaettir_agents"]), ROLE, server)


def test_the_example_is_refused_until_its_secret_is_one() -> None:
    (error,) = settings(PARIS2)["errors"].values()
    assert error.startswith("paris2: tunnel_secret of agent sardines ")
    made = settings(PARIS2, vault_sardines_tunnel_secret=SECRET)
    assert not made["errors"]
    assert [one["name"] for one in made["agents"]] == ["ocapistaine", "second", "sardines"]
    assert made["agents"][2]["tunnel_secret"] == SECRET


def test_no_password_is_in_the_example() -> None:
    for path in EXAMPLE.rglob("*.yml"):
        for line in path.read_text(encoding="utf-8").splitlines():
            name, _colon, value = line.partition(":")
            if name.strip(" -").startswith("vault_"):
                assert " " in value.strip(), line  # a word that no secret is
            elif name.strip(" -").endswith(("secret", "password")):
                assert "{{ vault_" in value, line
