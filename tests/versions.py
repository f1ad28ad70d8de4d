# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""`python -m tests.versions [CORE …]`: unit tests, sanity and syntax on each ansible-core that is alive.

Each runs in a control node of its own: a container with Debian 13's Python, which gets Ansible from wheels and a copy
of the checkout. `--deploy SCENARIO` runs a whole Molecule scenario instead. The results stand in tests/versions.json,
from which docs/versions.md has its table. `--here CORE` does it with the Python that it runs on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

from tests import lint
from tests.rig import images
from tests.rig.shell import LABEL, ROOT, STATE, RigError, digest, run, say

RESULTS = ROOT / "tests" / "versions.json"
# The engine, and the package that brings community.docker. The oldest and the newest are those of requirements.txt.
OLDEST_PINS, NEWEST_PINS = zip(lint.pinned("ansible-core"), lint.pinned("ansible"), strict=True)
CORES = {
    "2.19": OLDEST_PINS,
    "2.20": ("2.20.10", "13.8.0"),
    "2.21": NEWEST_PINS,
    "2.22": ("2.22.0rc1", "15.0.0a3"),
}
NEWEST = "2.21"  # of those that are supported
MAY_FAIL = ("2.22",)  # not released yet
# What the tests of a control node need, besides Ansible, and what Molecule does.
TOOLS = ("cryptography", "hypercorn", "hypothesis", "ngxparse", "pytest", "trustme")
DEPLOY_TOOLS = ("aiohttp", "gixy-ng", "molecule", "pytest-testinfra", "websockets")
LIMIT = 1800  # seconds


def pins(core: str) -> list[str]:
    """What pip installs for it."""
    engine, package = CORES[core]
    return [
        f"ansible-core=={engine}",
        f"ansible=={package}",
        *(f"{name}=={lint.pinned(name)[-1]}" for name in (*TOOLS, *DEPLOY_TOOLS)),
    ]


