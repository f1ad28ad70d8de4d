# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What the probe makes of bytes, without a network: the RFCs' examples, recorded answers, any bytes at all."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import trustme
from ansible_collections.locki.vaettir.plugins.module_utils import _certificate, _curl, _http, _probe, _websocket
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).parents[2]
KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455, section 1.3
MASK = bytes.fromhex("37fa213d")  # section 5.7


# --- URLs and requests ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "secure", "host", "port", "authority", "target"),
    [
        ("https://a.example/x", True, "a.example", 443, "a.example", "/x"),
        ("wss://A.example:443/x?y=1#z", True, "a.example", 443, "a.example", "/x?y=1"),
        ("http://a.example:8443", False, "a.example", 8443, "a.example:8443", "/"),
        ("ws://127.0.0.1?q", False, "127.0.0.1", 80, "127.0.0.1", "/?q"),
        ("http://[::1]:8080/", False, "::1", 8080, "[::1]:8080", "/"),
        ("https://a_b.example./", True, "a_b.example", 443, "a_b.example", "/"),
    ],
)
def test_url(text: str, secure: bool, host: str, port: int, authority: str, target: str) -> None:
    assert _http.parse_url(text) == (secure, host, port, authority, target)


BAD_URLS = [
    "",
    "a.example",
    "ftp://a.example/",
    "https://",
    "https://:443/",
    "https://a.example:0/",
    "https://a.example:65536/",
    "https://a.example:x/",
    "https://user:secret@a.example/",
    "https://a b.example/",
    "https://a.example/\r\nX: y",
    "https://bücher.example/",
    "https://a..example/",
    f"https://{'a' * 64}.example/",
    "https://[::1/",
    "https://a;b/",
]


@pytest.mark.parametrize("text", BAD_URLS)
def test_bad_url(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        _http.parse_url(text)


@given(st.text())
def test_any_url(text: str) -> None:
    try:
        url = _http.parse_url(text)
    except ValueError:
        return
    assert b"\n" not in _http.request("GET", url, []).replace(b"\r\n", b"")


def test_request() -> None:
    url = _http.parse_url("https://a.example:8443/ws?x=1")
    headers = _websocket.handshake(KEY, "https://a.example", ["chat", "superchat"])
    assert _http.request("GET", url, headers) == (
        b"GET /ws?x=1 HTTP/1.1\r\nHost: a.example:8443\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        b"Sec-WebSocket-Protocol: chat, superchat\r\nOrigin: https://a.example\r\n\r\n"
    )


# --- Answers ----------------------------------------------------------------------------------------------------------

RFC_ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: chat\r\n\r\n"
)
# As they came over the wire, dates apart.
RECORDED: dict[str, tuple[bytes, str]] = {
    "Traefik without a router": (
        (
            b"HTTP/1.1 404 Not Found\r\nContent-Type: text/plain; charset=utf-8\r\nX-Content-Type-Options: nosniff\r\n"
            b"Date: Mon, 23 Nov 2026 02:00:00 GMT\r\nContent-Length: 19\r\n\r\n"
        ),
        "no_route",
    ),
    "Traefik without a server": (
        (
            b"HTTP/1.1 502 Bad Gateway\r\nDate: Mon, 23 Nov 2026 02:00:00 GMT\r\nContent-Length: 11\r\n"
            b"Content-Type: text/plain; charset=utf-8\r\n\r\n"
        ),
        "proxy_error",
    ),
    "Tornado and a foreign Origin": (
        (
            b"HTTP/1.1 403 Forbidden\r\nServer: TornadoServer/6.6.1\r\nContent-Type: text/html; charset=UTF-8\r\n"
            b"Date: Mon, 23 Nov 2026 02:00:00 GMT\r\n\r\n"
        ),
        "refused_origin",
    ),
    "uvicorn and a foreign Origin": (
        (
            b"HTTP/1.1 403 Forbidden\r\nDate: Mon, 23 Nov 2026 02:00:00 GMT\r\ncontent-length: 0\r\n"
            b"content-type: text/plain\r\nconnection: close\r\n\r\n"
        ),
        "refused_origin",
    ),
    "websockets and no Upgrade": (
        b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nContent-Length: 100\r\n\r\n",
        "no_upgrade",
    ),
    "aiohttp and no Upgrade": (
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nServer: Python/3.11 aiohttp/3.14.5\r\n\r\n",
        "bad_key",
    ),
    "Streamlit's page": (b"HTTP/1.1 200 OK\r\nServer: uvicorn\r\nContent-Type: text/html\r\n\r\n", "not_a_websocket"),
    "ngrok, offline": (
        b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\nNgrok-Error-Code: ERR_NGROK_3200\r\n\r\n",
        "offline",
    ),
    "ngrok, no app": (b"HTTP/1.1 502 Bad Gateway\r\nNgrok-Error-Code: ERR_NGROK_8012\r\n\r\n", "app_down"),
    "ngrok, warning": (b"HTTP/1.1 200 OK\r\nngrok-error-code: ERR_NGROK_6024\r\n\r\n", "interstitial"),
    "an agent's page": (
        (
            b"HTTP/1.1 503 Service Temporarily Unavailable\r\nServer: nginx\r\nContent-Type: text/plain\r\n"
            b"Retry-After: 5\r\nCache-Control: no-store\r\nX-Vaettir-State: offline\r\n\r\n"
        ),
        "offline",
    ),
    "RFC 6455": (RFC_ANSWER.replace(b"Sec-WebSocket-Protocol: chat\r\n", b""), "ok"),
}


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_answer(name: str) -> None:
    head, reason = RECORDED[name]
    assert _http.head_end(head) == len(head)
    found, sentence = _websocket.judge(*_http.parse_head(head), KEY, "https://a.example")
    assert found == reason
    assert bool(sentence) is (reason != "ok")


