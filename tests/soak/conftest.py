# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
from __future__ import annotations

from tests.apps.stand import world

__all__ = ["world"]
