# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""`python -m tests.docs [--check]`: write (or only compare) what is made from a source elsewhere in the checkout.

Each role's README.md from its argument_specs; the tables of docs/apps.md and docs/versions.md from what the tests ran;
the changelog from its fragments and the plugins' documentation.
"""

from __future__ import annotations

import argparse
import difflib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from tests import versions
from tests.rig.apps.catalogue import APPS, DEMO, App

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
CHANGES = "changelogs/changelog.yaml"


def specs() -> dict[str, dict[str, Any]]:
    """Each role's description and options, as its argument_specs.yml has them."""
    return {
        path.parent.parent.name: yaml.safe_load(path.read_text(encoding="utf-8"))["argument_specs"]["main"]
        for path in sorted(ROOT.glob("roles/*/meta/argument_specs.yml"), reverse=True)
    }


def cell(text: str) -> str:
    """Text as it may stand in a table's cell; Ansible's own markup becomes Markdown's."""
    text = re.sub(r"\b[CEOVP]\(([^()#]*)(#role)?\)", r"`\1`", text)
    return " ".join(text.split()).replace("|", "\\|")


def code(value: object) -> str:
    """A value in the way it is typed in an inventory."""
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return f"`{cell(text)}`"


def row(name: str, option: dict[str, Any]) -> str:
    """One variable."""
    kind = option.get("type", "str")
    if "elements" in option:
        kind = f"{kind} of {option['elements']}"
    default = "**required**" if option.get("required") else code(option["default"]) if "default" in option else ""
    description = option["description"]
    meaning = cell(description if isinstance(description, str) else " ".join(description))
    if choices := option.get("choices"):
        meaning += f" One of {', '.join(code(choice) for choice in choices)}."
    return f"| `{name}` | {kind} | {default} | {meaning} |"


def readmes() -> dict[str, str]:
    """Each role's README.md, by its path."""
    made = {}
    for role, spec in specs().items():
        options = spec.get("options", {})
        names = sorted(options, key=lambda name: not options[name].get("required"))
        description = spec["description"]
        about = [description] if isinstance(description, str) else description
        head = [f"# Role `{role}`", "", f"{cell(spec['short_description'])}.", ""]
        told = [line for text in about for line in (cell(text), "")]
        table = ["| Variable | Type | Default | Meaning |", "| --- | --- | --- | --- |"]
        rows = [row(name, options[name]) for name in names]
        made[f"roles/{role}/README.md"] = "\n".join([*head, *told, *table, *rows]) + "\n"
    return made


def version(pin: tuple[str, str]) -> str:
    """Of a package, as an image of the rig has it."""
    folder, package = ROOT / "tests" / "rig" / "images" / pin[0], re.escape(pin[1])
    text = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*") if path.suffix in (".txt", ".json"))
    found = re.search(rf'(?m)^{package}==(\S+)|"{package}": "([^"]+)"', text) if package else None
    return (found[1] or found[2]) if found else ""


def app_row(agent: str, entry: dict[str, Any], app: App) -> str:
    """What its owner sets; the names of the tests become those of the docs."""
    words = [f"`{key}: {entry[key]}`" for key in ("profile", "probe_path", "origin_mode") if key in entry]
    told = "<br>".join([*(f"`{option}`" for option in app.options), *([app.also] if app.also else [])]) or "nothing"
    for ours, theirs in (
        (f"{agent}.ngrok-free.app", "NAME.ngrok-free.app"),
        (f"{agent}.vaettir.example:8443", "NAME.DOMAIN"),
    ):
        told = told.replace(ours, theirs)
    return f"| {app.title} | {version(app.pin) or '-'} | {', '.join(words) or 'nothing'} | {told} |"


def apps() -> str:
    """A row for each app that tests/apps runs."""
    inventory = yaml.safe_load((ROOT / "tests" / "apps" / "inventory.yml").read_text(encoding="utf-8"))
    entries = {entry["name"]: entry for entry in inventory["vaettir"]["vars"]["vaettir_agents"]}
    rows = [app_row(agent, entries[agent], app) for agent, app in {"ocapistaine": DEMO, **APPS}.items()]
    return "\n".join(["| App | Version | In the agent's entry | In the app |", "| --- | --- | --- | --- |", *rows])


def filled(name: str, what: str, made: str) -> str:
    """A page with what is made for it between its markers."""
    text = (ROOT / name).read_text(encoding="utf-8")
    begin, end = f"<!-- {what}: begin -->", f"<!-- {what}: end -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise SystemExit(f"{name} needs these two lines, once each:\n{begin}\n{end}")
    before, rest = text.split(begin)
    return f"{before}{begin}\n\n{made}\n\n{end}{rest.split(end)[1]}"


def changelog() -> dict[str, str]:
    """The changelog of galaxy.yml's version, from its fragments and the plugins' documentation.

    A fragment has its version's name: that of a later one waits for it.
    """
    version = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]
    releases = yaml.safe_load((ROOT / CHANGES).read_text(encoding="utf-8"))["releases"]
    fragments = {f"{version}.yml", *(name for release in releases.values() for name in release.get("fragments", []))}
    date = releases.get(version, {}).get("release_date", datetime.now(tz=UTC).date().isoformat())
    with tempfile.TemporaryDirectory() as folder:
        # The tool wants the path of a collection, and leaves a cache next to its input.
        copy = Path(folder) / "ansible_collections" / "locki" / "vaettir"
        for name in ("changelogs", "meta", "plugins"):
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy2(ROOT / "galaxy.yml", copy)
        for path in (copy / "changelogs" / "fragments").iterdir():
            if path.name not in fragments:
                path.unlink()
        arguments = ["release", "--update-existing", "--date", date, "--refresh", "--reload-plugins"]
        made = subprocess.run(
            [BIN / "antsibull-changelog", *arguments],
            cwd=copy,
            env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode:
            raise SystemExit(
                f"antsibull-changelog {' '.join(arguments)}: exit {made.returncode}\n{made.stdout}{made.stderr}"
            )
        return {name: (copy / name).read_text(encoding="utf-8") for name in (CHANGES, "CHANGELOG.md")}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; show what differs and exit 1")
    check = parser.parse_args().check
    stale = 0
    made = {**readmes(), "docs/apps.md": filled("docs/apps.md", "apps", apps())}
    made["docs/versions.md"] = filled("docs/versions.md", "versions", versions.table())
    for name, new in {**made, **changelog()}.items():
        path = ROOT / name
        old = path.read_text(encoding="utf-8") if path.exists() else ""
        if new == old:
            continue
        stale += 1
        if check:
            sys.stdout.writelines(
                difflib.unified_diff(old.splitlines(True), new.splitlines(True), name, f"{name} (new)")
            )
        else:
            path.write_text(new, encoding="utf-8")
            print(f"{name}: written")
    if check and stale:
        print("Not up to date: run .venv/bin/python -m tests.docs.")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
