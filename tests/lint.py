# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""`python -m tests.lint [CHECK ...]`: every check of the sources, side by side; one line each, then what failed."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, TypedDict
from xml.etree import ElementTree

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
DEPRECATED = "[DEPRECATION WARNING]"
LIMIT = 480  # seconds; a check that hangs fails instead


class LintError(Exception):
    """A check found something; the text says what."""


class CannotCheckError(Exception):
    """A check that cannot be made here; the text says why."""


class Away(TypedDict, total=False):
    """Where a tool runs, and what it finds in its environment."""

    cwd: Path
    environment: dict[str, str]


def tool(
    name: str, *arguments: str, cwd: Path = ROOT, environment: dict[str, str] | None = None, status: int = 0
) -> str:
    """Run a tool of the virtual environment; return what it printed, or fail with it above that exit status."""
    # The tools call one another by name (ansible-lint: ansible-playbook), so their folder comes first.
    env = {**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", **(environment or {})}
    process = subprocess.run(
        [str(BIN / name), *arguments],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=LIMIT,
        check=False,
    )
    if not 0 <= process.returncode <= status:
        raise LintError(f"{name} {' '.join(arguments)}: exit {process.returncode}\n{process.stdout}")
    return process.stdout


def sources() -> Iterator[Path]:
    """The checkout's files as git sees them, new ones included (a forgotten `git add` is linted too)."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return (Path(name) for name in listing.stdout.split("\0") if name and (ROOT / name).is_file())


def copy_to(folder: Path, *left_out: str) -> None:
    """The checkout's files with their modes, without those below some folders."""
    shutil.rmtree(folder, ignore_errors=True)
    for path in sources():
        if path.parts[0] not in left_out or path.parts[:2] == ("tests", "sanity"):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / path, folder / path, follow_symlinks=False)


def pinned(name: str) -> list[str]:
    """A package's versions in requirements.txt, which may differ by Python; oldest first."""
    found = re.findall(rf"(?m)^{re.escape(name)}==(\S+)", (ROOT / "requirements.txt").read_text(encoding="utf-8"))
    if not found:
        raise LintError(f"requirements.txt pins no {name}")
    return found


def check_yamllint() -> None:
    files = [str(path) for path in sources() if path.suffix in (".yml", ".yaml") or path.name == ".yamllint"]
    tool("yamllint", "--strict", *files)


def check_ruff() -> None:
    tool("ruff", "check", ".")


def check_format() -> None:
    tool("ruff", "format", "--check", "--diff", ".")


def check_mypy() -> None:
    tool("mypy")


def check_ansible_lint() -> None:
    tool("ansible-lint", "--profile", "production", "--offline", "--nocolor")


# Stands in for the installer that ansible-test would fetch from a server of its own. The two options it passes are
# gone from today's pip.
GET_PIP = """
import subprocess, sys
subprocess.check_call([sys.executable, "-m", "ensurepip", "--default-pip"])
arguments = [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]
sys.exit(subprocess.call([sys.executable, "-m", "pip", "install", *arguments]))
"""


def sanity_copy() -> Path:
    """The tracked files with their modes, where ansible-test accepts them: it refuses the symlinked checkout."""
    copy = ROOT / ".rig" / "sanity" / "ansible_collections" / "locki" / "vaettir"
    # Only what runs on a controller or a server: ruff, mypy and pytest itself judge the tests.
    copy_to(copy, "LICENSES", "bench", "tests")
    # Without a repository of its own it is part of the checkout's, which ignores it.
    subprocess.run(["git", "init", "--quiet", str(copy)], check=True)
    return copy


def sanity_home() -> Path:
    """A home folder for ansible-test's caches and environments, with the user's pip settings."""
    home = ROOT / ".rig" / "sanity" / "home"
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for version in pips(requirements_source()):
        (cache / f"get_pip_{version.replace('.', '_')}.py").write_text(GET_PIP)
    settle_pip(home)
    return home


def settle_pip(home: Path) -> None:
    """Another home folder has the user's settings of pip."""
    for name in (".config/pip", ".pip"):
        if (Path.home() / name).is_dir() and not (home / name).exists():
            (home / name).parent.mkdir(exist_ok=True)
            (home / name).symlink_to(Path.home() / name)


def pips(source: str) -> list[str]:
    """The versions of pip that ansible-test bootstraps, oldest first."""
    found = set(re.findall(r"pip='([0-9.]+)'", source))
    return sorted(found, key=lambda version: [int(number) for number in version.split(".")])


