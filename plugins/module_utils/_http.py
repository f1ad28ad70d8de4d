# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""HTTP/1.1 and HTTP/2 as far as a probe speaks them: pure functions, no network. RFC 9110, 9112, 9113, 8441, 7541."""

from __future__ import annotations

import re
from typing import Iterable, NamedTuple
from urllib.parse import urlsplit

HEAD_LIMIT = 65536  # bytes of an answer's header, interim answers included
BODY_LIMIT = 1 << 20  # bytes of an answer's body
HTTP2_LIMIT = 4 << 20  # bytes of a whole HTTP/2 connection

_PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
_HOST = re.compile(
    r"(?=.{1,253}\Z)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*|[0-9A-Fa-f:.]+"
)
_STATUS_LINE = re.compile(r"HTTP/1\.[01] ([1-9][0-9]{2})( .*)?", re.DOTALL)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, section 5.6.2
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]{0,1000})?\r\n")
_CHUNK_LINE_LIMIT = 1100  # bytes
_HEAD_END = re.compile(rb"\n\r?\n")


class WireError(ValueError):
    """Bytes that the protocol does not allow; the sentence names them."""


class Url(NamedTuple):
    secure: bool
    host: str  # for DNS, SNI and the certificate
    port: int
    authority: str  # for Host and :authority
    target: str  # path and query


def parse_url(text: str) -> Url:
    """ValueError with a sentence for what no handshake can be sent to."""
    if not re.fullmatch(r"[!-~]+", text):
        raise ValueError("it has a character that must be percent-encoded")
    parts = urlsplit(text)
    if parts.scheme not in _PORTS:
        raise ValueError("it begins with none of https:// http:// wss:// ws://")
    if "@" in parts.netloc:
        raise ValueError("it has credentials, which have no place in a URL")
    host, port = (parts.hostname or "").rstrip("."), parts.port
    if not _HOST.fullmatch(host) or port == 0:
        raise ValueError("it has no host name, or a port that does not exist")
    usual = _PORTS[parts.scheme]
    shown = f"[{host}]" if ":" in host else host
    authority = shown if port in (None, usual) else f"{shown}:{port}"
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Url(usual == 443, host, port or usual, authority, target)


def is_token(text: str) -> bool:
    return _TOKEN.fullmatch(text) is not None


def is_value(text: str) -> bool:
    """Whether it may stand as a header's value."""
    return re.fullmatch(r"[!-~\x80-\xff]([\t -~\x80-\xff]*[!-~\x80-\xff])?", text) is not None


# --- HTTP/1.1 ---------------------------------------------------------------------------------------------------------


