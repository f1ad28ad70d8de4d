# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""`python -m bench`: measures, prints the table, writes bench/results.json, the chart and docs/bench.md."""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.rig.shell import RigError, say

from . import bed, measure, page, report

LONG = 30  # ms, round trip
UPLINK = 10  # megabits a second, of a laptop at home
LIMIT = 15 * 60  # seconds for everything

Samples = dict[str, dict[str, list[measure.Sample]]]  # measurement, contestant: one sample per round


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "",
    )
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    proxies, rest = bed.cpus()
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "memory_gb": round(pages / 2**30),
        "kernel": platform.release().split("-")[0],
        "cpus_of_the_proxy": proxies,
        "cpus_of_the_rest": rest,
        "load_before": round(os.getloadavg()[0], 2),
    }


def run(rounds: int, seconds: int, only: list[str], pages: bool) -> dict[str, Any]:
    """Rounds in which everybody has a turn: a slow minute of the machine hits all of them."""
    facts, began = machine(), time.monotonic()
    samples: Samples = {}

    def note(what: str, contestant: bed.Contestant, sample: measure.Sample) -> None:
        samples.setdefault(what, {}).setdefault(contestant.name, []).append(sample)

    def rounds_until(end: float) -> Iterator[int]:
        """All rounds, or at least three when the machine is slow."""
        for number in range(rounds):
            if number < 3 or time.monotonic() - began < end:
                yield number

    with bed.bed() as stage:
        found = measure.versions()
        all_of_them = [one for one in stage.contestants if not only or one.name in only]
        proxies = [one for one in all_of_them if not one.direct]
        if not pages:
            for number in rounds_until(90):
                say(f"bench: memory, round {number + 1} of {rounds}")
                stage.restart()
                for contestant in proxies:
                    note("memory", contestant, measure.memory(stage, contestant))
            for delay, end in ((0, 420), (LONG, 700)):
                with stage.long_line(delay):
                    for contestant in all_of_them:  # connections, caches and heaps as in steady use
                        measure.assets(stage, contestant, 1)
                    for number in rounds_until(end):
                        say(f"bench: {delay} ms, round {number + 1} of {rounds}")
                        # Every other round the other way round.
                        for contestant in all_of_them[:: -1 if number % 2 else 1]:
                            note(f"assets_{delay}", contestant, measure.assets(stage, contestant, seconds))
                            note(f"large_{delay}", contestant, measure.large(stage, contestant))
                            note(f"sockets_{delay}", contestant, measure.sockets(stage, contestant, 1))
        with measure.browser(stage) as load:
            load(proxies[0])  # the app's own first time
            for delay, megabits, end in ((LONG, 0, 770), (LONG, UPLINK, 845), (0, 0, 870)):
                with stage.long_line(delay, megabits):
                    for number in rounds_until(end):
                        say(
                            f"bench: page, {delay} ms, {megabits or 'any number of'} Mbit/s, round {number + 1} of {rounds}"
                        )
                        for contestant in proxies[:: -1 if number % 2 else 1]:
                            if contestant.name == report.OURS:
                                measure.forget(contestant)
                            sample = load(contestant)
                            note(f"page_cold_{delay}_{megabits}", contestant, sample)
                            # The others have no cache: cold and warm are one.
                            sample = load(contestant) if contestant.name == report.OURS else sample
                            note(f"page_warm_{delay}_{megabits}", contestant, sample)
    return {
        "date": datetime.now(tz=UTC).date().isoformat(),
        "rounds": rounds,
        "seconds": seconds,
        "took_seconds": round(time.monotonic() - began),
        "machine": facts,
        "versions": found,
        "samples": samples,
    }


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=8, help="of one load with small assets")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="contestants; nothing is written then")
    parser.add_argument("--pages", action="store_true", help="the page alone, again, into the results that there are")
    parser.add_argument("--report", action="store_true", help="only write table, chart and text again")
    options = parser.parse_args()

    def too_long(*_: object) -> None:
        raise RigError(f"stopped after {LIMIT // 60} minutes")

    signal.signal(signal.SIGALRM, too_long)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    signal.alarm(LIMIT)
    if not options.report:
        results = run(options.rounds, options.seconds, options.only, options.pages)
        if options.only:
            print(report.table(results))
            return 0
        if options.pages:
            earlier = page.read(report.RESULTS)
            earlier["samples"].update(results["samples"])
            results = {**earlier, "pages": {key: results[key] for key in ("date", "rounds", "took_seconds", "machine")}}
        page.save(report.RESULTS, results)
    results = page.read(report.RESULTS)
    print(report.table(results))
    print(report.bars(results))
    report.write(results)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RigError as error:
        sys.exit(f"error: {error}")
