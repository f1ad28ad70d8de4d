#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_info
short_description: Compare an agent's running container with the wanted one
version_added: 0.1.0
description:
  - Looks at the running state, not at what a run happened to change, so that a run that was killed between two steps is
    healed by the next one.
  - The image is out of date when a file in the running container differs from the wanted one, or when it was not
    built on
    the wanted base image. The container is out of date when compose would recreate it or its environment differs from
    C(.env).
author:
  - the locki.vaettir authors (@locki)
extends_documentation_fragment:
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
  diff_mode:
    support: N/A
  platform:
    platforms: posix
options:
  root:
    description: Absolute path of the project folder.
    type: path
    required: true
  project:
    description: Name of the compose project.
    type: str
    default: vaettir
  name:
    description: The agent, which is the compose service.
    type: str
    required: true
  image:
    description: Image of the service.
    type: str
    required: true
  base_image:
    description: Image it must be built on. Empty does not look.
    type: str
    default: ''
  files:
    description: Absolute path in the container, and the SHA-256 in hexadecimal digits of the wanted content.
    type: dict
    default: {}
  environment:
    description: Keys of C(.env) that this run sets, with their values. Other keys are read from C(.env).
    type: dict
    default: {}
  started_with:
    description: >-
      Paths relative to O(root) of files that the container reads when it starts. It must be made anew when one is
      younger than its start.
    type: list
    elements: str
    default: []
  shared_keys:
    description: Keys of C(.env) that every agent of the server gets.
    type: list
    elements: str
    default: []
  pending:
    description: Whether the compose service's own definition is about to change (known in check mode only).
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Compare
  locki.vaettir.agent_info:
    root: /home/deploy/vaettir
    name: ocapistaine
    image: vaettir-ocapistaine:proxy
    base_image: nginx:1.30.6
    files:
      /etc/vaettir/offline.js: "{{ lookup('ansible.builtin.file', 'offline.js') | hash('sha256') }}"
  register: state
"""

RETURN = r"""
build:
  description: Why the image must be built. Empty when it must not.
  type: list
  elements: str
  returned: always
  sample: [ocapistaine.conf.template differs]
up:
  description: Why the container must be made or replaced. Empty when it must not.
  type: list
  elements: str
  returned: always
  sample: [there is no container]
recreate:
  description: Whether compose must be told to replace the container, since it sees no reason of its own.
  type: bool
  returned: always
present:
  description: What Docker has of the agent.
  type: list
  elements: str
  choices: [container, images, volume]
  returned: always
stale:
  description: Other agents whose running container has an old value of a key of O(shared_keys).
  type: list
  elements: str
  returned: always
address:
  description: The container's IP address on the host. Empty when it does not run.
  type: str
  returned: always
