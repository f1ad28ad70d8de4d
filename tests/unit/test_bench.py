# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What the bench found, and what the documentation says that it found."""

from __future__ import annotations

import pytest

from bench import page, report
from tests.rig.shell import ROOT

RESULTS = page.read(report.RESULTS)


@pytest.mark.parametrize("row", report.ROWS, ids=lambda row: f"{row.what} {row.key}")
def test_every_row_has_samples(row: report.Row) -> None:
    for name in (report.OURS, *report.PEERS):
        assert len(report.values(RESULTS, row.what, row.key, name)) >= 3, name


def test_text_is_of_these_results() -> None:
    assert report.figures(RESULTS) in (ROOT / page.PAGE).read_text(encoding="utf-8")
