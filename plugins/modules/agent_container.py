#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_container
short_description: Put a release of an agent into force without a gap
version_added: 0.1.0
description:
  - What nginx reads is reloaded in the running container. What compose owns (image, labels, limits, networks) needs a
    new container, which is started beside the old one and takes over its name.
  - Every action ends the trial that M(locki.vaettir.agent_release) has started.
author:
  - the locki.vaettir authors (@locki)
extends_documentation_fragment:
  - locki.vaettir.agent
  - locki.vaettir.agent.owner
  - locki.vaettir.attributes
attributes:
  check_mode:
    support: full
    details: Touches nothing and reports a change.
  diff_mode:
    support: none
options:
  action:
    description:
      - V(start) makes O(release) the current one for a container that compose is about to make.
      - V(reload) makes O(release) the current one and has nginx reload it.
      - V(replace) makes O(release) the current one and starts a new container beside the running one, made by compose's
        own definition. Both serve afterwards.
      - V(finish) takes the old container out of service and lets it drain. It does not wait for the end.
      - V(undo) takes back what V(replace) or V(reload) did, as long as V(finish) was not called.
    type: str
    choices: [start, reload, replace, finish, undo]
    required: true
  release:
    description: ID of the release. Required for V(start), V(reload) and V(replace).
    type: str
    default: ''
  drain:
    description:
      - V(window) lets open sockets live on, after V(reload) until nginx's own time-out, after V(finish) for
        O(drain_window).
      - V(now) ends them at once, one worker at a time.
    type: str
    choices: [window, now]
    default: window
  drain_window:
    description: Seconds that the sockets of a replaced container live on.
    type: int
    default: 300
  kept_at:
    description:
      - Origin at which V(reload) and V(undo) ask Traefik on this server, with 100 requests and 100 handshakes, so that
        it uses up the connections that it keeps to workers from before a reload. Each brings one more answer of such a
        worker, which then closes it.
      - Empty asks nothing. Then visitors may get those answers.
    type: str
    default: ''
  timeout:
    description: Seconds within which a new container must be healthy.
    type: int
    default: 60
"""

EXAMPLES = r"""
- name: Reload
  locki.vaettir.agent_container:
    root: /home/deploy/vaettir
    name: ocapistaine
    action: reload
    release: 20261123T013000Z
    kept_at: https://ocapistaine.vaettir.example.org

- name: Replace
  locki.vaettir.agent_container:
    root: /home/deploy/vaettir
    name: ocapistaine
    action: replace
    release: 20261123T013000Z

- name: The old one may go
  locki.vaettir.agent_container:
    root: /home/deploy/vaettir
    name: ocapistaine
    action: finish
"""

RETURN = r"""
draining:
  description: How many of nginx's workers live on for sockets that were open before a reload.
  type: int
  returned: V(reload)
old:
  description: ID of the container that is replaced. Empty if there is none.
  type: str
  returned: V(replace), V(finish) and V(undo)
new:
  description: ID of the container that replaces it.
  type: str
  returned: V(replace)
address:
  description: IP address of the agent's container.
  type: str
  returned: V(replace) and V(undo)