def test_subprotocols() -> None:
    status, headers = _http.parse_head(RFC_ANSWER)
    assert _websocket.judge(status, headers, KEY, "", ["chat", "superchat"]) == ("ok", "")
    assert _websocket.judge(status, headers, KEY, "", ["superchat"])[0] == "bad_subprotocol"
    assert _websocket.judge(status, headers, KEY)[0] == "bad_subprotocol"


def test_head() -> None:
    head = b"HTTP/1.1 200\r\nA: 1\r\na:2 \r\nB: x\r\n\ty\r\nno header\r\n\r\n"
    assert _http.parse_head(head) == (200, {"a": "1, 2", "b": "x y"})
    assert _http.parse_head(b"HTTP/1.0 404 Not Found\n\n") == (404, {})
    for other in (b"", b"HTTP/2 200\r\n\r\n", b"HTTP/1.1 99 x\r\n", b"HTTP/1.1 \xb2\xb2\xb2\r\n", b"HTTP/1.1 2000\r\n"):
        assert _http.parse_head(other) == (0, {})


@given(st.binary(max_size=300), st.integers(0, 300))
def test_head_end_is_the_same_in_pieces(data: bytes, seen: int) -> None:
    data = data.replace(b"\0", b"\n").replace(b"\1", b"\r")
    if _http.head_end(data[:seen]) < 0:
        assert _http.head_end(data, seen) == _http.head_end(data)


HEADERS = st.dictionaries(
    st.sampled_from(
        [
            "x-vaettir-state",
            "ngrok-error-code",
            "server",
            "location",
            "upgrade",
            "connection",
            "sec-websocket-accept",
            "sec-websocket-protocol",
            "sec-websocket-extensions",
        ]
    ),
    st.text(max_size=40) | st.sampled_from(["nginx", "websocket", "Upgrade", "ERR_NGROK_3200", "stopped", "chat"]),
)


@given(st.integers(100, 999), HEADERS, st.lists(st.sampled_from(["chat", "x"]), unique=True))
def test_any_answer_has_a_reason_and_a_sentence(status: int, headers: dict[str, str], offered: list[str]) -> None:
    reason, sentence = _websocket.judge(status, headers, KEY, "https://a.example", offered)
    assert reason in _websocket.REASONS
    assert bool(sentence) is (reason != "ok")
    assert "\n" not in sentence
    assert len(sentence) < 500


