# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Every command that a page tells somebody to type: what runs it, or why nothing does."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from tests.rig.shell import ROOT

# docs/troubleshooting.md is made by the run that types its commands (tests/soak/test_doctor.py), and says of each
# whether a program did.
LEFT_OUT = {ROOT / "CHANGELOG.md", ROOT / "docs" / "troubleshooting.md"}
PAGES = sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("roles/*/README.md")} - LEFT_OUT)
PROGRAMS = (
    r"ansible[\w-]*|cat|cp|curl|docker|git|ls|make|mkdir|mv|nano|ngrok|pip|pre-commit|python3?|rm|ssh|sudo|systemctl"
)
COMMAND = re.compile(rf"(?:\$ )?((?:\.venv/bin/)?(?:{PROGRAMS}) .+)")

# By what runs it: in these words where the page has no gap in it, else with the gap filled.
RUN_BY = {
    "molecule/install/tests/test_readme.py": [
        "(README|docs/versions).md: pip .*",
        "README.md: (ssh|mkdir|ansible-galaxy|cat|curl|ansible-playbook) .*",
    ],
    "tests/soak/test_howto.py": [
        "docs/howto.md: (ansible-playbook|ansible-galaxy) .*",
        "docs/howto.md: docker compose (ps|build|restart|--profile).*",
    ],
    "molecule/adopt/tests/test_adopt.py": [
        "docs/adopt.md: docker compose (build|--profile production).*",
        "docs/adopt.md: ansible-playbook .*",
        "docs/adopt.md: (mkdir .*|mv releases/.*|git mv docker-compose.yml .*)",
        r"docs/adopt.md: docker compose --profile '\*' down",
        "docs/operations.md: docker compose --profile production up -d",
    ],
    "molecule/default/tests/test_recipe.py": [
        "docs/(releases|proxy|architecture).md: docker compose (build|up|--profile).*",
    ],
    "molecule/default/tests/test_verify.py": ["docs/operations.md: docker restart vaettir-AGENT-1"],
    "molecule/lifecycle/tests/test_2_status.py": ["docs/operations.md: ansible-playbook .*status"],
    "molecule/lifecycle/tests/test_3_end.py": ["docs/operations.md: ansible-playbook .*remove_stack"],
    "molecule/lifecycle/tests/test_1_traefik.py": ["docs/operations.md: ansible-playbook .*upgrade_traefik"],
    "molecule/releases/tests/test_releases.py": ["docs/releases.md: ansible-playbook .*"],
    "molecule/reach/tests/test_reach.py": ["docs/tunnel.md: (ssh -NT|ansible-playbook|docker start) .*"],
    "tests/proxy/test_cache.py": ["docs/proxy.md: docker exec vaettir-AGENT-1 agent-proxy .*"],
    ".github/workflows/test.yml": ["[^:]*: make (setup|lint|test)", "README.md: make demo(-down)?"],
    "tests/unit/test_release.py": ["CONTRIBUTING.md: make release .*"],
}
NOT_RUN = {
    "README.md: git clone .*": "the project's public address; a test makes its copies with git from the checkout",
    "[^:]*: ngrok http .*": "wants an account; the rig's edge plays it, with the address and the port of this line",
    "docs/howto.md: (nano|docker compose logs -f) .*": "never ends by itself: the test edits, and reads without -f",
    "docs/adopt.md: (nano .*|rm .*|cp .*|mv ~.*|git mv docker-compose.2025.*)": "a person decides what stays",
    "docs/tunnel.md: (systemctl --user|ssh -4).*": "a laptop's own; the rig's has no systemd and no IPv6",
    "docs/tunnel.md: docker compose .*": "fetches packages from Debian's mirror, which the rig's servers do not reach",
    "docs/adopt.md: git status": "the tests compare the whole folder instead",
    "docs/architecture.md: ls -A .*": "reads only; the tests read these files themselves",
    "docs/operations.md: docker image inspect .*": "an image that was never pulled has no digest; the rig builds all",
    "[^:]*: make (soak|bench|versions|docs|molecule|lock|browser).*": "takes too long within a test: a target each",
    r"CONTRIBUTING.md: \.venv/bin/python .*": "what `make lint` and `make unit` run, with other words",
    "docs/[^:]*: docker (exec|logs|network connect|ps|stop)": "the name of a command, in a sentence",
}


def commands(page: Path) -> Iterator[str]:
    """The lines of its blocks, and what stands in its sentences."""
    inside, end = False, ""
    for line in page.read_text(encoding="utf-8").splitlines():
        if end:  # a file that is written by the command
            end = "" if line == end else end
        elif line.lstrip().startswith("```"):
            inside = not inside
        elif not inside and not line.startswith("    "):
            yield from (found[1] for word in re.findall(r"`([^`]+)`", line) if (found := COMMAND.fullmatch(word)))
        elif found := COMMAND.fullmatch(re.split(r"\s+# ", line.strip())[0].strip()):
            yield found[1]
            end = found[1].partition("<<'")[2].rstrip("'")


def test_each_is_run_or_has_a_reason() -> None:
    known = [pattern for patterns in (*RUN_BY.values(), NOT_RUN) for pattern in patterns]
    met, unknown = set(), []
    for page in PAGES:
        for command in commands(page):
            line = f"{page.relative_to(ROOT)}: {command}"
            fits = [pattern for pattern in known if re.fullmatch(pattern, line)]
            met |= set(fits)
            if len(fits) != 1:
                unknown.append((line, fits))
    assert unknown == []
    assert [pattern for pattern in known if pattern not in met] == []


def test_what_runs_them_is_there() -> None:
    assert [name for name in RUN_BY if not (ROOT / name).is_file()] == []
