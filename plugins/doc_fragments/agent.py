# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the modules that work on one agent say alike. The options are those of module_utils/_module.py."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  root:
    description: Absolute path of the project folder.
    type: path
    required: true
  project:
    description: Name of the compose project.
    type: str
    default: vaettir
  name:
    description: The agent, which is the compose service.
    type: str
    required: true
"""

    # For those that change what is in force
    OWNER = r"""
options:
  owner:
    description:
      - Who releases.
      - Where it is given, the age of the lock that M(locki.vaettir.agent_release) took begins anew, and it is an error
        if the lock is another run's by now.
    type: dict
    suboptions:
      user:
        description: Login name on the control node.
        type: str
        required: true
      node:
        description: Name of the control node.
        type: str
        required: true
      pid:
        description: Process there.
        type: int
        required: true
      started:
        description: When that process was started, as the control node counts.
        type: str
        default: ''
      boot:
        description: What the process's number belongs to.
        type: str
        default: ''
"""
