# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The client's side of a WebSocket (RFC 6455), and a reason for each answer. Pure functions, no network."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from typing import Any

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
STATE_HEADER = "x-vaettir-state"  # the agent's nginx and the page container say so what is wrong with the tunnel
NGROK_HEADER = "ngrok-error-code"  # nothing but ngrok's edge can set it

# Every reason, and websocket_curl's word for the same thing behind an agent's proxy.
REASONS = {
    "ok": "ok",
    # No connection
    "dns": "dns",
    "refused": "refused",
    "unreachable": "refused",
    "timeout": "timeout",
    "tls_untrusted": "tls_untrusted",
    "tls_pending": "tls_untrusted",
    "tls_name": "tls_untrusted",
    "tls_expired": "tls_untrusted",
    "tls_failed": "tls_untrusted",
    # No answer
    "no_answer": "no_answer",
    "not_http": "no_answer",
    "too_large": "no_answer",
    # An answer, but no WebSocket
    "refused_origin": "refused_origin",
    "bad_key": "not_a_websocket",
    "no_upgrade": "not_a_websocket",
    "not_a_websocket": "not_a_websocket",
    "redirected": "not_a_websocket",
    "unauthorized": "not_a_websocket",
    "too_many_requests": "not_a_websocket",
    "interstitial": "not_a_websocket",
    "no_route": "no_route",
    "stopped": "stopped",
    "offline": "offline",
    "app_down": "offline",
    "rate_limit": "offline",
    "quota": "offline",
    "tunnel_refused": "offline",
    "maintenance": "offline",
    "proxy_error": "proxy_error",
    # A WebSocket that breaks the rules; curl looks at Accept only
    "bad_accept": "bad_accept",
    "bad_upgrade": "ok",
    "bad_extension": "ok",
    "bad_subprotocol": "ok",
    "bad_frame": "ok",
    "app_closed": "ok",
    "closed": "ok",
    "no_pong": "ok",
    # The other questions
    "foreign_origin": "ok",
    "bad_http2": "ok",
    "bad_connect": "ok",
    "upload_refused": "ok",
    "no_stream": "ok",
    "bad_page": "offline",
    "unforeseen": "no_answer",
}

# A page stands where the app was; an answer of the app that it has no WebSocket here.
PAGES = ("offline", "app_down", "rate_limit", "quota", "tunnel_refused", "maintenance")
NO_WEBSOCKET = (
    *("refused_origin", "bad_key", "no_upgrade", "not_a_websocket"),
    *("redirected", "unauthorized", "too_many_requests"),
)
JSON, STREAM = "application/json", "text/event-stream"

# What the agent's nginx says, and ngrok's codes as they stand in its conf (roles/agent_proxy).
STATES = {
    "offline": "offline",
    "app": "app_down",
    "limit": "rate_limit",
    "quota": "quota",
    "refused": "tunnel_refused",
    "maintenance": "maintenance",
    "stopped": "stopped",
    "busy": "too_many_requests",
}
NGROK_CODES = {
    **dict.fromkeys((3200, 3202, 724, 742, 743), "offline"),
    **dict.fromkeys((8012, 3004), "app_down"),
    **dict.fromkeys((734, 702, 703), "rate_limit"),
    **dict.fromkeys((725, 726, 727, 728, 729, 730, 731), "quota"),
    6024: "interstitial",
}

_STATUSES = {
    400: "bad_key",
    401: "unauthorized",
    403: "refused_origin",
    407: "unauthorized",
    426: "no_upgrade",
    429: "too_many_requests",
}

_SENTENCES = {
    "redirected": "it sends elsewhere, and a WebSocket does not follow",
    "no_route": "Traefik, or whatever is in its place, has no route to an agent for this name",
    "bad_key": "a hop changed a header of the handshake, it lacks a subprotocol, or plain HTTP came to a TLS port",
    "no_upgrade": "a hop dropped Upgrade or Connection, or the server speaks another version of the protocol",
    "unauthorized": "it wants credentials first",
    "too_many_requests": "a limit on requests in front of the app is reached",
    "rate_limit": "the tunnel's limit of requests per minute is reached",
    "quota": "the tunnel's quota is used up",
    "not_a_websocket": "there is no WebSocket at this path",
    "proxy_error": "a proxy has no answer of what is behind it",
    "interstitial": "ngrok's warning page for browsers stands in front of the app",
    "stopped": "the agent's own container does not run",
    "offline": "the tunnel is offline",
    "app_down": "the tunnel is up, the app behind it is not",
    "tunnel_refused": "the tunnel refuses to pass this on",
    "maintenance": "the agent is closed for maintenance",
}


