#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: websocket_curl
short_description: Try a WebSocket opening handshake with curl
version_added: 0.1.0
description:
  - Runs curl with the opening handshake of RFC 6455, section 4.1, over HTTP/1.1, with a fresh random 16-byte key, and
    checks RV(ignore:Sec-WebSocket-Accept) as section 4.2.2 tells.
  - Tries one handshake (O(url)), or several in one call (O(handshakes)).
  - curl sends and receives every byte, so this module is a second witness next to
    M(locki.vaettir.websocket_probe), which has a client of its own. Both judge an answer by the same rules.
  - Decides on the status and the header fields only. Refusal texts differ between servers and versions.
  - curl would wait on the open connection. The module ends curl as soon as the header is there.
  - An answer that is not the wanted one is a result and no failure of the task. Judge RV(reason) or RV(results[].met).
notes:
  - Internal to the collection, so it may change in any version.
author:
  - the locki.vaettir authors (@locki)
extends_documentation_fragment:
  - locki.vaettir.attributes
attributes:
  check_mode:
    support: full
    details: The handshake changes nothing, so it is done in check mode as well.
  diff_mode:
    support: N/A
requirements:
  - curl on the host that runs the module
seealso:
  - module: locki.vaettir.websocket_probe
    description: The same handshake with Python, and further questions. It has finer words for what this module says.
  - name: RFC 6455
    description: The WebSocket protocol.
    link: https://www.rfc-editor.org/rfc/rfc6455