def requirements_source() -> str:
    """The part of ansible-test that names the pip version it bootstraps."""
    spec = importlib.util.find_spec("ansible_test")
    if not spec or not spec.origin:
        raise LintError("ansible_test is not installed")
    return (Path(spec.origin).parent / "_internal" / "python_requirements.py").read_text()


def check_sanity() -> None:
    # The changelog has a check of its own here.
    # One Python, this one: others on the PATH may be a version manager's shims that do not run.
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    arguments = ("sanity", "--python", python, "--color", "no", "--truncate", "0", "--skip-test", "changelog")
    try:
        output = tool("ansible-test", *arguments, cwd=sanity_copy(), environment={"HOME": str(sanity_home())})
    except LintError as error:
        # Between the findings stand hundreds of lines from pip.
        findings = re.findall(r"(?m)^(?:ERROR|FATAL): .*$", str(error))
        raise LintError("\n".join(findings) or str(error)) from None
    if "Running sanity test" not in output or DEPRECATED in output:
        raise LintError(f"ansible-test ran no test, or something is deprecated:\n{output}")


def check_docs() -> None:
    """README's tables and CHANGELOG.md are what their sources make."""
    tool("python", "-m", "tests.docs", "--check")


def check_site() -> None:
    """The docs as a site: no link in them leads nowhere."""
    tool("python", "-m", "tests.site")


def check_changelog() -> None:
    tool("antsibull-changelog", "lint")
    tool("antsibull-changelog", "lint-changelog-yaml", "--strict", "changelogs/changelog.yaml")


def check_collection_docs() -> None:
    """Every page that Galaxy and the docs site make of the plugins and roles."""
    # It goes by the path's own names, which the checkout itself may not have.
    collection = ROOT / ".collections" / "ansible_collections" / "locki" / "vaettir"
    tool("antsibull-docs", "lint-collection-docs", "--plugin-docs", ".", cwd=collection)


def check_reuse() -> None:
    """Licence and copyright of every file: in it, or in REUSE.toml."""
    tool("reuse", "lint")


def check_workflows() -> None:
    """Workflows and Dependabot's settings: what GitHub takes, and what makes them unsafe."""
    folder = ROOT / ".github"
    for schema, pattern in (("github-workflows", "workflows/*.yml"), ("dependabot", "dependabot.yml")):
        tool("check-jsonschema", "--builtin-schema", f"vendor.{schema}", *map(str, folder.glob(pattern)))
    tool("zizmor", "--offline", "--no-progress", str(folder))


def check_server_python() -> None:
    """What runs on a server, with the oldest Python that is supported there: ruff knows its syntax, not its library."""
    tool("vermin", "--quiet", "--no-tips", "--target=3.8-", "--violations", "plugins/modules", "plugins/module_utils")


# ansible-lint has a check of its own here, with community.docker present.
IMPORTER = """[galaxy-importer]
CHECK_REQUIRED_TAGS = True
RUN_ANSIBLE_DOC = True
RUN_ANSIBLE_LINT = False
CHECK_CHANGELOG = True
"""

# Everything that a built collection may hold at its top; the checkout is full of other things.
SHIPPED = {
    "CHANGELOG.md",
    "CODE_OF_CONDUCT.md",
    "CONTRIBUTING.md",
    "FILES.json",
    "LICENSE",
    "MANIFEST.json",
    "README.md",
    "SECURITY.md",
    "changelogs",
    "docs",
    "inventories",
    "meta",
    "playbooks",
    "plugins",
    "roles",
}
# Folders whose contents have documentation, and what ansible-doc calls them.
DOCUMENTED = {"roles": "role", "plugins/modules": "module", "plugins/filter": "filter", "plugins/test": "test"}


ARCHIVE_LIMIT = 500_000  # bytes


def check_galaxy() -> None:
    """What Galaxy does with an archive before it takes it."""
    with tempfile.TemporaryDirectory() as folder:
        tool("ansible-galaxy", "collection", "build", "--output-path", folder)
        (archive,) = Path(folder).glob("*.tar.gz")
        (settings := Path(folder) / "importer.cfg").write_text(IMPORTER)
        environment = {"GALAXY_IMPORTER_CONFIG": str(settings)}
        command = ("-m", "galaxy_importer.main", str(archive))
        said = tool("python", *command, cwd=Path(folder), environment=environment)
        found = [line for line in said.splitlines() if line.startswith(("WARNING", "ERROR"))]
        if found or "Importer processing completed successfully" not in said:
            raise LintError("\n".join(found) or said)


