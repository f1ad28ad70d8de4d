# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""One server for all; it is kept clean by whoever spoils it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from . import stand


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    inventory = tmp_path_factory.mktemp("inventory") / "hosts.json"
    stand.write_inventory(inventory)
    os.environ["MOLECULE_INVENTORY_FILE"] = str(inventory)
    with stand.server() as name:
        yield name