def coarse(status: int, headers: dict[str, str]) -> str:
    """What websocket_curl documents, without the rules that it shares with the probe."""
    if status == 101:
        return "ok" if headers.get("sec-websocket-accept") == _websocket.accept_for(KEY) else "bad_accept"
    if _websocket.STATE_HEADER in headers:
        return "stopped" if headers[_websocket.STATE_HEADER] == "stopped" else "offline"
    if _websocket.ngrok_code(headers):
        return "not_a_websocket" if headers[_websocket.NGROK_HEADER] == "ERR_NGROK_6024" else "offline"
    if status == 404 and headers.get("server") != "nginx":
        return "no_route"
    if status == 403:
        return "refused_origin"
    return "not_a_websocket" if status < 500 else "proxy_error"


@given(st.integers(100, 999), HEADERS)
def test_any_answer_has_a_word_that_is_curls(status: int, headers: dict[str, str]) -> None:
    word = coarse(status, headers)
    assert _websocket.REASONS[_websocket.judge(status, headers, KEY)[0]] == word
    assert _curl.judge(status, headers, KEY, "", 0)[0] == word


@given(st.binary(max_size=2000))
def test_any_head(data: bytes) -> None:
    status, headers = _http.parse_head(data)
    assert status == 0 or 100 <= status <= 999
    assert all(isinstance(value, str) for value in headers.values())
    assert status == 0 or _http.may_be_http(data)


def test_states_and_codes_are_those_of_the_page() -> None:
    role = ROOT / "roles" / "agent_proxy"
    conf = (role / "templates" / "agent.conf.template.j2").read_text(encoding="utf-8")
    states = re.findall(r"~\^ERR_NGROK_\(([0-9|]+)\)\$\" (\w+);", conf)
    assert len(states) == 4
    for codes, state in states:
        for code in codes.split("|"):
            assert _websocket.NGROK_CODES[int(code)] == _websocket.STATES[state]
    text = (role / "files" / "offline.js").read_text(encoding="utf-8")
    match = re.search(r"RETRY_AFTER = \{(.*)\}", text)
    assert match
    assert set(re.findall(r"(\w+):", match.group(1))) == set(_websocket.STATES)


# --- Frames -----------------------------------------------------------------------------------------------------------


def test_frame_of_the_rfc() -> None:
    assert _websocket.frame(_websocket.TEXT, b"Hello", MASK) == bytes.fromhex("818537fa213d7f9f4d5158")


def plain(opcode: int, payload: bytes, final: bool = True) -> bytes:
    """A server's frame."""
    size = len(payload)
    code, more = (size, 0) if size < 126 else (126, 2) if size < 65536 else (127, 8)
    length = size.to_bytes(more, "big") if more else b""
    return bytes((opcode | (0x80 if final else 0), code)) + length + payload


MESSAGE = (
    plain(_websocket.TEXT, b"x" * 70000, final=False)
    + plain(_websocket.PING, b"between")
    + plain(_websocket.CONTINUATION, b"y" * 200)
    + plain(_websocket.BINARY, b"")
    + plain(_websocket.PONG, b"p" * 125)
    + plain(_websocket.CLOSE, b"\x03\xe8bye")
)
CONTROLS = [(_websocket.PING, b"between"), (_websocket.PONG, b"p" * 125), (_websocket.CLOSE, b"\x03\xe8bye")]


@given(st.lists(st.integers(0, len(MESSAGE)), max_size=20))
def test_frames_in_any_pieces(cuts: list[int]) -> None:
    frames = _websocket.Frames()
    edges = [0, *sorted(cuts), len(MESSAGE)]
    found = [control for low, high in pairwise(edges) for control in frames.feed(MESSAGE[low:high])]
    assert found == CONTROLS


def test_one_byte_at_a_time() -> None:
    frames = _websocket.Frames()
    data = MESSAGE[-300:][MESSAGE[-300:].index(b"\x82\x00") :]
    assert [found for byte in data for found in frames.feed(bytes((byte,)))] == CONTROLS[1:]


