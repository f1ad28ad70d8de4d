# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Runs the collection's playbooks against the servers of the Molecule scenario that is being verified."""

from __future__ import annotations

import json
import os
import re
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .shell import ROOT, STATE, VENV, RigError, end_tree

LIMIT = 600  # seconds
COLLECTIONS = ROOT / ".collections"  # with this checkout
DEPLOY, REMOVE = "locki.vaettir.deploy_agent", "locki.vaettir.remove_agent"


@dataclass
class Event:
    """What happened to one task on one host; `remote` is a call that reached the server."""

    event: str
    host: str
    task: str
    action: str
    at: float
    changed: bool = False
    message: str = ""


@dataclass
class Row:
    """Of the table that a run ends with."""

    server: str
    agent: str
    outcome: str
    url: str
    release: str
    seconds: float


@dataclass
class Run:
    status: int
    output: str
    events: list[Event]

    def __repr__(self) -> str:  # what pytest shows of a failed assertion
        return f"exit status {self.status}\n{self.output[-6000:]}"

    def of(self, event: str, host: str | None = None) -> list[Event]:
        return [found for found in self.events if found.event == event and host in (None, found.host)]

    @property
    def changed(self) -> list[str]:
        """The recap's number over all hosts would say the same; names help more."""
        return [f"{found.host}: {found.task}" for found in self.of("ok") if found.changed]

    @property
    def messages(self) -> list[str]:
        """Of the tasks that failed, in one line each."""
        return [" ".join(found.message.split()) for found in self.events if found.event in ("failed", "unreachable")]

    @property
    def said(self) -> str:
        """Every message of a task, and the report, in one line: short enough for a failed assertion to show."""
        found = re.findall(r"^ +msg: (.*(?:\n {8}.*)*)|^(SERVER +AGENT +OUTCOME(?:.*\n)*)", self.output, re.MULTILINE)
        return " / ".join(" ".join("".join(message).split()) for message in found)

    @property
    def rows(self) -> list[Row]:
        """What came of each agent, by the table that a person sees."""
        found = {}
        for line in re.findall(r"SERVER +AGENT +OUTCOME .*\n((?: *\S.*\n)*)", self.output):
            for cells in (re.split(" {2,}", row.strip()) for row in line.splitlines()):
                if len(cells) == 6 and re.fullmatch(r"[0-9.]+|-", cells[5]):
                    server, agent, outcome, url, release = cells[:5]
                    found[server, agent] = Row(server, agent, outcome, url, release, float(cells[5].replace("-", "0")))
        return list(found.values())

    def row(self, agent: str) -> Row:
        """The one of an agent that only one server has."""
        (found,) = (row for row in self.rows if row.agent == agent)
        return found

    def seconds(self, host: str, task: str) -> float:
        """How long a task took on a host."""
        ends = [found.at for found in self.of("ok", host) if found.task.endswith(task)]
        return ends[0] - self.first(host, task)

    def first(self, host: str, task: str) -> float:
        """When a task began on a host."""
        times = [found.at for found in self.of("start", host) if found.task.endswith(task)]
        if not times:
            raise RigError(f"{task} never began on {host}\n{self!r}")
        return times[0]


When = tuple[str | Callable[[], object], Callable[[], object]]


class KilledError(Exception):
    """To be raised by what happens `when` a task begins: ends the run with SIGKILL."""


def kill() -> None:
    raise KilledError


def run(
    playbook: str,
    *options: str,
    extra: dict[str, Any] | None = None,
    when: When | None = None,
    resolver: str = "",
    collections: Path = COLLECTIONS,
) -> Run:
    """ansible-playbook as a user types it; `when` names a task, and what is to happen as soon as it begins. In place of
    the name it may have something to call, which comes back when the moment has come.

    `resolver` is the address of a DNS server that the control node has in place of this machine's own, `collections` a
    folder with another release of the collection.
    """
    with tempfile.TemporaryDirectory() as folder:
        trace = Path(folder, "trace")
        trace.touch()
        words: list[str | Path] = [
            *(resolving(Path(folder, "resolv.conf"), resolver) if resolver else []),
            VENV / "bin" / "ansible-playbook",
            "-i",
            os.environ["MOLECULE_INVENTORY_FILE"],
            playbook,
            *options,
        ]
        if extra:
            words += ["-e", json.dumps(extra)]
        with Path(folder, "output").open("w+", encoding="utf-8") as output:
            process = subprocess.Popen(
                words,
                cwd=folder,  # as from an installed collection: nothing is found by the checkout's paths
                env=_environment(trace, collections),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                if when:
                    moment, happens = when
                    if isinstance(moment, str):
                        _wait_for_task(process, trace, moment)
                    else:
                        moment()
                    happens()
                process.wait(LIMIT)
            except KilledError:
                pass
            finally:
                if process.poll() is None:
                    end_tree(process.pid)  # as when the laptop dies: ansible's workers and their connections as well
                    process.wait()
            output.seek(0)
            return Run(process.returncode, output.read(), list(_events(trace)))


def refused_conf() -> dict[str, Any]:
    """For `extra`: a conf that nginx refuses. No setting makes one."""
    role = ROOT / "roles" / "agent_proxy"
    templates = yaml.safe_load((role / "vars" / "main.yml").read_text(encoding="utf-8"))["__agent_proxy_templates"]
    text = (role / "templates" / templates["conf"]).read_text(encoding="utf-8")
    broken = STATE / "refused.conf.template.j2"
    broken.write_text(re.sub("client_max_body_size [^;]*;", "client_max_body_size nonsense;", text), encoding="utf-8")
    return {"__agent_proxy_templates": {**templates, "conf": str(broken)}}


def resolving(path: Path, resolver: str) -> list[str | Path]:
    """In a mount namespace of its own, which an ordinary user may have as well."""
    path.write_text(f"nameserver {resolver}\n", encoding="ascii")
    who = [] if os.geteuid() == 0 else ["--map-current-user", "--keep-caps"]
    script = 'mount --bind "$0" /etc/resolv.conf && exec "$@"'
    return ["unshare", "--mount", *who, "sh", "-c", script, path]


def _environment(trace: Path, collections: Path) -> dict[str, str]:
    return {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "tests" / "rig" / "callback"),
        "ANSIBLE_CALLBACKS_ENABLED": "trace,locki.vaettir.report",
        "ANSIBLE_CALLBACK_RESULT_FORMAT": "yaml",
        "ANSIBLE_PIPELINING": "true",
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_FORCE_COLOR": "0",
        "RIG_TRACE": str(trace),
    }


def _events(trace: Path) -> Iterator[Event]:
    for line in trace.read_text(encoding="utf-8").splitlines():
        yield Event(**json.loads(line))


def _wait_for_task(process: subprocess.Popen[bytes], trace: Path, task: str) -> None:
    begun = re.compile(rf'"event": "start".*"task": "[^"]*{re.escape(task)}"')
    end = time.monotonic() + LIMIT
    while not begun.search(trace.read_text(encoding="utf-8")):
        if process.poll() is not None or time.monotonic() > end:
            raise RigError(f"the playbook ended before {task}")
        time.sleep(0.02)
