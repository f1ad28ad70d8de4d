# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A Shiny app, started by `shiny run`."""

from __future__ import annotations

from typing import Any

from shiny import App, reactive, render, ui

page = ui.page_fluid(
    ui.h1("Ocapistaine"),
    ui.input_numeric("fish", "Sardines", 7),
    ui.input_action_button("count", "Tins"),
    ui.output_text("answer"),
    ui.input_file("file", "File"),
    ui.output_text("size"),
)


def server(inputs: Any, _outputs: Any, _session: Any) -> None:
    @render.text
    @reactive.event(inputs.count)
    def answer() -> str:
        return f"{inputs.fish()} sardines fill {-(-inputs.fish() // 6)} tins"

    @render.text
    def size() -> str:
        files = inputs.file() or []
        return " ".join(f"{file['name']}: {file['size']} bytes arrived." for file in files)


app = App(page, server)