def accept_for(key: str) -> str:
    return base64.b64encode(hashlib.sha1(f"{key}{_GUID}".encode("ascii")).digest()).decode("ascii")


def handshake(key: str, origin: str, subprotocols: list[str]) -> list[tuple[str, str]]:
    """The headers of RFC 6455, section 4.1, next to Host."""
    headers = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", key),
    ]
    if subprotocols:
        headers.append(("Sec-WebSocket-Protocol", ", ".join(subprotocols)))
    if origin:
        headers.append(("Origin", origin))
    return headers


def ngrok_code(headers: dict[str, str]) -> str:
    """Only what looks like one: it ends in messages."""
    code = headers.get(NGROK_HEADER, "")
    return code if re.fullmatch(r"ERR_NGROK_[0-9]{1,5}", code) else ""


def _refusal(status: int, headers: dict[str, str]) -> str:
    """The reason of an answer other than 101. The status decides; texts differ between servers and versions."""
    code = ngrok_code(headers)
    if STATE_HEADER in headers:
        return STATES.get(headers[STATE_HEADER], "offline")
    if code:
        return NGROK_CODES.get(int(code[len("ERR_NGROK_") :]), "tunnel_refused")
    if 300 <= status < 400:
        return "redirected"
    if status == 404 and headers.get("server") != "nginx":  # what an agent's nginx sends has its name
        return "no_route"
    return _STATUSES.get(status, "not_a_websocket" if status < 500 else "proxy_error")


def _tokens(value: str) -> list[str]:
    return [token.strip().lower() for token in value.split(",")]


def judge(
    status: int, headers: dict[str, str], key: str, origin: str = "", subprotocols: list[str] | None = None
) -> tuple[str, str]:
    """Reason and sentence for the answer to a handshake (RFC 6455, section 4.1); no sentence for `ok`."""
    if status != 101:
        word = _refusal(status, headers)
        why = _SENTENCES.get(word, "")
        if word == "refused_origin":
            why = f"the Origin {origin} is refused" if origin else "it is refused without an Origin"
        if word == "redirected":
            why = f"{why}: {shown(headers.get('location', 'no Location'))}"
        code = ngrok_code(headers)
        return word, f"answer {status} instead of 101: {why}{f' ({code})' if code else ''}"
    answered = headers.get("sec-websocket-protocol", "")
    if headers.get("sec-websocket-accept") != accept_for(key):
        return "bad_accept", "answer 101 with a wrong Sec-WebSocket-Accept"
    if headers.get("upgrade", "").lower() != "websocket":
        return "bad_upgrade", "answer 101 without Upgrade: websocket"
    if "upgrade" not in _tokens(headers.get("connection", "")):
        return "bad_upgrade", "answer 101 without Connection: Upgrade"
    if headers.get("sec-websocket-extensions"):
        return "bad_extension", "answer 101 with an extension that was not offered"
    if answered and answered not in (subprotocols or []):
        return "bad_subprotocol", f"answer 101 with the subprotocol {shown(answered)}, which was not offered"
    if subprotocols and not answered:  # a browser ends the connection then
        return "bad_subprotocol", f"answer 101 with none of the subprotocols {', '.join(subprotocols)}"
    return "ok", ""


