# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A few of the faults at each part of the chain; `make soak` has all."""

from __future__ import annotations

import pytest

from tests.rig.doctor import Stand
from tests.rig.troubleshooting import CHOSEN, FAULTS


@pytest.fixture(scope="session")
def stand() -> Stand:
    return Stand.current()


@pytest.mark.parametrize("fault", CHOSEN)
def test_fault(stand: Stand, fault: str):
    row = stand.check(FAULTS[fault])
    assert row.right, row
    assert row.problem == "", row.told["sentence"]
