# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Ours next to the recipe and the peers: same edge, same machine, one run."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1] / ".collections"))  # the checkout under its collection name
