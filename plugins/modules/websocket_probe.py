#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: websocket_probe
short_description: Prove that a WebSocket works, or say in one word why it does not
version_added: 0.1.0
description:
  - Opens a WebSocket as a browser does and says what came of it. The opening handshake is that of RFC 6455,
    section 4.1, over HTTP/1.1 with a fresh random key. Then comes a masked ping (section 5.5.2), whose pong must have
    the same payload, and a close frame (section 5.5.1).
  - On demand it asks further questions, each over a connection of its own. Is a foreign Origin refused? Do HTTP/2 and
    its extended CONNECT (RFC 8441) work? Is a large upload refused? What does a browser's GET get?
  - Decides on statuses, header fields and frames, never on a text. Refusal texts differ between servers and versions.
  - An answer that is not the wanted one is a result and no failure of the task. Judge RV(reason).
  - Ends within O(timeout), and half a second if the resolver hangs, whatever the server does. Takes a bounded amount of
    memory. A header may have 65536 bytes, what comes before the pong 16 MiB, an HTTP/2 connection 4 MiB, the answer to
    a GET 1 MiB. Of messages nothing is kept.
author:
  - the locki.vaettir authors (@locki)
extends_documentation_fragment:
  - locki.vaettir.attributes
attributes:
  check_mode:
    support: full
    details: Nothing is changed in either mode, so the probe is made in check mode as well.
  diff_mode:
    support: N/A
notes:
  - Needs nothing but Python on the host that runs it. Use C(delegate_to) to probe from the control node.
  - Proxies of the environment (C(HTTPS_PROXY) and its like) are not used.
  - Redirects are not followed, since a browser does not follow them in a handshake either.
  - What stands in O(headers) may be seen in a verbose run's output. Where it is a secret, give the task C(no_log).
  - The playbook C(locki.vaettir.diagnose_agent) asks with this module at every hop of an agent's chain, names the
    first broken one and what mends it. C(locki.vaettir.verify_agent) is the proof alone.
seealso:
  - module: locki.vaettir.websocket_curl
    description: The same handshake with curl. What that module tells apart has the same word here.
  - name: RFC 6455
    description: The WebSocket protocol.
    link: https://www.rfc-editor.org/rfc/rfc6455
  - name: RFC 6454
    description: The web origin concept.
    link: https://www.rfc-editor.org/rfc/rfc6454
  - name: RFC 8441
    description: Bootstrapping WebSockets with HTTP/2.
    link: https://www.rfc-editor.org/rfc/rfc8441
