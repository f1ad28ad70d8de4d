# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""`python -m tests.probe.hostile PORT TLS_PORT CERTIFICATE KEY`: servers that do whatever a case number tells them.

The same number is the same behaviour: path /NUMBER on PORT, name case-NUMBER.probe.example on TLS_PORT, where HTTP/1.1
is sound and HTTP/2 is not.
"""

from __future__ import annotations

import contextlib
import random
import re
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.locki.vaettir.plugins.module_utils import _http, _websocket

PATIENCE = 6.0  # seconds; no case keeps this process busy for longer
MEGABYTE = bytes(1 << 20)


class Case:
    """One connection under way."""

    def __init__(self, number: int, sock: socket.socket, key: str) -> None:
        self.dice = random.Random(number)
        self.sock, self.key = sock, key
        self.end = time.monotonic() + PATIENCE

    def send(self, data: bytes) -> None:
        self.sock.settimeout(max(0.001, self.end - time.monotonic()))
        self.sock.sendall(data)

    def drip(self, data: bytes, pause: float = 0.005) -> None:
        for byte in data:
            self.send(bytes((byte,)))
            time.sleep(pause)

    def forever(self, data: bytes) -> None:
        data *= 1 + 65536 // len(data)
        while True:
            self.send(data)

    def silence(self) -> None:
        """Until the other side has enough."""
        self.sock.settimeout(PATIENCE)
        while self.sock.recv(65536):
            pass

    def head(self, *more: str) -> bytes:
        lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Accept: {_websocket.accept_for(self.key)}", *more]
        return ("\r\n".join(lines) + "\r\n\r\n").encode()

    def junk(self, most: int = 4096) -> bytes:
        return self.dice.randbytes(self.dice.randrange(1, most))

    def mutated(self, data: bytes) -> bytes:
        made = bytearray(data)
        for _ in range(self.dice.randrange(1, 8)):
            made[self.dice.randrange(len(made))] = self.dice.randrange(256)
        return bytes(made)

    def reset(self) -> None:
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


Kinds = dict[Callable[[Case], None], set[str]]

# --- HTTP/1.1 and frames: each with the reasons that may come of it (none: any) ---------------------------------------


def endless_headers(case: Case) -> None:
    case.send(b"HTTP/1.1 200 OK\r\n")
    case.forever(b"X-Filler: " + b"x" * case.dice.randrange(1, 9000) + b"\r\n")


def endless_line(case: Case) -> None:
    case.send(case.dice.choice([b"HTTP/1.1 200 ", b"HTTP/1.1 101 Switching\r\nX: "]))
    case.forever(b"y" * case.dice.randrange(1, 9000))


def endless_interim(case: Case) -> None:
    case.forever(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * case.dice.randrange(1, 99))


def slow_head(case: Case) -> None:
    case.drip(case.head("X-Filler: " + "x" * 5000))


def slow_frames(case: Case) -> None:
    case.send(case.head())
    case.drip(b"\x82\x7e\xff\xff" + bytes(60000))


def silent(case: Case) -> None:
    case.send(case.head()[: case.dice.randrange(30)])
    case.silence()


def deaf(case: Case) -> None:
    case.send(case.head())
    case.silence()


def early_close(case: Case) -> None:
    case.send(case.head()[: case.dice.randrange(len(case.head()))])


def early_close_of_frames(case: Case) -> None:
    case.send(case.head() + b"\x81\x05hello\x82\x7e\x10\x00" + bytes(case.dice.randrange(4096)))


def reset(case: Case) -> None:
    case.send(case.head()[: case.dice.randrange(len(case.head()))])
    case.reset()


def garbage(case: Case) -> None:
    case.send(case.junk())


def garbage_frames(case: Case) -> None:
    case.send(case.head() + case.junk())
    case.silence()


def mutated_head(case: Case) -> None:
    case.send(case.mutated(case.head()))


def giant_frame(case: Case) -> None:
    length = case.dice.randrange(_websocket.FRAME_LIMIT + 1, 1 << 63)
    case.send(case.head() + b"\x82\x7f" + length.to_bytes(8, "big"))
    case.forever(MEGABYTE)


def endless_message(case: Case) -> None:
    case.send(case.head() + b"\x01\x7f" + (1 << 20).to_bytes(8, "big") + MEGABYTE)
    case.forever(b"\x00\x7f" + (1 << 20).to_bytes(8, "big") + MEGABYTE)


def endless_pings(case: Case) -> None:
    case.send(case.head())
    case.forever(b"\x89\x00" * 5000)


def endless_wrong_pongs(case: Case) -> None:
    case.send(case.head())
    case.forever(b"\x8a\x08" + case.dice.randbytes(8))


def masked(case: Case) -> None:
    payload = case.junk(100)
    frame = _websocket.frame(case.dice.choice([_websocket.PING, _websocket.PONG]), payload, case.dice.randbytes(4))
    case.send(case.head() + frame)


def forbidden_frame(case: Case) -> None:
    frames = [
        b"\x83\x00",  # reserved opcodes
        b"\x8b\x00",
        b"\xc1\x00",  # reserved bits
        b"\x91\x00",
        b"\x09\x00",  # fragmented control frames
        b"\x89\x7e\x00\x80",  # longer than 125 bytes
        b"\x80\x00",  # continues nothing
        b"\x01\x00\x81\x00",  # breaks into another message
        b"\x81\x7e\x00\x05hello",  # lengths that are longer than they must be
        b"\x81\x7f" + (5).to_bytes(8, "big") + b"hello",
        b"\x81\x7f\xff" + bytes(7),
        b"\x88\x01\x03",  # half a code
    ]
    case.send(case.head() + case.dice.choice(frames))
    case.silence()


def closing(case: Case) -> None:
    case.send(case.head() + b"\x88\x05" + case.dice.choice([1000, 1008, 1011]).to_bytes(2, "big") + b"\xff\xfeb")


def bad_accept(case: Case) -> None:
    case.send(case.head().replace(b"Accept: ", b"Accept: " + case.dice.choice([b"A", b"=", b"\xe9", b"x, "])))


HTTP1: Kinds = {
    endless_headers: {"too_large"},
    endless_line: {"too_large"},
    endless_interim: {"too_large"},
    slow_head: {"timeout"},
    slow_frames: {"no_pong"},
    silent: {"timeout"},
    deaf: {"no_pong"},
    early_close: {"no_answer"},
    early_close_of_frames: {"closed"},
    reset: {"no_answer"},
    garbage: {"not_http", "no_answer"},
    garbage_frames: set(),
    mutated_head: set(),
    giant_frame: {"too_large"},
    endless_message: {"too_large"},
    endless_pings: {"no_pong", "too_large"},
    endless_wrong_pongs: {"no_pong", "too_large"},
    masked: {"bad_frame"},
    forbidden_frame: {"bad_frame"},
    closing: {"app_closed"},
    bad_accept: {"bad_accept"},
}

# --- HTTP/2 -----------------------------------------------------------------------------------------------------------

CONNECT = _http.http2_frame(_http.SETTINGS, 0, 0, b"\0\x08\0\0\0\x01")
OK = _http.http2_frame(_http.HEADERS, _http.END_HEADERS, 1, b"\x88")


def h2_garbage(case: Case) -> None:
    case.send(case.junk())


def h2_silent(case: Case) -> None:
    case.silence()


def h2_early_close(case: Case) -> None:
    case.send(CONNECT[: case.dice.randrange(len(CONNECT))])


def h2_http1(case: Case) -> None:
    case.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")


def h2_bad_settings(case: Case) -> None:
    payload = case.dice.choice([b"\0\x08\0\0\0\x02", b"\0\x05\0\0\0\x01", b"\0\x04\xff\xff\xff\xff", b"\0\x08\0\0\0"])
    case.send(_http.http2_frame(_http.SETTINGS, 0, 0, payload))


def h2_giant_frame(case: Case) -> None:
    case.send(case.dice.choice([b"", CONNECT]) + b"\xff\xff\xff\x04\0\0\0\0\0")
    case.forever(MEGABYTE)


def h2_drip(case: Case) -> None:
    case.drip(_http.http2_frame(_http.SETTINGS, 0, 0, b"\0\x03\0\0\0\x64" * 2000))


def h2_endless(case: Case) -> None:
    kinds = [
        _http.http2_frame(_http.PING, 0, 0, bytes(8)),
        CONNECT,
        _http.http2_frame(_http.WINDOW_UPDATE, 0, 0, b"\0\0\0\x01"),
        _http.http2_frame(77, 0, 0, bytes(9000)),
        _http.http2_frame(_http.DATA, 0, 1, bytes(9000)),
    ]
    case.send(CONNECT)
    case.forever(case.dice.choice(kinds) * 100)


def h2_endless_continuation(case: Case) -> None:
    case.send(CONNECT + _http.http2_frame(_http.HEADERS, 0, 1, b"\x88"))
    case.forever(_http.http2_frame(_http.CONTINUATION, 0, 1, b"\0" * case.dice.randrange(2, 9000)))


def h2_bad_block(case: Case) -> None:
    block = case.dice.choice([b"", b"\x00", b"\xff\xff\xff\xff\xff\xff\xff", b"\x48\x83\xff\xff\xff", b"\x3f" * 40])
    case.send(CONNECT + _http.http2_frame(_http.HEADERS, _http.END_HEADERS, 1, block))
    case.silence()


def h2_refused(case: Case) -> None:
    kinds = [
        _http.http2_frame(_http.RST_STREAM, 0, 1, b"\0\0\0\x02"),
        _http.http2_frame(_http.GOAWAY, 0, 0, bytes(8)),
        _http.http2_frame(_http.HEADERS, 5, 1, b"\x8e"),
        _http.http2_frame(_http.HEADERS, 5, 1, b"\x48\x03501"),
        _http.http2_frame(_http.PUSH_PROMISE, 4, 1, bytes(8)),
        _http.http2_frame(_http.HEADERS, 0x0D, 1, b"\xff\x88"),
    ]
    case.send(CONNECT + case.dice.choice(kinds))
    case.silence()


def h2_bad_frames(case: Case) -> None:
    data = case.dice.choice([b"\x8a\x88" + bytes(12), b"\x83\x00", b"\x82\x7f" + b"\x7f" * 8, b"\x88\x02\x03\xf0"])
    case.send(CONNECT + OK + _http.http2_frame(_http.DATA, 0, 1, data))
    case.silence()


def h2_random_frames(case: Case) -> None:
    made = CONNECT
    for _ in range(case.dice.randrange(1, 30)):
        kind, flags, stream = case.dice.randrange(12), case.dice.randrange(256), case.dice.choice([0, 0, 1, 1, 1, 2])
        made += _http.http2_frame(kind, flags, stream, case.junk(64))
    case.send(made)


def h2_mutated(case: Case) -> None:
    case.send(case.mutated(CONNECT + OK + _http.http2_frame(_http.DATA, 0, 1, b"\x89\x00\x81\x05hello")))


HTTP2: Kinds = {
    h2_garbage: {"bad_http2"},
    h2_silent: {"bad_http2"},
    h2_early_close: {"bad_http2"},
    h2_http1: {"bad_http2"},
    h2_bad_settings: {"bad_http2"},
    h2_giant_frame: {"bad_http2", "bad_connect"},
    h2_drip: {"bad_http2"},
    h2_endless: {"bad_http2", "bad_connect"},
    h2_endless_continuation: {"bad_http2", "bad_connect"},
    h2_bad_block: {"bad_http2", "bad_connect"},
    h2_refused: {"bad_http2", "bad_connect"},
    h2_bad_frames: {"bad_http2", "bad_connect"},
    h2_random_frames: {"ok", "bad_http2", "bad_connect"},
    h2_mutated: {"ok", "bad_http2", "bad_connect"},
}


KINDS = {"http1": HTTP1, "http2": HTTP2}


def behaviour(kinds: Kinds, number: int) -> tuple[Callable[[Case], None], set[str]]:
    """What a case's number means, and the reasons that may come of it (none: any)."""
    return list(kinds.items())[number % len(kinds)]


