# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What came of an agent, as its row of the report says it. What is broken is worded by the diagnosis' rules."""

from __future__ import annotations

from typing import Any, Mapping

from . import _questions, _tunnel, _websocket
from ._server import PAGE, Server, Wanted
from ._transaction import Answer, Outcome, Verification


def row(
    server: Server,
    wanted: Wanted,
    made: Outcome,
    release: str = "",
    untrusted: str = "",
    asked: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """`untrusted` is what the diagnosis says of a certificate that is not trusted yet, `asked` what was verified."""
    found, who = made.verification, f"{wanted.name} on {server.name}"
    told = f"{who}: {made.message}" if made.message else ""
    if found and found.asked and not made.failed:
        told = f"{who}: {result(wanted.settings, found, untrusted)}"
    return {
        "server": server.name,
        "agent": wanted.name,
        "outcome": made.outcome,
        "url": "" if wanted.name == PAGE else str(wanted.settings.get("public_origin") or ""),
        "release": release,
        "seconds": round(made.seconds, 1),
        "changed": made.changed,
        "failed": made.failed,
        "switched": bool(made.plan.action) and not made.failed,
        "online": bool(found and found.asked and found.online),
        "trusted": bool(found and found.untrusted is None),
        "verified": bool(found and not made.failed),
        "notes": list(made.notes),
        "message": told,
        "handshake": _handshake(wanted, found, asked),
    }


def _handshake(wanted: Wanted, found: Verification | None, asked: Mapping[str, str] | None) -> dict[str, Any]:
    """For curl; nothing where it is not asked."""
    words = curl(found)
    if not asked or not words:
        return {}
    return {"label": wanted.name, **asked, "upgrade": _questions.upgrade(wanted.settings), "expected": words}


def curl(found: Verification | None) -> list[str]:
    """The words of curl, the second witness, that agree with it; none: it is not asked."""
    if found is None or not found.asked or found.untrusted:
        return []
    no_websocket = ["ok", "not_a_websocket", "refused_origin"]
    words = {answer.word for answer in (found.traefik, found.direct)}
    handshake = {one.told.get("status") for one in (found.traefik, found.direct)}
    return sorted(words | set(no_websocket if "ok" in words and handshake != {101} else []))


def result(agent: Mapping[str, Any], found: Verification, untrusted: str) -> str:
    """What a visitor gets now."""
    origin, answer = (
        agent["public_origin"],
        found.direct if found.traefik.is_page != found.direct.is_page else found.traefik,
    )
    if found.untrusted:
        return f"deployed; {untrusted}"
    if answer.is_page:
        return f"deployed; {_page(agent, answer)}, so {origin} shows the page"
    if agent["probe_path"]:
        return f"WebSocket upgrade verified at {origin}"
    none = f"profile {agent['profile']} has no WebSocket to verify"
    return f"answers at {origin}; {none}, but {_http(answer)}"


def _page(agent: Mapping[str, Any], answer: Answer) -> str:
    if agent["maintenance"]:
        return "in maintenance"
    start = f"start `ngrok http --url={agent['target_url']} PORT` and the app on the laptop"
    if agent.get("tunnel") == _tunnel.SSH:
        start = f"start `{_tunnel.command(agent)}` and the app on the laptop"
    return f"its tunnel is offline ({answer.state}; {start})"


def _http(answer: Answer) -> str:
    last = (answer.told.get("answers") or [{"accept": "", "sound": True, "status": answer.status}])[-1]
    if last["accept"] != _websocket.STREAM:
        return f"HTTP is verified (answer {last['status']})"
    verified = "is verified" if last["sound"] else "wants a login"
    return f"its stream of events {verified} (answer {last['status']})"