@pytest.mark.parametrize(
    ("data", "reason", "words"),
    [
        (_websocket.frame(_websocket.PONG, b"x", MASK), "bad_frame", "masked"),
        (b"\xc1\x00", "bad_frame", "reserved bit"),
        (b"\x83\x00", "bad_frame", "reserved opcode 3"),
        (b"\x8f\x00", "bad_frame", "reserved opcode 15"),
        (b"\x09\x00", "bad_frame", "fragmented"),
        (b"\x89\x7e", "bad_frame", "longer than 125"),
        (b"\x80\x00", "bad_frame", "continues nothing"),
        (b"\x01\x00\x01\x00", "bad_frame", "breaks into another"),
        (b"\x81\x7e\x00\x7d", "bad_frame", "not written as it must be"),
        (b"\x81\x7f" + (65535).to_bytes(8, "big"), "bad_frame", "not written as it must be"),
        (b"\x81\x7f\x80" + bytes(7), "bad_frame", "not written as it must be"),
        (b"\x88\x01\x03", "bad_frame", "half a status code"),
        (b"\x82\x7f\x7f" + b"\xff" * 7, "too_large", "a frame of 9223372036854775807 bytes"),
        (b"\x82\x7f" + (_websocket.FRAME_LIMIT + 1).to_bytes(8, "big"), "too_large", "a frame of 16777217 bytes"),
    ],
)
def test_forbidden_frame(data: bytes, reason: str, words: str) -> None:
    with pytest.raises(_websocket.FrameError, match=words) as caught:
        _websocket.Frames().feed(data)
    assert caught.value.reason == reason


def test_too_many_bytes() -> None:
    frames, megabyte = _websocket.Frames(), plain(_websocket.BINARY, bytes(1 << 20))
    for _ in range(15):
        assert frames.feed(megabyte) == []
    with pytest.raises(_websocket.FrameError, match="before the pong"):
        frames.feed(megabyte)


@given(st.lists(st.binary(max_size=200)))
def test_any_frames(chunks: list[bytes]) -> None:
    frames = _websocket.Frames()
    with contextlib.suppress(_websocket.FrameError):
        for chunk in chunks:
            assert all(len(payload) <= 125 for _opcode, payload in frames.feed(chunk))


@pytest.mark.parametrize(("payload", "code"), [(b"", 1005), (b"\x03\xe8", 1000), (b"\x03\xf0why", 1008)])
def test_close_code(payload: bytes, code: int) -> None:
    assert _websocket.close_code(payload) == code


# --- HTTP/2 -----------------------------------------------------------------------------------------------------------

TRAEFIK_SETTINGS = bytes.fromhex("0005001000000003000000fa000600100140000400100000000800000001000900000001")


def test_settings() -> None:
    assert _http.parse_settings(TRAEFIK_SETTINGS) == {
        "SETTINGS_MAX_FRAME_SIZE": 1048576,
        "SETTINGS_MAX_CONCURRENT_STREAMS": 250,
        "SETTINGS_MAX_HEADER_LIST_SIZE": 1048896,
        "SETTINGS_INITIAL_WINDOW_SIZE": 1048576,
        "SETTINGS_ENABLE_CONNECT_PROTOCOL": 1,
        "SETTINGS_NO_RFC7540_PRIORITIES": 1,
    }
    assert _http.parse_settings(b"\xab\xcd\0\0\0\x07") == {"0xabcd": 7}


@pytest.mark.parametrize(
    ("block", "status"),
    [
        ("88", 200),  # RFC 7541, appendix C.4 to C.6, and what servers send
        ("8e", 500),
        ("4803333032", 302),  # C.5.1
        ("4882 6402", 302),  # C.6.1
        ("4883 640eff", 307),  # C.6.2
        ("20 88", 200),
        ("3fe11f 4803353031", 501),
        ("0803343034", 404),
        ("00073a73746174757303323030", 200),
    ],
)
def test_status(block: str, status: int) -> None:
    assert _http.status_of(bytes.fromhex(block.replace(" ", ""))) == status


