# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A NiceGUI app: a button, and a file."""

from __future__ import annotations

from nicegui import events, ui

from .sardines import tins


async def arrived(event: events.UploadEventArguments) -> None:
    ui.label(f"{event.file.name}: {event.file.size()} bytes arrived.")


@ui.page("/")
def page() -> None:
    ui.label("Ocapistaine")
    answer = ui.label()
    ui.button("Tins", on_click=lambda: answer.set_text(tins(7)))
    ui.upload(on_upload=arrived, auto_upload=True)


ui.run(host="0.0.0.0", port=8080, title="Ocapistaine", reload=False, show=False)
