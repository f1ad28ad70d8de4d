# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A laptop with an app of every profile, each on a port of its own; ends when one of them ends."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

FOLDER = Path(__file__).parent
OLD, GRADIO = "/opt/streamlit-1.40", "/opt/gradio"
LOGIN_ORIGIN = "https://login.vaettir.example:8443"  # what the owner of an app with st.login would write

STREAMLIT = (
    *("-m", "streamlit", "run", str(FOLDER / "ocapistaine.py"), "--server.address=0.0.0.0", "--server.headless=true"),
    *("--server.fileWatcherType=none", "--browser.gatherUsageStats=false"),
    "--global.developmentMode=false",  # its own guess where it is not installed into site-packages
)
# Port: words of the command, and the folder whose libraries come first.
PORTS: dict[int, tuple[tuple[str, ...], str]] = {
    8502: ((*STREAMLIT, "--server.port=8502", f"--server.corsAllowedOrigins={LOGIN_ORIGIN}"), ""),
    8503: ((*STREAMLIT, "--server.port=8503"), OLD),
    7860: (("-m", f"{__package__}.gradio_app"), GRADIO),
    8000: (("-m", f"{__package__}.fastapi_app"), GRADIO),
    5678: (("-m", f"{__package__}.n8n_double"), ""),
}


async def until_open() -> None:
    for port in PORTS:
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                break


# Gradio would like to talk to its makers.
OFFLINE = {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}


async def main() -> int:
    processes = [
        await asyncio.create_subprocess_exec(
            sys.executable, *words, env={**os.environ, **OFFLINE, "PYTHONPATH": libraries}
        )
        for words, libraries in PORTS.values()
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
