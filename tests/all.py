# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What `make test` runs: every stage that exists, its minutes, the number of tests of each kind, one closing line.

Standard library only, tests.rig.shell included: it starts before the virtual environment does.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from xml.etree import ElementTree

from tests.rig.shell import ROOT, STATE, VENV, streamed

RESULTS = STATE / "results"
PYTHON = str(VENV / "bin" / "python")
CORES = len(os.sched_getaffinity(0))


@dataclass(frozen=True)
class Stage:
    """One command of the run; listed only where `needs` exists in the checkout."""

    name: str
    command: tuple[str, ...]
    needs: str
    limit: int  # minutes; a stage that hangs fails instead


@dataclass
class Result:
    """What came of a stage: its reports' counts, or one failure of the stage itself."""

    stage: Stage
    seconds: float
    status: int
    counts: dict[str, int] = field(default_factory=lambda: dict.fromkeys(("passed", "failed", "skipped"), 0))
    failures: list[str] = field(default_factory=list)


def pytest_stage(name: str, limit: int) -> Stage:
    """Run the suite tests/NAME; its report goes where `count` looks."""
    report = RESULTS / name / "report.xml"
    command = (PYTHON, "-m", "pytest", f"tests/{name}", "--junitxml", str(report))
    return Stage(name, command, f"tests/{name}", limit)


def molecule_stage(name: str, limit: int, *options: str) -> Stage:
    return Stage(name, (PYTHON, "-m", "tests.rig.molecule_run", *options), "tests/rig/molecule_run.py", limit)


def suites() -> list[str]:
    """Every folder of tests, so that none is forgotten; but those with their own stage, and what takes too long."""
    folders = {path.parent.name for path in (ROOT / "tests").glob("*/test_*.py")}
    return sorted(folders - {"unit", "browser", "soak"})


# Stages of one row run side by side (as far as there are cores for it), rows one after another.
ROWS: tuple[tuple[Stage, ...], ...] = (
    (
        Stage(
            "setup",
            (sys.executable, "-m", "tests.rig", "machine", "--also", "chromium", "libnss3-tools"),
            "tests/rig/machine.py",
            20,
        ),
    ),
    (
        Stage("lint", (PYTHON, "-m", "tests.lint"), "tests/lint.py", 15),
        pytest_stage("unit", 10),
        Stage("images", ("make", "--no-print-directory", "images"), "tests/rig/images.py", 20),
    ),
    # A scenario waits more than it works, so the suites have room next to it, and then the browser.
    (
        molecule_stage("molecule", 60, "--brief", "without"),
        *(pytest_stage(name, 20) for name in suites()),
        molecule_stage("brief", 30, "--brief", "only", "--workers", "1"),
        pytest_stage("browser", 10),
    ),
)


EXCERPT = 1500  # characters of a failure that the closing lines repeat: the end, where its reason stands

# These hold no tests, but nothing later can run without them.
PREPARING = ("setup", "images")

# Process groups under way: each stage leads its own, so that nothing it started outlives an interrupt or its limit.
RUNNING: set[int] = set()


