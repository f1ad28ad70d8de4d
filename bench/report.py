# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""From the samples: medians with their spread, the bars, the chart and the figures of docs/bench.md."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.rig.shell import ROOT

from . import page

RESULTS = Path(__file__).parent / "results.json"
CHART = ROOT / "docs" / "images" / "bench.svg"
FIGURES = "figures"  # their markers in docs/bench.md

OURS = "ours"  # as shipped, two workers
PEERS = ("caddy", "haproxy", "traefik")
TITLES = {
    "direct": "direct",
    "recipe": "recipe",
    "ours": "ours, as shipped",
    "caddy": "Caddy",
    "haproxy": "HAProxy",
    "traefik": "Traefik",
}


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    title: str
    what: str
    key: str
    scale: float = 1
    digits: int = 1
    more_is_better: bool = False


ROWS = (
    Row("small assets, 0 ms: requests/s", "assets_0", "requests_per_second", 1, 0, True),
    Row("p50, ms", "assets_0", "p50_ms", 1, 2),
    Row("p99, ms", "assets_0", "p99_ms", 1, 1),
    Row("CPU of the proxy, µs/request", "assets_0", "cpu_us_per_request", 1, 0),
    Row("TLS handshakes/request", "assets_0", "handshakes_per_request", 1, 4),
    Row("small assets, 30 ms: requests/s", "assets_30", "requests_per_second", 1, 0, True),
    Row("p50, ms", "assets_30", "p50_ms", 1, 1),
    Row("p99, ms", "assets_30", "p99_ms", 1, 1),
    Row("TLS handshakes/request", "assets_30", "handshakes_per_request", 1, 4),
    Row("100 MB body, 0 ms: MB/s", "large_0", "mb_per_second", 1, 0, True),
    Row("100 MB body, 30 ms: MB/s", "large_30", "mb_per_second", 1, 0, True),
    Row("WebSocket echo, 0 ms: p50, ms", "sockets_0", "p50_ms", 1, 2),
    Row("p99, ms", "sockets_0", "p99_ms", 1, 1),
    Row("WebSocket echo, 30 ms: p50, ms", "sockets_30", "p50_ms", 1, 1),
    Row("p99, ms", "sockets_30", "p99_ms", 1, 1),
    Row("Streamlit page, 0 ms, cold: s", "page_cold_0_0", "seconds", 1, 2),
    Row("warm: s", "page_warm_0_0", "seconds", 1, 2),
    Row("Streamlit page, 30 ms, cold: s", "page_cold_30_0", "seconds", 1, 2),
    Row("tunnel requests", "page_cold_30_0", "tunnel_requests", 1, 0),
    Row("TLS handshakes", "page_cold_30_0", "tls_handshakes", 1, 0),
    Row("warm: s", "page_warm_30_0", "seconds", 1, 2),
    Row("tunnel requests", "page_warm_30_0", "tunnel_requests", 1, 0),
    Row("TLS handshakes", "page_warm_30_0", "tls_handshakes", 1, 0),
    Row("Streamlit page, 30 ms, uplink of 10 Mbit/s, cold: s", "page_cold_30_10", "seconds", 1, 2),
    Row("warm: s", "page_warm_30_10", "seconds", 1, 2),
    Row("memory idle, MB", "memory", "idle", 1e-6, 1),
    Row("memory per open WebSocket, KB", "memory", "per_socket", 1e-3, 0),
)


def values(results: dict[str, Any], what: str, key: str, name: str) -> list[float]:
    """One figure of every round."""
    return [sample[key] for sample in results["samples"].get(what, {}).get(name, []) if key in sample]


def ratios(results: dict[str, Any], what: str, key: str, one: str, other: str) -> list[float]:
    """Round by round: what slows the machine slows both."""
    pairs = zip(values(results, what, key, one), values(results, what, key, other), strict=True)
    return [a / b for a, b in pairs if b]


def verdict(results: dict[str, Any], row: Row, name: str) -> str:
    """How ours stands to this one: ahead or behind only if every round says so."""
    if name.startswith("ours") or name == "direct":
        return ""
    found = ratios(results, row.what, row.key, OURS, name)
    if not found:
        return ""
    if min(found) > 1:
        return "+" if row.more_is_better else "-"
    if max(found) < 1:
        return "-" if row.more_is_better else "+"
    return "="