def check_build() -> None:
    """What a user gets: build the collection, install it elsewhere, read every plugin's and role's documentation."""
    with tempfile.TemporaryDirectory() as folder:
        tool("ansible-galaxy", "collection", "build", "--output-path", folder)
        (archive,) = Path(folder).glob("*.tar.gz")
        # Away from the checkout, whose settings would find the sources instead.
        (settings := Path(folder) / "ansible.cfg").write_text(f"[defaults]\ncollections_path = {folder}\n")
        away: Away = {"cwd": Path(folder), "environment": {"ANSIBLE_CONFIG": str(settings)}}
        tool("ansible-galaxy", "collection", "install", str(archive), "-p", folder, "--no-deps", "--offline", **away)
        if (size := archive.stat().st_size) > ARCHIVE_LIMIT:
            raise LintError(
                f"{archive.name} has {size} bytes, more than {ARCHIVE_LIMIT}: see build_ignore in galaxy.yml"
            )
        installed = Path(folder) / "ansible_collections" / "locki" / "vaettir"
        extra = {path.name for path in installed.iterdir()} - SHIPPED
        if extra:
            raise LintError(f"build_ignore in galaxy.yml misses: {', '.join(sorted(extra))}")
        for role in installed.glob("roles/*"):
            if not (role / "meta" / "argument_specs.yml").is_file():
                raise LintError(f"role {role.name} has no meta/argument_specs.yml")
        for folder_name, kind in DOCUMENTED.items():
            if (installed / folder_name).is_dir():
                listing = tool("ansible-doc", "--list", "--type", kind, "--json", "locki.vaettir", **away)
                names = set(json.loads(listing[listing.index("{") :]))
                # The listing leaves out a module whose documentation it cannot read.
                names |= {
                    f"locki.vaettir.{path.stem}" for path in installed.glob("plugins/modules/*") if kind == "module"
                }
                tool("ansible-doc", "--type", kind, *sorted(names), **away)
        playbooks = [f"locki.vaettir.{path.stem}" for path in sorted(installed.glob("playbooks/*.yml"))]
        if playbooks:
            tool("ansible-playbook", "--syntax-check", *playbooks, **away)


# Findings of hadolint that stay, by rule and file.
HADOLINT_ACCEPTED = {
    ("DL3008", "*"): "Debian's mirror keeps only the newest version of a package, so a pinned one cannot be installed",
    ("DL3002", "roles/*"): "the compose service sets the user, who differs from server to server",
    ("DL3066", "roles/*"): "root has the number 0 everywhere",
    ("SC2086", "roles/*"): "a list of folders that have no blanks in their names",
    ("DL3003", "tests/rig/images/next/*"): "one command in the folder, nothing after it",
}


def hadolint_faults(findings: Iterable[dict[str, Any]], accepted: dict[tuple[str, str], str]) -> list[str]:
    """What is not accepted, and what was accepted and is not found any more."""
    faults, met = [], set()
    for found in findings:
        fits = {key for key in accepted if key[0] == found["code"] and fnmatch(found["file"], key[1])}
        met |= fits
        if not fits:
            faults.append(f"{found['file']}:{found['line']}: {found['code']} {found['message']}")
    stale = [key for key in accepted if key not in met]
    return faults + [f"{code} in {files} is accepted, but found no more" for code, files in stale]


def check_hadolint() -> None:
    files = [str(path) for path in sources() if "Dockerfile" in path.name]
    findings = json.loads(tool("hadolint", "--no-fail", "--format", "json", *files))
    if faults := hadolint_faults(findings, HADOLINT_ACCEPTED):
        raise LintError("\n".join(faults))


# Known vulnerabilities that stay, by id, each with its reason.
AUDIT_ACCEPTED: dict[str, str] = {}
LOCKS = ("requirements.txt", "bench/requirements.txt")


def audit_faults(answer: str) -> list[str]:
    """Of what pip-audit printed; a package that its source does not know is not audited."""
    documents = [line for line in answer.splitlines() if line.startswith('{"dependencies"')]
    if not documents and re.search("ConnectionError|Could not connect", answer):
        raise CannotCheckError("the source of known vulnerabilities does not answer")
    if not documents:
        raise LintError(answer)
    known = [package for package in json.loads(documents[0])["dependencies"] if "skip_reason" not in package]
    if not known:
        raise CannotCheckError("the package index here tells of no known vulnerability: audit where one does")
    return [
        f"{package['name']} {package['version']}: {hole['id']}, fixed in {', '.join(hole['fix_versions']) or 'none'}"
        for package in known
        for hole in package["vulns"]
    ]


