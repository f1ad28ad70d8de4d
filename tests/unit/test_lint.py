# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What the checks of tests/lint.py make of the auditors' answers."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from tests import lint

FINDING = {"file": "roles/x/Dockerfile.j2", "line": 3, "code": "DL3002", "message": "Last USER should not be root"}
ACCEPTED = {("DL3002", "roles/*"): "a reason"}


def test_hadolint_is_told_what_is_accepted_and_nothing_more() -> None:
    assert lint.hadolint_faults([FINDING], ACCEPTED) == []
    assert lint.hadolint_faults([{**FINDING, "file": "bench/Dockerfile"}, FINDING], ACCEPTED) == [
        "bench/Dockerfile:3: DL3002 Last USER should not be root"
    ]
    assert lint.hadolint_faults([], ACCEPTED) == ["DL3002 in roles/* is accepted, but found no more"]


def answer(*dependencies: Mapping[str, object]) -> str:
    return f"Found something\n{json.dumps({'dependencies': dependencies, 'fixes': []})}\n"


UNKNOWN = {"name": "b", "skip_reason": "Dependency not found"}


def test_an_audit_with_a_hole() -> None:
    hole = {"id": "PYSEC-1", "fix_versions": ["1.1"], "aliases": [], "description": ""}
    audited: list[dict[str, object]] = [
        {"name": "a", "version": "1.0", "vulns": [hole]},
        {"name": "c", "version": "2.0", "vulns": []},
    ]
    assert lint.audit_faults(answer(*audited, UNKNOWN)) == ["a 1.0: PYSEC-1, fixed in 1.1"]
    assert lint.audit_faults(answer(audited[1], UNKNOWN)) == []


@pytest.mark.parametrize("text", [answer(UNKNOWN), "requests.exceptions.ConnectionError: no route\n"])
def test_an_audit_without_a_source_is_none(text: str) -> None:
    with pytest.raises(lint.CannotCheckError):
        lint.audit_faults(text)


def test_an_audit_that_breaks_is_red() -> None:
    with pytest.raises(lint.LintError):
        lint.audit_faults("Traceback: ValueError\n")
