# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The probe and websocket_curl, side by side on the same answers: the same word, or a finer one for the same thing."""

from __future__ import annotations

import contextlib
import datetime
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from ansible_collections.locki.vaettir.plugins.module_utils import _curl, _websocket
from ansible_collections.locki.vaettir.plugins.modules import websocket_curl

from tests.unit.module_run import run_module

from .conftest import HOST, Files, free_port, probe, write_pair

ORIGIN = "https://probe.example"


def answer(status: int, *headers: str) -> str:
    """ACCEPT stands for the right Sec-WebSocket-Accept."""
    return f"HTTP/1.1 {status} Whatever\r\n" + "".join(f"{line}\r\n" for line in headers) + "\r\n"


ACCEPT = "Sec-WebSocket-Accept: ACCEPT"
# What is sent, the probe's word; curl's is the one that _websocket.REASONS gives for it.
ANSWERS: dict[str, tuple[str, str]] = {
    "101": (answer(101, "Upgrade: websocket", "Connection: Upgrade", ACCEPT), "ok"),
    "101 in other letters": (answer(101, "UPGRADE: WebSocket", "connection: keep-alive, upgrade", ACCEPT), "ok"),
    "101 wrong accept": (answer(101, "Upgrade: websocket", "Connection: Upgrade", ACCEPT + "x"), "bad_accept"),
    "101 no accept": (answer(101, "Upgrade: websocket", "Connection: Upgrade"), "bad_accept"),
    "101 no upgrade": (answer(101, "Connection: Upgrade", ACCEPT), "bad_upgrade"),
    "101 no connection": (answer(101, "Upgrade: websocket", ACCEPT), "bad_upgrade"),
    "101 extension": (
        answer(101, "Upgrade: websocket", "Connection: Upgrade", ACCEPT, "Sec-WebSocket-Extensions: x"),
        "bad_extension",
    ),
    "101 subprotocol": (
        answer(101, "Upgrade: websocket", "Connection: Upgrade", ACCEPT, "Sec-WebSocket-Protocol: x"),
        "bad_subprotocol",
    ),
    **{
        f"{status} {state}": (answer(status, "Server: nginx", f"X-Vaettir-State: {state}"), word)
        for status in (503, 404)
        for state, word in (*_websocket.STATES.items(), ("new", "offline"))
    },
    "404": (answer(404), "no_route"),
    "404 Traefik": (answer(404, "Content-Type: text/plain; charset=utf-8"), "no_route"),
    "404 nginx": (answer(404, "Server: nginx"), "not_a_websocket"),
    "403": (answer(403), "refused_origin"),
    "403 nginx": (answer(403, "Server: nginx"), "refused_origin"),
    "400": (answer(400), "bad_key"),
    "401": (answer(401, "WWW-Authenticate: Basic"), "unauthorized"),
    "407": (answer(407), "unauthorized"),
    "426": (answer(426, "Sec-WebSocket-Version: 8"), "no_upgrade"),
    "429": (answer(429), "too_many_requests"),
    "302": (answer(302, "Location: https://elsewhere.example/"), "redirected"),
    "308": (answer(308), "redirected"),
    **{f"{status}": (answer(status, "Server: nginx"), "not_a_websocket") for status in (200, 204, 405, 410, 418, 499)},
    **{f"{status}": (answer(status, "Server: nginx"), "proxy_error") for status in (500, 501, 502, 503, 504, 599)},
    "interstitial": (answer(200, "ngrok-error-code: ERR_NGROK_6024"), "interstitial"),
    "nothing": ("", "no_answer"),
    "ssh": ("SSH-2.0-OpenSSH_9.2\r\n", "not_http"),
    "mail": ("220 mail.example ESMTP\r\n", "not_http"),
    "no status": ("HTTP/1.1 abc Whatever\r\n\r\n", "not_http"),
    "endless header": (f"HTTP/1.1 200 OK\r\nX: {'x' * 400_000}\r\n\r\n", "too_large"),
}


