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
  - What nginx reads only needs a reload. What compose owns needs a new container.
author:
  - the locki.vaettir authors (@locki)
extends_documentation_fragment:
  - locki.vaettir.agent
  - locki.vaettir.attributes.info
  - locki.vaettir.attributes
options:
  image:
    description: Image of the service.
    type: str
    required: true
  base_image:
    description: Image it must be built on. Empty does not look.
    type: str
    default: ''
  files:
    description:
      - Name of a file in a release, and the SHA-256 in hexadecimal digits of its wanted content. Without any, nothing
        is compared.
      - C(Dockerfile) and C(entrypoint.sh) make an image, C(compose.yml) is compose's own matter, all others are what
        nginx reads.
    type: dict
    default: {}
  tunnel:
    description: SHA-256 in hexadecimal digits of the tunnel's secret. Empty if it has none.
    type: str
    default: ''
  environment:
    description: Keys of C(.env) that this run sets, with their values. Other keys are read from C(.env).
    type: dict
    default: {}
  live:
    description:
      - Live paths relative to O(root), and their names in a release. Only for a service of the folder's owner, whose
        image cannot be asked what it has.
      - Then what runs is right when it is the current release and the live files are that release's.
    type: dict
    default: {}
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
      offline.js: "{{ lookup('ansible.builtin.file', 'offline.js') | hash('sha256') }}"
  register: state
"""

RETURN = r"""
build:
  description: Why the image must be built. Empty when it must not.
  type: list
  elements: str
  returned: always
  sample: [Dockerfile differs]
start:
  description: Why compose must start the container, with nothing running that could be replaced.
  type: list
  elements: str
  returned: always
  sample: [there is no container]
replace:
  description: Why the running container must be replaced. Empty when it must not.
  type: list
  elements: str
  returned: always
  sample: [its compose service differs]
reload:
  description: Why nginx must be reloaded. Empty when it must not.
  type: list
  elements: str
  returned: always
  sample: [ocapistaine.conf.template differs]
present:
  description: What Docker has of the agent.
  type: list
  elements: str
  choices: [container, images, volume]
  returned: always
containers:
  description: Names of its containers, those that drain or are tried, or that a killed run left, included.
  type: list
  elements: str
  returned: always
address:
  description: The container's IP address on the host. Empty when it does not run.
  type: str
  returned: always
health:
  description: Docker's word for the container's health. Empty when it does not run.
  type: str
  returned: always
image:
  description: ID of the image that the container runs. Empty when it does not run.
  type: str
  returned: always
draining:
  description: How many of nginx's workers live on for sockets that were open before a reload.
  type: int
  returned: always
release:
  description: ID of the current release. Empty if there is none.
  type: str
  returned: always
