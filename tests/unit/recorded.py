# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What was recorded of real servers and chains, and the same with something else in it."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "facts"


def load(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return found


def changed(recorded: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy; changes go by their path, as in `found.disk_free`."""
    made = copy.deepcopy(recorded)
    for path, value in changes.items():
        place = made
        *folders, last = path.split(".")
        for folder in folders:
            place = place[folder]
        place[last] = copy.deepcopy(value)
    return made
