#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: stack_info
short_description: What a server has, before anything on it is touched
version_added: 0.1.0
description:
  - Collects in one call all that the preflight of the roles P(locki.vaettir.stack#role) and
    P(locki.vaettir.agent_proxy#role)
    needs to know of a server.
notes:
  - Internal to the collection, so it may change in any version.
author:
  - the locki.vaettir authors (@locki)
extends_documentation_fragment:
  - locki.vaettir.attributes.info
  - locki.vaettir.attributes
  - locki.vaettir.server
options:
  ports:
    description: TCP ports that Traefik is to publish. The Traefik of O(project) may already hold them.
    type: list
    elements: int
    default: []
  control_time:
    description: The control node's clock as it asks, in seconds since 1970, to be given back next to the server's own.
    type: float
    default: 0
  definition:
    description: >-
      Text of the compose file that the folder is to have, for the running Traefik to be compared with. Empty compares
      with nothing.
    type: str
    default: ''
"""

EXAMPLES = r"""
- name: Look at the server
  locki.vaettir.stack_info:
    root: ~/vaettir
    ports: [80, 443]
  register: server
"""

RETURN = r"""
root:
  description: Absolute path of the project folder.
  type: str
  returned: always
  sample: /home/deploy/vaettir
managed:
  description: Whether the project folder holds anything that we wrote.
  type: bool
  returned: always
written:
  description: Relative paths of what we wrote there.
  type: list
  elements: str
  returned: always
user:
  description: Name of the user that runs the tasks.
  type: str
  returned: always
uid:
  description: Number of that user.
  type: int
  returned: always
gid:
  description: Number of that user's group.
  type: int
  returned: always
distribution:
  description: C(ID) and C(VERSION_ID) of C(/etc/os-release).
  type: dict
  returned: always
  sample: {"id": "debian", "version": "13"}
time:
  description: The server's clock, in seconds since 1970.
  type: float
  returned: always
control_time:
  description: What O(control_time) says.
  type: float
  returned: always
disk_free:
  description: Bytes that are left where the project folder is, or is to be.
  type: int
  returned: always
inodes_free:
  description: Files that may still be made there. V(1) where the file system has no limit.
  type: int
  returned: always
docker:
  description: Docker Engine.
  type: dict
  returned: always
  contains:
    installed:
      description: Whether there is a docker command.
      type: bool
    version:
      description: Version of the engine. Empty when its daemon does not answer.
      type: str
    min_api:
      description: Oldest version of its API that it speaks.
      type: str
      sample: "1.44"
    error:
      description: Why the daemon does not answer.
      type: str
compose:
  description: Compose plugin.
  type: dict
  returned: always
  contains:
    version:
      description: Version without a leading C(v). Empty when C(docker compose) does not work.
      type: str
traefik:
  description: The project's Traefik.
  type: dict
  returned: always
  contains:
    status:
      description: Docker's word for its state, such as V(running). Empty when there is no container.
      type: str
    health:
      description: Docker's word for its health. Empty when nobody asks for it.
      type: str
    image:
      description: Image that it was made from.
      type: str
    version:
      description: Its version, as the image says. Empty when that says none.
      type: str
      sample: v3.7.15
    godebug:
      description: The variable C(GODEBUG) of its environment.
      type: str
    ports:
      description: TCP ports that it publishes.
      type: list
      elements: int
    command:
      description: What it was started with.
      type: list
      elements: str
    reasons:
      description: Why C(docker compose up) would replace it. Empty when it would not, or when nobody knows.
      type: list
      elements: str
      sample: [its compose service differs]
routers:
  description: Routers that the labels of running containers tell Traefik of.
  type: list
  elements: dict
  returned: always
  contains:
    name:
      description: The router.
      type: str
    rule:
      description: What requests it takes.
      type: str
    container:
      description: The container's name.
      type: str
    agent:
      description: The agent whose container it is. Empty for one of somebody else's.
      type: str
docker_api:
  description: Whether the container through which Traefik reads Docker runs, and is as O(definition) defines it.
  type: bool
  returned: always
tunnel_ssh:
  description: The container of the SSH server that tunnels of one's own come to.
  type: dict
  returned: always
  contains:
    status:
      description: Docker's word for its state, such as V(running). Empty when there is no container.
      type: str
    image:
      description: Image that it was made from.
      type: str
    ports:
      description: TCP ports that it publishes.
      type: list
      elements: int
    agents:
      description: Agents whose laptops have keys for it.
      type: list
      elements: str
    there:
      description: Whether its container, or what laptops have made, is there.
      type: bool
taken_ports:
  description: Ports of O(ports) that another program listens on.
  type: list
  elements: dict
  returned: always
  sample: [{"port": 80, "by": "nginx"}]
other_root:
  description: Another project folder whose containers have the project's name. Empty when there is none.
  type: str
  returned: always
owners_services:
  description: Services of the project that are neither Traefik nor an agent.
  type: list
  elements: str
  returned: always
curl:
  description: Whether there is a curl command, with which a deploy verifies itself.
  type: bool
  returned: always
compose_files:
  description: Compose files of any spelling in the project folder that are not ours.
  type: list
  elements: str
  returned: always
owners:
  description: What the owner's own compose file says. Nothing where there is none.
  type: dict
  returned: always
  contains:
    project:
      description: Name of its compose project.
      type: str
    services:
      description: Its services, with their images. A service without C(image) has the name that compose gives it.
      type: dict
    built:
      description: Services that compose builds.
      type: list
      elements: str
    named:
      description: C(container_name) of the services that have one, so that their containers are not called as usual.
      type: dict
    error:
      description: Why compose cannot read it.
      type: str
git:
  description: State of the project folder as a git checkout.
  type: dict
  returned: always
  contains:
    exclude_file:
      description: Path of the checkout's own exclude list. Empty when the folder is no checkout.
      type: str
    tracked:
      description: Relative paths of the tracked files.
      type: list
      elements: str
agents:
  description: Names of the agents that are deployed on this server.
  type: list
  elements: str
  returned: always
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.locki.vaettir.plugins.module_utils import _module, _stack


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_module.SERVER,
            "ports": {"type": "list", "elements": "int", "default": []},
            "control_time": {"type": "float", "default": 0},
            "definition": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    given = module.params
    root = os.path.abspath(given["root"])
    _module.finish(
        module,
        lambda: {
            "control_time": given["control_time"],
            **_stack.collect(root, given["ports"], given["project"], given["definition"]),
        },
    )


if __name__ == "__main__":
    main()