"""

import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.locki.vaettir.plugins.module_utils import _agent, _docker, _dotenv, _files, _module, _release

IMAGE_FILES = ("Dockerfile", "entrypoint.sh")


def differing(wanted: dict[str, str], found: dict[str, str]) -> list[str]:
    """A sentence for each name whose digest is another one, or is there on one side only."""
    names = sorted(name for name in wanted.keys() | found.keys() if wanted.get(name) != found.get(name))
    return [f"{name} {'differs' if name in wanted else 'goes'}" for name in names]


def built_on(image: dict[str, Any], base: dict[str, Any]) -> bool:
    """An image begins with the layers of the image that it was built on."""
    layers, below = image["RootFS"]["Layers"], base["RootFS"]["Layers"]
    return bool(layers[: len(below)] == below)


def containers(project: str, name: str) -> list[str]:
    """All of it, also those that drain or are tried, and what a killed run left, which are not compose's or another
    project's. A service of the owner's may have the same name, but not our labels."""
    labels = (_docker.AGENT_LABEL, _agent.TRIAL_LABEL, f"{_docker.COMPOSE}project")
    words = "\t".join(["{{.Names}}", *(f'{{{{.Label "{label}"}}}}' for label in labels)])
    found = []
    for line in _docker.docker("ps", "--all", "--format", words)[1].splitlines():
        container, agent, trial, whose = line.split("\t")
        named = container.startswith((f"{project}-{name}-", f"{project}-next-{name}-"))
        if name in (agent, trial) and (whose == project or named):
            found.append(container)
    return sorted(found)


class AgentInfo:
    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.root, self.name = params["root"], params["name"]
        self.store = _release.Store(self.root, self.name)
        self.container = _agent.Agent(params["project"], self.name).current()
        self.running = self.container if _docker.running(self.container) else None
        self.containers = containers(params["project"], self.name)
        self.image = _docker.inspect("image", params["image"])
        self.state = _agent.state(self.running["Id"]) if self.running else _release.State()

    def collect(self) -> dict[str, Any]:
        build = self.build_reasons()
        return {
            "build": build,
            "start": self.start_reasons(),
            "replace": self.replace_reasons(bool(build)),
            "reload": self.reload_reasons(),
            "present": self.present(),
            "containers": self.containers,
            "address": _docker.address(self.running) if self.running else "",
            "health": _docker.health(self.running) if self.running else "",
            "image": self.running["Image"] if self.running else "",
            "draining": self.state.draining,
            "release": self.store.current().release,
        }

    def present(self) -> list[str]:
        label = f"label={_docker.AGENT_LABEL}={self.name}"
        found = {
            "container": bool(self.containers),
            "images": bool(_docker.docker("image", "ls", "--quiet", "--filter", label)[1]),
            "volume": bool(_docker.inspect("volume", f"{self.params['project']}_{self.name}-cache")),
        }
        return [kind for kind, there in found.items() if there]

    def build_reasons(self) -> list[str]:
        if not self.image:
            return [f"there is no image {self.params['image']}"]
        if self.other_base(self.image):
            return [f"it is not built on {self.params['base_image']}"]
        if not self.running:
            return ["the container does not run, so what is in its image is not known"]
        wanted = {name: digest for name, digest in self.params["files"].items() if name in IMAGE_FILES}
        return differing(wanted, {name: self.state.files.get(f"image:{name}", "") for name in wanted})

    def other_base(self, image: dict[str, Any]) -> bool:
        """By its name, which may not have been pulled yet; or because that name is another image by now."""
        wanted = self.params["base_image"]
        if not wanted:
            return False
        base = _docker.inspect("image", wanted)
        return _docker.labels(image).get(_docker.BASE_LABEL) != wanted or bool(base and not built_on(image, base))

    def start_reasons(self) -> list[str]:
        if not self.container:
            return ["there is no container"]
        return [] if self.running else [f"it is {self.container['State']['Status']}"]

    def replace_reasons(self, build: bool) -> list[str]:
        if not self.running:
            return []
        if self.params["live"]:
            return [] if self.released(self.running) else ["the files are not those of the release that runs"]
        reasons = []
        if build:
            reasons.append("its image is built anew")
        elif self.image and self.running["Image"] != self.image["Id"]:
            reasons.append("it does not run this image")
        if _docker.health(self.running) == "unhealthy":
            reasons.append("it is unhealthy")
        if self.params["files"] and not self.sees(self.store.current().release):
            reasons.append("its releases are gone")
        if self.params["pending"] or self.service_differs(self.running):
            reasons.append("its compose service differs")
        return reasons

    def sees(self, release: str) -> bool:
        """What is mounted is the folder that was there when it started, even when that was deleted and made again."""
        return bool(release) and self.state.release in (release, None)

    def released(self, container: dict[str, Any]) -> bool:
        """Whether the live files are the current release, and it runs."""
        release = self.store.current().release
        if self.params["pending"] or release not in self.store.ids():
            return False
        facts, live = self.store.facts(release), self.store.live(self.params["live"])
        return bool(facts["image"] == container["Image"] and facts["digest"] == _release.digest(live))

    def service_differs(self, container: dict[str, Any]) -> bool:
        """Asked with the container's own values: a changed value is none of the service."""
        own = _docker.environment(container)
        values = {key: own.get(key, "") for key in self.store.env_keys}
        wanted, error = _agent.compose_hash(self.root, self.name, values)
        if error:  # compose cannot read another agent's file, say: our own file tells whether that matters now
            live = _files.read_bytes(os.path.join(self.root, "agents", f"{self.name}.yml"))
            return live != _files.read_bytes(self.store.path(self.store.current().release, "compose.yml"))
        return wanted != _docker.labels(container).get(_agent.CONFIG_HASH)

    def reload_reasons(self) -> list[str]:
        if not self.running or not self.params["files"]:
            return []
        others = (*IMAGE_FILES, "compose.yml")
        wanted = {name: digest for name, digest in self.params["files"].items() if name not in others}
        wanted[_release.VALUES] = _files.digest(_release.values(self.name, self.environment()))
        if self.params["tunnel"]:
            wanted["tunnel"] = self.params["tunnel"]
        return differing(wanted, {name: found for name, found in self.state.files.items() if ":" not in name})

    def environment(self) -> dict[str, str]:
        given = {key: str(value) for key, value in self.params["environment"].items()}
        return {**_dotenv.read(self.store.environment()), **given}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_module.AGENT,
            "image": {"type": "str", "required": True},
            "base_image": {"type": "str", "default": ""},
            "files": {"type": "dict", "default": {}},
            "tunnel": {"type": "str", "default": "", "no_log": True},
            "environment": {"type": "dict", "default": {}},
            "live": {"type": "dict", "default": {}},
            "pending": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    _module.finish(module, lambda: AgentInfo(module.params).collect())


if __name__ == "__main__":
    main()
