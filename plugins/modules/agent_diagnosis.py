#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_diagnosis
short_description: Which hop of an agent's chain is broken, why, and what fixes it
version_added: 0.1.0
description:
  - Asks every hop between the apps and their visitors, for all agents of a server in one call, and judges the answers.
    The report says which hop is broken, why, and what fixes it.
  - The control node asks what only it can while the server is asked. That is the public name, and the tunnel where the
    server does not get there.
  - A visitor's browser is the measure. Its page, scripts and WebSocket are asked for at every hop, which takes at most
    60 requests through the tunnel for an agent that works, and about twice as many where something is wrong. The app
    notices requests for its page and some WebSockets. Streamlit runs its script twice for each of those that speak.
  - What hangs is left behind, so that all of it ends within 30 seconds.
  - Changes nothing. A server that cannot be reached is a diagnosis, and no failure of the task.
author:
  - the locki.vaettir authors (@locki)
extends_documentation_fragment:
  - locki.vaettir.attributes.info
  - locki.vaettir.attributes
  - locki.vaettir.server
options:
  ports:
    description: TCP ports that Traefik is to publish.
    type: list
    elements: int
    default: []
  definition:
    description: Text of the compose file that the folder is to have, for the running Traefik to be compared with.
    type: str
    default: ''
  ca_path:
    description: PEM file of the authority of Traefik's certificate, on the server. Empty for the system's own.
    type: path
    default: ''
  agents:
    description: The agents, each with its settings. Settings that are not listed here are left out.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the agent.
        type: str
        required: true
      profile:
        description: What kind of app it is.
        type: str
        default: ''
      tunnel:
        description: The way to the app.
        type: str
        choices: [ngrok, ssh]
        default: ngrok
      tunnel_port:
        description: TCP port at which laptops reach the server's SSH server.
        type: int
        default: 2222
      target_url:
        description: The tunnel's URL, where neither the container nor C(.env) has a valid one.
        type: str
        required: true
      domain:
        description: Its public name.
        type: str
        required: true
      public_origin:
        description: Its public URL without a path.
        type: str
        required: true
      public_port:
        description: TCP port of its public URL.
        type: int
        default: 443
      origin_mode:
        description: What the app gets as C(Origin), the tunnel's own or the public one.
        type: str
        choices: [rewrite, preserve]
        default: rewrite
      probe_path:
        description: Path of the app's WebSocket. Streamlit's health page has the same base path.
        type: str
        default: ''
      stream_path:
        description: Path of a stream of events, for an app without a WebSocket.
        type: str
        default: ''
      max_body_size:
        description: Longest request body that its nginx takes, in nginx's words.
        type: str
        default: ''
      connect_timeout:
        description: How long its nginx waits for a connection to the tunnel, in seconds.
        type: int
        default: 10
      maintenance:
        description: Whether it is closed for maintenance.
        type: bool
        default: false
      tunnel_secret:
        description: What the tunnel's traffic policy asks for. Empty for nothing.
        type: str
        default: ''
      ca_file:
        description: PEM file of the tunnel's authority, relative to O(root). Empty for the system's own.
        type: str
        default: ''
  names:
    description: Names of all declared agents, in the order of the report.
    type: list
    elements: str
    default: []
  only:
    description: Names of the agents to diagnose. Empty for all of O(names).
    type: list
    elements: str
    default: []
  errors:
    description: Why the settings of an agent are not valid, by its name.
    type: dict
    default: {}
  address:
    description: Address of the server, to be compared with the public names' addresses.
    type: str
    default: ''
  tls:
    description: How Traefik gets its certificates, as the role's C(stack_tls) says.
    type: str
    default: acme
  tls_ca:
    description: PEM file of the authority to trust for the public names, on the control node.
    type: str
    default: ''
  again:
    description: >-
      How often each of a visitor's questions is asked, by agent, instead of all that a visitor does. The diagnosis
      asks twice what it is not sure of.
    type: dict
    default: {}
  seconds:
    description: Seconds after which what hangs on the server is left behind.
    type: float
    default: 16.5
  app_url:
    description: >-
      Where the app listens, for a control node that is the laptop, as in V(http://127.0.0.1:8501). It is asked there,
      and so is ngrok's local API.
    type: str
    default: ''
notes:
  - Internal to the collection, so it may change in any version.
  - O(names), O(only), O(errors), O(address), O(tls), O(tls_ca) and O(app_url) are for the control node. The server
    does not need them.
"""

EXAMPLES = r"""
- name: Diagnose all agents
  locki.vaettir.agent_diagnosis:
    root: ~/vaettir
    agents: "{{ settings }}"
    names: "{{ settings | map(attribute='name') }}"
    address: "{{ ansible_host }}"
  register: diagnosis
"""

RETURN = r"""
diagnoses:
  description: One for each agent, with agent, server, broken, hop, rule, why, fix, sentence and findings.
  type: list
  elements: dict
  returned: always
others:
  description: Names of agents that are deployed and not declared.
  type: list
  elements: str
  returned: always
"""

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.locki.vaettir.plugins.module_utils import (
    _docker,
    _facts,
    _module,
    _questions,
    _stack,
)
from ansible_collections.locki.vaettir.plugins.module_utils._at_once import AtOnce

AT_ONCE = 24  # agents: most of the time they wait
DOCKER_LIMIT = 8.0  # seconds for one of its commands
MUTE: dict[str, Any] = {"docker": {"installed": True, "version": "", "error": "no answer"}}


def ask(server: _facts.Server, params: dict[str, Any], agent: dict[str, Any], seconds: float) -> dict[str, Any]:
    """What is known of one agent; its failure is none of the others'."""
    more = {"visiting": True, "seconds": seconds, "again": params["again"].get(agent["name"])}
    try:
        found = _facts.gather(params["root"], server.project, agent, params["ca_path"], server=server, **more)
    except (*_module.STOPS, ValueError) as error:  # also of a question that cannot be asked
        return {"name": agent["name"], "failed": _module.sentence(error, params["root"])}
    return {"name": agent["name"], **found}


def collect(params: dict[str, Any]) -> dict[str, Any]:
    root = os.path.abspath(params["root"])
    params = {**params, "root": root}
    group = AtOnce(params["seconds"])
    server = _facts.Server(params["project"])
    look = (root, params["ports"], params["project"], params["definition"], server.containers)
    stack = group.begin("docker", lambda: _stack.collect(*look), {"root": root, **MUTE})
    mute = bool(server.error) and not stack()["docker"]["version"]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [pool.submit(ask, server, params, one, group.left) for one in params["agents"] if not mute]
        return {"stack": stack(), "agents": [agent.result() for agent in asked]}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_module.SERVER,
            "ports": {"type": "list", "elements": "int", "default": []},
            "definition": {"type": "str", "default": ""},
            "ca_path": {"type": "path", "default": ""},
            "agents": {"type": "list", "elements": "dict", "default": [], "options": _questions.OPTIONS},
            "names": {"type": "list", "elements": "str", "default": []},
            "only": {"type": "list", "elements": "str", "default": []},
            "errors": {"type": "dict", "default": {}},
            "address": {"type": "str", "default": ""},
            "tls": {"type": "str", "default": "acme"},
            "tls_ca": {"type": "str", "default": ""},
            "again": {"type": "dict", "default": {}},
            "seconds": {"type": "float", "default": _facts.LIMIT},
            "app_url": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    _docker.LIMITS["seconds"] = DOCKER_LIMIT
    _module.finish(module, lambda: collect(module.params))


if __name__ == "__main__":
    main()