@contextmanager
def listening(work: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server on loopback that does this with each connection; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    threading.Thread(target=one, args=(listener.accept()[0],), daemon=True).start()

        def one(sock: socket.socket) -> None:
            with sock, contextlib.suppress(OSError):
                sock.settimeout(5)
                work(sock)
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(65536):
                    pass

        threading.Thread(target=serve, daemon=True).start()
        yield int(listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)


def key_of(sock: socket.socket) -> str:
    """Reads the request."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = sock.recv(4096)
        if not data:
            raise ConnectionError
        head += data
    match = re.search(rb"(?i)sec-websocket-key: (\S+)", head)
    return match.group(1).decode() if match else ""


def saying(text: str) -> Callable[[socket.socket], None]:
    def work(sock: socket.socket) -> None:
        key = key_of(sock)
        sock.sendall(text.replace("ACCEPT", _websocket.accept_for(key)).encode("latin-1"))

    return work


def mute(sock: socket.socket) -> None:
    """Hears everything and says nothing."""
    while sock.recv(4096):
        pass


def both(url: str, **given: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What each of the two says."""
    given = {"origin": ORIGIN, "timeout": 3, **given}
    params = {"address": "127.0.0.1", "ca_path": "", "upgrade": True, **given, "url": url}
    return probe(url, ping=False, **given), _curl.handshake(params)


def agree(found: dict[str, Any], curl: dict[str, Any]) -> None:
    assert _websocket.REASONS[found["reason"]] == curl["reason"], (found, curl)
    assert found["state"] == curl["state"]
    assert found["status"] == (0 if found["reason"] == "too_large" else curl["status"])
    assert bool(found["error"]) is (found["reason"] != "ok")


@pytest.mark.parametrize("case", ANSWERS)
def test_answer(case: str) -> None:
    text, reason = ANSWERS[case]
    with listening(saying(text)) as port:
        found, curl = both(f"http://{HOST}:{port}/ws")
    assert found["reason"] == reason, found["error"]
    if reason == "too_large":
        return  # curl has its own limit, and stops reading what it has then
    agree(found, curl)


def test_reset() -> None:
    def work(sock: socket.socket) -> None:
        key_of(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    with listening(work) as port:
        found, curl = both(f"http://{HOST}:{port}/ws")
    assert found["reason"] == "no_answer"
    agree(found, curl)


def test_silence() -> None:
    with listening(mute) as port:
        found, curl = both(f"http://{HOST}:{port}/ws", timeout=1)
    assert found["reason"] == "timeout"
    assert found["timings"]["total"] < 1400
    agree(found, curl)


def test_nothing_listens() -> None:
    found, curl = both(f"http://{HOST}:{free_port()}/ws")
    assert found["reason"] == "refused"
    assert "nothing listens on 127.0.0.1 port" in found["error"]
    agree(found, curl)


def test_no_address() -> None:
    found, curl = both("http://nobody.invalid/ws", address="")
    assert found["reason"] == "dns"
    assert "nobody.invalid has no address" in found["error"]
    agree(found, curl)


def test_no_way() -> None:
    found, curl = both(f"http://{HOST}/ws", address="255.255.255.255")
    assert found["reason"] == "unreachable"
    agree(found, curl)


# --- TLS --------------------------------------------------------------------------------------------------------------


@contextmanager
def secure(certificate: str, key: str, text: str = ANSWERS["101"][0]) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)

    def work(raw: socket.socket) -> None:
        with context.wrap_socket(raw, server_side=True) as sock:
            saying(text)(sock)
            sock.recv(4096)

    with listening(work) as port:
        yield port


DAY = datetime.timedelta(days=1)


@pytest.mark.parametrize(
    ("name", "begin", "end", "reason"),
    [
        (HOST, -DAY, DAY, "ok"),
        ("other.example", -DAY, DAY, "tls_name"),
        (HOST, -2 * DAY, -DAY, "tls_expired"),
        (HOST, DAY, 2 * DAY, "tls_expired"),
    ],
)
def test_certificate(
    authority: trustme.CA,
    files: Files,
    tmp_path: Path,
    name: str,
    begin: datetime.timedelta,
    end: datetime.timedelta,
    reason: str,
) -> None:
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    leaf = authority.issue_cert(name, not_before=now + begin, not_after=now + end)
    with secure(*write_pair(tmp_path, "leaf", leaf)) as port:
        found, curl = both(f"https://{HOST}:{port}/ws", ca_path=files.ca)
        unverified = probe(f"https://{HOST}:{port}/ws", ping=False, origin=ORIGIN, verify=False)
    assert found["reason"] == reason, found["error"]
    agree(found, curl)
    assert unverified["reason"] == "ok"
    for certificate in (found["certificate"], unverified["certificate"]):
        assert certificate["names"] == [name]
        assert certificate["issuer"] == "probe tests"
        assert certificate["not_after"] == (now + end).strftime("%Y-%m-%dT%H:%M:%SZ")
        assert certificate["not_before"] == (now + begin).strftime("%Y-%m-%dT%H:%M:%SZ")
    if reason != "ok":
        assert "issued by probe tests for" in found["error"]


def test_untrusted(files: Files) -> None:
    with secure(files.certificate, files.key) as port:
        found, curl = both(f"https://{HOST}:{port}/ws")
    assert found["reason"] == "tls_untrusted"
    assert found["certificate"]["names"][0] == HOST
    agree(found, curl)


def test_a_chain_without_its_root_is_trusted(authority: trustme.CA, tmp_path: Path) -> None:
    chain, key = write_pair(tmp_path, "fullchain", authority.create_child_ca().issue_cert(HOST))
    with secure(chain, key) as port:
        found, curl = both(f"https://{HOST}:{port}/ws", ca_path=chain)
    assert found["reason"] == "ok", found["error"]
    agree(found, curl)


def test_address_as_a_name(files: Files) -> None:
    with secure(files.certificate, files.key) as port:
        agree(*both(f"https://127.0.0.1:{port}/ws", ca_path=files.ca))
        found, curl = both(f"https://127.0.0.2:{port}/ws", ca_path=files.ca)
    assert found["reason"] == "tls_name"
    agree(found, curl)


def test_tls_to_a_plain_port() -> None:
    with listening(lambda sock: sock.sendall(answer(400).encode())) as port:
        found, curl = both(f"https://{HOST}:{port}/ws")
    assert found["reason"] == "tls_failed"
    agree(found, curl)


def test_plain_to_a_tls_port(files: Files) -> None:
    """OpenSSL's server ends it; nginx and Traefik say 400."""
    with secure(files.certificate, files.key) as port:
        found, curl = both(f"http://{HOST}:{port}/ws")
    assert found["reason"] in ("no_answer", "not_http")
    agree(found, curl)


def test_tls_silence() -> None:
    with listening(mute) as port:
        found, curl = both(f"https://{HOST}:{port}/ws", timeout=1)
    assert found["reason"] == "timeout"
    agree(found, curl)


# --- Where the probe knows more ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (404, 3200, "offline"),
        (502, 8012, "app_down"),
        (400, 8012, "app_down"),
        (200, 6024, "interstitial"),
        (403, 734, "rate_limit"),
        (429, 702, "rate_limit"),
        (402, 727, "quota"),
        (403, 3208, "tunnel_refused"),
        (400, 3206, "tunnel_refused"),
    ],
)
def test_at_the_edge_itself(status: int, code: int, reason: str) -> None:
    """Without an agent's proxy between: the code is what counts, whatever the status."""
    with listening(saying(answer(status, f"ngrok-error-code: ERR_NGROK_{code}"))) as port:
        found = probe(f"http://{HOST}:{port}/ws")
    assert (found["reason"], found["ngrok_code"], found["status"]) == (reason, f"ERR_NGROK_{code}", status)
    assert f"(ERR_NGROK_{code})" in found["error"]