options:
  url:
    description:
      - C(http) or C(https) URL of the WebSocket endpoint.
      - Either O(url) or O(handshakes) is required.
    type: str
  address:
    description: >-
      IP address to connect to instead of the one that the URL's host name has. Server name and Host stay the URL's.
    type: str
    default: ''
  origin:
    description: Origin header (RFC 6454, section 7). Empty sends none.
    type: str
    default: ''
  ca_path:
    description: >-
      PEM file of the certificate authorities to trust, on the host that runs the module. Empty uses curl's own.
    type: str
    default: ''
  verify:
    description: Whether to verify the server's certificate.
    type: bool
    default: true
  timeout:
    description: Longest time for one whole handshake, in seconds, from 1.
    type: int
    default: 10
  handshakes:
    description:
      - Several handshakes, at most 8 of them at a time. Their results come in the same order as RV(results).
      - One whose answer is not among its O(handshakes[].expected) is tried again for O(patience).
    type: list
    elements: dict
    suboptions:
      url:
        description: As O(url).
        type: str
        required: true
      address:
        description: As O(address), which is used where this is empty.
        type: str
        default: ''
      origin:
        description: As O(origin), which is used where this is empty.
        type: str
        default: ''
      expected:
        description: The values of RV(results[].reason) to wait for. An empty list takes any answer.
        type: list
        elements: str
        choices:
          - ok
          - dns
          - refused
          - timeout
          - tls_untrusted
          - no_answer
          - refused_origin
          - not_a_websocket
          - no_route
          - stopped
          - offline
          - proxy_error
          - bad_accept
        default: []
      upgrade:
        description: As O(locki.vaettir.websocket_probe#module:upgrade).
        type: bool
        default: true
        version_added: 0.2.0
      label:
        description: Text to find the result by, such as the agent's name. It is returned as it is.
        type: str
        default: ''
  patience:
    description:
      - How long to try O(handshakes) again that have not met their O(handshakes[].expected), in seconds, from 0.
      - The module pauses for 0.5 seconds between two rounds. V(0) tries each handshake once.
      - The last round begins when this time is over. A round takes at most O(timeout) for every 8 handshakes in it.
    type: float
    default: 0
"""

EXAMPLES = r"""
- name: Try a handshake through Traefik on this very server
  locki.vaettir.websocket_curl:
    url: https://ocapistaine.vaettir.example.org/_stcore/stream
    address: 127.0.0.1
    origin: https://ocapistaine.vaettir.example.org
  register: handshake
  until: handshake.upgraded
  retries: 5

- name: Try two agents in one call, and give each 20 seconds to come up
  locki.vaettir.websocket_curl:
    handshakes:
      - label: ocapistaine
        url: https://ocapistaine.vaettir.example.org/_stcore/stream
        origin: https://ocapistaine.vaettir.example.org
        expected: [ok]
      - label: gradio
        url: https://gradio.vaettir.example.org/
        origin: https://gradio.vaettir.example.org
        expected: [ok, not_a_websocket, offline]
    address: 127.0.0.1
    patience: 20
  register: second

- name: Every agent answers as expected
  ansible.builtin.assert:
    that: second.results | rejectattr('met') | length == 0
    fail_msg: "{{ second.results | rejectattr('met') | map(attribute='error') | join('; ') }}"
"""

RETURN = r"""
upgraded:
  description: Whether the answer was 101 with the right Sec-WebSocket-Accept.
  type: bool
  returned: when O(url) is set
  sample: true
reason:
  description:
    - V(ok) for RV(upgraded); V(bad_accept) for 101 with a wrong Sec-WebSocket-Accept.
    - V(offline) for the agent's offline page, and for an error of ngrok's own edge.
    - V(stopped) for the page container's, which answers where Traefik has no agent.
    - V(no_route) for Traefik's own 404, V(refused_origin) for 403.
    - V(not_a_websocket) for any other answer below 500, V(proxy_error) for one above.
    - V(dns), V(refused), V(timeout), V(tls_untrusted), V(no_answer) when no answer came.
  type: str
  returned: when O(url) is set
  sample: ok
state:
  description: What the agent's nginx says of the tunnel. Empty when it says nothing.
  type: str
  returned: when O(url) is set
  sample: offline
status:
  description: HTTP status (RFC 9110, section 15). V(0) when there was no answer.
  type: int
  returned: when O(url) is set
  sample: 101
headers:
  description: Headers of the answer, names in lower case, values of the same name joined by a comma.
  type: dict
  returned: when O(url) is set
  sample: {server: nginx, upgrade: websocket, connection: upgrade}
curl_exit:
  description: curl's exit status. V(0) also when the module ended curl after the header.
  type: int
  returned: when O(url) is set
  sample: 0
error:
  description: What went wrong, in curl's words or ours. Empty when RV(upgraded) is true.
  type: str
  returned: when O(url) is set
  sample: 'answer 404 instead of 101: Traefik, or whatever is in its place, has no route to an agent for this name'
command:
  description: The command, to be repeated by hand.
  type: str
  returned: when O(url) is set
  sample: curl --http1.1 -sSv -o /dev/null https://ocapistaine.vaettir.example.org/_stcore/stream
results:
  description: The last answer to each handshake, in the order of O(handshakes).
  type: list
  elements: dict
  returned: when O(handshakes) is set
  contains:
    label:
      description: As given in O(handshakes[].label).
      type: str
      sample: ocapistaine
    url:
      description: As given in O(handshakes[].url).
      type: str
      sample: https://ocapistaine.vaettir.example.org/_stcore/stream
    reason:
      description: As RV(reason).
      type: str
      sample: ok
    status:
      description: As RV(status).
      type: int
      sample: 101
    state:
      description: As RV(state).
      type: str
      sample: offline
    error:
      description: As RV(error).
      type: str
      sample: 'curl: (7) Failed to connect to ocapistaine.vaettir.example.org port 443'
    command:
      description: As RV(command).
      type: str
      sample: curl --http1.1 -sSv -o /dev/null https://ocapistaine.vaettir.example.org/_stcore/stream
    met:
      description: Whether RV(results[].reason) is among O(handshakes[].expected), or that is empty.
      type: bool
      sample: true
"""

from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.locki.vaettir.plugins.module_utils import _curl, _names, _websocket

WORDS = list(dict.fromkeys(_websocket.REASONS.values()))
_SHARED = {"address": {"type": "str", "default": ""}, "origin": {"type": "str", "default": ""}}
_HANDSHAKE = {
    "url": {"type": "str", "required": True},
    **_SHARED,
    "expected": {"type": "list", "elements": "str", "choices": WORDS, "default": []},
    "upgrade": {"type": "bool", "default": True},
    "label": {"type": "str", "default": ""},
}


def each_handshake(params: dict[str, Any]) -> list[dict[str, Any]]:
    """The arguments of each handshake."""
    if params["handshakes"] is None:
        return [{**params, "expected": [], "upgrade": True}]
    wanted = []
    for each in params["handshakes"]:
        own_or_shared = {name: each[name] or params[name] for name in _SHARED}
        wanted.append({**params, **each, **own_or_shared})
    return wanted


def argument_error(params: dict[str, Any]) -> str:
    """A sentence about the first argument that curl cannot be run with."""
    if params["timeout"] < 1:
        return f"timeout must be a number of seconds from 1, not {params['timeout']}."
    if not params["patience"] >= 0:
        return f"patience must be a number of seconds from 0, not {params['patience']:g}."
    for url in (each["url"] for each in each_handshake(params)):
        try:
            parts = urlsplit(url)
            sound = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        except ValueError:  # the port is no number, or there is half an IPv6 address
            sound = False
        if not sound:
            return f"url '{_names.masked(url)}' cannot be tried: use one like https://a.example.org/path."
    return ""


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str"},
            **_SHARED,
            "ca_path": {"type": "str", "default": ""},
            "verify": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": _curl.TIMEOUT},
            "handshakes": {"type": "list", "elements": "dict", "options": _HANDSHAKE},
            "patience": {"type": "float", "default": 0},
        },
        required_one_of=[("url", "handshakes")],
        mutually_exclusive=[("url", "handshakes")],
        supports_check_mode=True,
    )
    params = module.params
    error = argument_error(params)
    if error:
        module.fail_json(msg=error)
    module.get_bin_path("curl", required=True)
    wanted = each_handshake(params)
    found = _curl.try_all(wanted, params["patience"])
    for answer in found:
        if answer["curl_exit"] == _curl.BAD_CA:
            module.fail_json(msg=f"ca_path {params['ca_path']} cannot be used: {answer['error']}.")
    if params["handshakes"] is None:
        module.exit_json(changed=False, **found[0])
    module.exit_json(changed=False, results=[_curl.result(*pair) for pair in zip(wanted, found)])


if __name__ == "__main__":
    main()
