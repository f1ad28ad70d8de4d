# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
from __future__ import annotations

import pytest

from tests.rig.releases import Stand


@pytest.fixture(scope="session")
def stand() -> Stand:
    """The server, and what was last deployed to it."""
    return Stand.current()
