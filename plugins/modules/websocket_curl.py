#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: websocket_curl
short_description: Try WebSocket opening handshakes with curl
version_added: 0.1.0
description:
  - Runs curl with the opening handshake of RFC 6455, section 4.1, over HTTP/1.1, with a fresh random 16-byte key, and
    checks RV(ignore:Sec-WebSocket-Accept) as section 4.2.2 tells.
  - curl sends and receives every byte, so this module is a second witness next to the verification of
    M(locki.vaettir.agent_release), which has a client of its own. Both judge an answer by the same rules.
  - Decides on the status and the header fields only. Refusal texts differ between servers and versions.
  - curl would wait on the open connection. The module ends curl as soon as the header is there.
  - An answer that is not the wanted one is a result and no failure of the task. Judge RV(results[].met).
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
  - name: RFC 6455
    description: The WebSocket protocol.
    link: https://www.rfc-editor.org/rfc/rfc6455
options:
  address:
    description: >-
      IP address to connect to instead of the one that a URL's host name has. Server name and Host stay the URL's.
    type: str
    default: ''
  ca_path:
    description: >-
      PEM file of the certificate authorities to trust, on the host that runs the module. Empty uses curl's own.
    type: str
    default: ''
  handshakes:
    description:
      - What to try, at most 8 at a time, each for 10 seconds at most. Their results come in the same order as
        RV(results).
      - One whose answer is not among its O(handshakes[].expected) is tried again for O(patience).
    type: list
    elements: dict
    required: true
    suboptions:
      url:
        description: C(http) or C(https) URL of the WebSocket endpoint.
        type: str
        required: true
      origin:
        description: Origin header (RFC 6454, section 7). Empty sends none.
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
        description: >-
          Whether to ask for the WebSocket. Without it, it is a plain GET, for an app that has none.
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
      - The last round begins when this time is over.
    type: float
    default: 0
"""

EXAMPLES = r"""
- name: Try two agents through Traefik on this very server, and give each 20 seconds to come up
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
results:
  description: The last answer to each handshake, in the order of O(handshakes).
  type: list
  elements: dict
  returned: success
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
      description:
        - V(ok) for 101 with the right Sec-WebSocket-Accept; V(bad_accept) for 101 with a wrong one.
        - V(offline) for the agent's offline page, and for an error of ngrok's own edge.
        - V(stopped) for the page container's, which answers where Traefik has no agent.
        - V(no_route) for Traefik's own 404, V(refused_origin) for 403.
        - V(not_a_websocket) for any other answer below 500, V(proxy_error) for one above.
        - V(dns), V(refused), V(timeout), V(tls_untrusted), V(no_answer) when no answer came.
      type: str
      sample: ok
    status:
      description: HTTP status (RFC 9110, section 15). V(0) when there was no answer.
      type: int
      sample: 101
    state:
      description: What the agent's nginx says of the tunnel. Empty when it says nothing.
      type: str
      sample: offline
    error:
      description: What went wrong, in curl's words or ours. Empty for V(ok).
      type: str
      sample: 'answer 404 instead of 101: Traefik, or whatever is in its place, has no route to an agent for this name'
    command:
      description: The command, to be repeated by hand.
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
_HANDSHAKE = {
    "url": {"type": "str", "required": True},
    "origin": {"type": "str", "default": ""},
    "expected": {"type": "list", "elements": "str", "choices": WORDS, "default": []},
    "upgrade": {"type": "bool", "default": True},
    "label": {"type": "str", "default": ""},
}


def argument_error(params: dict[str, Any]) -> str:
    """A sentence about the first argument that curl cannot be run with."""
    if not params["patience"] >= 0:
        return f"patience must be a number of seconds from 0, not {params['patience']:g}."
    for url in (each["url"] for each in params["handshakes"]):
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
            "address": {"type": "str", "default": ""},
            "ca_path": {"type": "str", "default": ""},
            "handshakes": {"type": "list", "elements": "dict", "options": _HANDSHAKE, "required": True},
            "patience": {"type": "float", "default": 0},
        },
        supports_check_mode=True,
    )
    params = module.params
    error = argument_error(params)
    if error:
        module.fail_json(msg=error)
    module.get_bin_path("curl", required=True)
    asked = {"address": params["address"], "ca_path": params["ca_path"], "timeout": _curl.TIMEOUT}
    wanted = [{**asked, **one} for one in params["handshakes"]]
    found = _curl.try_all(wanted, params["patience"])
    for answer in found:
        if answer["curl_exit"] == _curl.BAD_CA:
            module.fail_json(msg=f"ca_path {params['ca_path']} cannot be used: {answer['error']}.")
    module.exit_json(changed=False, results=[_curl.result(*pair) for pair in zip(wanted, found)])


if __name__ == "__main__":
    main()
