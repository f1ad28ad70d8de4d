# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Every fault of the chain, diagnosed and mended; writes docs/troubleshooting.md. About an hour."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rig import troubleshooting
from tests.rig.doctor import Row, Stand
from tests.rig.stand import converged

ROWS: dict[str, Row] = {}


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with converged("doctor"):
        yield Stand.current()


@pytest.mark.parametrize("fault", troubleshooting.FAULTS)
def test_fault(stand: Stand, fault: str) -> None:
    """That it can be made and taken away again; what is said of it counts below."""
    ROWS[fault] = stand.check(troubleshooting.FAULTS[fault])


def test_nearly_all_are_named_and_most_are_mended(stand: Stand) -> None:
    assert list(ROWS) == list(troubleshooting.FAULTS), "not every fault was tried"
    rows = list(ROWS.values())
    troubleshooting.PAGE.write_text(
        troubleshooting.page(rows, {stand.server: "SERVER", stand.address: "ADDRESS"}), encoding="utf-8"
    )
    wrong, sick = [row for row in rows if not row.right], [row for row in rows if not row.healed]
    assert len(rows) - len(wrong) >= troubleshooting.RIGHT * len(rows), wrong
    assert len(rows) - len(sick) >= troubleshooting.HEALED * len(rows), sick
