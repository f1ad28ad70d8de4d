# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What both benches make of their samples: a file of results, figures in docs/bench.md, a chart next to it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests import docs
from tests.rig.shell import ROOT

PAGE = "docs/bench.md"


def save(path: Path, results: dict[str, Any]) -> None:
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8")))


def write(what: str, figures: str) -> None:
    """Between the markers of that name."""
    (ROOT / PAGE).write_text(docs.filled(PAGE, what, figures), encoding="utf-8")


@contextmanager
def chart(path: Path, panels: int, height: float, **options: Any) -> Iterator[Any]:
    """Its panels, side by side; the same samples make the same bytes."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    mpl.rcParams.update({"svg.hashsalt": "vaettir", "font.size": 9, "font.family": "sans-serif"})
    figure, axes = pyplot.subplots(1, panels, figsize=(11, height), layout="constrained", **options)
    figure.set_facecolor("white")
    yield axes
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