def _cells(results: dict[str, Any]) -> list[list[str]]:
    names = [name for name in TITLES if any(name in by_name for by_name in results["samples"].values())]
    lines = [["", *(TITLES[name] for name in names)]]
    for row in ROWS:
        line = [row.title]
        for name in names:
            found = [value * row.scale for value in values(results, row.what, row.key, name)]
            if not found:
                line.append("")
                continue
            low, middle, high = (f"{value:,.{row.digits}f}" for value in (min(found), median(found), max(found)))
            spread = "" if low == high else f" ({low} to {high})"
            line.append(f"{middle}{spread} {verdict(results, row, name)}".rstrip())
        lines.append(line)
    return lines


def table(results: dict[str, Any]) -> str:
    """For a terminal."""
    lines = _cells(results)
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    text = ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines]
    note = "Median (smallest to largest round). +, -, =: ours as shipped is ahead, behind or level; only if all rounds agree."
    return "\n".join([*text, note])


# --- The bars -----------------------------------------------------------------------------------------------------------


def bars(results: dict[str, Any]) -> str:
    """What we hold ourselves to, and what came out."""
    return "\n".join(f"{'met    ' if met else 'NOT MET'}  {what}: {found}" for what, found, met in _bars(results))


def _bars(results: dict[str, Any]) -> list[tuple[str, str, bool]]:
    found: list[tuple[str, str, bool]] = []

    def middle(what: str, key: str, name: str = OURS) -> float:
        return median(values(results, what, key, name))

    def best(what: str, key: str) -> str:
        return min(PEERS, key=lambda name: middle(what, key, name))

    def against(title: str, what: str, key: str, other: str, holds: Callable[[float], bool]) -> None:
        each = ratios(results, what, key, OURS, other)
        ratio = median(each)
        found.append((title, f"{ratio:.2f}x ({min(each):.2f} to {max(each):.2f})", holds(ratio)))

    def plain(title: str, value: float, unit: str, limit: float) -> None:
        found.append((title, f"{value:.4g}{unit}", value <= limit))

    per_second = "requests_per_second"
    against("requests/s at 0 ms >= 10x the recipe", "assets_0", per_second, "recipe", lambda ratio: ratio >= 10)
    against("requests/s at 30 ms >= 2.5x the recipe", "assets_30", per_second, "recipe", lambda ratio: ratio >= 2.5)
    against("p50 at 30 ms <= 1.03x direct", "assets_30", "p50_ms", "direct", lambda ratio: ratio <= 1.03)
    against("p99 at 30 ms <= 1.2x direct", "assets_30", "p99_ms", "direct", lambda ratio: ratio <= 1.2)
    for name, limit in (("haproxy", 1.25), ("caddy", 0.5), ("traefik", 0.5)):
        title = f"CPU per request <= {limit}x {TITLES[name]}"
        against(title, "assets_0", "cpu_us_per_request", name, limit.__ge__)
    plain("TLS handshakes per request <= 0.01", middle("assets_0", "handshakes_per_request"), "", 0.01)
    for delay in (0, 30):
        what = f"sockets_{delay}"
        other = best(what, "p50_ms")
        behind = middle(what, "p50_ms") - middle(what, "p50_ms", other)
        plain(f"WebSocket echo at {delay} ms within 0.5 ms of the best peer ({TITLES[other]})", behind, " ms", 0.5)
    plain("memory per open socket <= 60 KB", middle("memory", "per_socket") / 1e3, " KB", 60)
    plain("idle, 2 workers, <= 20 MB", middle("memory", "idle") / 1e6, " MB", 20)
    for line, title in (("30_10", "30 ms and an uplink of 10 Mbit/s"), ("30_0", "30 ms and no limit")):
        what = f"page_warm_{line}"
        other = best(what, "seconds")
        against(f"page warm, {title}, <= 0.6x the best peer ({TITLES[other]})", what, "seconds", other, (0.6).__ge__)
        what = f"page_cold_{line}"
        other = best(what, "seconds")
        each = ratios(results, what, "seconds", OURS, other)
        shown = f"{median(each):.2f}x ({min(each):.2f} to {max(each):.2f})"
        found.append((f"page cold, {title}, not behind any (best: {TITLES[other]})", shown, min(each) <= 1))
    plain("tunnel requests of a warm page <= 8", middle("page_warm_30_0", "tunnel_requests"), "", 8)
    return found


