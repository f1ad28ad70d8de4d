# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What every sample app says, whatever it is made with."""


def tins(fish: float) -> str:
    return f"{fish:.0f} sardines fill {-(-int(fish) // 6)} tins"
