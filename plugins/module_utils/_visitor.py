# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What a visitor's browser does with an agent, asked at any place of its chain: data that can be compared.

An app notices requests for its page, and WebSockets. Streamlit runs its script for each that says its first word, and
once more after the silence.
"""

from __future__ import annotations

import contextlib
import hashlib
import queue
import socket
import ssl
import threading
import time
import zlib
from dataclasses import dataclass, field, replace
from functools import partial
from html.parser import HTMLParser
from typing import Any, Callable, Dict, Iterable, Mapping
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from . import _docker, _http, _probe, _questions, _websocket

PAGE, SOCKET, STREAM = "page", "WebSocket", "stream of events"
ASSETS = 6  # scripts and styles of a page that are asked for
SCRIPTS = 4  # of them at most, where there are styles as well
SIZE_LIMIT = 2 << 20  # bytes of one answer
PAGES_AT_ONCE = 2
HTTP_LIMIT = 6.0  # seconds for one answer
FIRST_MESSAGE = 4.0  # seconds
BUSY_LINE = 1.0  # seconds; whose last bytes came since then still sends
AS_IT_IS = "/%:@!$&'()*+,;=~-._?"  # of a URL, besides letters and digits (RFC 3986)
STALLED = 4.0  # seconds in the middle of an answer in which nothing comes
REDIRECTS = 3
HOST_CONFIG = "host-config"  # of Streamlit, which some older ones have not
GRACE = 0.5  # seconds after which a visit that hangs is left behind
AGAIN = 4  # times that what failed sometimes is asked once more
PATIENT = 5.0  # seconds; who was given less time has not failed
SILENCE = 10.0  # seconds in which a WebSocket hears nothing from its visitor
BESIDES = 4.0  # seconds of a visit besides them
ENGINE_SILENCE = 3.0  # seconds; after a few more Engine.IO ends a visitor who does not answer its own pings
PONG = 2.0  # seconds; who was given less for a pong has not failed
SECONDS = SILENCE + BESIDES
RERUN = b"\x5a\x00"  # Streamlit's BackMsg with an empty rerun_script: a browser's first word
SUBPROTOCOLS = ("streamlit", "PLACEHOLDER_AUTH_TOKEN")  # that a browser without Streamlit's cookie offers
FINISHED = b"\x30\x00"  # how its ForwardMsg ends that says script_finished: FINISHED_SUCCESSFULLY
# Close codes of an app that wants a login first: RFC 6455, and its registry. One whose language we do not speak may
# close without a complaint as well.
WANTS_LOGIN = (1008, 3000, 3003, *range(4000, 5000))
WANTS_MORE = (*WANTS_LOGIN, 1000, 1005)
# Pages and files at once, for the visits of many agents: with more of them a small machine would measure itself.
ROOM = threading.BoundedSemaphore(12)
IMPATIENT = "ping timed out"  # an app for which a pong of ours came too late, as from a busy machine
BUSY = "busy"  # this nginx' limit for one visitor: our haste, and what its owner wants
BROWSER = "text/html,application/xhtml+xml,*/*;q=0.8"


@dataclass(frozen=True)
class Place:
    """Where the questions are asked, and how they get there."""

    name: str
    url: str  # an origin
    addresses: tuple[str, ...] = ()  # each connection takes the next one; none: whatever the host's name says
    origin: str = ""  # of the visitor's WebSocket
    headers: Mapping[str, str] = field(default_factory=dict)
    ca_path: str = ""
    verify: bool = True
    inside: str = ""  # ID of a container from which it is asked


@dataclass(frozen=True)
class Plan:
    """What is asked. `more`: how often, of what failed somewhere sometimes."""

    page: str = "/"
    health: tuple[str, ...] = ()
    socket: str = ""
    stream: str = ""
    subprotocols: tuple[str, ...] = ()
    says: bytes = b""  # a browser's first message
    hears: bool = False  # whether the app has a first message
    first: float = FIRST_MESSAGE
    silence: float = SILENCE
    seconds: float = SECONDS
    rounds: int = 2
    http: bool = True
    sockets: int = 2  # that say and hear what a browser does, and are silent then
    handshakes: int = 2  # besides those
    more: Mapping[str, int] = field(default_factory=dict)


def plan(agent: Mapping[str, Any], **more: Any) -> Plan:
    path = str(agent["probe_path"])
    streamlit = path.endswith(_questions.STREAMLIT)
    begin = path[: -len(_questions.STREAMLIT)] if streamlit else ""
    engine = "transport=websocket" in path
    made = Plan(
        page=f"{begin}/",
        health=tuple(f"{begin}/_stcore/{name}" for name in ("health", HOST_CONFIG)) if streamlit else (),
        socket=path,
        stream="" if path else str(agent["stream_path"]),
        subprotocols=SUBPROTOCOLS if streamlit else (),
        says=RERUN if streamlit else b"",
        hears=streamlit or engine,  # Engine.IO opens with a packet of the server's
    )
    made = replace(made, **more)
    return replace(made, silence=min(made.silence, ENGINE_SILENCE)) if engine else made


def own_names(agent: Mapping[str, Any]) -> list[str]:
    """Hosts whose scripts and styles are the page's own."""
    return [urlsplit(str(agent[name])).netloc for name in ("public_origin", "target_url")]