def test_interim_answers() -> None:
    with listening(saying(answer(103, "Link: </x>") + answer(100) + ANSWERS["101"][0])) as port:
        assert probe(f"http://{HOST}:{port}/ws", ping=False)["reason"] == "ok"


# --- What only websocket_curl does ------------------------------------------------------------------------------------


def test_several_handshakes_in_one_call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """With the real curl: the second server has no WebSocket at first."""
    monkeypatch.setattr(_curl, "TIMEOUT", 1)
    sound, late = ANSWERS["101"][0], iter([ANSWERS["502"][0], ANSWERS["404"][0]])
    with (
        listening(saying(sound)) as first,
        listening(lambda sock: saying(next(late, sound))(sock)) as second,
        listening(mute) as third,
    ):
        told = run_module(
            websocket_curl,
            capsys,
            handshakes=[
                {"label": f"{port}", "url": f"http://{HOST}:{port}/ws", "expected": ["ok"], "origin": ORIGIN}
                for port in (first, second, third)
            ],
            address="127.0.0.1",
            patience=3,
        )
    assert [(each["reason"], each["status"], each["met"]) for each in told["results"]] == [
        ("ok", 101, True),
        ("ok", 101, True),
        ("timeout", 0, False),
    ]
    assert [each["label"] for each in told["results"]] == [f"{port}" for port in (first, second, third)]
    assert f"Origin: {ORIGIN}" in told["results"][0]["command"]
