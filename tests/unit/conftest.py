# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What all unit tests share. They import plugins by their full names: pyproject.toml puts .collections on the path."""

from hypothesis import settings

# The same examples in every run, however slow the machine; found failures become tests, not a database's entries.
settings.register_profile("project", deadline=None, derandomize=True, database=None)
settings.load_profile("project")
