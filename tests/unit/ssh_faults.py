# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Facts of an agent with a tunnel of its own, and what is wrong with them, for test_diagnosis. The log is sshd's."""

from __future__ import annotations

from typing import Any

FROM = "from 198.51.100.9 port 50000"
LINES = {
    "accepted": f"Accepted publickey for ocapistaine {FROM} ssh2: ED25519 SHA256:right",
    "from": f"Connection {FROM} on 172.20.0.2 port 2222 rdomain",
    "left": f"Disconnected from user ocapistaine {FROM[5:]}",
    "second": f"Accepted publickey for second {FROM} ssh2: ED25519 SHA256:second",
    "knock": "Connection closed by 198.51.100.9 port 50000",
    "bot": "Invalid user admin from 203.0.113.66 port 50000",
    "forger": f"Invalid user Failed publickey for ocapistaine {FROM} ssh2: x x from 203.0.113.66 port 1",
    "bot_left": "Connection closed by 203.0.113.66 port 50000 [preauth]",
    "wrong_key": f"Failed publickey for ocapistaine {FROM} ssh2: ED25519 SHA256:wrong",
    "others_wrong_key": f"Failed publickey for second {FROM} ssh2: ED25519 SHA256:wrong",
    "folder": "unix_listener: cannot bind to path /tunnel/second/app: Permission denied",
    "tcp": f"Received request {FROM} to remote forward to host localhost port 8080, but the request was denied.",
    "shell": "no more sessions",
    "user": f"Invalid user app {FROM}",
    "host": "Connection closed by 198.51.100.9 port 50000 [preauth]",
    "old": ("Unable to negotiate with 198.51.100.9 port 50000: no matching key exchange method found. Their offer: x"),
    "penalty": "drop connection #0 from [198.51.100.9]:50000 on [172.20.0.2]:2222 penalty: failed authentication",
    "asleep": "Timeout, client not responding from user ocapistaine 198.51.100.9 port 50000",
}
SERVER: dict[str, Any] = {
    "name": "vaettir-tunnel-ssh-1",
    "status": "running",
    "running": True,
    "health": "healthy",
    "log": "",
    "ports": ["2222"],
    "connections": {"ocapistaine": 1},
    "lines": [LINES["accepted"]],
}
GONE = {"reason": "refused", "status": 0, "state": "", "timings": {}, "error": "nothing listens on /srv/app"}
SSH: dict[str, Any] = {
    "agent.tunnel": "ssh",
    "agent.tunnel_port": 2222,
    "agent.target_url": "http://localhost:8501",
    "found.target": "http://localhost:8501",
    "found.env.target": "http://localhost:8501",
    "found.container.target": "http://localhost:8501",
    "found.resolved": {"by": "server", "addresses": ["/srv/app"], "error": "", "overridden": ""},
    "found.reach": "",
    "found.ssh": {"server": SERVER, "keys": 1, "fingerprint": "SHA256:host", "folder": "there"},
    "control.ssh": "connected",
}


def _server(**more: Any) -> dict[str, Any]:
    return {**SSH, "found.ssh": {**SSH["found.ssh"], "server": {**SERVER, **more}}}


def gone(*lines: str, connections: int = 0) -> dict[str, Any]:
    told = [LINES[line] for line in lines]
    return {**_server(lines=told, connections={"ocapistaine": connections}), "probes.tunnel": GONE}


def _tunnel(**told: Any) -> dict[str, Any]:
    return {**SSH, "probes.tunnel": {**GONE, **told}}


NOT_MOUNTED = {**SSH, "found.ssh": {**SSH["found.ssh"], "folder": "not there"}}
OLD_PORT = {**_server(ports=["2222"]), "agent.tunnel_port": 2223, "control.ssh": "refused"}
REMOVED = {**SSH, "found.ssh": {**SSH["found.ssh"], "folder": "one that was removed"}}
BROKEN: list[tuple[str, dict[str, Any]]] = [
    ("ssh_app_not_listening", _tunnel(reason="closed")),
    ("ssh_app_silent", _tunnel(reason="timeout")),
    ("ssh_app_error", _tunnel(reason="not_a_websocket", status=500)),
    (
        "ssh_app_origin",
        {**_tunnel(reason="refused_origin", status=403), "found.page": {"status": 200, "streamlit": True}},
    ),
    (
        "ssh_app_other",
        {**_tunnel(reason="not_a_websocket", status=404), "found.page": {"status": 404, "streamlit": False}},
    ),
    (
        "ssh_app_websocket",
        {**_tunnel(reason="not_a_websocket", status=200), "agent.profile": "generic"},
    ),
    ("ssh_wrong_key", gone("wrong_key")),
    ("ssh_offline", gone("others_wrong_key")),
    ("ssh_other_folder", gone("accepted", "folder")),
    ("ssh_tcp", gone("accepted", "tcp", connections=1)),
    ("ssh_shell", gone("accepted", "shell", "left")),
    ("ssh_offline", gone("accepted", "shell", "left", "accepted", "left")),
    ("ssh_offline", gone("from", "second", "shell", "folder")),
    ("ssh_offline", gone("from", "knock")),
    ("ssh_offline", gone("accepted", "left", "bot", "bot_left")),
    ("ssh_asleep", gone("accepted", "asleep", "bot")),
    ("ssh_asleep", gone("accepted", "asleep", "forger")),
    ("ssh_wrong_user", gone("user")),
    ("ssh_wrong_user", gone("bot")),
    ("ssh_wrong_user", gone("accepted", "left", "user")),
    ("ssh_unknown_host", gone("host")),
    ("ssh_old_client", gone("old")),
    ("ssh_penalty", gone("wrong_key", "penalty")),
    ("ssh_no_forward", gone("accepted", connections=1)),
    ("ssh_asleep", gone("accepted", "asleep")),
    ("ssh_offline", gone("accepted", "left")),
    ("ssh_offline", gone()),
    ("ssh_server_missing", {**SSH, "found.ssh": {**SSH["found.ssh"], "server": {}}, "probes.tunnel": GONE}),
    ("ssh_server_stopped", {**_server(running=False, status="exited", log=""), "probes.tunnel": GONE}),
    ("ssh_folder", _tunnel(reason="unreachable", error="no way to /srv/app: Permission denied")),
    ("ssh_not_mounted", NOT_MOUNTED),
    ("ssh_folder_removed", REMOVED),
    ("ssh_port_changed", {**OLD_PORT, "probes.tunnel": GONE}),
    ("ssh_keys_gone", {**gone(), "found.ssh": {**SSH["found.ssh"], "keys": 0}}),
    ("ssh_port_closed", {**gone(), "control.ssh": "timed out"}),
]
