# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Runs Molecule scenarios side by side, each as a process of its own: `python -m tests.rig.molecule_run [SCENARIO…]`.

A line per scenario; the whole output stands in .rig/logs/SCENARIO.log, JUnit reports go to $TEST_RESULTS.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

from . import ca, images
from .shell import ROOT, STATE, VENV, RigError, end_tree, say

FOLDER = ROOT / "molecule"
LOGS = STATE / "logs"
LIMIT = 35 * 60  # seconds; a scenario that hangs fails instead
LONGEST = ("releases", "isolation", "upgrade", "doctor")  # 19 to 7 minutes next to others
BRIEF = ("acme", "lifecycle")  # wait for their turn where others have done
TAIL = 60  # lines of a failed scenario's log that are shown

RUNNING: set[int] = set()  # Molecule processes, ended with this one


def scenarios() -> list[str]:
    """All there are; those that take longest first, then by their servers, so that none is left to run alone."""
    servers = {
        path.parent.name: len(yaml.safe_load(path.read_text(encoding="utf-8"))["platforms"])
        for path in sorted(FOLDER.glob("*/molecule.yml"))
    }
    return sorted(servers, key=lambda name: (name not in LONGEST, -servers[name]))


def environment(scenario: str) -> dict[str, str]:
    """Plain output, everything from .venv, Molecule's own files in .rig."""
    results = Path(os.environ.get("TEST_RESULTS", STATE / "results" / "molecule"))
    return {
        **os.environ,
        "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}",
        "MOLECULE_GLOB": "molecule/*/molecule.yml",
        "MOLECULE_EPHEMERAL_DIRECTORY": str(STATE / "molecule" / scenario),
        "NO_COLOR": "1",
        "ANSIBLE_NOCOLOR": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTEST_ADDOPTS": f"{os.environ.get('PYTEST_ADDOPTS', '')} --junitxml={results / scenario}.xml",
    }


def run(scenario: str, command: str, *options: str) -> bool:
    """One Molecule command, its output appended to the scenario's log; whether it went well in time."""
    words: list[str | Path] = [VENV / "bin" / "molecule", command, "-s", scenario, "--no-command-borders", *options]
    with (LOGS / f"{scenario}.log").open("a", encoding="utf-8") as log:
        process = subprocess.Popen(
            words,
            cwd=ROOT,
            env=environment(scenario),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        RUNNING.add(process.pid)
        try:
            return process.wait(LIMIT) == 0
        except subprocess.TimeoutExpired:
            log.write(f"\nended after {LIMIT / 60:.0f} minutes\n")
            end_tree(process.pid)
            process.wait()
            return False
        finally:
            RUNNING.discard(process.pid)


def test(scenario: str, keep: bool) -> bool:
    """The whole sequence; says the result in a line."""
    start = time.monotonic()
    log = LOGS / f"{scenario}.log"
    log.unlink(missing_ok=True)
    say(f"{scenario}: started, log: {log.relative_to(ROOT)}")
    if keep:
        run(scenario, "destroy")  # `--destroy never` leaves out the first step as well
    good = run(scenario, "test", *(["--destroy", "never"] if keep else []))
    minutes = f"{(time.monotonic() - start) / 60:.1f} min"
    if good:
        say(f"{scenario}: ok, {minutes}")
        return True
    say(f"{scenario}: FAILED, {minutes}")
    shutil.copyfile(log, log.with_suffix(".failed.log"))  # as it ended, before what follows
    if not keep:
        run(scenario, "destroy")  # whatever stopped the sequence
    return False


def excerpt(scenario: str) -> str:
    """How the log of a failed scenario ends."""
    log = LOGS / f"{scenario}.failed.log"
    tail = log.read_text(encoding="utf-8", errors="replace").splitlines()[-TAIL:]
    return "\n".join([f"the end of {log.relative_to(ROOT)}:", *tail])


def main() -> int:
    """All scenarios that are asked for, as many at once as there are cores."""
    parser = argparse.ArgumentParser(prog="python -m tests.rig.molecule_run", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help="default: all")
    parser.add_argument("--brief", choices=("only", "without"), help=f"of all: only {' and '.join(BRIEF)}, or without")
    parser.add_argument("--workers", type=int, default=max(2, os.cpu_count() or 2))
    parser.add_argument("--keep", action="store_true", help="leave the servers running, to look around")
    options = parser.parse_args()
    known = scenarios()
    unknown = set(options.scenarios) - set(known)
    if unknown:
        raise RigError(f"no scenario {', '.join(sorted(unknown))}; there are: {', '.join(sorted(known))}")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupted)
    LOGS.mkdir(parents=True, exist_ok=True)
    images.build_all()
    ca.ensure()
    with ThreadPoolExecutor(options.workers) as pool:
        chosen = [name for name in known if not options.brief or (name in BRIEF) == (options.brief == "only")]
        wanted = options.scenarios or chosen
        good = list(pool.map(lambda name: test(name, options.keep), wanted))
    failed = [name for name, is_good in zip(wanted, good, strict=True) if not is_good]
    for name in failed:
        say(excerpt(name))
    say(f"scenarios: {len(wanted) - len(failed)} ok, failed: {', '.join(failed) or 'none'}")
    return 1 if failed else 0


def _interrupted(number: int, _frame: object) -> None:
    """Leaves no process behind on Ctrl-C; the containers stay until the next run or `make clean`."""
    for pid in tuple(RUNNING):
        end_tree(pid)
    os._exit(128 + number)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RigError as error:
        sys.exit(f"error: {error}")
