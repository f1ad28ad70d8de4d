# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""`python -m tests.release VERSION`: version, changelog, archive and checksum of a release, and what to type then."""

from __future__ import annotations

import argparse
import hashlib
import re
import sys
from pathlib import Path

import yaml

from tests import lint
from tests.rig.shell import ROOT, STATE, RigError, run, say

SETTINGS = ROOT / "galaxy.yml"
VERSION = re.compile(r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)")  # of semantic versioning, without a pre-release


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def refusal(version: str, current: str, fragments: set[str], released: set[str], dirty: str) -> str:
    """Why this cannot be released; empty: it can."""
    if not VERSION.fullmatch(version):
        return f"VERSION '{version}' is no version: use three numbers, as in 1.0.0"
    if dirty:
        return f"the tree is dirty: commit or stash first\n{dirty}"
    if numbers(version) < numbers(current) or version in released - {current}:
        return f"VERSION '{version}' is not after {current}: use a later one"
    if f"{version}.yml" not in fragments:
        waiting = sorted(fragments - {f"{name}.yml" for name in released})
        also = f", or rename {', '.join(waiting)}, which waits for its version" if waiting else ""
        return f"nothing tells what {version} changes: write changelogs/fragments/{version}.yml{also}"
    return ""


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.release", description=__doc__)
    parser.add_argument("version", metavar="VERSION")
    version = parser.parse_args().version
    text = SETTINGS.read_text(encoding="utf-8")
    current = str(yaml.safe_load(text)["version"])
    fragments = {path.name for path in (ROOT / "changelogs" / "fragments").glob("*.yml")}
    history = yaml.safe_load((ROOT / "changelogs" / "changelog.yaml").read_text(encoding="utf-8"))
    dirty = run(["git", "-C", ROOT, "status", "--porcelain"]).stdout.rstrip()
    if why := refusal(version, current, fragments, set(history["releases"]), dirty):
        raise RigError(why)
    SETTINGS.write_text(re.sub(r"(?m)^version: .*$", f"version: {version}", text), encoding="utf-8")
    say(f"version {version}, its changelog and pages")
    lint.tool("python", "-m", "tests.docs")
    (folder := STATE / "release").mkdir(parents=True, exist_ok=True)
    lint.tool("ansible-galaxy", "collection", "build", "--force", "--output-path", str(folder))
    archive = folder / f"locki-vaettir-{version}.tar.gz"
    checksum = hashlib.sha256(archive.read_bytes()).hexdigest()
    Path(f"{archive}.sha256").write_text(f"{checksum}  {archive.name}\n", encoding="ascii")
    name = archive.relative_to(ROOT)
    print(
        f"""{name}: {archive.stat().st_size} bytes, sha256 {checksum}

Look at `git diff`, run `make test`, then:
  git commit --all --message 'Release {version}'
  git tag --annotate v{version} --message 'Release {version}'
  git push --follow-tags
  ansible-galaxy collection publish {name} --token YOUR_TOKEN"""
    )
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RigError, lint.LintError) as error:
        sys.exit(f"error: {error}")