def request(method: str, url: Url, headers: Iterable[tuple[str, str]]) -> bytes:
    lines = [f"{method} {url.target} HTTP/1.1", f"Host: {url.authority}"]
    lines += [f"{name}: {value}" for name, value in headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def may_be_http(start: bytes) -> bool:
    """Whether more bytes can still make an HTTP/1 answer of it."""
    return b"HTTP/1."[: len(start)] == start[:7]


def head_end(data: bytes | bytearray, seen: int = 0) -> int:
    """Where the body begins, -1 while it does not; `seen` bytes were looked at before."""
    match = _HEAD_END.search(data, max(0, seen - 3))
    return match.end() if match else -1


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers of an HTTP/1 answer, names in lower case, equal ones joined; status 0 where it is none."""
    lines = head.decode("latin-1").replace("\r\n", "\n").split("\n")
    match = _STATUS_LINE.fullmatch(lines[0])
    if not match:
        return 0, {}
    headers: dict[str, list[str]] = {}
    last: list[str] = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if line[:1] in (" ", "\t"):  # obs-fold (RFC 9112, section 5.2)
            last[-1:] = [" ".join([*last[-1:], line.strip()])]
        elif colon:
            last = headers.setdefault(name.strip().lower(), [])
            last.append(value.strip())
    return int(match.group(1)), {name: ", ".join(filter(None, values)) for name, values in headers.items()}


def body(headers: dict[str, str], data: bytes) -> tuple[bytes, bool]:
    """What has come of a body (RFC 9112, section 6), and whether that is all of it, as far as its header tells."""
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return _unchunked(data)
    length = headers.get("content-length", "")
    if not length:
        return data, False
    if not re.fullmatch(r"[0-9]{1,18}", length):
        raise WireError("a Content-Length that is no number")
    return data[: int(length)], len(data) >= int(length)


def _unchunked(data: bytes) -> tuple[bytes, bool]:
    """RFC 9112, section 7.1."""
    made, index = bytearray(), 0
    while match := _CHUNK.match(data, index):
        begin, size = match.end(), int(match[1], 16)
        made += data[begin : begin + size]
        index = begin + size
        if size == 0 or len(data) < index + 2:
            return bytes(made), size == 0
        if data[index : index + 2] != b"\r\n":
            raise WireError("a chunk that is longer than it says")
        index += 2
    if len(data) - index > _CHUNK_LINE_LIMIT or b"\n" in data[index:]:
        raise WireError("a chunk without a size")
    return bytes(made), False


# --- HTTP/2 -----------------------------------------------------------------------------------------------------------

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 5, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS, PADDED, PRIORITY = 0x01, 0x01, 0x04, 0x08, 0x20
CONNECT_PROTOCOL = "SETTINGS_ENABLE_CONNECT_PROTOCOL"
_SETTINGS = {
    1: "SETTINGS_HEADER_TABLE_SIZE",
    2: "SETTINGS_ENABLE_PUSH",
    3: "SETTINGS_MAX_CONCURRENT_STREAMS",
    4: "SETTINGS_INITIAL_WINDOW_SIZE",
    5: "SETTINGS_MAX_FRAME_SIZE",
    6: "SETTINGS_MAX_HEADER_LIST_SIZE",
    8: CONNECT_PROTOCOL,
    9: "SETTINGS_NO_RFC7540_PRIORITIES",
}
_RANGES = {2: (0, 1), 4: (0, 2**31 - 1), 5: (2**14, 2**24 - 1), 8: (0, 1), 9: (0, 1)}
_FRAME_LIMIT = 16384  # bytes; we announce no other SETTINGS_MAX_FRAME_SIZE
_WINDOW = 1 << 20  # bytes that the server may send before it has to ask
_STREAM = 1  # the only one


def http2_frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def parse_settings(payload: bytes) -> dict[str, int]:
    """SETTINGS by the names of RFC 9113 and 8441; unknown ones by their number."""
    if len(payload) % 6:
        raise WireError(f"SETTINGS of {len(payload)} bytes")
    found = {}
    for index in range(0, len(payload), 6):
        number, value = (
            int.from_bytes(payload[index : index + 2], "big"),
            int.from_bytes(payload[index + 2 : index + 6], "big"),
        )
        name = _SETTINGS.get(number, f"0x{number:04x}")
        low, high = _RANGES.get(number, (0, 2**32 - 1))
        if not low <= value <= high:
            raise WireError(f"{name} of {value}")
        found[name] = value
    return found


def _integer(value: int, bits: int, flags: int = 0) -> bytes:
    """RFC 7541, section 5.1."""
    limit = (1 << bits) - 1
    if value < limit:
        return bytes((flags | value,))
    made = bytearray((flags | limit,))
    value -= limit
    while value > 127:
        made.append(value & 127 | 128)
        value >>= 7
    made.append(value)
    return bytes(made)


def header_block(fields: Iterable[tuple[str, str]]) -> bytes:
    """Literal fields without indexing and without Huffman (RFC 7541, section 6.2.2): a server must take them."""
    made = bytearray()
    for name, value in fields:
        raw, text = name.lower().encode("latin-1"), value.encode("latin-1")
        made += b"\0" + _integer(len(raw), 7) + raw + _integer(len(text), 7) + text
    return bytes(made)


class _Block:
    """Reads the beginning of a header block."""

    def __init__(self, data: bytes) -> None:
        self.data, self.index = data, 0

    def byte(self) -> int:
        if self.index >= len(self.data):
            raise WireError("a header block that breaks off")
        self.index += 1
        return self.data[self.index - 1]

    def integer(self, first: int, bits: int) -> int:
        limit = (1 << bits) - 1
        value = first & limit
        if value < limit:
            return value
        for shift in range(0, 28, 7):
            more = self.byte()
            value += (more & 127) << shift
            if more < 128:
                return value
        raise WireError("a number of too many bytes in a header block")

    def text(self) -> bytes:
        first = self.byte()
        size = self.integer(first, 7)
        raw = self.data[self.index : self.index + size]
        if len(raw) < size:
            raise WireError("a header block that breaks off")
        self.index += size
        return _digits(raw) if first & 0x80 else raw


def _digits(raw: bytes) -> bytes:
    """Huffman code (RFC 7541, appendix B) of digits, which is all that a status has; nothing for other text."""
    bits = "".join(f"{byte:08b}" for byte in raw[:8])
    found = ""
    while len(bits) >= 5 and not (len(bits) < 8 and set(bits) == {"1"}):
        if int(bits[:5], 2) < 3:
            found, bits = found + str(int(bits[:5], 2)), bits[5:]
        elif len(bits) >= 6 and 25 <= int(bits[:6], 2) <= 31:
            found, bits = found + str(int(bits[:6], 2) - 22), bits[6:]
        else:
            return b""
    return found.encode("ascii")


_INDEXED_STATUS = dict(enumerate((200, 204, 206, 304, 400, 404, 500), 8))  # RFC 7541, appendix A


def status_of(block: bytes) -> int:
    """:status, which is the first field of an answer (RFC 9113, sections 8.3 and 8.3.2)."""
    reader = _Block(block)
    first = reader.byte()
    while first & 0xE0 == 0x20:  # the size of a table that we said we have none of
        reader.integer(first, 5)
        first = reader.byte()
    if first & 0x80:
        status = _INDEXED_STATUS.get(reader.integer(first, 7), 0)
    else:
        index = reader.integer(first, 6 if first & 0x40 else 4)
        named = index in _INDEXED_STATUS or (index == 0 and reader.text() == b":status")
        text = reader.text() if named else b""
        status = int(text) if re.fullmatch(rb"[1-9][0-9]{2}", text) else 0
    if not status:
        raise WireError("an answer that does not begin with :status")
    return status


class Http2:
    """The client's side of one HTTP/2 connection with one stream; bytes in, bytes out."""

    def __init__(self) -> None:
        self.settings: dict[str, int] | None = None
        self.status = 0
        self.ended = ""  # why nothing more will come
        self._buffer = b""
        self._rest = HTTP2_LIMIT
        self._block: bytes | None = None  # of HEADERS that go on in CONTINUATION

    @staticmethod
    def opening() -> bytes:
        """Preface and settings: no table for header fields, no push, a window that a probe does not fill."""
        pairs = ((1, 0), (2, 0), (4, _WINDOW))
        settings = b"".join(number.to_bytes(2, "big") + value.to_bytes(4, "big") for number, value in pairs)
        window = http2_frame(WINDOW_UPDATE, 0, 0, _WINDOW.to_bytes(4, "big"))
        return PREFACE + http2_frame(SETTINGS, 0, 0, settings) + window

    @staticmethod
    def request(fields: Iterable[tuple[str, str]]) -> bytes:
        block = header_block(fields)
        parts = [block[index : index + _FRAME_LIMIT] for index in range(0, len(block), _FRAME_LIMIT)]
        kinds = [HEADERS] + [CONTINUATION] * (len(parts) - 1)
        flags = [0] * (len(parts) - 1) + [END_HEADERS]
        return b"".join(http2_frame(kind, flag, _STREAM, part) for kind, flag, part in zip(kinds, flags, parts))

    @staticmethod
    def data(payload: bytes) -> bytes:
        return http2_frame(DATA, 0, _STREAM, payload)

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """What to send back, and what the stream carried; WireError for what is not HTTP/2."""
        self._rest -= len(data)
        if self._rest < 0:
            raise WireError(f"more than {HTTP2_LIMIT} bytes")
        buffer, index = self._buffer + data, 0
        reply, body = bytearray(), bytearray()
        while len(buffer) - index >= 9:
            size, kind, flags = int.from_bytes(buffer[index : index + 3], "big"), buffer[index + 3], buffer[index + 4]
            stream = int.from_bytes(buffer[index + 5 : index + 9], "big") & 0x7FFFFFFF
            if self.settings is None and (kind != SETTINGS or flags & ACK):  # RFC 9113, section 3.4
                raise WireError("bytes that do not begin with SETTINGS")
            if size > _FRAME_LIMIT:
                raise WireError(f"a frame of {size} bytes, where {_FRAME_LIMIT} are the limit")
            if len(buffer) - index < 9 + size:
                break
            payload, index = buffer[index + 9 : index + 9 + size], index + 9 + size
            reply += self._frame(kind, flags, stream, payload, body)
        self._buffer = buffer[index:]
        return bytes(reply), bytes(body)

    def _frame(self, kind: int, flags: int, stream: int, payload: bytes, body: bytearray) -> bytes:
        if self._block is not None and (kind != CONTINUATION or stream != _STREAM):
            raise WireError("a header block that something else breaks into")
        if kind in (SETTINGS, PING, GOAWAY) and stream:
            raise WireError(f"frame type {kind} on stream {stream}")
        if kind in (DATA, HEADERS, RST_STREAM, CONTINUATION, PUSH_PROMISE) and stream != _STREAM:
            raise WireError(f"frame type {kind} on stream {stream}")
        if kind == SETTINGS:
            if flags & ACK:
                return b""
            self.settings = {**(self.settings or {}), **parse_settings(payload)}
            return http2_frame(SETTINGS, ACK, 0, b"")
        if kind == PING:
            if len(payload) != 8:
                raise WireError(f"PING of {len(payload)} bytes")
            return b"" if flags & ACK else http2_frame(PING, ACK, 0, payload)
        if kind == PUSH_PROMISE:
            raise WireError("PUSH_PROMISE, which we said we do not take")
        if kind in (GOAWAY, RST_STREAM):
            code = payload[4:8] if kind == GOAWAY else payload[:4]
            self.ended = f"{'GOAWAY' if kind == GOAWAY else 'RST_STREAM'} with error code {int.from_bytes(code, 'big')}"
        elif kind == DATA:
            body += _unpadded(payload, flags)
        elif kind == HEADERS:
            payload = _unpadded(payload, flags)
            self._block = payload[5:] if flags & PRIORITY else payload
        elif kind == CONTINUATION:
            if self._block is None:
                raise WireError("CONTINUATION of nothing")
            self._block += payload
            if len(self._block) > HEAD_LIMIT:
                raise WireError(f"a header block of more than {HEAD_LIMIT} bytes")
        if kind in (HEADERS, CONTINUATION) and flags & END_HEADERS and self._block is not None:
            block, self._block = self._block, None
            if not self.status:  # what follows a final answer are trailers
                status = status_of(block)
                self.status = status if status >= 200 else 0
        if kind in (DATA, HEADERS) and flags & END_STREAM:
            self.ended = "the stream's end"
        return b""


def _unpadded(payload: bytes, flags: int) -> bytes:
    if not flags & PADDED:
        return payload
    if not payload or payload[0] >= len(payload):
        raise WireError("padding that is longer than its frame")
    return payload[1 : len(payload) - payload[0]]