"""

import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.locki.vaettir.plugins.module_utils import _agent, _docker, _engine, _files, _module, _release


class AgentContainer:
    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.root: str = params["root"]
        self.agent = _agent.Agent(params["project"], params["name"])
        self.store = _release.Store(self.root, params["name"])
        self.drain = ["now"] if params["drain"] == "now" else []

    def run(self) -> dict[str, Any]:
        with self.store.busy():
            if self.params["owner"]:
                self.store.renew(self.params["owner"], time.time())
            _agent.remove(self.agent.trial_name)
            result: dict[str, Any] = getattr(self, self.params["action"])()
        return result

    def running(self) -> dict[str, Any]:
        container = self.agent.current()
        if not container or not _docker.running(container):
            raise _release.ReleaseError(f"{self.agent.container_name} does not run: start it with compose.")
        return container

    # --- start

    def start(self) -> dict[str, Any]:
        release = self.params["release"]
        values = self.store.read(release)[_release.VALUES]
        digest = self.store.facts(release).get("image_digest", "")
        switched = self.store.switch(_release.Current(release, [digest], [_files.digest(values)]))
        return {"changed": switched}

    # --- reload

    def reload(self) -> dict[str, Any]:
        self.store.facts(self.params["release"])
        container = self.running()
        state = _agent.state(container["Id"])
        current = _release.Current(self.params["release"], [state.image], [state.environment])
        switched = self.store.switch(current)
        try:
            reloaded = self.nginx_reloads(container)
        except _docker.DockerError:
            if self.store.revert():
                _agent.execute(container["Id"], *_agent.COMMAND, "reload")
                self.end_kept(container)
            raise
        return {"changed": switched or reloaded, "draining": self.end_kept(container)}

    def end_kept(self, container: dict[str, Any]) -> int:
        """Nobody new meets the workers of before; how many of them live on."""
        found = _agent.state(container["Id"]).draining
        if found and self.params["kept_at"]:
            _agent.use_up_kept(self.params["kept_at"])
        return found

    def nginx_reloads(self, container: dict[str, Any]) -> bool:
        status, output, error = _agent.execute(container["Id"], *_agent.COMMAND, "reload", *self.drain, timeout=120)
        if status:
            raise _docker.DockerError(f"nginx was not reloaded: {_agent.reason(error or output)}")
        return _docker.last_line(output) != "unchanged"

    # --- replace

    def replace(self) -> dict[str, Any]:
        facts = self.store.facts(self.params["release"])
        old = self.running()
        body = self.definition(old)
        state = _agent.state(old["Id"])
        values = _release.values(self.agent.name, _docker.environment({"Config": body}))
        images = [facts.get("image_digest", ""), state.image]
        environments = [_files.digest(values), state.environment]
        self.store.switch(_release.Current(self.params["release"], images, environments))
        try:
            new = self.beside(old, body)
        except _docker.DockerError:
            self.agent.undo(self.store, old, self.new_one(old))
            raise
        return {"changed": True, "old": old["Id"], "new": new["Id"], "address": _docker.address(new)}

    def definition(self, old: dict[str, Any]) -> dict[str, Any]:
        """The new container as compose would make it, had it no other one of that name."""
        name, project = self.agent.name, self.agent.next_project
        _agent.remove(self.agent.next_name)
        config_hash, error = _agent.compose_hash(self.root, name, {})
        if error:
            raise _docker.DockerError(error)
        try:
            made = _engine.compose_create(self.root, _engine.alone(_engine.model(self.root), name, project), name)
        finally:
            _agent.remove(self.agent.next_name)
        return _engine.create_body(made, _docker.labels(old), config_hash, self.agent.container_name)

    def beside(self, old: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
        """The new container, once it is healthy."""
        name, timeout = self.agent.container_name, self.params["timeout"]
        policy, never = body["HostConfig"]["RestartPolicy"], {"Name": "no"}
        _docker.checked("rename", old["Id"], self.agent.old_name(old))
        # One that dies stays dead, so that it is seen.
        made = _engine.create(name, {**body, "HostConfig": {**body["HostConfig"], "RestartPolicy": never}})
        _engine.start(made)
        new = _agent.wait_until(("healthy",), name, timeout)
        if new and _docker.health(new) == "healthy":
            _engine.request("POST", f"/containers/{new['Id']}/update", {"RestartPolicy": policy})
            return new
        if new:
            raise _docker.DockerError(f"the new container is not healthy within {timeout} s")
        raise _docker.DockerError(f"the new container does not start: {_agent.reason(_docker.docker('logs', name)[2])}")

    def new_one(self, old: dict[str, Any]) -> dict[str, Any] | None:
        """The container that has the old one's name."""
        container = self.agent.current()
        return container if container and container["Id"] != old["Id"] else None

    # --- afterwards

    def finish(self) -> dict[str, Any]:
        old = self.agent.replaced()
        if old:
            # From here on it is not brought back.
            _docker.checked("update", "--restart", "no", old["Id"])
        self.store.settle()
        if old:
            _agent.drain(old["Id"], 0 if self.drain else self.params["drain_window"])
        return {"changed": old is not None, "old": old["Id"] if old else ""}

    def undo(self) -> dict[str, Any]:
        old, new = self.agent.replaced(), self.agent.current()
        before = self.store.before()
        if old:
            self.agent.undo(self.store, old, new)
        elif before is not None:
            self.store.revert()
            # An image of the owner's has no command to reload it; compose makes its container anew.
            if new and new["State"]["Running"] and _docker.labels(new).get(_docker.AGENT_LABEL):
                self.nginx_reloads(new)
                self.end_kept(new)
        now = self.agent.current()
        return {
            "changed": old is not None or before is not None,
            "old": old["Id"] if old else "",
            "address": _docker.address(now) if now else "",
        }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_module.AGENT,
            **_module.OWNER,
            "action": {"type": "str", "choices": ["start", "reload", "replace", "finish", "undo"], "required": True},
            "release": {"type": "str", "default": ""},
            "drain": {"type": "str", "choices": ["window", "now"], "default": "window"},
            "drain_window": {"type": "int", "default": 300},
            "kept_at": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 60},
        },
        required_if=[("action", action, ["release"]) for action in ("start", "reload", "replace")],
        supports_check_mode=True,
    )
    if module.check_mode:
        module.exit_json(changed=True, draining=0, old="", new="", address="")
    _module.finish(module, AgentContainer(module.params).run)


if __name__ == "__main__":
    main()
