# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What `make release` refuses."""

from __future__ import annotations

import pytest

from tests.release import refusal

FRAGMENTS = {"0.1.0.yml", "1.0.0.yml"}


@pytest.mark.parametrize(
    ("version", "dirty", "why"),
    [
        ("1.0.0", "", ""),
        ("0.1.0", "", ""),  # the current one once more: nobody has published it yet
        ("v1.0.0", "", "is no version"),
        ("1.0", "", "is no version"),
        ("1.0.0", " M README.md", "dirty"),
        ("0.0.9", "", "not after 0.1.0"),
        ("1.1.0", "", "changelogs/fragments/1.1.0.yml, or rename 1.0.0.yml,"),
    ],
)
def test_refusal(version: str, dirty: str, why: str) -> None:
    told = refusal(version, "0.1.0", FRAGMENTS, {"0.1.0"}, dirty)
    assert (why in told) if why else told == ""
