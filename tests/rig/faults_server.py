# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Faults of the server and the agent's nginx."""

from __future__ import annotations

from .doctor import Fault

FAULTS: tuple[Fault, ...] = ()
DOZEN: tuple[str, ...] = ()  # names of those that `make test` has