def wheels(core: str) -> Path:
    """All that its container installs, fetched with this machine's pip settings: no CA, no index goes in."""
    wanted = pins(core)
    options = ["--python-version", "3.13", "--only-binary=:all:", *images.platforms(platform.machine())]
    folder = STATE / "wheels" / f"control-{digest([*wanted, *options])}"
    if folder.exists():
        return folder
    say(f"ansible-core {core}: fetching wheels")
    part = folder.with_suffix(f".part{os.getpid()}")
    part.mkdir(parents=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    pip += ["--dest", str(part), *options]
    run([*pip, *wanted])
    (engine,) = part.glob("ansible_core-*.whl")
    with zipfile.ZipFile(engine) as archive:
        for name in archive.namelist():
            # The environments that ansible-test makes for each of its tests.
            if re.search(r"ansible_test/_data/requirements/sanity\.[^/]+\.txt$", name):
                (listing := part / "sanity.txt").write_bytes(archive.read(name))
                # A core that is not released yet may want what no package index has.
                run([*pip, "--no-deps", "--requirement", str(listing)], check=core not in MAY_FAIL)
        bootstrap = archive.read("ansible_test/_internal/python_requirements.py").decode()
    run([*pip, "--no-deps", *(f"pip=={version}" for version in lint.pips(bootstrap))])
    part.rename(folder)
    return folder


def checkout(core: str) -> Path:
    """A copy of the checkout's files, under a path that is the same in the container."""
    copy = STATE / "versions" / core / "ansible_collections" / "locki" / "vaettir"
    lint.copy_to(copy)
    if (STATE / "ca").exists():  # Molecule's servers and those of other runs trust one CA
        shutil.copytree(STATE / "ca", copy / ".rig" / "ca")
    subprocess.run(["git", "init", "--quiet", str(copy)], check=True)
    return copy


def in_container(core: str, deploy: str) -> dict[str, Any]:
    """Run `--here` in a control node of its own."""
    copy, brought = checkout(core), wheels(core)
    say(f"ansible-core {core}: running")
    options = ["--rm", "--init", "--network", "host", "--label", f"{LABEL}=versions"]
    options += ["-v", f"{copy}:{copy}", "-v", f"{brought}:/wheels:ro", "-w", str(copy)]
    options += ["-v", "/var/run/docker.sock:/var/run/docker.sock"] if deploy else []
    options += ["-e", "PYTHONDONTWRITEBYTECODE=1"]
    script = "trap 'chown -R --reference=galaxy.yml .' EXIT; "
    # ansible-test hands no variable of the environment to pip, but its settings in the home folder.
    settings = r"[global]\nno-index = true\nfind-links = /wheels\n"
    script += f"mkdir -p ~/.config/pip && printf '{settings}' > ~/.config/pip/pip.conf && "
    script += 'python3 -m venv .venv && .venv/bin/pip install -q "$@"'
    script += f" && .venv/bin/python -m tests.versions --here {core}" + (f" --deploy {deploy}" if deploy else "")
    command = ["docker", "run", *options, images.CONTROL, "sh", "-c", script, "sh", *pins(core)]
    done = run(command, check=False, timeout=LIMIT)
    log = STATE / "logs" / f"versions-{core}.log"
    log.parent.mkdir(exist_ok=True)
    log.write_text(done.stderr + done.stdout, encoding="utf-8")
    last = done.stdout.splitlines()[-1:] or [""]
    if not last[0].startswith("{"):
        raise RigError(f"ansible-core {core}: no result; its log: {log.relative_to(ROOT)}\n{done.stderr[-3000:]}")
    made: dict[str, Any] = json.loads(last[0])
    return made


def called(name: str, *words: str, **environment: str) -> tuple[bool, str]:
    """Whether a command went well, and what it said; it is said to stderr as well."""
    say(name)
    done = subprocess.run(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{lint.BIN}{os.pathsep}{os.environ['PATH']}", **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    print(done.stdout, file=sys.stderr, flush=True)
    return not done.returncode, done.stdout


def here(deploy: str) -> dict[str, Any]:
    """What this Python and this Ansible make of the checkout."""
    link = ROOT / ".collections" / "ansible_collections" / "locki" / "vaettir"
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("../../..")
    playbooks = [f"locki.vaettir.{path.stem}" for path in sorted((ROOT / "playbooks").glob("*.yml"))]
    # The command line's own words count, whatever ansible.cfg says.
    loud = {"ANSIBLE_DEPRECATION_WARNINGS": "1", "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections")}
    made: dict[str, Any] = {
        "core": run([lint.BIN / "ansible", "--version"]).stdout.split("core ")[1].split("]")[0],
        "python": platform.python_version(),
    }
    if deploy:
        passed, _lines = called(deploy, "-m", "tests.rig.molecule_run", deploy, **loud)
        said = (STATE / "logs" / f"{deploy}.log").read_text(encoding="utf-8")
        print(said, file=sys.stderr)
        return {**made, "deploy": passed, "deprecations_deploy": said.count(lint.DEPRECATED)}
    results = {
        "unit": called("unit tests", "-m", "pytest", "tests/unit", "-q", **loud),
        "sanity": called("sanity", "-m", "tests.lint", "sanity"),
        "syntax": called("syntax", str(lint.BIN / "ansible-playbook"), "--syntax-check", *playbooks, **loud),
    }
    count = re.search(r"(\d+) passed", results["unit"][1])
    return {
        **made,
        "tests": int(count[1]) if count else 0,
        "deprecations": sum(said.count(lint.DEPRECATED) for _, said in results.values()),
        **{name: passed for name, (passed, _) in results.items()},
    }


def good(made: dict[str, Any]) -> bool:
    """Nothing failed, nothing is deprecated."""
    return all(made.get(name, True) for name in ("unit", "sanity", "syntax", "deploy")) and not deprecations(made)


def deprecations(made: dict[str, Any]) -> int:
    """How many warnings of one all runs printed."""
    return int(made.get("deprecations", 0) + made.get("deprecations_deploy", 0))


def table() -> str:
    """A row for each ansible-core that was run."""
    heads = ("ansible-core", "Package `ansible`", "Python", "Unit tests", "Sanity", "Syntax", "Whole deploy")
    rows = [f"| {' | '.join(heads)} | Deprecation warnings | |", "| --- " * 9 + "|"]
    for core, made in json.loads(RESULTS.read_text(encoding="utf-8")).items():
        words = {True: "ok", False: "**failed**", None: "-"}
        told = [words[made.get(name)] for name in ("sanity", "syntax", "deploy")]
        unit = f"{made['tests']} passed" if made["unit"] else "**failed**"
        word = "not released, may fail" if core in MAY_FAIL else "supported"
        cells = [made["core"], CORES[core][1], made["python"], unit, *told, str(deprecations(made)), word]
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.versions", description=__doc__)
    parser.add_argument("cores", nargs="*", metavar="CORE", help=f"default: {', '.join(CORES)}")
    parser.add_argument("--deploy", default="", metavar="SCENARIO", help="this Molecule scenario, and nothing else")
    parser.add_argument("--here", action="store_true", help="with this Python and its Ansible; the result as JSON")
    parser.add_argument("--pins", action="store_true", help="only print what pip has to install")
    options = parser.parse_args()
    if unknown := set(options.cores) - set(CORES):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; known: {', '.join(CORES)}")
    if options.pins:
        print(*(pin for core in options.cores for pin in pins(core)), sep="\n")
        return 0
    if options.here:
        made = here(options.deploy)
        print(json.dumps(made))
        return 0 if good(made) else 1
    images.build_all([images.CONTROL])
    results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    red = 0
    for core in options.cores or ([NEWEST] if options.deploy else CORES):
        made = in_container(core, options.deploy)
        results[core] = {**results.get(core, {}), **made}  # what this run left out stays as it was
        say(f"ansible-core {core}: {'ok' if good(made) else 'FAILED'} {made}")
        red += not good(made) and core not in MAY_FAIL
    RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=2) + "\n", encoding="utf-8")
    say("tests/versions.json is written; the table: .venv/bin/python -m tests.docs")
    return 1 if red else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RigError as error:
        sys.exit(f"error: {error}")