@pytest.mark.parametrize(
    "block", ["", "48", "4803", "480330", "82", "ff", "00", "0001", "3f3f", "4803303030", "4883ffffff"]
)
def test_no_status(block: str) -> None:
    with pytest.raises(_http.WireError):
        _http.status_of(bytes.fromhex(block))


@given(st.binary(max_size=60))
def test_any_block(block: bytes) -> None:
    with contextlib.suppress(_http.WireError):
        assert 100 <= _http.status_of(block) <= 999


def test_header_block_is_what_hpack_reads() -> None:
    hpack = pytest.importorskip("hpack")
    fields = [(":method", "CONNECT"), (":protocol", "websocket"), ("x-long", "y" * 5000), ("Upper", "a, b")]
    wanted = [(name.lower(), value) for name, value in fields]
    assert hpack.Decoder().decode(_http.header_block(fields)) == wanted


@pytest.mark.parametrize("status", [*range(100, 600, 7), 200, 404, 500, 501])
def test_status_as_hpack_writes_it(status: int) -> None:
    hpack = pytest.importorskip("hpack")
    for huffman in (True, False):
        block = hpack.Encoder().encode([(":status", str(status)), ("server", "x")], huffman=huffman)
        assert _http.status_of(block) == status


SETTINGS = _http.http2_frame(_http.SETTINGS, 0, 0, b"\0\x08\0\0\0\x01")


def test_connection() -> None:
    """A server's whole side in one piece and in single bytes."""
    data = b"".join(
        (
            SETTINGS,
            _http.http2_frame(_http.SETTINGS, _http.ACK, 0, b""),
            _http.http2_frame(_http.PING, 0, 0, b"12345678"),
            _http.http2_frame(_http.WINDOW_UPDATE, 0, 0, bytes(4)),
            _http.http2_frame(_http.HEADERS, _http.END_HEADERS, 1, b"\x48\x03103"),
            _http.http2_frame(_http.HEADERS, _http.PADDED | _http.PRIORITY, 1, b"\x02" + bytes(5) + b"\x88" + bytes(2)),
            _http.http2_frame(_http.CONTINUATION, _http.END_HEADERS, 1, b"\x54\x01x"),
            _http.http2_frame(_http.DATA, _http.PADDED, 1, b"\x01frames\0"),
            _http.http2_frame(99, 0, 3, b"unknown"),
            _http.http2_frame(_http.DATA, _http.END_STREAM, 1, b"!"),
        )
    )
    for size in (len(data), 1):
        http2 = _http.Http2()
        came = [http2.feed(data[index : index + size]) for index in range(0, len(data), size)]
        assert http2.settings == {"SETTINGS_ENABLE_CONNECT_PROTOCOL": 1}
        assert (http2.status, http2.ended) == (200, "the stream's end")
        assert b"".join(body for _reply, body in came) == b"frames!"
        acks = _http.http2_frame(_http.SETTINGS, 1, 0, b"") + _http.http2_frame(_http.PING, 1, 0, b"12345678")
        assert b"".join(reply for reply, _body in came) == acks


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "do not begin with SETTINGS"),
        (_http.http2_frame(_http.SETTINGS, 1, 0, b""), "do not begin with SETTINGS"),
        (_http.http2_frame(_http.SETTINGS, 0, 1, b""), "on stream 1"),
        (_http.http2_frame(_http.SETTINGS, 0, 0, b"12345"), "SETTINGS of 5 bytes"),
        (_http.http2_frame(_http.SETTINGS, 0, 0, b"\0\x08\0\0\0\x02"), "SETTINGS_ENABLE_CONNECT_PROTOCOL of 2"),
        (_http.http2_frame(_http.SETTINGS, 0, 0, b"\0\x05\0\0\0\x01"), "SETTINGS_MAX_FRAME_SIZE of 1"),
        (SETTINGS + b"\xff\xff\xff", ""),
        (SETTINGS + b"\xff\xff\xff\x00\x00\0\0\0\x01", "a frame of 16777215 bytes"),
        (SETTINGS + _http.http2_frame(_http.PING, 0, 0, b""), "PING of 0 bytes"),
        (SETTINGS + _http.http2_frame(_http.PUSH_PROMISE, 0, 1, b""), "PUSH_PROMISE"),
        (SETTINGS + _http.http2_frame(_http.HEADERS, 4, 3, b"\x88"), "on stream 3"),
        (SETTINGS + _http.http2_frame(_http.HEADERS, 0, 1, b"\x88") + SETTINGS, "breaks into"),
        (SETTINGS + _http.http2_frame(_http.CONTINUATION, 4, 1, b"\x88"), "CONTINUATION of nothing"),
        (SETTINGS + _http.http2_frame(_http.DATA, 8, 1, b"\x09"), "padding"),
    ],
)
def test_not_http2(data: bytes, words: str) -> None:
    if not words:
        assert _http.Http2().feed(data) == (_http.http2_frame(_http.SETTINGS, 1, 0, b""), b"")
        return
    with pytest.raises(_http.WireError, match=words):
        _http.Http2().feed(data)