def check_audit() -> None:
    options = ["--disable-pip", "--require-hashes", "--progress-spinner", "off", "--timeout", "10", "--format", "json"]
    options += [word for name in LOCKS for word in ("--requirement", name)]
    options += [word for name in AUDIT_ACCEPTED for word in ("--ignore-vuln", name)]
    if faults := audit_faults(tool("pip-audit", *options, status=1)):  # 1: it found something, or had no answer
        raise LintError("\n".join(faults))


def pins(path: Path) -> set[str]:
    """`name==version` of every line of a requirements file."""
    return {line.lower().replace("_", "-") for line in re.findall(r"(?m)^[\w.-]+==[\w.]+", path.read_text())}


def check_lock() -> None:
    """requirements.txt is `make lock`'s; that every line has its hash, pip itself demands."""
    for name in LOCKS:
        wanted, locked = (pins((ROOT / name).with_suffix(suffix)) for suffix in (".in", ".txt"))
        if missing := wanted - locked:
            raise LintError(f"{name} is without {', '.join(sorted(missing))}: run `make lock`")


FORBIDDEN = {
    # Whoever builds the project brings mirrors of their own.
    r"pypi\.org|pythonhosted\.org|npmjs\.(org|com)|(deb|ftp|security)\.debian\.org": "a package registry's host",
    r"\b(TO[D]O|FIX[M]E)\b": "unfinished work",
}


def check_house() -> None:
    """Rules of this house that no tool knows."""
    faults = []
    rules = {**FORBIDDEN, re.escape(f"{ROOT}{os.sep}"): "a path of this machine"}
    for path in sources():
        content = (ROOT / path).read_bytes()
        if b"\0" in content or path.name == "LICENSE":
            continue
        text = content.decode()
        for number, line in enumerate(text.splitlines(), 1):
            faults += [
                f"{path}:{number}: {what}: {line.strip()}" for rule, what in rules.items() if re.search(rule, line)
            ]
    if faults:
        raise LintError("\n".join(faults))


# The slow ones first, so that they do not end alone.
CHECKS: dict[str, Callable[[], None]] = {
    "sanity": check_sanity,
    "ansible-lint": check_ansible_lint,
    "build": check_build,
    "galaxy": check_galaxy,
    "collection-docs": check_collection_docs,
    "mypy": check_mypy,
    "changelog": check_changelog,
    "docs": check_docs,
    "site": check_site,
    "yamllint": check_yamllint,
    "reuse": check_reuse,
    "server-python": check_server_python,
    "workflows": check_workflows,
    "ruff": check_ruff,
    "format": check_format,
    "house": check_house,
    "hadolint": check_hadolint,
    "audit": check_audit,
    "lock": check_lock,
}


def timed(name: str) -> tuple[str, float, str, str]:
    """A check's name, its seconds, how it ended, and what it found."""
    start = time.monotonic()
    result, found = "FAIL", ""
    try:
        CHECKS[name]()
        result = "ok"
    except CannotCheckError as error:
        result, found = "skip", str(error)
    except LintError as error:
        found = str(error)
    except subprocess.TimeoutExpired as error:
        found = f"{error}\n{error.output or ''}"
    except Exception:  # a check that breaks is red as well, and must not hide the others
        found = traceback.format_exc()
    return name, time.monotonic() - start, result, found


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.lint", description=__doc__)
    parser.add_argument("checks", nargs="*", metavar="CHECK", help=f"default: all of {', '.join(CHECKS)}")
    wanted = parser.parse_args().checks or list(CHECKS)
    if unknown := set(wanted) - set(CHECKS):
        parser.error(f"unknown check: {', '.join(sorted(unknown))}")
    report = ElementTree.Element("testsuite", name="lint")
    red = 0
    with ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0))) as pool:
        for future in as_completed([pool.submit(timed, name) for name in wanted]):
            name, seconds, result, found = future.result()
            print(f"{result:<5}{name:<16}{seconds:6.1f} s", flush=True)
            case = ElementTree.SubElement(report, "testcase", name=name, time=f"{seconds:.1f}")
            if result != "ok":
                red += result == "FAIL"
                print(f"{found.rstrip()}\n", flush=True)
                kind = "failure" if result == "FAIL" else "skipped"
                ElementTree.SubElement(case, kind).text = re.sub(r"[^\t\n -\uD7FF]", "?", found)
    if folder := os.environ.get("TEST_RESULTS"):
        ElementTree.ElementTree(report).write(Path(folder) / "lint.xml", encoding="utf-8")
    return 1 if red else 0


if __name__ == "__main__":
    sys.exit(main())
