# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A tunnel of one's own: by OpenSSH a laptop brings its app as a socket in the agent's folder on the server.

Pure, but for the host key that is read.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from typing import Any, Mapping

from . import _files, _names

SSH = "ssh"
USERS = ("root", "sshd")  # of the SSH server's own; every agent is another one
INSIDE = "/run/tunnel"  # where the agent's container has its folder
THERE, NOT_THERE, REMOVED = "there", "not there", "one that was removed"  # what of it a container has
UPSTREAM = f"unix:{INSIDE}/app"  # nginx' target
ALIVE = 7  # seconds, of both ends: dead after three of them without an answer
SOCKETS = "tunnel/sockets"
REPLACE = "docker compose --profile production up -d tunnel-ssh"  # on the server, in the project folder
HOST_KEY = "tunnel/host/ssh_host_ed25519_key.pub"
# As roles/stack/files/tunnel/sshd_config takes them (PubkeyAcceptedAlgorithms).
KEY_TYPES = (
    "ssh-ed25519",
    "sk-ssh-ed25519@openssh.com",
    "ecdsa-sha2-nistp256",
    "ecdsa-sha2-nistp384",
    "ecdsa-sha2-nistp521",
    "sk-ecdsa-sha2-nistp256@openssh.com",
    "ssh-rsa",
)
_KEY = re.compile(r"([a-z0-9@.-]+) ([A-Za-z0-9+/]{40,2000}={0,2})( [^\x00-\x1f\x7f]{1,200})?", re.ASCII)


def _blob(key: str) -> bytes:
    """What a public key says in itself; empty where it is none."""
    found = _KEY.fullmatch(key)
    if not found or found.group(1) not in KEY_TYPES:
        return b""
    try:
        blob = base64.b64decode(found.group(2), validate=True)
    except binascii.Error:
        return b""
    kind = found.group(1).encode()
    return blob if blob.startswith(len(kind).to_bytes(4, "big") + kind) else b""


def key_error(variable: str, key: str) -> str | None:
    """Never shows it: it may be a private one."""
    if _blob(key):
        return None
    use = "a public key in one line, as `cat ~/.ssh/id_ed25519.pub` prints it on the laptop"
    return _names.refusal(variable, "***", use)


def authorized_keys(keys: list[str]) -> str:
    """sshd's file. Comments stay out; what a key may do else is said in sshd_config."""
    return "".join(f"restrict,port-forwarding {' '.join(key.split(' ')[:2])}\n" for key in keys)


def socket(root: str, name: str) -> str:
    """The laptop's app, as the server's login user reaches it."""
    return os.path.join(root, SOCKETS, name, "app")


def command(agent: Mapping[str, Any]) -> str:
    """What a laptop runs."""
    alive = f"-o ServerAliveInterval={ALIVE} -o ServerAliveCountMax=2 -o ExitOnForwardFailure=yes"
    app = str(agent["target_url"]).partition("://")[2]
    app = app if ":" in app else f"{app}:80"
    forward = f"-R /tunnel/{agent['name']}/app:{app}"
    return f"ssh -NT -p {agent['tunnel_port']} {alive} {forward} {agent['name']}@{agent['domain']}"


def fingerprint(root: str) -> str:
    """Of the server's host key, as ssh asks about it; empty before the SSH server's first start."""
    words = (_files.readable(os.path.join(root, HOST_KEY)) or b"").decode("ascii", "replace").split()
    try:
        digest = hashlib.sha256(base64.b64decode(words[1], validate=True)).digest()
    except (IndexError, binascii.Error):
        return ""
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


def note(root: str, agent: Mapping[str, Any]) -> str:
    """For the report of a deploy."""
    known = fingerprint(root)
    return f"on the laptop: `{command(agent)}`" + (f" (the server's key is {known})" if known else "")
