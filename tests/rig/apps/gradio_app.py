# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A Gradio app: a function, one that streams, and a file."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import gradio


def tins(fish: float) -> str:
    return f"{fish:.0f} sardines fill {-(-int(fish) // 6)} tins"


def count(fish: float) -> Iterator[str]:
    for number in range(int(fish)):
        yield f"sardine {number}"
        time.sleep(0.3)


def size(path: str) -> int:
    return Path(path).stat().st_size


with gradio.Blocks(title="Ocapistaine", analytics_enabled=False) as demo:
    gradio.Markdown("# Ocapistaine")
    fish = gradio.Number(7, label="Sardines")
    answer = gradio.Textbox(label="Answer")
    file = gradio.File(label="File")
    length = gradio.Number(label="Bytes")
    gradio.Button("Tins").click(tins, fish, answer, api_name="tins")
    gradio.Button("Count").click(count, fish, answer, api_name="count")
    gradio.Button("Size").click(size, file, length, api_name="size")

if __name__ == "__main__":
    demo.launch(server_name="0.0.0.0", server_port=7860, quiet=True, ssr_mode=False)