def _parsed(body: bytes) -> Any:
    """JSON; nothing where it is none."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None


def is_of(media_type: str, content_type: str) -> bool:
    return media_type in ("*/*", content_type.partition(";")[0].strip().lower())


def is_sound(media_type: str, body: bytes) -> bool:
    """Whether the body, as far as it was read, is what its type promises."""
    if media_type == JSON:
        return _parsed(body) is not None
    return b"\n" in body if media_type == STREAM else bool(body)


def told_code(body: bytes) -> str:
    """ngrok's code as the agent's page tells it in JSON (roles/agent_proxy/files/offline.js)."""
    told = _parsed(body)
    return ngrok_code({NGROK_HEADER: str(told.get("ngrok_error_code"))}) if isinstance(told, dict) else ""


def judge_get(answer: dict[str, Any], page: bool, websocket: bool) -> tuple[str, str]:
    """Reason and sentence for a GET; `page` where the handshake met one, `websocket` where there should be one."""
    kind, status, state, code = (answer[name] for name in ("accept", "status", "state", "ngrok_code"))
    got = f"a GET for {kind} got {status or answer['error']} {answer['content_type']}".rstrip()
    word = _refusal(status, {NGROK_HEADER: code}) if code else _refusal(status, {STATE_HEADER: state}) if state else ""
    if word == "interstitial" or (word and not page):
        return word, f"{got}: {_SENTENCES[word]}{f' ({code})' if code else ''}"
    if page:
        sound = answer["sound"] or kind == STREAM  # which is no form of it
        return ("ok", "") if state and sound else ("bad_page", f"{got} instead of the page")
    if kind == STREAM and not answer["sound"] and status not in (401, 403):  # who asks for a login is there
        return "no_stream", f"{got} instead of a stream of events"
    if not websocket and not 0 < status < 500:
        return "proxy_error", got
    return "ok", ""


def shown(text: str) -> str:
    """What a server sent, as a message may show it: on one line, short."""
    text = text.encode("unicode_escape").decode("ascii")
    return text if len(text) <= 200 else text[:197] + "..."


# --- Frames (section 5) -----------------------------------------------------------------------------------------------

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
FRAME_LIMIT = (
    16 << 20
)  # bytes; nothing is kept of a message, but one that is too long for the probe's time is said to be
_CONTROL_LIMIT = 125


class FrameError(ValueError):
    """What no server may send (`bad_frame`), or more than we take (`too_large`)."""

    def __init__(self, reason: str, sentence: str) -> None:
        super().__init__(sentence)
        self.reason = reason


def frame(opcode: int, payload: bytes, mask: bytes) -> bytes:
    """One control frame of a client: final, and masked (section 5.3)."""
    if len(payload) > _CONTROL_LIMIT or len(mask) != 4:
        raise ValueError("a control frame has 125 bytes at most, and a mask of 4")
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return bytes((0x80 | opcode, 0x80 | len(payload))) + mask + masked


def close_code(payload: bytes) -> int:
    """Section 7.1.5; 1005 where there is none."""
    return int.from_bytes(payload[:2], "big") if len(payload) >= 2 else 1005


class Frames:
    """Takes a server's frames apart as they come. Control frames come out; of messages nothing is kept."""

    def __init__(self) -> None:
        self._buffer = b""
        self._skip = 0  # bytes of a message that are still to come
        self._fragmented = False
        self._rest = FRAME_LIMIT
        self.messages = 0  # whose last frame has begun

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """Opcode and payload of the control frames that are complete now."""
        self._rest -= len(data)
        if self._rest < 0:
            raise FrameError("too_large", f"more than {FRAME_LIMIT} bytes came before the pong")
        found = []
        buffer, index = self._buffer + data, 0
        while True:
            passed = min(self._skip, len(buffer) - index)
            self._skip, index = self._skip - passed, index + passed
            head = self._head(buffer[index : index + 10]) if not self._skip else None
            if head is None:
                break
            opcode, final, size, length = head
            if opcode < CLOSE:
                self._message(opcode, final)
                self._skip, index = length, index + size
                continue
            if len(buffer) - index < size + length:
                break
            payload, index = buffer[index + size : index + size + length], index + size + length
            if opcode == CLOSE and len(payload) == 1:
                raise FrameError("bad_frame", "a close frame with half a status code")
            found.append((opcode, payload))
        self._buffer = buffer[index:]
        return found

    @staticmethod
    def _head(data: bytes) -> tuple[int, bool, int, int] | None:
        """Opcode, final bit, bytes of the head, bytes of the payload; None while the head is not complete."""
        if len(data) < 2:
            return None
        opcode, length = data[0] & 0x0F, data[1] & 0x7F
        if data[0] & 0x70:
            raise FrameError(
                "bad_frame", "a frame with a reserved bit set, without an extension that gives it a meaning"
            )
        if data[1] & 0x80:
            raise FrameError("bad_frame", "a masked frame: a server must not mask")
        if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG):
            raise FrameError("bad_frame", f"a frame with the reserved opcode {opcode}")
        if opcode >= CLOSE and (length > _CONTROL_LIMIT or not data[0] & 0x80):
            raise FrameError("bad_frame", "a control frame that is fragmented or longer than 125 bytes")
        size = {126: 4, 127: 10}.get(length, 2)
        if len(data) < size:
            return None
        if size > 2:
            length = int.from_bytes(data[2:size], "big")
            if length < (126 if size == 4 else 65536) or length >> 63:
                raise FrameError("bad_frame", "a frame whose length is not written as it must be")
        if length > FRAME_LIMIT:
            raise FrameError("too_large", f"a frame of {length} bytes, where {FRAME_LIMIT} are the limit")
        return opcode, bool(data[0] & 0x80), size, length

    def _message(self, opcode: int, final: bool) -> None:
        if (opcode == CONTINUATION) != self._fragmented:
            raise FrameError("bad_frame", "a fragment that continues nothing, or a message that breaks into another")
        self._fragmented = not final
        self.messages += final
