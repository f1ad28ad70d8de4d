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
    checks
    RV(ignore:Sec-WebSocket-Accept) as section 4.2.2 tells.
  - Decides on the status and on that header only. Refusal texts differ between servers and versions.
  - curl would wait on the open connection. It is ended as soon as the headers are there.
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
options:
  url:
    description: C(http) or C(https) URL of the WebSocket endpoint.
    type: str
    required: true
  address:
    description: >-
      Address to connect to instead of the one that the URL's host name has. Server name and Host stay the URL's.
    type: str
    default: ''
  origin:
    description: Origin header (RFC 6454). Empty sends none.
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
    description: Longest time for the whole handshake, in seconds.
    type: int
    default: 10
"""

EXAMPLES = r"""
- name: Through Traefik on this very server
  locki.vaettir.websocket_curl:
    url: https://ocapistaine.vaettir.example.org/_stcore/stream
    address: 127.0.0.1
    origin: https://ocapistaine.vaettir.example.org
  register: handshake
  until: handshake.upgraded
  retries: 5
"""

RETURN = r"""
upgraded:
  description: Whether the answer was 101 with the right Sec-WebSocket-Accept.
  type: bool
  returned: always
reason:
  description:
    - V(ok) for RV(upgraded); V(bad_accept) for 101 with a wrong Sec-WebSocket-Accept.
    - V(offline) for the agent's offline page.
    - V(stopped) for the page container's, which answers where Traefik has no agent.
    - V(no_route) for Traefik's own 404, V(refused_origin) for 403.
    - V(not_a_websocket) for any other answer below 500, V(proxy_error) for one above.
    - V(dns), V(refused), V(timeout), V(tls_untrusted), V(no_answer) when no answer came.
  type: str
  returned: always
  sample: ok
state:
  description: What the agent's nginx says of the tunnel. Empty when it says nothing.
  type: str
  returned: always
  sample: offline
status:
  description: HTTP status. V(0) when there was no answer.
  type: int
  returned: always
  sample: 101
headers:
  description: Headers of the answer, names in lower case.
  type: dict
  returned: always
curl_exit:
  description: curl's exit status. V(0) also when we ended it after the headers.
  type: int
  returned: always
error:
  description: What went wrong, in curl's or our words. Empty when RV(upgraded) is true.
  type: str
  returned: always
command:
  description: The command, to be repeated by hand.
  type: str
  returned: always
"""

import base64
import hashlib
import os
import shlex
import subprocess
from typing import Any
from urllib.parse import urlsplit

from ansible.module_utils.basic import AnsibleModule

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3
STATE_HEADER = "x-vaettir-state"  # set by the agent's nginx on its offline page only
# curl's exit statuses (curl manual, EXIT CODES)
_CURL_BAD_CA = 77
_CURL_REASONS = {6: "dns", 7: "refused", 28: "timeout", 35: "tls_untrusted", 60: "tls_untrusted"}
_HEADER_LIMIT = 65536  # bytes; a hostile server must not fill our memory


def accept_for(key: str) -> str:
    return base64.b64encode(hashlib.sha1(f"{key}{_GUID}".encode()).digest()).decode()


def parse_head(head: bytes) -> tuple[int, dict[str, str]]:
    """Status and headers of an HTTP/1.1 answer; status 0 where it is none."""
    lines = head.decode("latin-1").replace("\r\n", "\n").split("\n")
    fields = lines[0].split(" ", 2)
    if not fields[0].startswith("HTTP/") or len(fields) < 2 or not (fields[1].isascii() and fields[1].isdigit()):
        return 0, {}
    pairs = (line.split(":", 1) for line in lines[1:] if ":" in line)
    return int(fields[1]), {name.strip().lower(): value.strip() for name, value in pairs}


def reason(status: int, accepted: bool, headers: dict[str, str], curl_exit: int) -> str:
    if status == 101:
        return "ok" if accepted else "bad_accept"
    if not status:
        return _CURL_REASONS.get(curl_exit, "no_answer")
    if STATE_HEADER in headers:
        return "stopped" if headers[STATE_HEADER] == "stopped" else "offline"
    if status == 404 and headers.get("server") != "nginx":  # Traefik's own; what an agent's nginx sends has its name
        return "no_route"
    if status == 403:
        return "refused_origin"
    return "not_a_websocket" if status < 500 else "proxy_error"


def command(params: dict[str, Any], key: str) -> list[str]:
    url = urlsplit(params["url"])
    port = url.port or (443 if url.scheme == "https" else 80)
    arguments = ["curl", "--http1.1", "-sSv", "-o", os.devnull, "--noproxy", "*", "--max-time", str(params["timeout"])]
    if params["address"]:
        arguments += ["--resolve", f"{url.hostname}:{port}:{params['address']}"]
    if params["ca_path"]:
        arguments += ["--cacert", params["ca_path"]]
    if not params["verify"]:
        arguments += ["--insecure"]
    headers = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": key,
    }
    if params["origin"]:
        headers["Origin"] = params["origin"]
    for name, value in headers.items():
        arguments += ["-H", f"{name}: {value}"]
    return [*arguments, params["url"]]


def read_head(trace: Any) -> tuple[bytes, str]:
    """The answer's head out of curl's trace, and curl's last complaint.

    The trace shows headers as they come; with `-i` curl holds those of a 101 back until the connection ends.
    """
    head, complaint = b"", ""
    while len(head) < _HEADER_LIMIT:
        line = trace.readline(_HEADER_LIMIT)
        if line in (b"", b"< \n", b"< \r\n"):
            break
        if line.startswith(b"< "):
            head += line[2:]
        elif line.startswith(b"curl: "):
            complaint = line.decode(errors="replace").strip()
    return head, complaint


def handshake(params: dict[str, Any]) -> dict[str, Any]:
    key = base64.b64encode(os.urandom(16)).decode()
    arguments = command(params, key)
    with subprocess.Popen(arguments, stderr=subprocess.PIPE) as process:
        head, complaint = read_head(process.stderr)
        if head:
            process.kill()
    status, headers = parse_head(head)
    curl_exit = 0 if head else process.returncode
    accepted = headers.get("sec-websocket-accept") == accept_for(key)
    if not head:
        error = complaint or f"curl ended with {curl_exit} and no answer"
    elif status != 101:
        error = f"answer {status} instead of 101"
    else:
        error = "" if accepted else "answer 101 with a wrong Sec-WebSocket-Accept"
    state = headers.get(STATE_HEADER, "")
    return {
        "upgraded": status == 101 and accepted,
        "reason": reason(status, accepted, headers, curl_exit),
        "state": state,
        "status": status,
        "headers": headers,
        "curl_exit": curl_exit,
        "error": error,
        "command": shlex.join(arguments),
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "address": {"type": "str", "default": ""},
            "origin": {"type": "str", "default": ""},
            "ca_path": {"type": "str", "default": ""},
            "verify": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 10},
        },
        supports_check_mode=True,
    )
    module.get_bin_path("curl", required=True)
    found = handshake(module.params)
    if found["curl_exit"] == _CURL_BAD_CA:
        module.fail_json(msg=f"ca_path {module.params['ca_path']} cannot be used: {found['error']}.")
    module.exit_json(changed=False, **found)


if __name__ == "__main__":
    main()
