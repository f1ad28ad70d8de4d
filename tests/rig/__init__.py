# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The test rig: the machine's set-up, the images, and the parts that play the world outside the servers."""
