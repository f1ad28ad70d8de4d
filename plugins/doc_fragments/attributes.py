# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What all modules say of themselves."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
attributes:
  check_mode:
    description: Whether C(--check) foretells the result and touches nothing.
  diff_mode:
    description: Whether C(--diff) shows what changes, or would change.
  platform:
    description: Systems that it runs on.
    platforms: posix
    support: full
"""

    # For those that change nothing
    INFO = r"""
attributes:
  check_mode:
    support: full
    details: Nothing is changed in either mode.
  diff_mode:
    support: N/A
    details: Nothing is changed in either mode.
"""
