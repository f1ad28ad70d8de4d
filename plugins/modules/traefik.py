#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: traefik
short_description: Start Traefik on a server, replace it and undo what fails, or remove it
version_added: 0.2.0
description:
  - Works on the services C(traefik) and C(docker-api) of the compose file that the role P(locki.vaettir.stack#role)
    writes.
  - V(started) starts what does not run. A running Traefik stays as it is, whatever its definition says, because it
    holds every open WebSocket of the server. C(docker-api) holds none, so it is replaced where its definition changed.
  - V(upgraded) gets the image while the previous Traefik serves, asks every agent through it (O(handshakes)), copies
    C(acme.json), replaces the container, waits until it is healthy, and asks every agent again.
  - Where the new Traefik does not come up, or an agent answers worse than before, the previous one is started again
    from the compose file that it was made from, which becomes C(docker-compose.yml) again; the task fails and says why.
  - V(absent) takes the containers, their volume, and the network where nobody else's container uses it.
notes:
  - Internal to the collection, so it may change in any version.
author:
  - the locki.vaettir authors (@locki)
extends_documentation_fragment:
  - locki.vaettir.attributes
  - locki.vaettir.server
attributes:
  check_mode:
    support: full
    details: Touches nothing. V(upgraded) is changed in any case.
  diff_mode:
    support: none
options:
  state:
    description: What is to be reached.
    type: str
    choices: [started, upgraded, absent]
    default: started
  image:
    description: Traefik's image. V(upgraded) pulls it where the server does not have it.
    type: str
    default: ''
  handshakes:
    description: >-
      As O(locki.vaettir.websocket_curl#module:handshakes): one for each agent that the server has. What they answer
      before the upgrade is good enough after it.
    type: list
    elements: dict
    default: []
  ca_path:
    description: As O(locki.vaettir.websocket_curl#module:ca_path).
    type: str
    default: ''
  container:
    description: Whether V(absent) takes the container C(traefik). One that is not ours stays.
    type: bool
    default: true
requirements:
  - Docker Engine and Docker Compose, curl
seealso:
  - module: locki.vaettir.websocket_curl
"""

EXAMPLES = r"""
- name: Start Traefik
  locki.vaettir.traefik:
    root: ~/vaettir

- name: Replace Traefik, verify an agent, roll back
  locki.vaettir.traefik:
    root: ~/vaettir
    state: upgraded
    image: traefik:v3.7.15
    handshakes:
      - label: ocapistaine
        url: https://ocapistaine.vaettir.example.org/_stcore/stream
        origin: https://ocapistaine.vaettir.example.org
        upgrade: true
        expected: []
"""

RETURN = r"""
removed:
  description: What V(absent) has taken, or would take.
  type: list
  elements: str
  returned: when O(state=absent)
  sample: [vaettir-docker-api-1, vaettir-traefik-1, vaettir_docker-api, vaettir_default]
msg:
  description: Why an upgrade failed, whether the previous Traefik serves, and the last words of the new one.
  type: str
  returned: on failure
  sample: 'traefik did not start: container vaettir-traefik-1 is unhealthy. The previous Traefik serves.'
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.locki.vaettir.plugins.module_utils import _curl, _module
from ansible_collections.locki.vaettir.plugins.module_utils._upgrade import Traefik


def run(params: dict[str, Any], touch: bool) -> dict[str, Any]:
    traefik = Traefik(params["root"], params["project"], touch)
    if params["state"] == "started":
        return {"changed": traefik.start()}
    if params["state"] == "absent":
        removed = traefik.remove(params["container"])
        return {"changed": bool(removed), "removed": removed}
    if touch:
        asked = {"address": "127.0.0.1", "ca_path": params["ca_path"], "timeout": _curl.TIMEOUT}
        traefik.upgrade(params["image"], [{**asked, **one} for one in params["handshakes"]])
    return {"changed": True}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_module.SERVER,
            "state": {"type": "str", "choices": ["started", "upgraded", "absent"], "default": "started"},
            "image": {"type": "str", "default": ""},
            "handshakes": {"type": "list", "elements": "dict", "default": []},
            "ca_path": {"type": "str", "default": ""},
            "container": {"type": "bool", "default": True},
        },
        required_if=[("state", "upgraded", ["image"])],
        supports_check_mode=True,
    )
    _module.outlive_the_connection()
    _module.finish(module, lambda: run(module.params, not module.check_mode))


if __name__ == "__main__":
    main()