def seen(question: str, **told: Any) -> dict[str, Any]:
    """One answer. `ok` knows no other place's; `first` are milliseconds until its first byte, `line` those before."""
    nothing = {"ok": False, "told": "", "status": 0, "kind": "", "size": 0, "digest": "", "state": "", "code": ""}
    times = {"first": 0.0, "line": 0.0, "late": False, "reached": True}
    return {"question": question, "file": False, **nothing, **times, **told}


class _Connection(_probe.Probe):
    """Of one question."""

    def __init__(self, place: Place, path: str, contexts: dict[str, ssl.SSLContext], number: int, limit: float) -> None:
        address = place.addresses[number % len(place.addresses)] if place.addresses else ""
        options = {"address": address, "origin": place.origin, "headers": dict(place.headers), "timeout": limit}
        super().__init__(_probe.parameters(options), _http.parse_url(place.url + path), contexts)
        self.place = place

    def connect(self) -> socket.socket:
        return through(self.place.inside, self.params["address"], self.url) if self.place.inside else super().connect()


def through(container: str, address: str, url: _http.Url) -> socket.socket:
    """A connection that begins in a container: its image has bash for that, and nothing else."""
    script = 'exec 4<&0 3<>"/dev/tcp/$0/$1" || exit 1; { cat <&4 >&3; kill $$; } & exec cat <&3'
    words = ("exec", "-i", container, "timeout", "20", "bash", "-c", script, address, str(url.port))
    ours, theirs = socket.socketpair()
    threading.Thread(target=_docker.attached, args=(theirs, *words), daemon=True).start()
    return ours