def signal_group(group: int, number: int) -> None:
    """Reach a stage with all it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, number)


def stop(groups: Iterable[int]) -> None:
    """End stages; those that have children in groups of their own get a moment to end them."""
    for group in groups:
        signal_group(group, signal.SIGTERM)
    time.sleep(5)
    for group in groups:
        signal_group(group, signal.SIGKILL)


def interrupted(number: int, _frame: object) -> None:
    """Leave no stage behind on Ctrl-C."""
    stop(tuple(RUNNING))
    os._exit(128 + number)


def run(stage: Stage, say: Callable[[str], None]) -> Result:
    """Run one stage, say its lines as they come and keep them in a file."""
    folder = RESULTS / stage.name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    environment = {**os.environ, "TEST_RESULTS": str(folder), "PYTHONUNBUFFERED": "1"}
    start = time.monotonic()
    with (
        (folder / "stage.log").open("w", encoding="utf-8") as log,
        streamed(stage.command, stage.limit * 60, lambda late: stop((late.pid,)), env=environment) as process,
    ):
        RUNNING.add(process.pid)
        try:
            for line in process.stdout or ():
                log.write(line)
                say(f"{stage.name} | {line.rstrip()}")
            status = process.wait()
        finally:
            RUNNING.discard(process.pid)
    result = Result(stage, time.monotonic() - start, status)
    count(folder.glob("*.xml"), result)
    return result


def count(reports: Iterable[Path], result: Result) -> None:
    """Add up the JUnit reports of a stage; a failure that no report names counts as one."""
    for report in reports:
        try:
            cases = list(ElementTree.parse(report).iter("testcase"))
        except ElementTree.ParseError:  # its writer was killed
            result.counts["failed"] += 1
            continue
        for case in cases:
            outcomes = {child.tag for child in case}
            kind = "failed" if outcomes & {"failure", "error"} else "skipped" if "skipped" in outcomes else "passed"
            result.counts[kind] += 1
            result.failures += [
                f"{case.get('classname')} {case.get('name')}\n{(child.text or child.get('message') or '')[-EXCERPT:]}"
                for child in case
                if child.tag in ("failure", "error")
            ]
    nothing_ran = result.stage.name not in PREPARING and not any(result.counts.values())
    if (result.status or nothing_ran) and not result.counts["failed"]:
        result.counts["failed"] = 1
        end = (RESULTS / result.stage.name / "stage.log").read_text(encoding="utf-8", errors="replace")[-4 * EXCERPT :]
        result.failures.append(f"exit {result.status}, the end of its log:\n{end}")


def table(results: list[Result]) -> str:
    """One row per stage."""
    rows: list[tuple[str, ...]] = [("stage", "passed", "failed", "skipped", "minutes", "")]
    for result in results:
        counts = result.counts
        verdict = f"exit {result.status}" if result.status else "failed" if counts["failed"] else "ok"
        minutes = f"{result.seconds / 60:.1f}"
        rows.append((result.stage.name, *(str(counts[kind]) for kind in counts), minutes, verdict))
    return "\n".join(f"{row[0]:<10}{row[1]:>8}{row[2]:>8}{row[3]:>9}{row[4]:>9}  {row[5]}" for row in rows)


def busy() -> float:
    """Minutes that this machine's cores have worked, all together: tells what fewer of them would need."""
    with Path("/proc/stat").open(encoding="ascii") as stream:
        ticks = [int(word) for word in stream.readline().split()[1:9]]
    idle, waiting = ticks[3:5]
    return (sum(ticks) - idle - waiting) / os.sysconf("SC_CLK_TCK") / 60


def main() -> int:
    """Run the rows in order; stop where the rest could not run."""
    lock = threading.Lock()

    def say(text: str) -> None:
        with lock:
            print(text, flush=True)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupted)
    start, worked = time.monotonic(), busy()
    results: list[Result] = []
    for row in ROWS:
        present = [stage for stage in row if (ROOT / stage.needs).exists()]
        if not present:
            continue
        with ThreadPoolExecutor(max_workers=max(2, CORES)) as pool:
            results += pool.map(lambda stage: run(stage, say), present)
        if any(result.status for result in results if result.stage.name in PREPARING):
            break
    sums = {kind: sum(result.counts[kind] for result in results) for kind in ("passed", "failed", "skipped")}
    minutes = (time.monotonic() - start) / 60
    failures = [f"FAILED {result.stage.name}: {failure}" for result in results for failure in result.failures]
    # Their names together first: who reads only a part of this shall see all of them.
    print("", *(failure.splitlines()[0] for failure in failures), *(f"\n{failure}" for failure in failures), sep="\n")
    spent = f"{minutes:.1f} minutes on {CORES} cores, which worked {busy() - worked:.0f} minutes together"
    print(f"\n{table(results)}\n\n{spent}; logs: {RESULTS.relative_to(ROOT)}/\n")
    print(", ".join(f"{number} {kind}" for kind, number in sums.items()))
    return 1 if sums["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