def request(sock: socket.socket) -> tuple[str, str]:
    """Path and key."""
    sock.settimeout(PATIENCE)
    head = b""
    while b"\r\n\r\n" not in head:
        data = sock.recv(4096)
        if not data:
            raise ConnectionError
        head += data
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", head)
    return head.split(b" ")[1].decode(), key.group(1).decode() if key else ""


def plain(sock: socket.socket) -> None:
    path, key = request(sock)
    number = int(path[1:])
    behaviour(HTTP1, number)[0](Case(number, sock, key))


def secure(raw: socket.socket, context: ssl.SSLContext) -> None:
    raw.settimeout(PATIENCE)
    with context.wrap_socket(raw, server_side=True) as sock:
        number = int(re.findall(r"case-(\d+)", getattr(sock, "asked_name", ""))[0])
        if sock.selected_alpn_protocol() == "h2":
            behaviour(HTTP2, number)[0](Case(number, sock, ""))
        else:
            case = Case(number, sock, request(sock)[1])
            case.send(case.head())
            ping = sock.recv(64)  # two bytes, a mask of four, the payload
            case.send(b"\x8a\x08" + bytes(byte ^ ping[2 + index % 4] for index, byte in enumerate(ping[6:14])))


def serve(port: int, answer: Callable[[socket.socket], None]) -> None:
    def work(sock: socket.socket) -> None:
        with sock, contextlib.suppress(OSError):  # ssl.SSLError, too
            answer(sock)
            sock.shutdown(socket.SHUT_WR)  # what was sent arrives, or a reset would overtake it
            Case(0, sock, "").silence()

    with socket.create_server(("127.0.0.1", port), backlog=128) as listener:
        while True:
            threading.Thread(target=work, args=(listener.accept()[0],), daemon=True).start()


def main(port: int, tls_port: int, certificate: str, key: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2", "http/1.1"])

    def note(connection: Any, name: str | None, _context: ssl.SSLContext) -> None:
        connection.asked_name = name or ""

    context.sni_callback = note
    threading.Thread(target=serve, args=(tls_port, lambda sock: secure(sock, context)), daemon=True).start()
    serve(port, plain)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])
