# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A stand-in for the ngrok edge: what it answers, counts and breaks can be switched at run time."""

from .server import Edge

__all__ = ["Edge"]
