# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The options of module_utils/_module.py's SERVER."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  root:
    description: The project folder. A leading C(~) is the login user's home.
    type: path
    required: true
  project:
    description: Name of the compose project.
    type: str
    default: vaettir
"""
