#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: websocket_probe
short_description: Check a WebSocket, or say in one word why it does not work
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
  - Internal to the collection, so it may change in any version.
  - Needs nothing but Python on the host that runs it. Use C(delegate_to) to probe from the control node.
  - Proxies of the environment (C(HTTPS_PROXY) and its like) are not used.
  - Redirects are not followed, since a browser does not follow them in a handshake either.
  - What stands in O(headers) may be seen in a verbose run's output. Where it is a secret, give the task C(no_log).
  - The playbook C(locki.vaettir.diagnose_agent) asks with this module at every hop of an agent's chain, names the
    first broken one and the fix. C(locki.vaettir.verify_agent) only verifies.
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
      IP address or host name to connect to instead of the URL's host, to check each server of a fleet by itself.
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
      long as it is below 500 and no page instead of it, for an app that O(accept) checks.
    type: bool
    default: true
  upgrade:
    description: >-
      Whether to ask by a handshake. With V(false) it is a plain GET without O(origin), for an app without a WebSocket,
      because some servers close the connection of a handshake that they do not expect.
    type: bool
    default: true
    version_added: 0.2.0
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
        V(text/event-stream) must be answered with such a stream and its first line, or with 401 or 403. A page instead
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
    - V(bad_page) - the page instead of the app does not come in a form of O(accept), see RV(answers) (V(offline)).
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

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.locki.vaettir.plugins.module_utils import _probe


def main() -> None:
    module = AnsibleModule(argument_spec=_probe.OPTIONS, supports_check_mode=True)
    try:
        found = _probe.ask(**module.params)
    except ValueError as impossible:
        module.fail_json(msg=str(impossible))
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
