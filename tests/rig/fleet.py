# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Several servers that Ansible reaches over ssh, and one world outside them. Each has a Docker daemon of its own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import yaml

from . import ca, images, scenario
from .edge_client import Edge
from .shell import ROOT, STATE, run

NAME = "fleet"
HOME = "/home/deploy/vaettir"


@dataclass
class Fleet:
    servers: dict[str, str]  # name: address
    edge: Edge

    def root(self, server: str, script: str, *, check: bool = True) -> str:
        return run(["docker", "exec", "-i", server, "bash", "-ec", script], check=check).stdout


@contextmanager
def up(count: int, settings: dict[str, Any]) -> Iterator[Fleet]:
    """The playbooks' servers (see `playbook.run`), until the end of the block; KEEP=1 leaves them running."""
    images.build_all()
    ca.ensure()
    platforms = [{"name": f"vaettir-{NAME}-{number}", "connection": "ssh"} for number in range(1, count + 1)]
    state = scenario.up(NAME, platforms)
    try:
        scenario.load(platforms)
        path = STATE / "molecule" / f"{NAME}-hosts.json"
        path.write_text(json.dumps(inventory(state["instances"], settings)), encoding="utf-8")
        os.environ["MOLECULE_SCENARIO_NAME"] = NAME
        os.environ["MOLECULE_PROJECT_DIRECTORY"] = str(ROOT)
        os.environ["MOLECULE_INVENTORY_FILE"] = str(path)
        yield Fleet(state["servers"], Edge(state["outside"]["control"]))
    finally:
        if not os.environ.get("KEEP"):
            scenario.down(NAME, platforms)


def inventory(instances: list[dict[str, Any]], settings: dict[str, Any]) -> dict[str, Any]:
    """As Molecule would make it of its common configuration."""
    config = yaml.safe_load((ROOT / ".config" / "molecule" / "config.yml").read_text(encoding="utf-8"))
    common = config["provisioner"]["inventory"]["group_vars"]["all"]
    hosts = {
        one["instance"]: {
            "ansible_host": one["address"],
            "ansible_user": one["user"],
            "ansible_ssh_private_key_file": one["identity_file"],
            "ansible_ssh_common_args": " ".join(config["driver"]["ssh_connection_options"]),
        }
        for one in instances
    }
    return {"all": {"vars": {**common, **settings}, "children": {"vaettir": {"hosts": hosts}}}}