# --- Chart and text -----------------------------------------------------------------------------------------------------


def _chart(results: dict[str, Any]) -> None:
    names = ["recipe", OURS, *PEERS]
    panels = (
        ("Requests per second", "assets_0", "requests_per_second", "more is better"),
        ("CPU per request, µs", "assets_0", "cpu_us_per_request", "less is better"),
        ("Streamlit page, slow uplink, warm, s", "page_warm_30_10", "seconds", "less is better"),
        ("Tunnel requests, warm page", "page_warm_30_0", "tunnel_requests", "less is better"),
    )
    with page.chart(CHART, len(panels), 2.3, sharey=True) as axes:
        for axis, (title, what, key, better) in zip(axes, panels, strict=True):
            middles = []
            for place, name in enumerate(names):
                found = values(results, what, key, name)
                middle = median(found)
                middles.append(middle)
                error = [[middle - min(found)], [max(found) - middle]]
                colour = "#0b7285" if name == OURS else "#b8c0c8"
                axis.barh(place, middle, xerr=error, color=colour, error_kw={"ecolor": "#495057", "elinewidth": 1})
                digits = 2 if middle < 10 and key == "seconds" else 0
                axis.annotate(
                    f"{middle:,.{digits}f}",
                    (max(found), place),
                    (4, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=8,
                )
            axis.set_title(f"{title}\n", fontsize=9, loc="left")
            axis.text(0, 1.02, better, transform=axis.transAxes, fontsize=7.5, color="#495057")
            axis.set_xlim(0, max(middles) * 1.35)
            axis.set_xticks([])
            axis.spines[["top", "right", "bottom"]].set_visible(False)
            axis.set_yticks(range(len(names)), [TITLES[name] for name in names])
        axes[0].invert_yaxis()


def figures(results: dict[str, Any]) -> str:
    """Of docs/bench.md: where they come from, the table, the bars."""
    facts, tools = results["machine"], results["versions"]
    pages, alone = len(values(results, "page_warm_30_10", "seconds", OURS)), results.get("pages")
    lines = _cells(results)
    shown = ["| " + " | ".join(line) + " |" for line in lines]
    shown.insert(1, "|---" * len(lines[0]) + "|")
    judged = ["| bar | found | |", "|---|---|---|"]
    judged += [f"| {what} | {found} | {'met' if met else '**not met**'} |" for what, found, met in _bars(results)]
    return "\n".join(
        [
            (
                f"Run of {results['date']}: {results['rounds']} rounds ({pages} of pages), loads of {results['seconds']} s, "
                f"{results['took_seconds'] // 60} min in all. {facts['cpu']}, {facts['cores']} cores, {facts['memory_gb']} GB, "
                f"Linux {facts['kernel']}; the proxy on CPUs {facts['cpus_of_the_proxy']}, all else on {facts['cpus_of_the_rest']}; "
                f"load average before the run {facts['load_before']}. nginx {tools['nginx']}, Caddy {tools['caddy']}, "
                f"HAProxy {tools['haproxy']}, Traefik {tools['traefik']}, Chromium {tools['chromium']}."
                + (
                    f" The pages: {alone['date']}, by themselves, load {alone['machine']['load_before']}."
                    if alone
                    else ""
                )
            ),
            "",
            "Median (smallest to largest round). `+`, `-`, `=`: ours as shipped is ahead of this one, behind it or level;",
            "ahead and behind only if every round says so.",
            "",
            *shown,
            "",
            "What we hold ourselves to:",
            "",
            *judged,
        ]
    )


def write(results: dict[str, Any]) -> None:
    """The chart, and the figures of docs/bench.md."""
    _chart(results)
    page.write(FIGURES, figures(results))
