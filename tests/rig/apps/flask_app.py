# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Flask-SocketIO: its client begins by long polling, and goes over to a WebSocket."""

from __future__ import annotations

from pathlib import Path

import nicegui
from flask import Flask, Response, send_file
from flask_socketio import SocketIO

from .sardines import tins

app = Flask(__name__)
socketio = SocketIO(app, async_mode="threading")

PAGE = """<!doctype html><title>Ocapistaine</title><script src="/socket.io.js"></script>
<button disabled>Tins</button><p id="answer"></p><p id="transport"></p>
<script>
  const socket = io(), button = document.querySelector("button");
  const show = () => document.querySelector("#transport").textContent = socket.io.engine.transport.name;
  socket.on("connect", () => {
    button.disabled = false;
    socket.io.engine.on("upgrade", show);
    show();
  });
  socket.on("answer", (text) => document.querySelector("#answer").textContent = text);
  button.onclick = () => socket.emit("tins", 7);
</script>"""


@app.get("/")
def page() -> str:
    return PAGE


@app.get("/socket.io.js")
def client() -> Response:
    """Another framework of the same image has it."""
    return send_file(Path(nicegui.__file__).parent / "static" / "socket.io.min.js")


@socketio.on("tins")
def answer(fish: int) -> None:
    socketio.emit("answer", tins(fish))


if __name__ == "__main__":
    socketio.run(app, host="0.0.0.0", port=5000, allow_unsafe_werkzeug=True)
