# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A laptop with an app of every profile, each on a port of its own; ends when one of them ends."""

from __future__ import annotations

import asyncio
import os
import sys

from .catalogue import APPS, FRAMEWORKS, IDENTITY

ALL = (*APPS.values(), IDENTITY)


async def until_open() -> None:
    for port in (app.port for app in ALL):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                break


# Some would like to talk to their makers; Jupyter looks for its parts where no pip has put them.
SETTINGS = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "HF_HUB_OFFLINE": "1",
    "NEXT_TELEMETRY_DISABLED": "1",
    "JUPYTER_PATH": f"{FRAMEWORKS}/share/jupyter",
    "JUPYTER_CONFIG_PATH": f"{FRAMEWORKS}/etc/jupyter",
}


async def main() -> int:
    processes = [
        await asyncio.create_subprocess_exec(
            *app.command, *app.options, env={**os.environ, **SETTINGS, "PYTHONPATH": app.libraries}
        )
        for app in ALL
    ]
    ends = [asyncio.ensure_future(process.wait()) for process in processes]
    ready = asyncio.ensure_future(until_open())
    await asyncio.wait([ready, *ends], return_when=asyncio.FIRST_COMPLETED)
    if not any(end.done() for end in ends):
        print("apps: ready", flush=True)
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    print("apps: one has ended", flush=True)
    return 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
