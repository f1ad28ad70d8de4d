# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors

from __future__ import annotations

DOCUMENTATION = r"""
name: status_table
short_description: The report on agents as lines to be read
version_added: 0.1.0
author: the locki.vaettir authors (@locki)
description:
  - Gives a heading and a line for each row, in columns. What is not known is a dash.
options:
  _input:
    description: >-
      One dictionary for each agent of each server, with server, agent, release, age (in seconds), image, container,
      draining, memory (in bytes), tunnel and verified.
    type: list
    elements: dict
    required: true
"""

EXAMPLES = r"""
- ansible.builtin.debug:
    msg: "{{ rows | locki.vaettir.status_table }}"
"""

RETURN = r"""
_value:
  description: The lines.
  type: list
  elements: str
"""

from typing import Any

COLUMNS = ("server", "agent", "release", "age", "image", "container", "draining", "memory", "tunnel", "verified")
_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def age(seconds: int) -> str:
    """In the largest unit of which there are two: 90 s, 3 h."""
    size, unit = next((pair for pair in _UNITS if seconds >= 2 * pair[0]), _UNITS[-1])
    return f"{seconds // size} {unit}"


def _cell(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if value is None or value == "":
        return "-"
    if column == "age":
        return age(value)
    if column == "memory":
        return f"{value / 1e6:.0f} MB"
    return str(value).removeprefix("sha256:")[:12] if column == "image" else str(value)


def status_table(rows: list[dict[str, Any]]) -> list[str]:
    cells = [[column.upper() for column in COLUMNS], *([_cell(row, column) for column in COLUMNS] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"status_table": status_table}
