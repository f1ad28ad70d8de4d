# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What came of a whole run: the agents' rows, and one for each agent that the run did not come to."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible.parsing.dataloader import DataLoader
from ansible.parsing.splitter import parse_kv
from ansible_collections.locki.vaettir.plugins.filter import agents as agents_filter
from ansible_collections.locki.vaettir.plugins.filter import report
from ansible_collections.locki.vaettir.plugins.module_utils import _names

LOST, FAILED, NOT_REACHED = "lost", "failed", "not reached"


@dataclass
class Server:
    """What was seen of a server in a run."""

    name: str
    agents: list[str] = field(default_factory=list)  # that the run was to release, where it released none
    released: list[dict[str, Any]] | None = None  # the rows of agent_release
    again: list[dict[str, Any]] = field(default_factory=list)  # of those that curl contradicted
    curl: list[dict[str, Any]] = field(default_factory=list)
    failed: str = ""
    lost: str = ""

    def note(self, kind: str, result: Mapping[str, Any]) -> None:
        if kind == "curl":
            self.curl = list(result.get("results") or [])
        elif kind == "release" and "agents" in result:
            if self.released is None:
                self.released = list(result["agents"])
            else:
                self.again = list(result["agents"])

    def rows(self) -> list[dict[str, Any]]:
        """One for each agent; where there is none, one for the server."""
        if self.released is not None:
            made = report.final_rows(self.released, self.curl, self.again)
            return [*made, self._lost_afterwards()] if self.lost else made
        outcome = LOST if self.lost else FAILED if self.failed else NOT_REACHED
        told = (
            f"{self.name} was lost ({self.lost}): nothing unverified stays active there." if self.lost else self.failed
        )
        rows = [_row(self.name, agent, outcome) for agent in self.agents or [""]]
        return [{**rows[0], "message": " ".join(told.split())}, *rows[1:]]

    def _lost_afterwards(self) -> dict[str, Any]:
        told = (
            f"{self.name} was lost ({self.lost}) after its releases: `{_names.playbook('verify_agent')}` looks at them."
        )
        return {**_row(self.name, "", LOST), "message": " ".join(told.split())}


def _row(server: str, agent: str, outcome: str) -> dict[str, Any]:
    nothing = dict.fromkeys(("url", "release", "message"), "")
    made = {**nothing, "server": server, "agent": agent, "outcome": outcome}
    return {**made, "seconds": None, "changed": False, "failed": outcome == FAILED, "notes": []}


def problem(server: str, why: str) -> str:
    return f"{server} cannot be asked ({why}): fix that and ask again."


def names(agents: Any, only: Any) -> list[str]:
    """Of those that a run is about; an inventory that is not valid has none."""
    declared = agents if isinstance(agents, list) else []
    chosen = agents_filter.chosen([one for one in declared if isinstance(one, dict)], only)
    return [str(one.get("name", "")) for one in chosen]


def again(cli: Mapping[str, Any], inventory: Sequence[str]) -> str:
    """The command of this run once more. Other variables than `agent` may be secrets, so their values are not shown."""
    given = [pair for word in cli.get("extra_vars") or () for pair in _pairs(str(word))]
    agents = [f"agent={value}" for name, value in given if name == "agent"]
    files = [word for word in map(str, cli.get("extra_vars") or ()) if word.startswith("@")]
    inventories = [] if list(cli.get("inventory") or ()) == list(inventory) else list(cli.get("inventory") or ())
    words = [
        "ansible-playbook",
        *(word for path in inventories for word in ("-i", path)),
        *cli.get("args", ()),
        *(["-l", cli["subset"]] if cli.get("subset") else []),
        *(f"--{mode}" for mode in ("check", "diff") if cli.get(mode)),
        *(word for one in [*files, *agents[-1:]] for word in ("-e", one)),
    ]
    more = sorted({name for name, _value in given if name not in ("agent", "report_file")})
    return shlex.join(words) + (f" (and the same {', '.join(more)})" if more else "")


def _pairs(word: str) -> list[tuple[str, Any]]:
    """As ansible-playbook reads it; but not what is in a file of variables."""
    if word.startswith("@"):
        return []
    if word.startswith("{"):
        return list(DataLoader().load(word).items())
    return [(name, value) for name, value in parse_kv(word).items() if name != "_raw_params"]


def whole(rows: list[dict[str, Any]]) -> bool:
    return all(row["outcome"] not in (LOST, NOT_REACHED) and not row["failed"] for row in rows)


def lines(rows: list[dict[str, Any]], command: str, skipped: Sequence[str] = ()) -> list[str]:
    """The report, and last the command that continues a run which is not whole."""
    more = [f"Once that is fixed, this continues, and leaves alone what is done: {command}"] if command else []
    return [*report.report_lines(rows, skipped), *more]