FRAMES = st.builds(
    _http.http2_frame, st.integers(0, 12), st.integers(0, 255), st.integers(0, 2), st.binary(max_size=30)
)


@given(st.lists(FRAMES | st.binary(max_size=20), max_size=30))
def test_any_http2(parts: list[bytes]) -> None:
    http2 = _http.Http2()
    http2.feed(SETTINGS)
    with contextlib.suppress(_http.WireError):
        for part in parts:
            http2.feed(part)


# --- Certificates -----------------------------------------------------------------------------------------------------


def test_certificate() -> None:
    authority = trustme.CA(organization_name="an organization")
    leaf = authority.issue_cert("a.example", "*.b.example", "127.0.0.1", "::1", common_name="the name")
    der = x509.load_pem_x509_certificate(leaf.cert_chain_pems[0].bytes())
    facts = _certificate.facts(der.public_bytes(Encoding.DER))
    assert facts["issuer"] == "an organization"
    assert facts["subject"] == "the name"
    assert sorted(facts["names"]) == ["*.b.example", "127.0.0.1", "::1", "a.example"]
    assert facts["not_after"] == der.not_valid_after_utc.strftime("%Y-%m-%dT%H:%M:%SZ")
    assert facts["not_before"] == der.not_valid_before_utc.strftime("%Y-%m-%dT%H:%M:%SZ")


DER = x509.load_pem_x509_certificate(trustme.CA().cert_pem.bytes()).public_bytes(Encoding.DER)


