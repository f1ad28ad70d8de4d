# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""WebSocket opening handshakes with curl, several at a time."""

from __future__ import annotations

import base64
import os
import shlex
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

from . import _http, _websocket

TIMEOUT = 10  # seconds for one handshake
# curl's exit statuses (curl manual, EXIT CODES)
BAD_CA = 77
_REASONS = {6: "dns", 7: "refused", 28: "timeout", 35: "tls_untrusted", 60: "tls_untrusted"}
_AT_ONCE = 8  # curl processes
_PAUSE = 0.5  # seconds between two rounds


def judge(status: int, headers: dict[str, str], key: str, origin: str, curl_exit: int) -> tuple[str, str]:
    """A word of REASONS, and a sentence where an answer is not `ok`."""
    if not status:
        return _REASONS.get(curl_exit, "no_answer"), ""
    reason, sentence = _websocket.judge(status, headers, key, origin)
    word = _websocket.REASONS[reason]
    return word, "" if word == "ok" else sentence


def command(params: dict[str, Any], key: str) -> list[str]:
    url = urlsplit(params["url"])
    port = url.port or (443 if url.scheme == "https" else 80)
    arguments = ["curl", "--http1.1", "-sSv", "-o", os.devnull, "--noproxy", "*", "--max-time", str(params["timeout"])]
    if params["address"]:
        arguments += ["--resolve", f"{url.hostname}:{port}:{params['address']}"]
    if params["ca_path"]:
        arguments += ["--cacert", params["ca_path"]]
    for name, value in _websocket.handshake(key, params["origin"], []) if params["upgrade"] else []:
        arguments += ["-H", f"{name}: {value}"]
    return [*arguments, params["url"]]


def read_head(trace: Any) -> tuple[bytes, str]:
    """The answer's head out of curl's trace, and curl's last complaint.

    The trace shows headers as they come; with `-i` curl holds those of a 101 back until the connection ends.
    """
    head, complaint = b"", ""
    while len(head) < _http.HEAD_LIMIT:  # a hostile server must not fill our memory
        line = trace.readline(_http.HEAD_LIMIT)
        if line in (b"", b"< \n", b"< \r\n"):
            break
        if line.startswith(b"< "):
            head += line[2:]
        elif line.startswith(b"curl: "):
            complaint = line.decode(errors="replace").strip()
    return head, complaint


def handshake(params: dict[str, Any]) -> dict[str, Any]:
    key = base64.b64encode(os.urandom(16)).decode()
    arguments = command(params, key)
    with subprocess.Popen(arguments, stderr=subprocess.PIPE) as process:
        head, complaint = read_head(process.stderr)
        if head:
            process.kill()
    status, headers = _http.parse_head(head)
    curl_exit = 0 if head else process.returncode
    word, sentence = judge(status, headers, key, params["origin"], curl_exit)
    if not status:
        sentence = complaint or f"curl ended with {curl_exit} and no answer"
    return {
        "reason": word,
        "state": headers.get(_websocket.STATE_HEADER, ""),
        "status": status,
        "curl_exit": curl_exit,
        "error": sentence,
        "command": shlex.join(arguments),
    }


def met(wanted: dict[str, Any], found: dict[str, Any] | None) -> bool:
    return found is not None and (not wanted["expected"] or found["reason"] in wanted["expected"])


def try_all(wanted: list[dict[str, Any]], patience: float) -> list[dict[str, Any]]:
    """The last answer to each, in rounds: every handshake gets its turn, however many there are."""
    end = time.monotonic() + patience
    found: dict[int, dict[str, Any]] = {}
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while True:
            rest = [index for index, each in enumerate(wanted) if not met(each, found.get(index))]
            found.update(zip(rest, pool.map(handshake, [wanted[index] for index in rest])))
            left = end - time.monotonic()
            if left <= 0 or all(met(each, found[index]) for index, each in enumerate(wanted)):
                return [found[index] for index in range(len(wanted))]
            time.sleep(min(_PAUSE, left))


def result(wanted: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    told = {name: found[name] for name in ("reason", "status", "state", "error", "command")}
    return {"label": wanted["label"], "url": wanted["url"], **told, "met": met(wanted, found)}