class _Names(HTMLParser):
    """Scripts and styles that a page names, in its order."""

    def __init__(self) -> None:
        super().__init__()
        self.base = ""
        self.found: list[tuple[str, str]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = {name: value or "" for name, value in attrs}
        if tag == "base":
            self.base = self.base or has.get("href", "")
        if tag == "script" and has.get("src"):
            self.found.append(("script", has["src"]))
        relation = has.get("rel", "").lower().split()
        if tag == "link" and has.get("href") and {"stylesheet", "modulepreload"} & set(relation):
            self.found.append(("style" if "stylesheet" in relation else "script", has["href"]))


def assets(html: str, url: str, own: Iterable[str]) -> dict[str, str]:
    """The page's own scripts and styles, by their paths; those of other hosts are theirs."""
    parser = _Names()
    with contextlib.suppress(
        AssertionError, NotImplementedError
    ):  # what only a browser understands; the latter's is old
        parser.feed(html)
    own = {urlsplit(url).netloc, *own}
    found: dict[str, str] = {}
    for kind, link in parser.found:
        with contextlib.suppress(ValueError):  # an address in brackets that is none
            parts = urlsplit(urljoin(urljoin(url, parser.base.strip()), link.strip()))
            if parts.scheme in ("http", "https") and parts.netloc in own:
                found.setdefault(quoted(parts), kind)
    scripts, styles = ([path for path, kind in found.items() if kind == one] for one in ("script", "style"))
    styles = styles[: max(ASSETS - SCRIPTS, ASSETS - len(scripts))]
    return {path: found[path] for path in scripts[: ASSETS - len(styles)] + styles}


def quoted(parts: SplitResult) -> str:
    """Path and query as a browser sends them."""
    return quote((parts.path or "/") + (f"?{parts.query}" if parts.query else ""), safe=AS_IT_IS)


def forbids(policy: str, own: Iterable[str]) -> bool:
    """Whether a Content-Security-Policy keeps a page from its own scripts (CSP3, script-src-elem)."""
    general = {"*", "http:", "https:", "'self'", "'strict-dynamic'", *own}
    for one in policy.lower().split(","):
        known = {words[0]: words[1:] for words in map(str.split, one.split(";")) if words}
        name = next((name for name in ("script-src-elem", "script-src", "default-src") if name in known), "")
        sources = known.get(name, ["*"])
        hosts = [source.rpartition("://")[2].partition("/")[0] for source in sources]
        exact = any(source.startswith(("'nonce-", "'sha", "*.")) for source in [*sources, *hosts])
        if not exact and not general & {*sources, *hosts}:
            return True
    return False


Work = Callable[[_Connection], Dict[str, Any]]


class Visit:
    """All questions of a plan at one place."""

    def __init__(self, place: Place, asked: Plan, own: Iterable[str] = ()) -> None:
        self.place, self.plan, self.own = place, asked, tuple(own)
        self.end = time.monotonic() + asked.seconds
        secure = place.url.startswith("https://")
        self.contexts = _probe.tls_contexts(place.ca_path, place.verify, False) if secure else {}
        self.number = 0
        self.answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self.begun: dict[int, tuple[str, float]] = {}
        self.found: list[dict[str, Any]] = []
        self.named: list[str] = []

    def run(self) -> list[dict[str, Any]]:
        """Whatever hangs, it comes back in time; what was not waited for is `late`."""
        for _time in range(self.plan.sockets if self.plan.socket else 0):
            self.begin(SOCKET, partial(self.converse, silence=self.plan.silence))
        for _time in range(self.plan.handshakes if self.plan.socket else 0):
            self.begin(SOCKET, partial(self.converse, silence=0.0, speaks=False))
        for _time in range(self.plan.rounds if self.plan.http else 0):
            self.round()
        for question, times in self.plan.more.items():
            for _time in range(times):
                self.begin(question)
        self.wait()
        for question in self.sometimes():
            for _time in range(AGAIN):
                self.begin(question)
        self.wait()
        for question, begin in self.begun.values():
            waited = max(0.0, time.monotonic() - begin)
            short = waited < PATIENT or question == SOCKET
            told = f"no answer within {waited:.0f} s"
            self.found.append(seen(question, ok=short, told=told, late=True, unheard=question == SOCKET))
        return self.found

    def sometimes(self) -> list[str]:
        good = {one["question"] for one in self.found if one["ok"]}
        return sorted(good & {one["question"] for one in self.found if not one["ok"]})

    def round(self) -> None:
        """One browser's: its pages, and what they name."""
        if time.monotonic() > self.end - 1 or not self.wanted(PAGE):
            return
        for _time in range(PAGES_AT_ONCE):
            self.begin(PAGE)
        for question in (*self.plan.health, *([STREAM] if self.plan.stream else [])):
            if self.wanted(question):
                self.begin(question)
        self.wait([PAGE])
        for path in self.named:
            if self.wanted(path):
                self.begin(path)
        self.wait([PAGE, STREAM, *self.plan.health, *self.named])

    def usual(self, question: str) -> tuple[Work, str]:
        """What is done for it, and at which path."""
        known: dict[str, tuple[Work, str]] = {
            PAGE: (self.page, self.plan.page),
            STREAM: (self.stream, self.plan.stream),
            SOCKET: (partial(self.converse, silence=min(0.5, self.plan.silence)), self.plan.socket),
        }
        return known.get(question, (self.health if question in self.plan.health else self.asset, question))

    def wanted(self, question: str) -> bool:
        """What has failed each time is not asked again: each may take its whole time."""
        before = [one for one in self.found if one["question"] == question]
        return not before or any(one["status"] for one in before)

    def begin(self, question: str, work: Work | None = None) -> None:
        """Its usual work, unless another is given."""
        usual, path = self.usual(question)
        number, self.number = self.number, self.number + 1
        self.begun[number] = (question, self.end)

        def ask() -> None:
            try:
                with contextlib.nullcontext() if question == SOCKET else ROOM:
                    self.begun[number] = (question, time.monotonic())
                    limit = min(self.end - time.monotonic(), self.plan.seconds if question == SOCKET else HTTP_LIMIT)
                    asked = _Connection(self.place, path, self.contexts, number, max(0.1, limit))
                    told = (work or usual)(asked)
            except _probe.ProbeError as failure:
                short = failure.reason == "timeout" and limit < PATIENT
                told = {"told": failure.error, "ok": short, "late": short, "reached": asked.reached}
            except Exception as error:
                told = {"told": f"{type(error).__name__}: {error}"}
            if told.get("state") == BUSY:
                told.update(ok=True, late=True, status=0)
            self.answers.put({**seen(question, file=question in self.named), **told, "number": number})

        threading.Thread(target=ask, daemon=True).start()

    def wait(self, questions: Iterable[str] | None = None) -> None:
        wanted = None if questions is None else set(questions)
        while any(wanted is None or question in wanted for question, _begin in self.begun.values()):
            left = self.end - time.monotonic()
            if left <= 0:
                return
            try:
                one = self.answers.get(timeout=left)
            except queue.Empty:
                return
            self.begun.pop(one.pop("number"), None)
            self.found.append(one)

    # --- The answers --------------------------------------------------------------------------------------------------

    def get(self, asked: _Connection, accept: str, enough: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """With `enough`, no more is read than up to it."""
        timings: dict[str, float] = {}
        coding = "identity" if enough else "gzip"  # who looks for something in it must see it as it comes
        headers = [("Accept", accept), ("Accept-Encoding", coding), ("Connection", "close"), *asked.own_headers()]
        with asked.line(timings) as line:
            begin = time.monotonic()
            line.send(_http.request("GET", asked.url, headers))
            status, fields, rest = _probe.read_head(line)
            first = (time.monotonic() - begin) * 1000
            made = {
                "status": status,
                "kind": _websocket.shown(fields.get("content-type", "").partition(";")[0].strip().lower()),
                "state": _websocket.shown(fields.get(_websocket.STATE_HEADER, "")),
                "code": _websocket.ngrok_code(fields),
                "first": round(first, 1),
                "line": round(timings.get("connect", 0) + timings.get("tls", 0), 1),
                "location": fields.get("location", ""),
                "policy": fields.get("content-security-policy", ""),
            }
            body, problem, late = read(line, status, fields, rest, enough)
        made.update(size=len(body), digest="" if late else hashlib.sha256(body).hexdigest()[:16], late=late)
        if problem:
            made["told"] = f"answer {status}, {problem}"
        else:
            more = (made["state"] and f"the page ({made['state']})") or made["code"] or made["kind"]
            made["told"] = f"answer {status}{f', {more}' if more else ''}"
        made["ok"] = not problem and status < 500 and status != 429 and not made["state"] and not made["code"]
        return made, body

    def page(self, asked: _Connection) -> dict[str, Any]:
        for _hop in range(REDIRECTS + 1):
            made, body = self.get(asked, BROWSER)
            target = urlsplit(urljoin(f"http://{asked.url.authority}{asked.url.target}", made.pop("location")))
            within = target.netloc in (asked.url.authority, *self.own)
            path = quoted(target)
            if path == asked.url.target or not (300 <= made["status"] < 400 and within):
                break
            asked = _Connection(self.place, path, self.contexts, self.number, asked.clock.left())
        if made["kind"] == "text/html" and made["ok"] and made["status"] < 300:
            self.look(made, body, f"http://{asked.url.authority}{asked.url.target}")
        if self.plan.health and made["status"] >= 404:
            made["ok"] = False  # Streamlit has a page; another app may have none
        return made

    def look(self, made: dict[str, Any], body: bytes, url: str) -> None:
        found = assets(body.decode("utf-8", "replace"), url, self.own)
        self.named += [path for path in found if path not in self.named][: ASSETS - len(self.named)]
        made["assets"] = len(found)
        if "script" in found.values() and forbids(made["policy"], (urlsplit(url).netloc, *self.own)):
            made.update(ok=False, told=f"answer {made['status']}, whose policy forbids its own scripts")
        if made["status"] != 204 and not made["late"] and not body.strip():
            made.update(ok=False, told=f"answer {made['status']}, an empty page")

    def asset(self, asked: _Connection) -> dict[str, Any]:
        """A redirect leads to something else, and a style may be empty."""
        made, body = self.get(asked, "*/*")
        empty = not body and not made["late"] and made["status"] == 200 and made["kind"] != "text/css"
        good = 300 <= made["status"] < 400 or (made["status"] < 300 and made["kind"] != "text/html" and not empty)
        return {**made, "ok": made["ok"] and good}

    def health(self, asked: _Connection) -> dict[str, Any]:
        made, _body = self.get(asked, "*/*")
        refused = (401, 403, 404) if asked.url.target.endswith(HOST_CONFIG) else (401, 403)
        return {**made, "ok": made["ok"] and (made["status"] < 400 or made["status"] in refused)}

    def stream(self, asked: _Connection) -> dict[str, Any]:
        made, body = self.get(asked, _websocket.STREAM, b"\n")
        sound = made["kind"] == _websocket.STREAM and b"\n" in body
        return {**made, "ok": made["ok"] and (sound or made["status"] in (401, 403))}

    def converse(self, asked: _Connection, silence: float, speaks: bool = True) -> dict[str, Any]:
        """As a browser does that says its first word, and then nothing."""
        timings: dict[str, float] = {}
        with asked.line(timings) as line:
            begin = time.monotonic()
            line.clock = asked.clock.part(HTTP_LIMIT)
            asked.params["subprotocols"] = list(self.plan.subprotocols)
            status, fields, rest, key = asked.shake(line, self.place.origin)
            subprotocol = fields.get("sec-websocket-protocol", "")
            offered = list(self.plan.subprotocols) if subprotocol else []  # older ones of Streamlit choose none
            reason, error = _websocket.judge(status, fields, key, self.place.origin, offered)
            made: dict[str, Any] = {
                "subprotocol": _websocket.shown(subprotocol),
                "status": status,
                "state": _websocket.shown(fields.get(_websocket.STATE_HEADER, "")),
                "code": _websocket.ngrok_code(fields),
                "first": round((time.monotonic() - begin) * 1000, 1),
                "line": round(timings.get("connect", 0) + timings.get("tls", 0), 1),
                "told": error,
            }
            talk = _Talk(asked, line, rest)
            if reason != "ok":
                return made
            made.update(self.talk(talk, silence, speaks))
            if self.plan.subprotocols and not subprotocol:
                made["told"] = made["told"].replace("101", "101 without a subprotocol", 1)
            return made

    def talk(self, talk: _Talk, silence: float, speaks: bool) -> dict[str, Any]:
        """Behind the handshake."""
        begin, quiet, silent = time.monotonic(), 0.0, 0.0
        try:
            if self.plan.says and speaks:
                talk.say(self.plan.says)
            if self.plan.hears and speaks and not talk.listen(self.plan.first, 1):
                return {"told": f"101, and no first message of the app's within {self.plan.first:g} s", "late": True}
            quiet = time.monotonic()
            message = round((quiet - begin) * 1000, 1)
            talk.listen(silence)
            silent = time.monotonic() - quiet
            talk.ping()
            # A script that still runs answers later.
            if talk.tail.endswith(FINISHED) and speaks:
                talk.say(self.plan.says)
                if not talk.listen(self.plan.first, talk.frames.messages + 1):
                    told = f"101, and after {silent:.0f} s of silence no more message of the app's"
                    return {"told": told, "after": silent}
        except _websocket.FrameError as error:
            # More than we take: a large app's first screen.
            return {"told": f"101, and {error}", "ok": error.reason == "too_large", "late": True}
        except (_ClosedError, _probe.ProbeError) as end:
            whole, after = time.monotonic() - begin, silent or (time.monotonic() - quiet if quiet else 0.0)
            mute = isinstance(end, _probe.ProbeError) and end.reason == "no_pong"
            short = mute and (talk.line.clock.seconds < PONG or talk.still_sends)
            if short or IMPATIENT in str(end):
                return {"told": f"101, and {end}", "ok": True, "late": True, "unheard": True}
            told = f"101, and {f'after {whole:.0f} s' if whole > 1 else 'at once'} {end}"
            code = end.code if isinstance(end, _ClosedError) else talk.asked.found["close_code"]
            wants = code in (WANTS_LOGIN if self.plan.hears else WANTS_MORE)
            return {"told": told, "ok": wants, "after": after, "closed": code or 0, "late": mute}
        talk.asked.close(talk.line, talk.frames, b"")
        pong = f"101, and a pong after {silent:.0f} s of silence" if silent >= 1 else "101, and a pong"
        return {"ok": True, "told": pong, "silent": silent, "message": message}


_MASK = b"\0\0\0\0"


class _ClosedError(Exception):
    def __init__(self, code: int, why: str) -> None:
        super().__init__(f"it was closed with {code} {why}".rstrip() if code else "it ended without a close frame")
        self.code = code


class _Talk:
    """What a WebSocket's visitor says and hears."""

    def __init__(self, asked: _Connection, line: _probe.Line, rest: bytes) -> None:
        self.asked, self.line, self.rest = asked, line, rest
        self.frames = _websocket.Frames()
        self.tail = b""  # of the last message

    @property
    def still_sends(self) -> bool:
        """A pong waits behind what comes."""
        return time.monotonic() - self.line.heard < BUSY_LINE

    def say(self, message: bytes) -> None:
        self.line.send(_websocket.frame(_websocket.BINARY, message, _MASK))

    def ping(self) -> None:
        self.line.clock = self.asked.clock.part(FIRST_MESSAGE)
        self.asked.ping(self.line, self.frames, b"")

    def listen(self, seconds: float, messages: int = 0) -> bool:
        """For so long, or until so many messages have come."""
        self.line.clock = self.asked.clock.part(seconds)
        try:
            while not messages or self.frames.messages < messages:
                self.hear()
        except _probe.ProbeError as failure:
            if failure.reason == "timeout":
                return False
            raise _ClosedError(0, "") from None
        return True

    def hear(self) -> None:
        """What comes next, and the answer to it that a WebSocket owes."""
        data, self.rest = self.rest or self.line.receive(), b""
        if not data:
            raise _ClosedError(0, "")
        before = self.frames.messages
        controls = self.frames.feed(data)
        self.tail = data[-len(FINISHED) :] if self.frames.messages > before else self.tail
        for opcode, payload in controls:
            if opcode == _websocket.CLOSE:
                why = _websocket.shown(payload[2:].decode("utf-8", "replace"))
                raise _ClosedError(_websocket.close_code(payload), why)
        self.asked.answer(self.line, controls)


def read(
    line: _probe.Line, status: int, headers: Mapping[str, str], data: bytes, enough: bytes = b""
) -> tuple[bytes, str, bool]:
    """A body as a browser would have it, what is wrong with it, and whether its end was not waited for."""
    if status in (204, 304):
        return b"", "", False
    came, late, problem, moment = bytearray(data), False, "", time.monotonic()
    chunked = "chunked" in headers.get("transfer-encoding", "").lower()
    length = headers.get("content-length", "")
    while len(came) < SIZE_LIMIT:
        ends = came.endswith(b"0\r\n\r\n") if chunked else length.isdigit() and len(came) >= int(length)
        if (ends or (enough and enough in came)) and _suffices(headers, bytes(came), enough):
            break
        try:
            more = line.receive()
        except _probe.ProbeError as failure:
            quiet = time.monotonic() - moment
            late = failure.reason == "timeout" and bool(came) and quiet < STALLED
            problem = "" if late else f"and then nothing for {quiet:.0f} s" if came else f"and then {failure.error}"
            break
        if not more:
            break
        came, moment = came + more, time.monotonic()
    try:
        body, whole = _http.body(dict(headers), bytes(came))
    except _http.WireError as error:
        return bytes(came), f"with {error}", False
    late = late or len(came) >= SIZE_LIMIT or bool(enough and enough in body)
    whole = whole or late
    if not whole and (chunked or length):
        return body, problem or f"which ends after {len(body)} bytes{f' of {length}' if length else ''}", False
    coding = headers.get("content-encoding", "").strip().lower()
    if coding in ("gzip", "x-gzip"):
        unzip = zlib.decompressobj(31)
        try:
            body = unzip.decompress(body, SIZE_LIMIT)
        except zlib.error:
            return body, "which no browser can unpack", late
        if not (unzip.eof or unzip.unconsumed_tail or late):
            return body, "which ends in the middle of its compression", late
    elif coding not in ("", "identity"):
        problem = f"in {_websocket.shown(coding)}, which nobody asked for"
    return body, problem, late


def _suffices(headers: Mapping[str, str], came: bytes, enough: bytes) -> bool:
    """Whether it is all, or what was waited for; what only looks so is inside a chunk."""
    try:
        body, whole = _http.body(dict(headers), came)
    except _http.WireError:
        return True
    return whole or bool(enough and enough in body)


def visit(place: Place, asked: Plan, own: Iterable[str] = ()) -> list[dict[str, Any]]:
    return Visit(place, asked, own).run()
