# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""From the samples: the table, the chart and the figures of docs/bench.md."""

from __future__ import annotations

from pathlib import Path
from statistics import median
from typing import Any

from bench import page
from tests.rig.shell import ROOT

RESULTS = Path(__file__).parents[1] / "fleet.json"
CHART = ROOT / "docs" / "images" / "fleet.svg"
FIGURES = "fleet figures"  # their markers in docs/bench.md
TITLES = {
    "ours": "ours",
    "before": "before the redesign",
    "pyinfra": "pyinfra",
    "loop": "shell, looped",
    "xargs": "shell, `xargs -P`",
}
JOBS = {"first": "first deploy", "unchanged": "no change", "changed": "one changed value"}


def _of(results: dict[str, Any], **wanted: Any) -> list[dict[str, Any]]:
    return [one for one in results["samples"] if all(one[key] == value for key, value in wanted.items())]


def middle(results: dict[str, Any], key: str, **wanted: Any) -> float | None:
    """Of the runs that went well."""
    found = [one[key] for one in _of(results, **wanted) if one["status"] == 0]
    return median(found) if found else None


def _cell(results: dict[str, Any], **wanted: Any) -> str:
    seconds = middle(results, "seconds", **wanted)
    if seconds is None:
        return "failed" if _of(results, **wanted) else "-"
    cpu, memory, calls, size = (middle(results, key, **wanted) or 0 for key in ("cpu", "memory", "calls", "bytes"))
    return f"{seconds:.1f} s ({cpu:.1f} s, {memory / 1e6:.0f} MB, {calls:.0f}, {size / 1e3:.0f} KB)"


def table(results: dict[str, Any]) -> str:
    names = [name for name in TITLES if _of(results, contestant=name)]
    lines = ["| " + " | ".join(["", *(TITLES[name] for name in names)]) + " |", "|---" * (len(names) + 1) + "|"]
    jobs = sorted({(one["agents"], list(JOBS).index(one["what"]), one["servers"]) for one in results["samples"]})
    for agents, job, servers in jobs:
        what = list(JOBS)[job]
        size = f"{servers} server{'s' * (servers > 1)}, {agents} agent{'s' * (agents > 1)}"
        cells = [_cell(results, contestant=name, what=what, servers=servers, agents=agents) for name in names]
        lines.append("| " + " | ".join([f"{JOBS[what]}, {size}", *cells]) + " |")
    return "\n".join(lines)


def _chart(results: dict[str, Any]) -> None:
    with page.chart(CHART, 2, 3.2) as axes:
        for axis, what in zip(axes, ("unchanged", "changed"), strict=True):
            for name, title in TITLES.items():
                counts = sorted({one["servers"] for one in _of(results, contestant=name, what=what, agents=1)})
                found = {
                    count: middle(results, "seconds", contestant=name, what=what, agents=1, servers=count)
                    for count in counts
                }
                points = [(count, seconds) for count, seconds in found.items() if seconds is not None]
                if points:
                    axis.plot(*zip(*points, strict=True), marker="o", label=title.replace("`", ""))
            axis.set_title(f"{JOBS[what]}: seconds, by servers", fontsize=9, loc="left")
            axis.set_ylim(bottom=0)
            axis.spines[["top", "right"]].set_visible(False)
        axes[0].legend(frameon=False, fontsize=8)


def figures(results: dict[str, Any]) -> str:
    facts = results["machine"]
    return "\n".join(
        [
            f"Run of {results['date']}, {results['took_seconds'] // 60} min. {facts['cpu']}, {facts['cores']} cores for the control node and all "
            f"servers together, {facts['memory_gb']} GB, Linux {facts['kernel']}; {results['real_servers']} servers with a Docker of their own, "
            f"more names than that are several names of one; load average before the run {facts['load_before']}.",
            "",
            "Wall time (CPU of the control node, its memory, ssh sessions, bytes over the servers' network interface); `-`: left out.",
            "",
            table(results),
        ]
    )


def write(results: dict[str, Any]) -> None:
    """The chart, and the figures of docs/bench.md."""
    _chart(results)
    page.write(FIGURES, f"![seconds of a run by number of servers](images/{CHART.name})\n\n{figures(results)}")
