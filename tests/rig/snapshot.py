# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What is on a server, to be compared with what is there later: `python -m tests.rig.snapshot take|compare SERVER…`."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from .shell import STATE, RigError, run, say

Snapshot = dict[str, dict[str, str]]  # kind: name: what it is

# Runs on the server, as root. Ansible's own scratch folder is no change of anything.
_COLLECT = r"""
import hashlib, json, os, subprocess, sys

def files(*roots):
    found = {}
    for root in roots:
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if name != ".ansible"]
            for name in folders + names:
                path = os.path.join(folder, name)
                state = os.lstat(path)
                what, written = f"{state.st_mode:o} {state.st_uid}:{state.st_gid}", ""
                if os.path.islink(path):
                    what += " -> " + os.readlink(path)
                elif os.path.isfile(path):
                    with open(path, "rb") as stream:
                        what += " " + hashlib.sha256(stream.read()).hexdigest()
                    written = f"{state.st_ino} {state.st_mtime_ns}"
                found[path] = what, written
    return found

def lines(*words):
    try:
        done = subprocess.run(words, capture_output=True, text=True)
    except FileNotFoundError:
        return {}
    return dict((line.split(" ", 1) + [""])[:2] for line in done.stdout.splitlines())

files_ = files("/home", "/etc", "/usr/local")
result = {
    "file": {path: what for path, (what, _written) in files_.items()},
    "written": {path: written for path, (_what, written) in files_.items() if written},
    "package": lines("dpkg-query", "-W", "-f", "${Package} ${Version} ${Status}\n"),
    "container": lines("docker", "ps", "-a", "--no-trunc", "--format", "{{.Names}} {{.ID}} {{.State}}"),
    "image": lines("docker", "images", "-a", "--no-trunc", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}"),
    "network": lines("docker", "network", "ls", "--no-trunc", "--format", "{{.Name}} {{.ID}}"),
    # those of a container's own have digests as names
    "volume": {
        name: driver
        for name, driver in lines("docker", "volume", "ls", "--format", "{{.Name}} {{.Driver}}").items()
        if len(name) < 64
    },
}
print(json.dumps(result))
"""


def take(server: str) -> Snapshot:
    """Files (mode, owner, digest), when they were written, packages, and all that Docker has."""
    done = run(["docker", "exec", "-i", server, "/usr/bin/python3", "-"], input=_COLLECT)
    found: Snapshot = json.loads(done.stdout)
    return found


def difference(before: Snapshot, after: Snapshot, *, written: bool = True) -> list[str]:
    """One line for each thing that is new, gone or another; without `written` a file may have been written again."""
    result = []
    for kind in after:
        if kind == "written" and not written:
            continue
        for name in sorted(before[kind].keys() | after[kind].keys()):
            old, new = before[kind].get(name), after[kind].get(name)
            if old != new:
                word = "new" if old is None else "gone" if new is None else "changed"
                result.append(f"{word} {kind} {name}")
    return result


def _file(server: str) -> Path:
    return STATE / "molecule" / f"{server}.snapshot.json"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.rig.snapshot", description=__doc__)
    parser.add_argument("command", choices=["take", "compare"])
    parser.add_argument("servers", nargs="+", metavar="SERVER")
    options = parser.parse_args()
    different = 0
    for server in options.servers:
        now = take(server)
        if options.command == "take":
            _file(server).parent.mkdir(parents=True, exist_ok=True)
            _file(server).write_text(json.dumps(now), encoding="utf-8")
            continue
        for line in difference(json.loads(_file(server).read_text(encoding="utf-8")), now):
            say(f"{server}: {line}")
            different += 1
    if different:
        say(f"{different} things on the servers are not as they were")
    return int(different > 0)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RigError as error:
        sys.exit(f"error: {error}")