@given(st.binary(max_size=200) | st.builds(lambda cut: DER[:cut], st.integers(0, len(DER) - 1)))
def test_no_certificate(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        _certificate.facts(data)


@given(st.lists(st.tuples(st.integers(0, len(DER) - 1), st.integers(0, 255)), min_size=1, max_size=5))
def test_any_certificate(changes: list[tuple[int, int]]) -> None:
    made = bytearray(DER)
    for index, value in changes:
        made[index] = value
    with contextlib.suppress(ValueError):
        assert json.dumps(_certificate.facts(bytes(made)))


# --- What a GET gets --------------------------------------------------------------------------------------------------

CHUNKED = {"transfer-encoding": "chunked"}
CHUNKS = b"4;a=b\r\nWiki\r\n6\r\npedia \r\nE\r\nin \r\n\r\nchunks.\r\n0\r\n\r\n"


@pytest.mark.parametrize(
    ("headers", "data", "body", "whole"),
    [
        ({"content-length": "3"}, b"abcd", b"abc", True),
        ({"content-length": "5"}, b"abcd", b"abcd", False),
        ({}, b"abcd", b"abcd", False),
        (CHUNKED, CHUNKS, b"Wikipedia in \r\n\r\nchunks.", True),
        (CHUNKED, CHUNKS[:-5], b"Wikipedia in \r\n\r\nchunks.", False),
        (CHUNKED, CHUNKS[:10], b"Wik", False),
        (CHUNKED, b"", b"", False),
        ({**CHUNKED, "content-length": "3"}, b"0\r\n\r\n", b"", True),
    ],
)
def test_body(headers: dict[str, str], data: bytes, body: bytes, whole: bool) -> None:
    assert _http.body(headers, data) == (body, whole)


@pytest.mark.parametrize(
    ("headers", "data", "words"),
    [
        ({"content-length": "-1"}, b"a", "no number"),
        ({"content-length": "3, 3"}, b"a", "no number"),
        (CHUNKED, b"x\r\n", "without a size"),
        (CHUNKED, b"1" * 2000, "without a size"),
        (CHUNKED, b"2\r\nabcde", "longer than it says"),
    ],
)
def test_no_body(headers: dict[str, str], data: bytes, words: str) -> None:
    with pytest.raises(_http.WireError, match=words):
        _http.body(headers, data)


@given(st.lists(st.binary(min_size=1, max_size=40), max_size=5), st.integers(0, 300))
def test_a_chunked_body_in_any_pieces(parts: list[bytes], cut: int) -> None:
    data = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    body, whole = _http.body(CHUNKED, data[:cut])
    assert b"".join(parts).startswith(body)
    assert whole is (cut >= len(data) - 2)


@given(st.binary(max_size=300))
def test_any_body(data: bytes) -> None:
    with contextlib.suppress(_http.WireError):
        _http.body(CHUNKED, data)
    _websocket.told_code(data)


@pytest.mark.parametrize(
    ("media_type", "content_type", "body", "sound"),
    [
        ("text/html", "Text/HTML; charset=utf-8", b"<", True),
        ("text/html", "text/html", b"", False),
        ("text/html", "application/json", b"{}", False),
        ("*/*", "text/plain", b"x", True),
        ("application/json", "application/json", b'{"a": 1}', True),
        ("application/json", "application/json", b"null", False),
        ("application/json", "application/json", b"[" * 100000, False),
        ("text/event-stream", "text/event-stream", b"data: 1\n", True),
        ("text/event-stream", "text/event-stream", b"data", False),
    ],
)
def test_sound(media_type: str, content_type: str, body: bytes, sound: bool) -> None:
    assert (_websocket.is_of(media_type, content_type) and _websocket.is_sound(media_type, body)) is sound


def test_what_counts_as_a_page_is_offline_to_curl() -> None:
    assert {word for word, coarse in _websocket.REASONS.items() if coarse == "offline"} == {
        *_websocket.PAGES,
        "bad_page",
    }


def test_the_code_in_the_page() -> None:
    text = (ROOT / "roles" / "agent_proxy" / "files" / "offline.js").read_text(encoding="utf-8")
    assert "facts.ngrok_error_code = code" in text
    assert _websocket.told_code(b'{"state": "offline", "ngrok_error_code": "ERR_NGROK_3200"}') == "ERR_NGROK_3200"
    assert _websocket.told_code(b'{"ngrok_error_code": "<b>"}') == ""
    assert _websocket.told_code(b"[]") == ""


@pytest.mark.parametrize(
    ("given_answer", "page", "websocket", "reason"),
    [
        ({}, False, True, "ok"),
        ({"status": 404}, False, True, "ok"),
        ({"status": 500}, False, True, "ok"),
        ({"status": 500}, False, False, "proxy_error"),
        ({"status": 0, "error": "no answer"}, False, True, "ok"),
        ({"status": 0, "error": "no answer"}, False, False, "proxy_error"),
        ({"status": 503, "state": "offline"}, False, True, "offline"),
        ({"status": 503, "state": "refused", "ngrok_code": "ERR_NGROK_6024"}, False, True, "interstitial"),
        ({"status": 503, "state": "refused", "ngrok_code": "ERR_NGROK_6024"}, True, True, "interstitial"),
        ({"status": 200, "ngrok_code": "ERR_NGROK_6024"}, False, False, "interstitial"),
        ({"status": 503, "state": "offline", "ngrok_code": "ERR_NGROK_3200"}, True, True, "ok"),
        ({"status": 503, "state": "offline", "sound": False}, True, True, "bad_page"),
        ({"status": 200}, True, True, "bad_page"),
        ({"status": 404, "ngrok_code": "ERR_NGROK_3200"}, True, True, "bad_page"),
        ({"accept": "text/event-stream", "status": 503, "state": "offline", "sound": False}, True, False, "ok"),
        ({"accept": "text/event-stream"}, False, False, "ok"),
        ({"accept": "text/event-stream", "sound": False}, False, False, "no_stream"),
        ({"accept": "text/event-stream", "sound": False, "status": 401}, False, False, "ok"),
        ({"accept": "text/event-stream", "sound": False, "status": 404}, False, True, "no_stream"),
    ],
)
def test_judge_get(given_answer: dict[str, Any], page: bool, websocket: bool, reason: str) -> None:
    sound = {"accept": "text/html", "status": 200, "content_type": "", "sound": True}
    answer = {**sound, "state": "", "ngrok_code": "", "error": "", **given_answer}
    found, sentence = _websocket.judge_get(answer, page, websocket)
    assert found == reason
    assert bool(sentence) is (reason != "ok")


# --- Its arguments ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"timeout": 0}, "timeout must be above 0"),
        ({"timeout": float("nan")}, "timeout must be above 0"),
        ({"timeout": 601}, "at most 600 seconds"),
        ({"upload": -1}, "upload must be a number of bytes from 0"),
        ({"origin": "https://a\r\nX: y"}, "origin must be one line"),
        ({"foreign_origin": "a\n"}, "foreign_origin must be one line"),
        ({"subprotocols": ["a b"]}, "subprotocol 'a b' must be a token"),
        ({"accept": ["json"]}, "accept: 'json' must be a media type"),
        ({"accept": ["a/b\r\nX: y"]}, "must be a media type"),
        ({"headers": {"a b": "c"}}, "headers: 'a b' must be"),
        ({"headers": {"a": "c\r\nd"}}, "headers: 'a' must be"),
        ({"url": "https://u:p@a.example/"}, "has credentials"),
        ({"url": "nonsense"}, "begins with none of https://"),
        ({"headers": {"Host": "c"}}, "headers: 'Host' is set by the handshake itself"),
        ({"headers": {"sec-websocket-key": "c"}}, "is set by the handshake itself"),
        ({"url": "https://a.example/", "ca_path": "/nowhere/ca.pem"}, "ca_path /nowhere/ca.pem cannot be used"),
    ],
)
def test_argument(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)) as refused:
        _probe.ask(**{"url": "http://a.example/", **arguments})
    assert "u:p" not in str(refused.value)


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    answer = _probe.ask(f"http://a.example:{port}/", address="127.0.0.1")
    assert (answer["reason"], answer["status"]) == ("refused", 0)


