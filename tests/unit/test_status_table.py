# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The report's lines."""

from __future__ import annotations

import pytest
from ansible_collections.locki.vaettir.plugins.filter import status_table

ROW = {
    "server": "server1",
    "agent": "ocapistaine",
    "release": "20261123T013000Z",
    "age": 7200,
    "image": "sha256:" + "ab" * 32,
    "container": "healthy",
    "draining": 0,
    "memory": 23_400_000,
    "tunnel": "offline (app)",
    "verified": "2026-11-23T01:30:09Z",
}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (119, "119 s"), (120, "2 min"), (7199, "119 min"), (7200, "2 h"), (172799, "47 h"), (172800, "2 d")],
)
def test_age(seconds: int, text: str) -> None:
    assert status_table.age(seconds) == text


def test_columns() -> None:
    away = {**dict.fromkeys(ROW), "server": "a-server-with-a-long-name", "container": "unreachable"}
    heading, first, second = status_table.status_table([ROW, away])
    assert heading.split() == [column.upper() for column in status_table.COLUMNS]
    assert first.index("ocapistaine") == heading.index("AGENT") == second.index("-  ")
    assert "  2 h  abababababab  healthy" in first
    assert first.endswith("0         23 MB   offline (app)  2026-11-23T01:30:09Z")
    assert "unreachable" in second
    assert all(line == line.rstrip() for line in (heading, first, second))


def test_nothing_to_report() -> None:
    assert len(status_table.status_table([])) == 1
