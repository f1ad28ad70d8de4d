# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
from __future__ import annotations

import pytest

from tests.rig.releases import Stand


@pytest.fixture(scope="session")
def stand() -> Stand:
    """The server, and what molecule.yml says of agent one."""
    made = Stand.current()
    made.settings = {"max_body_size": "22m"}
    return made