def test_a_resolver_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_words, **_more: time.sleep(3))
    start = time.monotonic()
    answer = _probe.ask("http://a.example/", timeout=0.2)
    assert time.monotonic() - start < 1.5
    assert (answer["reason"], answer["error"]) == ("timeout", "a.example was not resolved within 0.2 s")


class Recorded:
    """A connection whose other side has no WebSocket."""

    sent = b""

    def send(self, data: bytes) -> None:
        self.sent += data

    def receive(self) -> bytes:
        return b"HTTP/1.1 200 OK\r\n\r\n"


@pytest.mark.parametrize("upgrade", [True, False])
def test_a_page_is_asked_for_without_a_handshake(upgrade: bool) -> None:
    """Next.js ends the connection of a handshake, so a hop before it would answer with an error of its own."""
    url = "http://a.example/"
    line: Any = Recorded()
    probe = _probe.Probe(_probe.parameters({}), _http.parse_url(url), {})
    assert probe.shake(line, "https://a.example", upgrade)[0] == 200
    assert [word in line.sent for word in (b"Upgrade: websocket", b"Sec-WebSocket-Key", b"Origin")] == [upgrade] * 3


def test_headers_of_ones_own_replace_ours() -> None:
    params = {"headers": {"user-agent": "x", "Y": 1}, "timeout": 1.0}
    probe = _probe.Probe(params, _http.parse_url("http://a/"), {})
    assert probe.own_headers() == [("user-agent", "x"), ("Y", "1")]
