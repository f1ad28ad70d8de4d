# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""All faults, and docs/troubleshooting.md, which is what became of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from . import faults_server, faults_traefik, faults_tunnel
from .doctor import Fault, Row
from .shell import ROOT

_LISTS = (faults_tunnel, faults_server, faults_traefik)
FAULTS: dict[str, Fault] = {fault.name: fault for part in _LISTS for fault in part.FAULTS}
CHOSEN: tuple[str, ...] = tuple(name for part in _LISTS for name in part.CHOSEN)
RIGHT, HEALED = 0.95, 0.8  # shares
PAGE = ROOT / "docs" / "troubleshooting.md"

HEAD = """\
# Troubleshooting

One command asks every hop between the app and its visitors, names the first that is broken, and prints what fixes it.
It changes nothing:

```bash
ansible-playbook locki.vaettir.diagnose_agent -e agent=ocapistaine
```

The last thing on the screen is a sentence: every hop works, or which one is broken, why, and what fixes it. Where
something is wrong a table with every answer stands above it. The exit status is 0 when the chain works, a warning
included, and 2 otherwise. `-e report_file=PATH` writes the same as JSON.

It takes about 15 s, and at most 30 s whatever hangs; what it did not wait for is named. It does what a visitor's
browser does ([architecture.md](architecture.md#how-a-diagnosis-finds-the-hop)): at most 60 requests through the tunnel,
and about twice as many where something is wrong. Where the control node is the laptop, `-e app_url=http://127.0.0.1:PORT`
asks the app itself and ngrok's local API as well, and so tells app, ngrok agent and ngrok edge apart.

The tables are what it said when each of these {faults} faults was made in a real chain, that of an agent `one` with the
domain `one.vaettir.example`. It named the right hop of {right}. *Fixed* is whether what it prints was enough, for a
second diagnosis and for a visitor: `yes` when a program did what is printed, `by hand` when that is a person's work.
{healed} were fixed, {hands} of them by hand. Names, addresses and times of the server stand here as words.

This page is written by `make soak`, and by nothing else.
"""
HOP = "## Hop: "
COLUMNS = ("What is wrong", "What the diagnosis says", "What fixes it", "Fixed")


def _plain(text: str, names: dict[str, str]) -> str:
    """Without what is another one in each run."""
    for name, word in names.items():
        text = text.replace(name, word)
    proposed = r"(?:1\.1\.1\.1|127\.0\.0\.1)\b"  # by a rule
    text = re.sub(rf"\b(?!{proposed})[0-9]{{1,3}}(\.[0-9]{{1,3}}){{3}}\b", "ADDRESS", text)
    text = re.sub(r"\b[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z", "TIME", text)
    return " ".join(text.split()).replace("|", "\\|")


def _healed(row: Row) -> str:
    return "no" if row.problem else "by hand" if row.fault.by_hand else "yes"


def page(rows: Sequence[Row], names: dict[str, str]) -> str:
    """`names`: of this run's machines, with what stands there instead."""
    parts = [
        HEAD.format(
            faults=len(rows),
            right=sum(row.right for row in rows),
            healed=sum(row.healed for row in rows),
            hands=sum(_healed(row) == "by hand" for row in rows),
        )
    ]
    for hop in dict.fromkeys(row.fault.hop for row in rows):
        parts.append(f"\n{HOP}{hop}\n\n| {' | '.join(COLUMNS)} |\n{'| --- ' * len(COLUMNS)}|\n")
        for row in rows:
            if row.fault.hop == hop:
                cells = (row.fault.name, row.told["why"], row.told["fix"], _healed(row))
                parts.append(f"| {' | '.join(_plain(cell, names) for cell in cells)} |\n")
    return "".join(parts)


class Told(NamedTuple):
    """A row as the page has it."""

    hop: str
    name: str
    why: str
    fix: str
    healed: str


def read() -> Iterator[Told]:
    """The page's rows."""
    hop = ""
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
        if line.startswith(HOP):
            hop = line.removeprefix(HOP)
        elif cells and cells[0] not in (COLUMNS[0], "---"):
            yield Told(hop, *cells)
