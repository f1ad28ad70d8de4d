# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The edge's own answers: every ngrok error that travels over HTTP, and the faults below HTTP."""

from __future__ import annotations

import html
import re
from typing import NamedTuple

from aiohttp import web


class Error(NamedTuple):
    status: int  # what field reports saw; where nobody reported one, a likely one (a fault may override it)
    text: str


ERRORS = {
    "ERR_NGROK_338": Error(403, "The account of {host} is suspended."),
    "ERR_NGROK_702": Error(429, "Too many connections to {host} in this minute."),
    "ERR_NGROK_703": Error(429, "Too many connections to {host} in this minute."),
    "ERR_NGROK_724": Error(502, "No backend serves {host}."),
    "ERR_NGROK_725": Error(403, "{host} has used up its bandwidth for this month."),
    "ERR_NGROK_726": Error(403, "{host} has used up a quota for this month."),
    "ERR_NGROK_727": Error(402, "{host} has used up its HTTP requests for this month."),
    "ERR_NGROK_728": Error(403, "{host} has used up a quota for this month."),
    "ERR_NGROK_729": Error(403, "{host} has used up a quota for this month."),
    "ERR_NGROK_730": Error(403, "{host} has used up a quota for this month."),
    "ERR_NGROK_731": Error(403, "{host} has used up a quota for this month."),
    "ERR_NGROK_734": Error(403, "Too many requests to {host} in this minute."),
    "ERR_NGROK_742": Error(503, "The agent of {host} is draining its connections."),
    "ERR_NGROK_743": Error(503, "The agent of {host} is draining its connections."),
    "ERR_NGROK_3003": Error(400, "This client sent no SNI, but {host} needs it."),
    "ERR_NGROK_3004": Error(502, "The app behind {host} gave an invalid or incomplete answer."),
    "ERR_NGROK_3200": Error(404, "The endpoint {host} is offline."),
    "ERR_NGROK_3202": Error(503, "The circuit breaker of {host} is open."),
    "ERR_NGROK_3203": Error(403, "The IP policy of {host} refuses this address."),
    "ERR_NGROK_3205": Error(403, "The IP policy of {host} refuses this address."),
    "ERR_NGROK_3206": Error(400, 'A WebSocket request to {host} came without "Connection: upgrade".'),
    "ERR_NGROK_3208": Error(403, "The endpoint {host} is banned."),
    "ERR_NGROK_3213": Error(403, "The origin of the upgrade request to {host} is forbidden."),
    "ERR_NGROK_6024": Error(200, "You are about to visit {host}."),
    "ERR_NGROK_8012": Error(502, "The agent of {host} is up, but nothing listens on the app's port."),
    "ERR_NGROK_8014": Error(403, "The agent of {host} is blocked."),
}

# What the ngrok agent is at fault for: over as soon as one is started anew.
OF_THE_AGENT = ("ERR_NGROK_724", "ERR_NGROK_742", "ERR_NGROK_743")
# Faults that strike before any HTTP is spoken.
LINE_FAULTS = ("reset", "blackhole")
CERTIFICATE_FAULTS = ("bad_certificate", "wrong_name", "expired_certificate")
FAULTS = (*ERRORS, *LINE_FAULTS, *CERTIFICATE_FAULTS)

FREE_HOST = re.compile(r"\.ngrok-free\.(app|dev)$")

PAGE = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{code}</title></head>
<body><h1>{code}</h1><p>{text}</p></body></html>
"""


def is_browser(request: web.BaseRequest) -> bool:
    return request.headers.get("User-Agent", "").startswith("Mozilla/")


def wants_interstitial(request: web.BaseRequest, host: str) -> bool:
    return (
        is_browser(request)
        and "ngrok-skip-browser-warning" not in request.headers
        and FREE_HOST.search(host) is not None
    )


def answer(request: web.BaseRequest, host: str, code: str, status: int | None = None) -> web.Response:
    """HTML to browsers, text to all others; only the header is the same everywhere."""
    error = ERRORS[code]
    text = error.text.format(host=host)
    browser = is_browser(request) or code == "ERR_NGROK_6024"
    response = web.Response(
        status=status or error.status,
        text=PAGE.format(code=code, text=html.escape(text)) if browser else f"{text}\n\n{code}\n",
        content_type="text/html" if browser else "text/plain",
    )
    response.headers["ngrok-error-code"] = code
    return response
