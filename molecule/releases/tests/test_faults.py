# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A dozen of the faults; `make soak` has all."""

from __future__ import annotations

import pytest

from tests.rig import faults
from tests.rig.releases import Stand


@pytest.mark.parametrize("fault", faults.DOZEN)
def test_fault(stand: Stand, fault: str):
    faults.check(stand, fault)