options:
  url:
    description:
      - URL of the WebSocket endpoint. V(https://) and V(wss://) mean the same, V(http://) and V(ws://) too.
      - The port is 443 or 80 unless it is given. A fragment is left out (RFC 6455, section 3).
    type: str
    required: true
  address:
    description: >-
      IP address or host name to connect to instead of the URL's host, to prove each server of a fleet by itself.
      Server Name Indication, the name in the certificate and Host stay the URL's.
    type: str
    default: ''
  origin:
    description: >-
      Origin header (RFC 6454, section 7), such as V(https://ocapistaine.vaettir.example.org). Empty sends none.
    type: str
    default: ''
  subprotocols:
    description:
      - Names to offer in C(Sec-WebSocket-Protocol), the best one first.
      - As in a browser, the server must choose one of them.
    type: list
    elements: str
    default: []
  headers:
    description: >-
      Further request header fields, such as a secret that the tunnel's policy asks for. Those that the handshake itself
      consists of are refused.
    type: dict
    default: {}
  ca_path:
    description: >-
      PEM file of the certificate authorities to trust, on the host that runs the module. Empty uses the system's own.
    type: path
    default: ''
  verify:
    description: Whether to verify the server's certificate. RV(certificate) is told in either case.
    type: bool
    default: true
  timeout:
    description: Longest time for everything together, in seconds, above 0 and up to 600.
    type: float
    default: 10
  websocket:
    description: >-
      Whether there should be a WebSocket at O(url). With V(false) any answer of the app to the handshake is V(ok), as
      long as it is below 500 and no page in its place, for an app that is to be proven by O(accept).
    type: bool
    default: true
  ping:
    description: Whether to send a ping and wait for its pong.
    type: bool
    default: true
  foreign_origin:
    description: >-
      Another Origin that must be refused. A second handshake is made with it, and anything but a 403 is
      RV(reason=foreign_origin). Empty asks nothing.
    type: str
    default: ''
  http2:
    description:
      - Whether to offer C(h2) by ALPN (RFC 7301), read the server's SETTINGS, and, where these advertise
        C(SETTINGS_ENABLE_CONNECT_PROTOCOL) (RFC 8441, section 3), open the WebSocket by an extended CONNECT as well.
      - Browsers take that way wherever it is advertised. curl does not, and so cannot see that it is broken.
    type: bool
    default: false
  upload:
    description:
      - Size in bytes of an upload that must not be refused. V(0) asks nothing.
      - >-
        A POST of this size to O(url) is announced with C(Expect: 100-continue) (RFC 9110, section 10.1.1) and withdrawn
        after the answer. No byte of the body travels.
    type: int
    default: 0
  accept:
    description:
      - Media types (RFC 9110, section 12.5.1) to ask O(url) for as a browser does, each with a GET of its own, which
        gets 3 seconds at most. See RV(answers).
      - >-
        V(text/event-stream) must be answered with such a stream and its first line, or with 401 or 403. A page in place
        of the app must come in the form that was asked for.
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Through Traefik on this very server
  locki.vaettir.websocket_probe:
    url: https://ocapistaine.vaettir.example.org/_stcore/stream
    address: 127.0.0.1
    origin: https://ocapistaine.vaettir.example.org
  register: probe
  until: probe.reason == 'ok'
  retries: 5

- name: As a visitor, from the control node, with every question
  locki.vaettir.websocket_probe:
    url: https://ocapistaine.vaettir.example.org/_stcore/stream
    origin: https://ocapistaine.vaettir.example.org
    foreign_origin: https://foreign.example
    http2: true
    upload: 2097152
    timeout: 5
  delegate_to: localhost
  register: probe
  failed_when: probe.reason != 'ok'

- name: Each server of a fleet, by its own address and the name that they share
  locki.vaettir.websocket_probe:
    url: https://ocapistaine.vaettir.example.org/_stcore/stream
    address: "{{ ansible_host }}"
    origin: https://ocapistaine.vaettir.example.org
  delegate_to: localhost
  register: probe

- name: A server with an authority of its own, which wants a subprotocol
  locki.vaettir.websocket_probe:
    url: wss://chat.example.net:8443/socket
    subprotocols: [graphql-transport-ws]
    ca_path: /etc/ssl/our-authority.pem
  register: probe

- name: The tunnel itself, as the agent's nginx asks it
  locki.vaettir.websocket_probe:
    url: https://ocapistaine.ngrok-free.app/_stcore/stream
    origin: https://ocapistaine.ngrok-free.app
    headers:
      ngrok-skip-browser-warning: 'true'
  register: tunnel

- name: An app without a WebSocket, which streams its answers
  locki.vaettir.websocket_probe:
    url: https://gradio.vaettir.example.org/gradio_api/queue/data?session_hash=vaettir
    websocket: false
    accept: [text/event-stream]
  register: probe

- name: Why not
  ansible.builtin.debug:
    msg: "{{ probe.reason }}: {{ probe.error }}"
  when: probe.reason != 'ok'

- name: The app answers a ping within a quarter of a second
  ansible.builtin.assert:
    that: probe.timings.ping < 250

- name: The certificate is good for two more weeks
  ansible.builtin.assert:
    that: (probe.certificate.not_after | to_datetime('%Y-%m-%dT%H:%M:%SZ') - now(utc=true)).days >= 14
"""

RETURN = r"""
upgraded:
  description: >-
    Whether the answer was 101 with the right C(Sec-WebSocket-Accept) and all else that RFC 6455, section 4.1, asks for.
  type: bool
  returned: always
  sample: true
reason:
  description:
    - What came of it, in one word of this list, which is closed. Where M(locki.vaettir.websocket_curl) has a coarser
      word for the same thing behind an agent's proxy, it stands in brackets.
    - The first that applies, in the order of handshake, ping, O(foreign_origin), O(http2), O(upload), O(accept). Where
      the handshake met a page, O(accept) may still say V(interstitial) or V(bad_page).
    - V(ok) - everything that was asked is as it should be.
    - 'B(Without a connection:)'
    - V(dns) - the host name has no address.
    - V(refused) - nothing listens on the port.
    - V(unreachable) - no way to the address, as without a route (V(refused)).
    - V(timeout) - no connection, TLS handshake or answer in time, as behind a firewall that drops packets.
    - 'B(Without trust:)'
    - V(tls_untrusted) - the certificate's issuer is not trusted, as that of a staging authority.
    - V(tls_pending) - Traefik's own default certificate, as long as it has none for the name (V(tls_untrusted)).
    - V(tls_name) - the certificate is for other names (V(tls_untrusted)).
    - V(tls_expired) - the certificate is not valid yet, or not any more, or the clock is wrong (V(tls_untrusted)).
    - V(tls_failed) - the TLS handshake broke off, as on a port that speaks plain HTTP (V(tls_untrusted)).
    - 'B(Without an answer of HTTP:)'
    - V(no_answer) - the connection ended before an answer.
    - V(not_http) - what came is no HTTP answer (V(no_answer)).
    - V(too_large) - a header or a frame beyond the limits, see RV(error) (V(no_answer)).
    - 'B(With another answer than 101:)'
    - V(refused_origin) - 403, the server does not want O(origin), or nobody at this path.
    - V(bad_key) - 400, the handshake did not arrive as it was sent, or lacks a subprotocol that the server demands
      (V(not_a_websocket)).
    - V(no_upgrade) - 426, Upgrade did not arrive, or the server speaks another version (V(not_a_websocket)).
    - V(redirected) - any 3xx, see RV(headers) for the location (V(not_a_websocket)).
    - V(unauthorized) - 401 or 407 (V(not_a_websocket)).
    - V(too_many_requests) - 429 that is not the tunnel's (V(not_a_websocket)).
    - V(not_a_websocket) - any other answer below 500, as of a page at this path.
    - V(no_route) - 404 that is not an agent's, as Traefik sends it where it has no router.
    - V(proxy_error) - 500 and above, as of a proxy that cannot reach what is behind it.
    - "B(With an answer of an agent's chain:)"
    - V(stopped) - the agent's own container does not run. Its page container answers.
    - V(maintenance) - the agent is closed for maintenance (V(offline)).
    - V(offline) - the tunnel is offline.
    - V(app_down) - the tunnel is up, but not the app behind it (V(offline)).
    - V(rate_limit) - the tunnel's limit of requests per minute is reached (V(offline)).
    - V(quota) - the month's quota of the tunnel is used up (V(offline)).
    - V(tunnel_refused) - any other error of ngrok's edge, see RV(ngrok_code) (V(offline)).
    - V(interstitial) - ngrok's warning page for browsers (V(not_a_websocket)).
    - 'B(With 101, and yet without a sound WebSocket:)'
    - V(bad_accept) - a wrong C(Sec-WebSocket-Accept), as of a server that does not know the protocol.
    - V(bad_upgrade) - Upgrade without C(websocket), or Connection without C(Upgrade) (V(ok)).
    - V(bad_extension) - an extension that was not offered (V(ok)).
    - V(bad_subprotocol) - a subprotocol that was not offered, or none of O(subprotocols) (V(ok)).
    - V(bad_frame) - a frame that RFC 6455, section 5, forbids (V(ok)).
    - V(app_closed) - the app closed the WebSocket before the pong, as one that wants a login does, see RV(close_code).
      The other questions are asked all the same (V(ok)).
    - V(closed) - the connection ended before the pong (V(ok)).
    - V(no_pong) - no pong in time (V(ok)).
    - 'B(After a further question:)'
    - V(foreign_origin) - O(foreign_origin) was not refused with 403, see RV(foreign) (V(ok)).
    - V(bad_http2) - the server chose HTTP/2 and then broke its rules or did not speak, see RV(http2) (V(ok)).
    - V(bad_connect) - extended CONNECT is advertised and does not work, see RV(http2) (V(ok)).
    - V(upload_refused) - 413 for O(upload), see RV(upload) (V(ok)).
    - V(no_stream) - no stream of events for V(text/event-stream) in O(accept), see RV(answers) (V(ok)).
    - V(bad_page) - the page in place of the app does not come in a form of O(accept), see RV(answers) (V(offline)).
    - 'B(Without a verdict:)'
    - V(unforeseen) - an error of its own. Please report it with RV(error).
  type: str
  returned: always
  sample: ok
error:
  description: RV(reason) as a sentence. Empty for V(ok).
  type: str
  returned: always
  sample: 'answer 403 instead of 101: the Origin https://foreign.example is refused'
status:
  description: HTTP status (RFC 9110, section 15) of the handshake. V(0) when there was no answer.
  type: int
  returned: always
  sample: 101
state:
  description: What the agent's nginx says of the tunnel (C(X-Vaettir-State)). Empty when it says nothing.
  type: str
  returned: always
  sample: offline
ngrok_code:
  description: >-
    ngrok's code of an error, from C(ngrok-error-code), which only its edge can set. Empty when there is none.
  type: str
  returned: always
  sample: ERR_NGROK_3200
headers:
  description: >-
    Those of C(server), C(date), C(location), C(content-type), C(retry-after) and C(sec-websocket-*) that the answer
    has, names in lower case, values cut after 200 characters.
  type: dict
  returned: always
  sample: {server: nginx, date: 'Mon, 23 Nov 2026 02:00:00 GMT', sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=}
subprotocol:
  description: The one that the server chose of O(subprotocols). Empty for none.
  type: str
  returned: always
  sample: streamlit
close_code:
  description: >-
    Status code of the server's close frame (RFC 6455, section 7.4). V(1005) for one without a code, V(0) when none came
    within half a second of ours.
  type: int
  returned: always
  sample: 1000
address:
  description: IP address that was connected to. Empty when there was no connection.
  type: str
  returned: always
  sample: 203.0.113.7
certificate:
  description: What the server's certificate says of itself (RFC 5280), also if it is not trusted. Empty without TLS.
  type: dict
  returned: always
  contains:
    issuer:
      description: Common name of the issuer, or its organization if it has none.
      type: str
      sample: R12
    subject:
      description: Common name of the certificate. Empty when it has none, which is usual.
      type: str
      sample: ocapistaine.vaettir.example.org
    names:
      description: DNS names and IP addresses that it is for, 100 at most.
      type: list
      elements: str
      sample: [ocapistaine.vaettir.example.org]
    not_before:
      description: Beginning of its time, UTC.
      type: str
      sample: '2026-10-01T00:00:00Z'
    not_after:
      description: End of its time, UTC.
      type: str
      sample: '2026-12-30T00:00:00Z'
timings:
  description: How long each phase took, in milliseconds. Phases that were not reached are left out.
  type: dict
  returned: always
  contains:
    dns:
      description: Until the host name had an address.
      type: float
      sample: 1.2
    connect:
      description: Until the TCP connection was there.
      type: float
      sample: 0.4
    tls:
      description: The TLS handshake.
      type: float
      sample: 5.1
    handshake:
      description: The WebSocket's handshake, from the request to the header of the answer.
      type: float
      sample: 31.0
    ping:
      description: Round trip inside the WebSocket.
      type: float
      sample: 30.3
    foreign:
      description: The whole question of O(foreign_origin).
      type: float
      sample: 12.4
    http2:
      description: The whole question of O(http2).
      type: float
      sample: 8.7
    upload:
      description: The whole question of O(upload).
      type: float
      sample: 9.1
    accept:
      description: The whole question of O(accept).
      type: float
      sample: 27.9
    total:
      description: Everything together.
      type: float
      sample: 127.0
foreign:
  description: What became of the handshake with O(foreign_origin).
  type: dict
  returned: when O(foreign_origin) is set and RV(status) is not V(0)
  contains:
    refused:
      description: Whether the answer was 403.
      type: bool
      sample: true
    status:
      description: >-
        HTTP status. V(101) means that any website may use the app with its visitors' cookies. V(0) for no answer.
      type: int
      sample: 403
    reason:
      description: As in RV(reason). V(refused_origin) is the wanted one.
      type: str
      sample: refused_origin
    error:
      description: The same as a sentence.
      type: str
      sample: 'answer 403 instead of 101: the Origin https://foreign.example is refused'
http2:
  description: What became of O(http2).
  type: dict
  returned: when O(http2) is true and RV(status) is not V(0)
  contains:
    reason:
      description:
        - V(ok), V(bad_http2), V(bad_connect), or one of RV(reason) when there was no connection, or the same refusal
          as over HTTP/1.1.
        - V(no_http2) when the server did not choose C(h2) or there is no TLS. That is no fault.
      type: str
      sample: ok
    error:
      description: The same as a sentence. Empty for V(ok).
      type: str
      sample: the server does not choose h2
    settings:
      description: >-
        The server's first SETTINGS (RFC 9113, section 6.5.2) by the names of the RFCs, unknown ones by their number.
      type: dict
      sample: {SETTINGS_MAX_CONCURRENT_STREAMS: 250, SETTINGS_MAX_FRAME_SIZE: 1048576}
    extended_connect:
      description: Whether C(SETTINGS_ENABLE_CONNECT_PROTOCOL) is 1.
      type: bool
      sample: true
    works:
      description: >-
        Whether an extended CONNECT opened the WebSocket and, with O(ping), a pong came back. Asked only if
        RV(http2.extended_connect).
      type: bool
      sample: true
    status:
      description: HTTP status of the extended CONNECT. V(0) when there was none.
      type: int
      sample: 200
upload:
  description: What became of O(upload).
  type: dict
  returned: when O(upload) is not V(0) and RV(status) is not V(0)
  contains:
    refused:
      description: Whether the answer was 413 (RFC 9110, section 15.5.14). No other answer says anything about the size.
      type: bool
      sample: false
    status:
      description: >-
        HTTP status. V(100) asks for the body. V(0) when nothing came within 3 seconds, which is no refusal either.
      type: int
      sample: 100
    error:
      description: Why there is no status, or that it was refused. Empty otherwise.
      type: str
      sample: an upload of 2097152 bytes is refused with 413
answers:
  description: What became of each GET, in the order of O(accept).
  type: list
  elements: dict
  returned: when O(accept) is not empty and RV(status) is not V(0)
  contains:
    accept:
      description: The media type that was asked for.
      type: str
      sample: application/json
    status:
      description: HTTP status. V(0) when no answer came.
      type: int
      sample: 503
    content_type:
      description: C(Content-Type) of the answer.
      type: str
      sample: application/json; charset=utf-8
    sound:
      description: >-
        Whether the answer is of the media type that was asked for and has a body. That of V(application/json) must be
        JSON, that of V(text/event-stream) must begin with a line.
      type: bool
      sample: true
    state:
      description: As in RV(state).
      type: str
      sample: offline
    ngrok_code:
      description: As in RV(ngrok_code), or what the agent's page says of it as C(application/json).
      type: str
      sample: ERR_NGROK_3200
    error:
      description: Why there is no whole answer. Empty otherwise.
      type: str
      sample: no more bytes came within 3 s
"""

import base64
import os
import socket
import ssl
import threading
import time
from contextlib import contextmanager
from typing import Any, Iterator

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.locki.vaettir.plugins.module_utils import _certificate, _http, _names, _websocket

# ngrok shows its warning page to browsers only, and visitors have browsers.
USER_AGENT = "Mozilla/5.0 (compatible; locki.vaettir.websocket_probe)"
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


class Line:
    """One connection, on which everything ends with the clock."""

    def __init__(self, sock: socket.socket, clock: Clock) -> None:
        self.sock, self.clock = sock, clock

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
            return self.sock.recv(CHUNK)
        except socket.timeout:
            raise ProbeError("timeout", f"no more bytes came within {self.clock.seconds:g} s") from None
        except OSError as error:  # ssl.SSLError, too
            raise ProbeError("no_answer", f"the connection broke off: {error}") from None


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
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except BaseException:
            sock.close()
            raise
        return sock

    def connect(self) -> socket.socket:
        peers = [self.peer] if self.peer else self.resolve()
        failure = ProbeError("dns", f"{self.url.host} has no address")
        for index, (family, address) in enumerate(peers):
            where = f"{address[0]} port {address[1]}"
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
                self.peer, self.found["address"] = (family, address), address[0]
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
            status, headers, rest, key = self.shake(line, params["origin"])
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

    def shake(self, line: Line, origin: str) -> tuple[int, dict[str, str], bytes, str]:
        """Status and headers of the answer to a handshake, the bytes behind it, and the key that it was made with."""
        key = base64.b64encode(os.urandom(16)).decode("ascii")
        headers = [*_websocket.handshake(key, origin, self.params["subprotocols"]), *self.own_headers()]
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
        """The server's code, 0 if it does not hurry to say one. All that was to be proven is."""
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


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "address": {"type": "str", "default": ""},
            "origin": {"type": "str", "default": ""},
            "subprotocols": {"type": "list", "elements": "str", "default": []},
            "headers": {"type": "dict", "default": {}},
            "ca_path": {"type": "path", "default": ""},
            "verify": {"type": "bool", "default": True},
            "timeout": {"type": "float", "default": 10},
            "websocket": {"type": "bool", "default": True},
            "ping": {"type": "bool", "default": True},
            "foreign_origin": {"type": "str", "default": ""},
            "http2": {"type": "bool", "default": False},
            "upload": {"type": "int", "default": 0},
            "accept": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    params = module.params
    error = argument_error(params)
    if error:
        module.fail_json(msg=error)
    try:
        url = _http.parse_url(params["url"])
    except ValueError as invalid:
        module.fail_json(msg=f"url '{_names.masked(params['url'])}' cannot be probed: {invalid}.")
    try:
        contexts = tls_contexts(params["ca_path"], params["verify"], params["http2"]) if url.secure else {}
    except OSError as unreadable:  # ssl.SSLError, too
        module.fail_json(msg=f"ca_path {params['ca_path']} cannot be used: {unreadable}.")
    module.exit_json(changed=False, **probe(params, url, contexts))


if __name__ == "__main__":
    main()
