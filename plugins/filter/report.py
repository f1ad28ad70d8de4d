# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The report of a run: a row for each agent of each server, and what a second witness says of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.locki.vaettir.plugins.module_utils import _names

COLUMNS = ("server", "agent", "outcome", "url", "release", "seconds")


def contradicted(
    rows: list[dict[str, Any]], results: list[dict[str, Any]], settings: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The settings of each agent that curl finds worse than the verification did, with the release that it is about."""
    worse = [one["label"] for one in results if not one["met"]]
    releases = {row["agent"]: row["release"] for row in rows if row["agent"] in worse}
    return [{**one, "release": "", "instead_of": releases[one["name"]]} for one in settings if one["name"] in releases]


def final_rows(
    rows: list[dict[str, Any]], results: list[dict[str, Any]], again: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The rows as they are in the end: an agent that curl contradicted was rolled back."""
    errors = {one["label"]: one["error"] for one in results if not one["met"]}
    after = {row["agent"]: row for row in again}
    made = []
    for row in rows:
        if row["agent"] in errors:
            row = _contradicted_row(row, errors[row["agent"]], after.get(row["agent"]))
        made.append(row)
    return made


def _contradicted_row(row: dict[str, Any], error: str, then: dict[str, Any] | None) -> dict[str, Any]:
    told = f"{row['agent']} on {row['server']}: curl contradicts the verification: {error}."
    if then is None or then["outcome"] == "failed" or then["release"] == row["release"]:
        why = f" ({then['message']})" if then and then["message"] else ""
        fix = f"`{_names.playbook('rollback_agent', row['agent'])}`"
        told = f"{told} It could not be rolled back{why}: {fix}."
        return {**row, "outcome": "failed", "failed": True, "message": told}
    release = f"to release {then['release']}" if then["release"] else "and is taken away again"
    return {**then, "outcome": "rolled back", "failed": True, "message": f"{told} It was rolled back {release}."}


def host_rows(hosts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows of all servers, by what was registered for each."""
    made = []
    for host in hosts:
        released, curl, again = (host.get(f"__agent_proxy_{name}") or {} for name in ("release", "curl", "again"))
        made += final_rows(released.get("agents") or [], curl.get("results") or [], again.get("agents") or [])
    return made


def _table(rows: list[dict[str, Any]]) -> list[str]:
    cells = [[name.upper() for name in COLUMNS]]
    cells += [[str(row[name]) if row[name] not in ("", None) else "-" for name in COLUMNS] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(COLUMNS))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in cells]


def report_lines(rows: list[dict[str, Any]], skipped: Sequence[str] = ()) -> list[str]:
    """The table, what else is worth knowing, and last what a visitor gets. Servers are skipped that lack the agent."""
    notes = [f"{row['agent']} on {row['server']}: {note}." for row in rows for note in map(_plain, row["notes"])]
    seen = [f"WARNING: {row['agent']} on {row['server']}: {row['outside']}." for row in rows if row.get("outside")]
    told = [row["message"] for row in rows if row["message"]]
    others = [f"Skipped, since no agent of theirs was named: {', '.join(skipped)}."] if skipped else []
    return [*_table(rows), *notes, *seen, *others, *told]


def _is_verified(row: dict[str, Any]) -> bool:
    """A deploy need not wait for its certificate; a visitor's browser turns back."""
    return bool(row["verified"] and row["trusted"])


def verification_error(rows: list[dict[str, Any]], server: str) -> str:
    """Which agents a visitor does not get."""
    failed = [row["agent"] for row in rows if not _is_verified(row) or row.get("outside")]
    if not failed:
        return ""
    command = f"`{_names.playbook('diagnose_agent', failed[0])}`"
    return f"{', '.join(failed)} on {server}: not verified. Why, and what fixes it: {command}."


def prometheus(rows: list[dict[str, Any]], now: int) -> str:
    """The text format, for the node exporter's textfile collector."""
    gauges: tuple[tuple[str, str, Any], ...] = (
        ("verified", "Whether the last verification of the agent's proxy passed.", lambda row: int(_is_verified(row))),
        (
            "online",
            "Whether the app answered, and not the page.",
            lambda row: int(_is_verified(row) and row["online"]),
        ),
        (
            "public",
            "Whether its public name answered from the control node.",
            lambda row: int(_is_verified(row) and not row.get("outside")) if row.get("seen") else None,
        ),
        ("verification_timestamp_seconds", "When it was.", lambda _row: now),
    )
    lines = []
    for name, about, value in gauges:
        values = [(row["agent"], value(row)) for row in rows]
        told = [f'vaettir_agent_{name}{{agent="{agent}"}} {found}' for agent, found in values if found is not None]
        if told:
            lines += [f"# HELP vaettir_agent_{name} {about}", f"# TYPE vaettir_agent_{name} gauge", *told]
    return "\n".join(lines) + "\n"


def _plain(note: str) -> str:
    return note.removesuffix(".")


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "contradicted": contradicted,
            "host_rows": host_rows,
            "prometheus": prometheus,
            "report_lines": report_lines,
            "verification_error": verification_error,
        }
