# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What belongs to an agent, by what docker says."""

from __future__ import annotations

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _containers, _docker


def test_all_containers_of_an_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        "vaettir-a-1\ta\t\tvaettir",
        "vaettir-a-old-12345678\ta\t\tvaettir",
        "by-hand\ta\t\tvaettir",
        "vaettir-a-trial\ta\ta\t",
        "vaettir-next-a-1\ta\t\tvaettir-next",
        "vaettir-a-b-1\ta-b\t\tvaettir",
        "vaettir-a-b-trial\t\ta-b\t",
        "vaettir-a-2\t\t\tvaettir",
        "other-a-1\ta\t\tother",
        "other-a-trial\t\ta\t",
    ]
    monkeypatch.setattr(_docker, "docker", lambda *_words, **_more: (0, "".join(f"{line}\n" for line in lines), ""))
    ours = ["by-hand", "vaettir-a-1", "vaettir-a-old-12345678", "vaettir-a-trial", "vaettir-next-a-1"]
    assert _containers.Containers("vaettir", "a").all() == ours
    assert _containers.Containers("vaettir", "a-b").all() == ["vaettir-a-b-1", "vaettir-a-b-trial"]
    assert _containers.Containers("vaettir", "b").all() == []
