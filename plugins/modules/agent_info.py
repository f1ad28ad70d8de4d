#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_info
short_description: What runs on a server, one row for each agent
version_added: 0.1.0
description:
  - Tells the active release, the container and the tunnel of all agents of a server in one call.
  - Changes nothing. A server that cannot be asked is a row that says so, and no failure of the task.
author:
  - the locki.vaettir authors (@locki)
extends_documentation_fragment:
  - locki.vaettir.attributes.info
  - locki.vaettir.attributes
  - locki.vaettir.server
options:
  ca_path:
    description: PEM file of the authority of Traefik's certificate, on the server. Empty for the system's own.
    type: path
    default: ''
  agents:
    description: The declared agents. Settings that are not listed here are left out.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: Name of the agent.
        type: str
        required: true
      url:
        description: URL of its WebSocket, which is asked through Traefik on the server.
        type: str
        required: true
      origin:
        description: Its public URL without a path.
        type: str
        required: true
      upgrade:
        description: Whether to ask by a handshake, or by a plain GET where the app has no WebSocket.
        type: bool
        default: true
        version_added: 0.2.0
  only:
    description: Names of the agents to tell of. Empty for all that are declared or deployed.
    type: list
    elements: str
    default: []
notes:
  - Internal to the collection, so it may change in any version.
  - A playbook passes settings as the filter P(locki.vaettir.agents_settings#filter) returns them. URL and origin are
    made of them on the control node.
"""

EXAMPLES = r"""
- name: Ask for the status
  locki.vaettir.agent_info:
    root: ~/vaettir
    agents: "{{ settings }}"
  register: status
"""

RETURN = r"""
rows:
  description: One for each agent, the declared ones first.
  type: list
  elements: dict
  returned: always
  contains:
    server:
      description: The server, as the inventory calls it.
      type: str
    agent:
      description: The agent. Empty in the row of a server that has none, or cannot be asked.
      type: str
    release:
      description: ID of the active release. Empty if there is none.
      type: str
    released:
      description: When it was made.
      type: str
    age:
      description: How long ago that was, in seconds.
      type: int
    by:
      description: Who made it.
      type: str
    verified:
      description: When it was verified. Empty if it was not.
      type: str
    image:
      description: ID of the image that the container runs. Empty when it does not run.
      type: str
    container:
      description: Docker's word for the container's health, or why it does not run.
      type: str
    draining:
      description: How many of nginx's workers live on for sockets that were open before a reload.
      type: int
    memory:
      description: How many bytes the container holds, without what is only cached. Nothing where that is not known.
      type: int
      version_added: 0.2.0
    tunnel:
      description: What a handshake through Traefik met.
      type: str
      sample: offline (app)
    busy:
      description: Whether a run releases it just now.
      type: bool
problem:
  description: Why the server cannot be asked. Empty when it can.
  type: str
  returned: always
"""

import contextlib
import os
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.locki.vaettir.plugins.module_utils import (
    _chain,
    _containers,
    _docker,
    _module,
    _probe,
    _release,
    _stack,
    _websocket,
)

AT_ONCE = 8  # questions


def of_release(root: str, name: str, now: float) -> dict[str, Any]:
    """The active one, and what is known of it."""
    store = _release.Store(root, name)
    release, facts = store.current().release, {}
    with contextlib.suppress(_release.ReleaseError, ValueError, OSError):  # of a folder that was deleted, say
        facts = store.facts(release)
    made = _chain.moment(facts.get("time"))
    return {
        "release": release,
        "released": facts.get("time") or "",
        "age": None if made is None else max(0, int(now - made)),
        "by": facts.get("by") or "",
        "verified": facts.get("verified") or "",
        "busy": store.busy(),
    }


def of_container(container: dict[str, Any] | None) -> dict[str, Any]:
    if not container:
        return {"image": "", "container": "there is no container", "draining": 0, "memory": None}
    if not _docker.running(container):
        return {"image": "", "container": f"it is {container['State']['Status']}", "draining": 0, "memory": None}
    draining = memory = None
    with contextlib.suppress(_docker.DockerError):  # what cannot be asked is not known
        state = _containers.state(container["Id"])
        draining, memory = state.draining, state.memory
    health = _docker.health(container) or "running"
    return {"image": container["Image"], "container": health, "draining": draining, "memory": memory}


def tunnel(answer: dict[str, Any]) -> str:
    """A handshake's answer in a word or two; any that comes from the app is good."""
    reason, state = _websocket.REASONS[answer["reason"]], answer["state"]
    if reason in ("ok", "not_a_websocket", "refused_origin"):
        return "ok"
    return f"{reason} ({state})" if state not in ("", reason) else reason


def handshake(agent: dict[str, Any], ca_path: str) -> str:
    question = {"address": "127.0.0.1", "ca_path": ca_path, "ping": False}
    return tunnel(_probe.ask(agent["url"], origin=agent["origin"], upgrade=agent["upgrade"], **question))


def containers() -> list[dict[str, Any]]:
    try:
        return _docker.containers("--all")
    except _docker.DockerError as error:
        raise _docker.DockerError(f"Docker: {error}") from None


def rows(params: dict[str, Any]) -> list[dict[str, Any]]:
    root, project, there = os.path.abspath(params["root"]), params["project"], containers()
    declared, deployed = {agent["name"]: agent for agent in params["agents"]}, _stack.agents(root)
    names = [name for name in dict.fromkeys([*declared, *deployed]) if name in (params["only"] or [name])]
    reached = {*deployed, *_stack.project_state(root, project, there)["owners_services"]}

    def word(name: str) -> str:
        if name not in declared:
            return "not declared"
        return handshake(declared[name], params["ca_path"]) if name in reached else "not deployed"

    def container(name: str) -> dict[str, Any]:
        return of_container(_docker.called(there, _containers.Containers(project, name).container_name))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        asked = [(name, pool.submit(container, name), pool.submit(word, name)) for name in names]
        return [
            {"agent": name, **of_release(root, name, time.time()), **runs.result(), "tunnel": answer.result()}
            for name, runs, answer in asked
        ]


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_module.SERVER,
            "ca_path": {"type": "path", "default": ""},
            "agents": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "name": {"type": "str", "required": True},
                    "url": {"type": "str", "required": True},
                    "origin": {"type": "str", "required": True},
                    "upgrade": {"type": "bool", "default": True},
                },
            },
            "only": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        _module.finish(module, lambda: {"rows": rows(module.params)})
    except ValueError as error:  # a question that cannot be asked
        module.fail_json(msg=str(error))


if __name__ == "__main__":
    main()
