# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A Panel app, started by `panel serve`."""

from __future__ import annotations

import panel as pn

pn.extension()
answer = pn.pane.Markdown("")
button = pn.widgets.Button(name="Tins")
button.on_click(lambda _event: setattr(answer, "object", "7 sardines fill 2 tins"))
pn.Column("# Ocapistaine", button, answer).servable()
