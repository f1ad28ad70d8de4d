# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""`python -m tests.site`: the docs as a static site in .rig/site/html, every link inside it checked.

The pages are those of the repository, in the same places; modules and filters come from ansible-doc.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from tests import lint
from tests.rig.shell import ROOT, STATE, say

PAGES = ("*.md", "docs/*.md", "docs/images/*", "roles/*/README.md", "LICENSE")
KINDS = ("module", "filter", "callback")
REPOSITORY = "https://github.com/locki-io/vaettir/tree/main"
# What the pages name and the site has not: it is in the repository.
ELSEWHERE = re.compile(r"\]\(((?:\.\./)*)((?:inventories|molecule|tests|bench)[^)#]*)\)")


def text(said: Any) -> str:
    """A description in one paragraph; Ansible's own markup becomes Markdown's."""
    words = " ".join([said] if isinstance(said, str) else said)
    words = re.sub(r"\b[LU]\(([^,()]*),\s*([^)]*)\)", r"[\1](\2)", words)
    return re.sub(r"\b(?:RV|[BCEIMOPV])\(([^()]*)\)", r"`\1`", words).replace("|", "\\|")


def plugins() -> str:
    """Every module, filter and callback, with its options."""
    lines = ["# Modules and plugins", ""]
    lines += ["The roles call these. What is internal says so: it may change in any version.", ""]
    for kind in KINDS:
        said = lint.tool("ansible-doc", "--type", kind, "--list", "--json", "locki.vaettir")
        names = sorted(json.loads(said[said.index("{") :]))
        made = json.loads(lint.tool("ansible-doc", "--type", kind, "--json", *names))
        for name in names:
            doc = made[name]["doc"]
            lines += [
                f"## {kind} `{name.removeprefix('locki.vaettir.')}`",
                "",
                f"{text(doc['short_description'])}.",
                "",
            ]
            lines += [text(doc["description"]), ""]
            lines += [f"{text(doc['notes'])}\n"] if doc.get("notes") else []
            if options := doc.get("options"):
                lines += ["| Option | Type | Meaning |", "| --- | --- | --- |"]
                lines += [
                    f"| `{key}` | {option.get('type', 'str')} | {text(option['description'])} |"
                    for key, option in options.items()
                ]
                lines += [""]
    return "\n".join(lines)


def pages(folder: Path) -> None:
    """The repository's pages and pictures, in the same places."""
    for pattern in PAGES:
        for path in ROOT.glob(pattern):
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, target)
            if path.suffix == ".md":
                linked = ELSEWHERE.sub(rf"]({REPOSITORY}/\2)", path.read_text(encoding="utf-8"))
                target.write_text(linked, encoding="utf-8")
    shutil.copy2(ROOT / "tests" / "site.css", folder)
    (folder / "modules.md").write_text(plugins(), encoding="utf-8")


def fetched(html: Path) -> list[str]:
    """What a page would get from elsewhere."""
    return [
        f"{page.relative_to(html)}: {address}"
        for page in html.rglob("*.html")
        for address in re.findall(
            r'<(?:script|link|img)\b[^>]*?(?:src|href)="(https?://[^"]+)"', page.read_text(encoding="utf-8")
        )
    ]


def main() -> int:
    site, html = STATE / "site", STATE / "site" / "html"
    if site.exists():
        shutil.rmtree(site)
    pages(site / "docs")
    # A link that leads nowhere is a warning, and a warning fails.
    lint.tool("mkdocs", "build", "--strict", "--quiet", environment={"NO_MKDOCS_2_WARNING": "1"})
    if outside := fetched(html):
        raise lint.LintError("\n".join(["the site fetches from elsewhere:", *outside]))
    count = len(list(html.rglob("*.html")))
    say(f"{count} pages; to read them: python3 -m http.server --directory {html.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except lint.LintError as error:
        sys.exit(f"error: {error}")
