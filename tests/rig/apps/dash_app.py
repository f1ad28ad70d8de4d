# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A Dash app: a callback by POST."""

from __future__ import annotations

from dash import Dash, Input, Output, callback, dcc, html

from .sardines import tins

app = Dash(title="Ocapistaine")
app.layout = [
    html.H1("Ocapistaine"),
    dcc.Slider(0, 50, 1, value=7, marks=None, id="fish"),
    html.Button("Tins", id="count"),
    html.P(id="answer"),
]


@callback(Output("answer", "children"), Input("count", "n_clicks"), Input("fish", "value"), prevent_initial_call=True)
def answer(_clicks: int, fish: int) -> str:
    return tins(fish)


if __name__ == "__main__":
    app.run(host="0.0.0.0", port=8050)