"""

import calendar
import os
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.locki.vaettir.plugins.module_utils import _docker, _dotenv, _files, _names

CONFIG_HASH = "com.docker.compose.config-hash"


def parse_sums(output: str) -> dict[str, str]:
    """Path -> digest of `sha256sum` output."""
    return {line[66:]: line[:64] for line in output.splitlines() if len(line) > 66}


def start_time(text: str) -> float:
    """Seconds since the epoch of an Engine timestamp, which has nanoseconds and is always UTC."""
    return calendar.timegm(time.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")) + float("0" + text[19:].rstrip("Z"))


def built_on(image: dict[str, Any], base: dict[str, Any]) -> bool:
    """An image begins with the layers of the image that it was built on."""
    layers, below = image["RootFS"]["Layers"], base["RootFS"]["Layers"]
    return bool(layers[: len(below)] == below)


class AgentInfo:
    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.root: str = params["root"]
        content = _files.read_bytes(os.path.join(self.root, ".env")) or b""
        self.environment = _dotenv.read(content.decode("utf-8", "replace"))
        self.environment.update({key: str(value) for key, value in params["environment"].items()})
        self.container = _docker.inspect("container", f"{params['project']}-{params['name']}-1")
        self.image = _docker.inspect("image", params["image"])

    def collect(self) -> dict[str, Any]:
        build = self.build_reasons()
        return {
            "build": build,
            "up": self.up_reasons(bool(build)),
            "recreate": bool(self.younger()),
            "present": self.present(),
            "stale": self.stale(),
            "address": self.address(),
        }

    def younger(self) -> list[str]:
        """Files that changed after the container had read them."""
        if not self.container or not self.container["State"]["Running"]:
            return []
        started = start_time(self.container["State"]["StartedAt"])
        paths = [path for path in self.params["started_with"] if os.path.exists(os.path.join(self.root, path))]
        return [path for path in paths if os.stat(os.path.join(self.root, path)).st_mtime > started]

    def present(self) -> list[str]:
        name = self.params["name"]
        label = f"label={_docker.AGENT_LABEL}={name}"
        found = {
            # A service of the owner's may have the same name.
            "container": self.container is not None and self.labels(self.container).get(_docker.AGENT_LABEL) == name,
            "images": bool(_docker.docker("image", "ls", "--quiet", "--filter", label)[1]),
            "volume": bool(_docker.inspect("volume", f"{self.params['project']}_{name}-cache")),
        }
        return [kind for kind, there in found.items() if there]

    def address(self) -> str:
        networks = self.container["NetworkSettings"]["Networks"] if self.container else {}
        return next((network["IPAddress"] for network in networks.values() if network["IPAddress"]), "")

    def build_reasons(self) -> list[str]:
        if not self.image:
            return [f"there is no image {self.params['image']}"]
        base = _docker.inspect("image", self.params["base_image"]) if self.params["base_image"] else None
        if base and not built_on(self.image, base):
            return [f"it is not built on {self.params['base_image']}"]
        if not self.container or not self.container["State"]["Running"]:
            return ["the container does not run, so what is in its image is not known"]
        if self.container["Image"] != self.image["Id"]:
            return ["the container does not run this image"]
        paths = sorted(self.params["files"])
        _status, output, _error = _docker.docker("exec", self.container["Id"], "sha256sum", *paths)
        found = parse_sums(output)
        return [f"{os.path.basename(path)} differs" for path in paths if found.get(path) != self.params["files"][path]]

    def up_reasons(self, build: bool) -> list[str]:
        if not self.container:
            return ["there is no container"]
        reasons = []
        if build:
            reasons.append("its image is built anew")
        if not self.container["State"]["Running"]:
            reasons.append(f"it is {self.container['State']['Status']}")
        elif self.container["State"].get("Health", {}).get("Status") == "unhealthy":
            reasons.append("it is unhealthy")
        reasons += [f"{path} changed after its start" for path in self.younger()]
        key = _names.target_url_key(self.params["name"])
        reasons += [
            f"{name} differs" for name in [key, *self.params["shared_keys"]] if self.differs(self.container, name)
        ]
        if self.params["pending"] or (
            not reasons and self.compose_hash() != self.labels(self.container).get(CONFIG_HASH)
        ):
            reasons.append("its compose service differs")
        return reasons

    def differs(self, container: dict[str, Any], key: str) -> bool:
        return _docker.environment(container).get(key, "") != self.environment.get(key, "")

    def labels(self, container: dict[str, Any]) -> dict[str, str]:
        return container["Config"]["Labels"] or {}

    def compose_hash(self) -> str | None:
        name = self.params["name"]
        _status, output, _error = _docker.docker("compose", "--profile", "*", "config", "--hash", name, cwd=self.root)
        fields = output.split()
        return fields[1] if fields[:1] == [name] else None

    def stale(self) -> list[str]:
        project = f"label=com.docker.compose.project={self.params['project']}"
        _status, output, _error = _docker.docker(
            "ps", "-q", "--filter", project, "--filter", f"label={_docker.AGENT_LABEL}"
        )
        result = []
        for identifier in output.split():
            container = _docker.inspect("container", identifier)
            name = self.labels(container).get(_docker.AGENT_LABEL, "") if container else ""
            old = container and any(self.differs(container, key) for key in self.params["shared_keys"])
            if old and name != self.params["name"]:
                result.append(name)
        return sorted(result)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "project": {"type": "str", "default": "vaettir"},
            "name": {"type": "str", "required": True},
            "image": {"type": "str", "required": True},
            "base_image": {"type": "str", "default": ""},
            "files": {"type": "dict", "default": {}},
            "environment": {"type": "dict", "default": {}},
            "started_with": {"type": "list", "elements": "str", "default": []},
            "shared_keys": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "pending": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, **AgentInfo(module.params).collect())


if __name__ == "__main__":
    main()
