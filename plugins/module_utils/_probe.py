# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The one WebSocket client (RFC 6455, RFC 8441), standard library only.

It opens a WebSocket as a browser does (section 4.1) over HTTP/1.1, with a fresh random key; then comes a masked ping
(section 5.5.2), whose pong must have the same payload, and a close frame (section 5.5.1). On demand it asks further
questions, each over a connection of its own. It decides on statuses, header fields and frames, never on a text.
"""

from __future__ import annotations

import base64
import os
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from typing import Any, Iterator

from . import _certificate, _http, _names, _websocket

# Of `ask`, with what is taken where they are not given.
OPTIONS: dict[str, Any] = {
    "address": "",  # to connect to instead of the one that the URL's host has; server name and Host stay the URL's
    "origin": "",  # RFC 6454, section 7; empty sends none
    "subprotocols": (),
    "headers": {},  # besides the handshake's own, and instead of ours of the same name
    "ca_path": "",  # PEM file of authorities; empty: Python's own
    "verify": True,  # the certificate
    "timeout": 10.0,  # seconds for everything
    "websocket": True,  # whether the path is a WebSocket's, for the word of an answer that is none
    "upgrade": True,  # whether to ask for one
    "ping": True,
    "foreign_origin": "",  # is it refused?
    "http2": False,  # does its extended CONNECT (RFC 8441) work?
    "upload": 0,  # bytes: is a body of so many refused?
    "accept": (),  # media types: what does a browser's GET get?
}
# ngrok shows its warning page to browsers only, and visitors have browsers.
USER_AGENT = "Mozilla/5.0 (compatible; locki.vaettir)"
TELLING = ("server", "date", "location", "content-type", "retry-after")
OURS = ("connection", "content-length", "expect", "host", "origin", "transfer-encoding", "upgrade")
TIMEOUT_LIMIT = 600  # seconds
GRACE = 0.5  # seconds after the time-out until a call that knows none, such as getaddrinfo, is left behind
CONTINUE_LIMIT = 3  # seconds; RFC 9110, section 10.1.1: no client waits for a 100 for ever
ANSWER_LIMIT = 3  # seconds for a GET
CLOSE_LIMIT = 0.5  # seconds that a server gets for its close frame
ADDRESS_LIMIT = 8  # addresses of one name that are tried
CHUNK = 16384  # bytes
TRAEFIK_DEFAULT = "TRAEFIK DEFAULT CERT"
EXPIRED = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
MISNAMED = (62, 64)  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH


class ProbeError(Exception):
    def __init__(self, reason: str, error: str) -> None:
        super().__init__(error)
        self.reason, self.error = reason, error


class Clock:
    """The time that is left."""

    def __init__(self, seconds: float) -> None:
        self.seconds, self.end = seconds, time.monotonic() + seconds

    def left(self, what: str = "nothing more came") -> float:
        rest = self.end - time.monotonic()
        if rest <= 0:
            raise ProbeError("timeout", f"{what} within {self.seconds:g} s")
        return rest

    def part(self, seconds: float) -> Clock:
        return Clock(max(0.0, min(seconds, self.end - time.monotonic())))


@contextmanager
def measured(timings: dict[str, float], phase: str) -> Iterator[None]:
    """Notes the milliseconds of a phase, also of one that fails."""
    start = time.monotonic()
    try:
        yield
    finally:
        timings[phase] = round((time.monotonic() - start) * 1000, 1)


def connection(address: str, port: int, seconds: float) -> socket.socket:
    """To an address, or to a socket of this machine."""
    if not address.startswith("/"):
        return socket.create_connection((address, port), timeout=seconds)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sock.settimeout(seconds)
    sock.connect(address)
    return sock


class Line:
    """One connection, on which everything ends with the clock."""

    def __init__(self, sock: socket.socket, clock: Clock) -> None:
        self.sock, self.clock = sock, clock
        self.heard = 0.0  # when the last bytes came

    def send(self, data: bytes) -> None:
        try:
            self.sock.settimeout(self.clock.left())
            self.sock.sendall(data)
        except socket.timeout:
            raise ProbeError("timeout", f"the server took no more bytes within {self.clock.seconds:g} s") from None
        except OSError as error:
            raise ProbeError("no_answer", f"the connection broke off: {error}") from None

    def receive(self) -> bytes:
        """Bytes as they come; none at the end."""
        try:
            self.sock.settimeout(self.clock.left())
            data = self.sock.recv(CHUNK)
        except socket.timeout:
            raise ProbeError("timeout", f"no more bytes came within {self.clock.seconds:g} s") from None
        except OSError as error:  # ssl.SSLError, too
            raise ProbeError("no_answer", f"the connection broke off: {error}") from None
        self.heard = time.monotonic()
        return data


class Stream:
    """A WebSocket inside HTTP/2: what Line is to the bytes of a connection, for the bytes of a stream."""

    def __init__(self, line: Line, http2: _http.Http2) -> None:
        self.line, self.http2 = line, http2
        self.clock, self.came = line.clock, b""

    def send(self, data: bytes) -> None:
        self.line.send(self.http2.data(data))

    def turn(self) -> None:
        """One more chunk of the connection."""
        self.line.clock = self.clock
        data = self.line.receive()
        if not data:
            raise ProbeError("no_answer", "the connection ended")
        reply, body = self.http2.feed(data)
        self.came += body
        if reply:
            self.line.send(reply)

    def receive(self) -> bytes:
        while not self.came and not self.http2.ended:
            self.turn()
        came, self.came = self.came, b""
        return came


class Probe:
    def __init__(self, params: dict[str, Any], url: _http.Url, contexts: dict[str, ssl.SSLContext]) -> None:
        self.params, self.url, self.contexts = params, url, contexts
        self.clock = Clock(params["timeout"])
        self.timings: dict[str, float] = {}
        self.found = nothing()
        self.found["timings"] = self.timings
        self.peer: tuple[Any, ...] = ()  # family and address that answered: further connections go there
        self.reached = False  # whether there was a connection, with TLS where it is wanted

    def run(self) -> dict[str, Any]:
        found = self.found
        with measured(self.timings, "total"):
            found["reason"], found["error"] = self.attempt(self.first)
            if found["status"]:
                self.further()
        return found

    @staticmethod
    def attempt(work: Any) -> tuple[str, str]:
        """Reason and sentence of a piece of work, whatever happens in it."""
        try:
            return work() or ("ok", "")
        except ProbeError as failure:
            return failure.reason, failure.error
        except _websocket.FrameError as error:
            return error.reason, f"the server sent {error}"
        except Exception as error:
            return "unforeseen", f"{type(error).__name__}: {error}"

    # --- A connection -------------------------------------------------------------------------------------------------

    def resolve(self) -> list[tuple[Any, ...]]:
        host = self.params["address"] or self.url.host
        if host.startswith("/"):  # a socket of this machine
            return [(socket.AF_UNIX, host)]
        try:
            with measured(self.timings, "dns"):
                answers = socket.getaddrinfo(host, self.url.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise ProbeError("dns", f"{_websocket.shown(host)} has no address: {error}") from None
        return [(family, address) for family, _type, _protocol, _name, address in answers[:ADDRESS_LIMIT]]

    def dial(self, family: int, address: Any, share: float) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.settimeout(share)
            sock.connect(address)
            if family != socket.AF_UNIX:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            sock.close()
            raise
        return sock

    def connect(self) -> socket.socket:
        peers = [self.peer] if self.peer else self.resolve()
        failure = ProbeError("dns", f"{self.url.host} has no address")
        for index, (family, address) in enumerate(peers):
            name = address if family == socket.AF_UNIX else address[0]
            where = name if family == socket.AF_UNIX else f"{name} port {address[1]}"
            try:
                share = self.clock.left(f"no connection to {where}") / (len(peers) - index)
                sock = self.dial(family, address, share)
            except socket.timeout:
                failure = ProbeError("timeout", f"no connection to {where} within {share:.3g} s")
            except ConnectionRefusedError:
                failure = ProbeError("refused", f"nothing listens on {where}")
            except OSError as error:
                failure = ProbeError("unreachable", f"no way to {where}: {error.strerror or error}")
            else:
                self.peer, self.found["address"] = (family, address), name
                return sock
        raise failure

    def secure(self, sock: socket.socket, context: ssl.SSLContext) -> ssl.SSLSocket:
        try:
            sock.settimeout(self.clock.left("no TLS handshake"))
            return context.wrap_socket(sock, server_hostname=self.url.host)
        except socket.timeout:
            raise ProbeError("timeout", f"no TLS handshake within {self.clock.seconds:g} s") from None
        except ssl.SSLCertVerificationError as error:
            code, text = error.verify_code, error.verify_message
            reason = "tls_expired" if code in EXPIRED else "tls_name" if code in MISNAMED else "tls_untrusted"
            raise ProbeError(reason, f"the certificate is not accepted: {text}") from None
        except (OSError, ValueError) as error:
            raise ProbeError("tls_failed", f"the TLS handshake broke off: {error}") from None

    @contextmanager
    def line(self, timings: dict[str, float] | None = None, alpn: str = "http/1.1") -> Iterator[Line]:
        """A connection, with TLS where the URL wants it; closed in the end."""
        timings = {} if timings is None else timings
        with measured(timings, "connect"):
            sock = self.connect()
        timings["connect"] = round(max(0.0, timings["connect"] - timings.get("dns", 0.0)), 1)
        try:
            if self.url.secure:
                with measured(timings, "tls"):
                    sock = self.secure(sock, self.contexts[alpn])
            self.reached = True
            yield Line(sock, self.clock)
        finally:
            sock.close()

    # --- The WebSocket ------------------------------------------------------------------------------------------------

    def first(self) -> tuple[str, str]:
        try:
            with self.line(self.timings) as line:
                if self.url.secure:
                    self.found["certificate"] = certificate(line.sock)
                return self.websocket(line)
        except ProbeError as failure:
            if failure.reason in ("tls_untrusted", "tls_name", "tls_expired"):
                raise self.not_accepted(failure) from None
            raise

    def websocket(self, line: Line) -> tuple[str, str]:
        found, params = self.found, self.params
        with measured(self.timings, "handshake"):
            status, headers, rest, key = self.shake(line, params["origin"], params["upgrade"])
        found["status"], found["state"] = status, _websocket.shown(headers.get(_websocket.STATE_HEADER, ""))
        found["ngrok_code"] = _websocket.ngrok_code(headers)
        found["headers"] = {
            _websocket.shown(name): _websocket.shown(value)
            for name, value in headers.items()
            if name in TELLING or name.startswith("sec-websocket-")
        }
        verdict = _websocket.judge(status, headers, key, params["origin"], params["subprotocols"])
        found["upgraded"] = verdict[0] == "ok"
        if not found["upgraded"]:
            return ("ok", "") if not params["websocket"] and verdict[0] in _websocket.NO_WEBSOCKET else verdict
        found["subprotocol"] = headers.get("sec-websocket-protocol", "")
        frames = _websocket.Frames()
        if params["ping"]:
            with measured(self.timings, "ping"):
                self.ping(line, frames, rest)
            rest = b""
        found["close_code"] = self.close(line, frames, rest)
        return verdict

    def not_accepted(self, failure: ProbeError) -> ProbeError:
        """With what the certificate says of itself: ssl gives it only to who does not verify it."""
        try:
            sock = self.connect()
            try:
                sock = self.secure(sock, self.contexts["unverified"])
                facts = certificate(sock)
            finally:
                sock.close()
        except ProbeError:
            return failure
        self.found["certificate"] = facts
        issuer, names = facts.get("issuer", ""), ", ".join(facts.get("names", [])[:5])
        reason = failure.reason
        if reason == "tls_untrusted" and issuer == TRAEFIK_DEFAULT:
            reason = "tls_pending"
        told = (
            f"issued by {issuer or 'nobody'} for {names or 'no name'} until {facts.get('not_after', 'an unknown time')}"
        )
        return ProbeError(reason, f"{failure.error} ({_websocket.shown(told)})")

    def shake(self, line: Line, origin: str, upgrade: bool = True) -> tuple[int, dict[str, str], bytes, str]:
        """Status and headers of the answer to a handshake, the bytes behind it, and the key that it was made with.

        Without `upgrade` it is the plain GET of a page.
        """
        key = base64.b64encode(os.urandom(16)).decode("ascii")
        handshake = _websocket.handshake(key, origin, self.params["subprotocols"]) if upgrade else []
        headers = [*handshake, *self.own_headers()]
        line.send(_http.request("GET", self.url, headers))
        return (*read_head(line), key)

    def own_headers(self) -> list[tuple[str, str]]:
        given = {"User-Agent": USER_AGENT}
        for name, value in self.params["headers"].items():
            given = {known: text for known, text in given.items() if known.lower() != name.lower()}
            given[name] = str(value)
        return list(given.items())

    def ping(self, line: Line | Stream, frames: _websocket.Frames, data: bytes) -> None:
        """Until the pong is there; `data` came before."""
        payload = os.urandom(8)
        try:
            line.send(_websocket.frame(_websocket.PING, payload, os.urandom(4)))
            while True:
                controls = frames.feed(data)
                if (_websocket.PONG, payload) in controls:
                    return
                self.answer(line, controls)
                data = line.receive()
                if not data:
                    raise ProbeError("closed", "the connection ended before the pong")
        except ProbeError as failure:
            if failure.reason == "timeout":
                raise ProbeError("no_pong", f"no pong within {line.clock.seconds:g} s") from None
            if failure.reason == "no_answer":
                raise ProbeError("closed", f"before the pong {failure.error}") from None
            raise

    def answer(self, line: Line | Stream, controls: list[tuple[int, bytes]]) -> None:
        """What a client must answer (sections 5.5.1 and 5.5.2); of several pings, the last."""
        closes = [payload for opcode, payload in controls if opcode == _websocket.CLOSE]
        if closes:
            code = _websocket.close_code(closes[0])
            if isinstance(line, Line):
                self.found["close_code"] = code
            why = _websocket.shown(closes[0][2:].decode("utf-8", "replace"))
            raise ProbeError("app_closed", f"the server closed before the pong, with {code} {why}".rstrip())
        pings = [payload for opcode, payload in controls if opcode == _websocket.PING]
        if pings:
            line.send(_websocket.frame(_websocket.PONG, pings[-1], os.urandom(4)))

    def close(self, line: Line | Stream, frames: _websocket.Frames, rest: bytes) -> int:
        """The server's code, 0 if it does not hurry to say one. All that was to be checked is."""
        line.clock = self.clock.part(CLOSE_LIMIT)
        try:
            line.send(_websocket.frame(_websocket.CLOSE, (1000).to_bytes(2, "big"), os.urandom(4)))
            data = rest or line.receive()
            while data:
                for opcode, payload in frames.feed(data):
                    if opcode == _websocket.CLOSE:
                        return _websocket.close_code(payload)
                data = line.receive()
        except (ProbeError, _websocket.FrameError, _http.WireError):
            pass
        return 0

    # --- Further questions --------------------------------------------------------------------------------------------

    def further(self) -> None:
        """Each may make the verdict worse, as long as nothing else was wrong."""
        found, params = self.found, self.params
        wanted = (
            ("foreign", params["foreign_origin"]),
            ("http2", params["http2"]),
            ("upload", params["upload"]),
            ("accept", params["accept"]),
        )
        for name, value in wanted:
            if not value:
                continue
            with measured(self.timings, name):
                reason, error = self.attempt(getattr(self, name))
            sound = found["reason"] in ("ok", "app_closed") or (
                name == "accept" and found["reason"] in _websocket.PAGES
            )
            if sound and reason != "ok":
                found["reason"], found["error"] = reason, error

    def foreign(self) -> tuple[str, str]:
        origin = self.params["foreign_origin"]
        answer: dict[str, Any] = {"refused": False, "status": 0}
        self.found["foreign"] = answer

        def ask() -> tuple[str, str]:
            with self.line() as line:
                answer["status"], headers, rest, key = self.shake(line, origin)
                if answer["status"] == 101:
                    self.close(line, _websocket.Frames(), rest)
            return _websocket.judge(answer["status"], headers, key, origin, self.params["subprotocols"])

        answer["reason"], answer["error"] = self.attempt(ask)
        answer["refused"] = answer["status"] == 403
        if answer["refused"]:
            return "ok", ""
        shown = answer["status"] or answer["error"]
        return "foreign_origin", f"the foreign Origin {origin} must be refused with 403, but got {shown}"

    def http2(self) -> tuple[str, str]:
        answer: dict[str, Any] = {"settings": {}, "extended_connect": False, "works": False, "status": 0}
        self.found["http2"] = answer

        def ask() -> tuple[str, str]:
            if not self.url.secure:
                return "no_http2", "HTTP/2 is chosen inside TLS, and there is none"
            with self.line(alpn="h2") as line:
                if not isinstance(line.sock, ssl.SSLSocket) or line.sock.selected_alpn_protocol() != "h2":
                    return "no_http2", "the server does not choose h2"
                try:
                    return self.extended_connect(line, answer)
                except _http.WireError as error:
                    return "bad_http2", f"over HTTP/2 the server sent {error}"

        reason, error = self.attempt(ask)
        answer["reason"], answer["error"] = reason, error
        return ("ok", "") if reason == "no_http2" else (reason, error)

    def extended_connect(self, line: Line, answer: dict[str, Any]) -> tuple[str, str]:
        http2 = _http.Http2()
        stream = Stream(line, http2)
        try:
            line.send(http2.opening())
            while http2.settings is None:
                stream.turn()
        except ProbeError as failure:
            raise ProbeError("bad_http2", f"the server chose HTTP/2 and sent no SETTINGS: {failure.error}") from None
        answer["settings"] = http2.settings
        answer["extended_connect"] = http2.settings.get(_http.CONNECT_PROTOCOL) == 1
        if not answer["extended_connect"]:
            return "ok", ""
        verdict = self.attempt(lambda: self.open_stream(stream, answer))
        if verdict[0] == "ok" or verdict[0] == self.found["reason"] == "app_closed":
            answer["works"] = True
            return "ok", ""
        if answer["status"] == self.found["status"]:
            return self.found["reason"], f"answer {answer['status']}, as over HTTP/1.1"
        return "bad_connect", f"over HTTP/2 extended CONNECT is advertised and does not work: {verdict[1]}"

    def open_stream(self, stream: Stream, answer: dict[str, Any]) -> tuple[str, str]:
        """RFC 8441, section 5."""
        dropped = ("connection", "upgrade", "sec-websocket-key")
        offered = _websocket.handshake("", self.params["origin"], self.params["subprotocols"])
        fields = [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "https"), (":path", self.url.target)]
        fields.append((":authority", self.url.authority))
        fields += [(name, value) for name, value in [*offered, *self.own_headers()] if name.lower() not in dropped]
        stream.line.send(stream.http2.request(fields))
        try:
            while not stream.http2.status and not stream.http2.ended:
                stream.turn()
            answer["status"] = stream.http2.status
            if not 200 <= answer["status"] < 300:
                return "bad_connect", f"answer {answer['status'] or stream.http2.ended}"
            frames = _websocket.Frames()
            if self.params["ping"]:
                self.ping(stream, frames, b"")
            self.close(stream, frames, b"")
        except _http.WireError as error:
            return "bad_connect", f"the server sent {error}"
        return "ok", ""

    def upload(self) -> tuple[str, str]:
        answer: dict[str, Any] = {"refused": False, "status": 0, "error": ""}
        self.found["upload"] = answer
        headers = [
            ("Content-Type", "application/octet-stream"),
            ("Content-Length", str(self.params["upload"])),
            ("Expect", "100-continue"),
            *([("Origin", self.params["origin"])] if self.params["origin"] else []),
            *self.own_headers(),
        ]

        def ask() -> tuple[str, str]:
            with self.line() as line:
                line.clock = self.clock.part(CONTINUE_LIMIT)
                line.send(_http.request("POST", self.url, headers))
                answer["status"] = read_head(line, final=False)[0]
            return "ok", ""

        answer["error"] = self.attempt(ask)[1]
        answer["refused"] = answer["status"] == 413
        if not answer["refused"]:
            return "ok", ""
        answer["error"] = f"an upload of {self.params['upload']} bytes is refused with 413"
        return "upload_refused", answer["error"]

    def accept(self) -> tuple[str, str]:
        """The first bad one counts."""
        self.found["answers"] = answers = [self.get(media_type) for media_type in self.params["accept"]]
        page = self.found["reason"] in _websocket.PAGES
        verdicts = [_websocket.judge_get(answer, page, self.params["websocket"]) for answer in answers]
        return next((verdict for verdict in verdicts if verdict[0] != "ok"), ("ok", ""))

    def get(self, media_type: str) -> dict[str, Any]:
        answer: dict[str, Any] = {"accept": media_type, "status": 0, "content_type": "", "sound": False}
        answer.update(state="", ngrok_code="")

        def ask() -> None:
            with self.line() as line:
                line.clock = self.clock.part(ANSWER_LIMIT)
                line.send(_http.request("GET", self.url, [("Accept", media_type), *self.own_headers()]))
                answer["status"], headers, rest = read_head(line)
                kind = headers.get("content-type", "")
                answer["content_type"], answer["ngrok_code"] = _websocket.shown(kind), _websocket.ngrok_code(headers)
                answer["state"] = _websocket.shown(headers.get(_websocket.STATE_HEADER, ""))
                body = read_body(line, headers, rest, media_type) if _websocket.is_of(media_type, kind) else b""
            answer["sound"] = _websocket.is_sound(media_type, body)
            if answer["state"] and media_type == _websocket.JSON:
                answer["ngrok_code"] = _websocket.told_code(body)

        answer["error"] = self.attempt(ask)[1]
        return answer


