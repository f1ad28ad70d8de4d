# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""`python -m bench.fleet`: measures, prints the table, writes bench/fleet.json, the chart and docs/bench.md."""

from __future__ import annotations

import argparse
import itertools
import os
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import page
from bench.__main__ import machine
from tests.rig import fleet
from tests.rig.molecule_run import LOGS
from tests.rig.shell import RigError, say

from . import report, stage

SERVERS, AGENTS = (1, 5, 20, 50), (1, 10, 50)
EACH = 600_000_000  # bytes that a server with its containers, and what builds there, may take
LIMIT = 300  # seconds of one run
MINUTES = 75  # of everything
REPEATED = 2  # runs without a change


def possible(wanted: int) -> int:
    """So many real servers does the memory of this machine allow."""
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return max(1, min(wanted, free // EACH))


class Bench:
    def __init__(self, found: stage.Stage, servers: list[int], agents: list[int], end: float) -> None:
        self.stage, self.servers, self.agents, self.end = found, servers, agents, end
        self.changes = itertools.count(3601)
        self.samples: list[dict[str, Any]] = []

    def one(self, contestant: stage.Contestant, what: str, job: stage.Job, share: float) -> bool:
        """A run; whether the next larger one is worth while."""
        label = f"{contestant.name}, {what}, {job.servers} servers, {job.agents} agents"
        if time.monotonic() > share:
            say(f"bench: {label}: left out, no time")
            return False
        command, environment = contestant.command(self.stage, job)
        sample = self.stage.measure(command, environment, LIMIT)
        say(f"bench: {label}: {sample.seconds:.1f} s, CPU {sample.cpu:.1f} s, exit status {sample.status}")
        if sample.status:
            (LOGS / f"bench-{contestant.name}.log").write_text(f"{label}\n{sample.output}\n", encoding="utf-8")
        found = {"contestant": contestant.name, "what": what, "servers": job.servers, "agents": job.agents}
        self.samples.append({**found, **sample.row()})
        return sample.status == 0

    def contest(self, contestant: stage.Contestant, share: float) -> None:
        """Everything from first deploys on; larger sizes are left out when the contestant's time is over."""
        self.stage.reset()
        real = [count for count in self.servers if count <= len(self.stage.real)]
        change = next(self.changes)
        good = all(self.one(contestant, "first", stage.Job(count, 1, change), share) for count in real)
        for count in self.servers:
            if not good or (count not in real and not contestant.verifies):
                continue
            for _ in range(REPEATED):
                good = good and self.one(contestant, "unchanged", stage.Job(count, 1, change), share)
        for count in real:
            change = next(self.changes)
            self.one(contestant, "changed", stage.Job(count, 1, change), share)
        for count in [number for number in self.agents if number > 1]:
            if not self.one(contestant, "first", stage.Job(1, count, change), share):
                break
            for _ in range(REPEATED):
                self.one(contestant, "unchanged", stage.Job(1, count, change), share)


def run(servers: list[int], agents: list[int], only: list[str], real: int, minutes: float) -> dict[str, Any]:
    facts, began = machine(), time.monotonic()
    contestants = [one for one in stage.contestants() if not only or one.name in only]
    count = possible(min(real, max(servers)))
    say(f"bench: {count} servers; where more are asked for, several names are one server's")
    LOGS.mkdir(parents=True, exist_ok=True)
    with fleet.up(count, {}) as found, tempfile.TemporaryDirectory() as folder:
        bench = Bench(stage.Stage(found, Path(folder)), servers, agents, began + minutes * 60)
        for index, contestant in enumerate(contestants):
            left = len(contestants) - index
            bench.contest(contestant, time.monotonic() + (bench.end - time.monotonic()) / left)
        bench.stage.reset()
    return {
        "date": datetime.now(tz=UTC).date().isoformat(),
        "took_seconds": round(time.monotonic() - began),
        "machine": facts,
        "real_servers": count,
        "samples": bench.samples,
    }


def numbers(text: str) -> list[int]:
    return sorted({int(word) for word in text.split(",")})


def main() -> int:
    names = ", ".join(one.name for one in stage.contestants())
    parser = argparse.ArgumentParser(prog="python -m bench.fleet", description=__doc__)
    parser.add_argument("--servers", type=numbers, default=list(SERVERS), help="how many, as in 1,5,20,50")
    parser.add_argument("--agents", type=numbers, default=list(AGENTS), help="on one server, as in 1,10,50")
    parser.add_argument("--real", type=int, default=20, help="at most so many servers with a Docker of their own")
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help=f"nothing is written then: {names}")
    parser.add_argument("--report", action="store_true", help="only write table, chart and text again")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    if not options.report:
        results = run(options.servers, options.agents, options.only, options.real, options.minutes)
        if options.only:
            print(report.table(results))
            return 0
        page.save(report.RESULTS, results)
    results = page.read(report.RESULTS)
    print(report.table(results))
    report.write(results)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RigError as error:
        sys.exit(f"error: {error}")
