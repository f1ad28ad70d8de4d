# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A Gradio app: a function, one that streams, and a file."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import gradio

from .sardines import tins


def count(fish: float) -> Iterator[str]:
    for number in range(int(fish)):
        yield f"sardine {number}"
        time.sleep(0.3)


def size(path: str) -> int:
    return Path(path).stat().st_size


def label(fish: float) -> str:
    """A file for the visitor; Gradio makes its address."""
    path = Path(tempfile.mkdtemp()) / "label.txt"
    path.write_text(tins(fish), encoding="utf-8")
    return str(path)


with gradio.Blocks(title="Ocapistaine", analytics_enabled=False) as demo:
    gradio.Markdown("# Ocapistaine")
    fish = gradio.Number(7, label="Sardines")
    answer = gradio.Textbox(label="Answer")
    file = gradio.File(label="File")
    length = gradio.Number(label="Bytes")
    gradio.Button("Tins").click(tins, fish, answer, api_name="tins")
    gradio.Button("Count").click(count, fish, answer, api_name="count")
    gradio.Button("Label").click(label, fish, gradio.File(label="Print"), api_name="label")
    gradio.Button("Size").click(size, file, length, api_name="size")

if __name__ == "__main__":
    demo.launch(server_name="0.0.0.0", server_port=7860, quiet=True, ssr_mode=False)