def nothing() -> dict[str, Any]:
    """What is returned always."""
    return {
        "upgraded": False,
        "reason": "",
        "error": "",
        "status": 0,
        "state": "",
        "ngrok_code": "",
        "headers": {},
        "subprotocol": "",
        "close_code": 0,
        "address": "",
        "certificate": {},
        "timings": {},
    }


def certificate(sock: socket.socket) -> dict[str, Any]:
    der = sock.getpeercert(True) if isinstance(sock, ssl.SSLSocket) else None
    try:
        return _certificate.facts(der or b"")
    except ValueError:
        return {}


def read_head(line: Line, final: bool = True) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and the bytes behind. Interim answers (RFC 9110, section 15.2) are passed over, unless wanted."""
    data, seen, total = b"", 0, 0
    while True:
        end = _http.head_end(data, seen)
        if end >= 0:
            status, headers = _http.parse_head(data[:end])
            if status == 0:
                raise ProbeError("not_http", f"the answer begins with {_websocket.shown(data[:40].decode('latin-1'))}")
            if status == 101 or status >= 200 or (status == 100 and not final):
                return status, headers, data[end:]
            data, seen = data[end:], 0
            continue
        if not _http.may_be_http(data[:7]):
            raise ProbeError("not_http", f"the answer begins with {_websocket.shown(data[:40].decode('latin-1'))}")
        if total > _http.HEAD_LIMIT:
            raise ProbeError("too_large", f"the answer's header has more than {_http.HEAD_LIMIT} bytes")
        came = line.receive()
        if not came:
            raise ProbeError("no_answer", "the connection ended before the answer")
        data, seen, total = data + came, len(data), total + len(came)


def read_body(line: Line, headers: dict[str, str], data: bytes, media_type: str) -> bytes:
    """As much as says what it is: all of JSON, the first line of a stream, the beginning of anything else."""
    while True:
        try:
            body, whole = _http.body(headers, data)
        except _http.WireError as error:
            raise ProbeError("not_http", f"the answer has {error}") from None
        told = b"\n" in body if media_type == _websocket.STREAM else media_type != _websocket.JSON and bool(body)
        if whole or told or len(data) > _http.BODY_LIMIT:
            return body
        came = line.receive()
        if not came:
            return body
        data += came


def tls_context(ca_path: str, verify: bool, *alpn: str) -> ssl.SSLContext:
    if verify:
        context = _certificate.trusting(ca_path)
    else:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(list(alpn))
    return context


def tls_contexts(ca_path: str, verify: bool, http2: bool) -> dict[str, ssl.SSLContext]:
    """By the protocol that ALPN offers first, and one that verifies nothing."""
    made = {"http/1.1": tls_context(ca_path, verify, "http/1.1"), "unverified": tls_context("", False, "http/1.1")}
    if http2:
        made["h2"] = tls_context(ca_path, verify, "h2", "http/1.1")
    return made


def probe(params: dict[str, Any], url: _http.Url, contexts: dict[str, ssl.SSLContext]) -> dict[str, Any]:
    """The result within the time-out, even if a call hangs that knows none."""
    results: list[dict[str, Any]] = []
    work = Probe(params, url, contexts)
    worker = threading.Thread(target=lambda: results.append(work.run()), daemon=True)
    worker.start()
    worker.join(params["timeout"] + GRACE)
    if results:
        return results[0]
    what = "came to no end" if "dns" in work.timings else "was not resolved"
    error = f"{_websocket.shown(params['address'] or url.host)} {what} within {params['timeout']:g} s"
    return {**nothing(), "reason": "timeout", "error": error, "timings": {"total": params["timeout"] * 1000}}


def argument_error(params: dict[str, Any]) -> str:
    """A sentence about the first argument that no handshake can be made with."""
    if not 0 < params["timeout"] <= TIMEOUT_LIMIT:
        return f"timeout must be above 0 and at most {TIMEOUT_LIMIT} seconds, not {params['timeout']:g}."
    if params["upload"] < 0:
        return f"upload must be a number of bytes from 0, not {params['upload']}."
    for name in ("origin", "foreign_origin"):
        if params[name] and not _http.is_value(params[name]):
            return f"{name} must be one line without spaces around it."
    for media_type in params["accept"]:
        parts = media_type.split("/")
        if len(parts) != 2 or not all(map(_http.is_token, parts)):
            return f"accept: '{_websocket.shown(media_type)}' must be a media type, like application/json."
    for subprotocol in params["subprotocols"]:
        if not _http.is_token(subprotocol):
            return f"subprotocol '{_websocket.shown(subprotocol)}' must be a token (RFC 9110, section 5.6.2)."
    for header, value in params["headers"].items():
        if not _http.is_token(str(header)) or not _http.is_value(str(value)):
            return f"headers: '{_websocket.shown(str(header))}' must be a header field's name, and its value one line."
        if str(header).lower() in OURS or str(header).lower().startswith("sec-websocket-"):
            return f"headers: '{header}' is set by the handshake itself."
    return ""


def parameters(options: dict[str, Any]) -> dict[str, Any]:
    """The options, with defaults for the missing ones; ValueError with a sentence for one that is not valid."""
    unknown = sorted(set(options) - set(OPTIONS))
    if unknown:
        raise TypeError(f"there is no option {', '.join(unknown)}: use {', '.join(OPTIONS)}")
    params = {**OPTIONS, **options}
    error = argument_error(params)
    if error:
        raise ValueError(error)
    return params


def ask(url: str, **options: Any) -> dict[str, Any]:
    """What came of a URL and its options. No answer is a result, too.

    ValueError with a sentence for a URL or an option that cannot be used.
    """
    params = parameters(options)
    try:
        parsed = _http.parse_url(url)
    except ValueError as invalid:
        raise ValueError(f"url '{_names.masked(url)}' cannot be checked: {invalid}.") from None
    try:
        contexts = tls_contexts(params["ca_path"], params["verify"], params["http2"]) if parsed.secure else {}
    except OSError as unreadable:  # ssl.SSLError, too
        raise ValueError(f"ca_path {params['ca_path']} cannot be used: {unreadable}.") from None
    return probe(params, parsed, contexts)
