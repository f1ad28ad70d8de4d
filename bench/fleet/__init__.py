# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Rollouts over many servers and over many agents, ours next to others' ways."""
