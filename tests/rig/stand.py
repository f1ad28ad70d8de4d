# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A scenario's one server, with its edge and its visitors, as tests and soak tests use it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from . import ca, images, molecule_run, scenario, servers
from .edge_client import Edge
from .shell import ROOT, run
from .visitor import Visitor

HOME = "/home/deploy/vaettir"


@dataclass
class Stand:
    server: str
    address: str
    edge: Edge

    @classmethod
    def current(cls) -> Self:
        """Of the scenario that Molecule runs."""
        state = scenario.current()
        ((name, address),) = state["servers"].items()
        return cls(name, address, Edge(state["outside"]["control"]))

    @property
    def visitor(self) -> Visitor:
        return Visitor(self.address)

    def shell(self, script: str, user: str = "deploy", *, check: bool = True, text: str = "") -> str:
        words = ["docker", "exec", "-i", "-u", user, self.server, "bash", "-ec", f"cd {HOME}; {script}"]
        return run(words, check=check, input=text).stdout

    def write(self, path: str, content: str) -> None:
        """In place, as an editor does."""
        self.shell(f"cat > {path}", text=content)

    def reboot(self) -> None:
        """The whole server, power off and on."""
        run(["docker", "restart", "-t", "10", self.server])
        state = scenario.current()
        self.address = servers.server_up(self.server, state["outside"]["ip"])["ip"]


@contextmanager
def converged(name: str) -> Iterator[None]:
    """A scenario's server for the soak tests; KEEP=1 leaves it running."""
    molecule_run.LOGS.mkdir(parents=True, exist_ok=True)
    images.build_all()
    ca.ensure()
    assert molecule_run.run(name, "converge"), f"see .rig/logs/{name}.log"
    os.environ["MOLECULE_SCENARIO_NAME"] = name
    os.environ["MOLECULE_PROJECT_DIRECTORY"] = str(ROOT)
    folder = molecule_run.environment(name)["MOLECULE_EPHEMERAL_DIRECTORY"]
    os.environ["MOLECULE_INVENTORY_FILE"] = f"{folder}/inventory/ansible_inventory.yml"
    try:
        yield
    finally:
        if not os.environ.get("KEEP"):
            molecule_run.run(name, "destroy")
