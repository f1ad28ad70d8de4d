#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_release
short_description: Release agents on a server, each in one transaction that undoes itself
version_added: 0.1.0
description:
  - A release is a copy of all that decides what an agent's container does. It lies in C(releases/NAME/ID) below
    O(root), is never changed again, and is there as a whole or not at all. Its image has the tag C(PROJECT-NAME:ID).
  - For each of O(agents), V(present) takes the agent's lock, clears up after a run that was killed, writes the files,
    and compares them with what runs. Where they differ it builds the image, starts a trial that no visitor reaches,
    switches (by a reload of nginx, or by a container next to the old one), verifies, and commits. What is not as good
    as before is undone.
  - Until the commit, C(releases/NAME/current) names the previous release. If the module, its connection, Docker or the
    server dies after the switch, the container itself goes back to that release.
  - A role renders the files with its templates. The action plugin of this module does that on the control node.
  - The task does not fail because an agent does. Look at RV(agents[].failed).
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
    details: Touches nothing. No lock is taken, no image built, nothing tried. Agents that need nothing are verified.
  diff_mode:
    support: full
    details: Shows the text of every file that differs, but of C(.env) only the names of the keys. Secrets are hidden.
options:
  state:
    description:
      - V(present) releases what O(agents) say.
      - V(previous) rolls back to a release that is kept on the server.
      - V(verified) makes the checks alone and changes nothing.
      - V(absent) removes agents, or hands them back to their owner.
    type: str
    choices: [present, previous, verified, absent]
    default: present
  server:
    description: What the report calls the server.
    type: str
    default: ''
  by:
    description: Who releases, such as V(claire@laptop). A run that waits for this one is told.
    type: str
    default: ''
  managed:
    description: Whether compose file, images and Traefik are ours, and not the owner's of the server.
    type: bool
    default: true
  ca_path:
    description: PEM file of the authority of Traefik's certificate, on the server. Empty trusts what the server trusts.
    type: path
    default: ''
  acme:
    description: Whether Traefik's certificate comes from an authority, so that it may be under way.
    type: bool
    default: false
  stack:
    description:
      - What M(locki.vaettir.stack_info) told, for the words of a failure.
      - Files that git tracks for their owner (C(git.tracked)) are left alone where they exist. With O(managed=false),
        C(owners) tells the images of the owner's services.
    type: dict
    default: {}
  listings:
    description: Files that name other files, as in M(locki.vaettir.file_set).
    type: list
    elements: dict
    default: []
  shared:
    description: Files below O(root) that make the image of every agent, by their paths.
    type: dict
    default: {}
  agents:
    description:
      - The agents, in the order in which they are released.
      - The agent C(offline) is the server's page container.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: The agent, which is the compose service.
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
      domain:
        description: Its public name.
        type: str
      public_origin:
        description: Its public URL without a path.
        type: str
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
      base_image:
        description: Image it must be built on. Empty does not look.
        type: str
        default: ''
      require_online:
        description: Whether the page instead of the app fails a release.
        type: bool
        default: false
      drain:
        description: Whether open WebSockets of the previous release live on (V(window)) or end at once (V(now)).
        type: str
        choices: [window, now]
        default: window
      drain_window:
        description: Seconds that a replaced container keeps its WebSockets.
        type: int
        default: 300
      purge_cache:
        description: Whether a release, once it is active, empties the cache of assets.
        type: bool
        default: false
      keep_releases:
        description:
          - How many releases to keep.
          - The active one, the one before it, the newest other one that was verified, and the oldest hand-made one stay
            in any case.
        type: int
        default: 3
      files:
        description: Files below O(root) that are this agent's own, by their paths.
        type: dict
        default: {}
      env:
        description: Keys of C(.env), and their values.
        type: dict
        default: {}
      release:
        description: With O(state=previous), the ID of the release. Empty takes the newest that was verified.
        type: str
        default: ''
      instead_of:
        description: With O(state=previous), roll back only if this release is the active one. Empty does not look.
        type: str
        default: ''
"""

EXAMPLES = r"""
# In a role with templates; the action plugin renders them.
- name: Release an agent
  locki.vaettir.agent_release:
    root: /home/deploy/vaettir
    server: "{{ inventory_hostname }}"
    agents: "{{ agents }}"
  register: release

- name: Check the agents that there are
  locki.vaettir.agent_release:
    root: /home/deploy/vaettir
    state: verified
    agents: "{{ agents }}"
  register: found
"""

RETURN = r"""
agents:
  description: A row of the report for each agent, in the order of O(agents).
  type: list
  elements: dict
  returned: always
  contains:
    server:
      description: As O(server).
      type: str
    agent:
      description: Name of the agent.
      type: str
    outcome:
      description: What came of it.
      type: str
      choices: [unchanged, released, started, offline, rolled back, would change, failed, removed]
    url:
      description: Its public origin. Empty for the page container.
      type: str
    release:
      description: ID of the active release. Empty if there is none.
      type: str
    seconds:
      description: How long it took.
      type: float
    changed:
      description: Whether anything was, or would be, changed.
      type: bool
    failed:
      description: Whether the agent is not as it should be.
      type: bool
    switched:
      description: Whether another release is active now.
      type: bool
    online:
      description: Whether it was an app that answered, and not the page.
      type: bool
    trusted:
      description: Whether Traefik's certificate is trusted.
      type: bool
    verified:
      description: Whether all checks passed.
      type: bool
    notes:
      description: What else is worth knowing, in a line each.
      type: list
      elements: str
    message:
      description: What a visitor gets, or what is broken and what fixes it.
      type: str
    handshake:
      description: >-
        The same handshake for M(locki.vaettir.websocket_curl), with the words of it that agree. Empty where it cannot.
      type: dict
removed:
  description: With O(state=absent), what was, or would be, removed.
  type: list
  elements: str
  returned: O(state=absent)
"""

import contextlib
from dataclasses import replace
from typing import Any, Callable

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.locki.vaettir.plugins.module_utils import (
    _look,
    _module,
    _questions,
    _release,
    _remove,
    _sentences,
    _server,
    _transaction,
    _tunnel,
)
from ansible_collections.locki.vaettir.plugins.module_utils._agent import Managed
from ansible_collections.locki.vaettir.plugins.module_utils._owners import Owners, hand_back
from ansible_collections.locki.vaettir.plugins.module_utils._server import File, Server, Wanted
from ansible_collections.locki.vaettir.plugins.module_utils._transaction import Outcome, Undo

AGENT_OPTIONS: dict[str, Any] = {
    # Without files and checks, as for V(absent), the name is enough.
    **{name: {**option, "required": name == "name"} for name, option in _questions.OPTIONS.items()},
    "base_image": {"type": "str", "default": ""},
    "require_online": {"type": "bool", "default": False},
    "drain": {"type": "str", "choices": ["window", "now"], "default": "window"},
    "drain_window": {"type": "int", "default": 300},
    "purge_cache": {"type": "bool", "default": False},
    "keep_releases": {"type": "int", "default": 3},
    "files": {"type": "dict", "default": {}},
    "env": {"type": "dict", "default": {}},
    "release": {"type": "str", "default": ""},
    "instead_of": {"type": "str", "default": ""},
}


class AgentRelease:
    def __init__(self, params: dict[str, Any], touch: bool) -> None:
        self.params = params
        self.server = Server(
            root=params["root"],
            project=params["project"],
            name=params["server"],
            by=params["by"],
            touch=touch,
            ca_path=params["ca_path"] or "",
            acme=params["acme"],
            listings=tuple(params["listings"]) if params["managed"] else (),  # an owner's server has none of ours
            stack=params["stack"],
        )
        self.owners = {"services": {}, "built": [], **(params["stack"].get("owners") or {})}
        self.diff: list[dict[str, str]] = []
        self.removed: list[str] = []

    def run(self) -> dict[str, Any]:
        work: Callable[[dict[str, Any]], dict[str, Any]] = getattr(self, self.params["state"])
        known = self.unchanged() if self.params["state"] == "present" else {}

        def row(agent: dict[str, Any]) -> dict[str, Any]:
            return known.get(agent["name"]) or self.attempt(work, agent)

        one_by_one = self.params["state"] != "verified"  # which changes nothing
        agents = self.params["agents"]
        rows = [row(agent) for agent in agents] if one_by_one else _look.side_by_side(row, agents)
        found = {"agents": rows, "changed": any(row["changed"] for row in rows), "diff": self.diff}
        return {**found, "removed": self.removed} if self.params["state"] == "absent" else found

    def attempt(self, work: Callable[[dict[str, Any]], dict[str, Any]], agent: dict[str, Any]) -> dict[str, Any]:
        """Whatever happens to one agent, the others get their turn."""
        try:
            return work(agent)
        except _transaction.FAILURES as error:
            made = Outcome("failed", failed=True, message=_transaction.sentence(error))
            return _sentences.row(self.server, self.wanted(agent), made)

    def unchanged(self) -> dict[str, dict[str, Any]]:
        """Rows of the agents that need no transaction."""
        server = replace(self.server, touch=False)
        agents = [self.agent(self.wanted(agent), server) for agent in self.params["agents"]]
        made = _look.unchanged(agents)
        return {agent.name: self.row(agent, made[agent.name]) for agent in agents if agent.name in made}

    def wanted(self, agent: dict[str, Any]) -> Wanted:
        name, managed = agent["name"], self.params["managed"]
        files = [
            self.file(path, text) for texts in (self.params["shared"], agent["files"]) for path, text in texts.items()
        ]
        secret = [File(_server.tunnel(name), agent["tunnel_secret"].encode(), 0o600, secret=True)]
        files = [*(secret if agent["tunnel_secret"] and managed else []), *files]
        there = [one.path for one in files]
        return Wanted(
            name=name,
            settings=agent,
            files=tuple(files),
            absent=tuple(path for path in _server.agent_files(name) if path not in there) if managed else (),
            released_as=_server.released_as(name, managed),
            env={key: str(value) for key, value in agent["env"].items()},
            image="" if managed else self.owners["services"].get(name, f"{self.server.project}-{name}"),
        )

    def file(self, path: str, text: str) -> File:
        tracked = (self.params["stack"].get("git") or {}).get("tracked") or []
        return File(path, text.encode(), 0o755 if path.endswith(".sh") else 0o644, keep=path in tracked)

    def agent(self, wanted: Wanted, server: Server | None = None) -> Managed:
        return (Managed if self.params["managed"] else Owners)(server or self.server, wanted)

    # --- the states

    def present(self, agent: dict[str, Any]) -> dict[str, Any]:
        docker = self.params["stack"].get("docker") or {}
        if not self.server.touch and not docker.get("installed", True):
            return self.before_docker(self.wanted(agent))
        return self.release(self.wanted(agent))

    def before_docker(self, wanted: Wanted) -> dict[str, Any]:
        """In check mode, where a run would install it first."""
        agent = self.agent(wanted)
        agent.copy(Undo(touch=False))
        self.diff += agent.files.diff
        made = Outcome("would change", changed=True, notes=("start the container: Docker is not installed yet",))
        return _sentences.row(self.server, wanted, made)

    def release(self, wanted: Wanted) -> dict[str, Any]:
        agent = self.agent(wanted)
        made = _transaction.release(agent)
        self.diff += agent.files.diff
        return self.row(agent, made)

    def row(self, agent: Managed, made: Outcome) -> dict[str, Any]:
        untrusted = ""
        with contextlib.suppress(*_transaction.FAILURES):  # what cannot be asked is not told
            untrusted = agent.untrusted() if made.verification and made.verification.untrusted else ""
        release = agent.store.current().release
        found = _sentences.row(self.server, agent.wanted, made, release, untrusted, agent.asked())
        if self.params["state"] == "present" and agent.settings.get("tunnel") == _tunnel.SSH:
            found["notes"].append(_tunnel.note(self.server.root, agent.settings))
        return found

    def previous(self, agent: dict[str, Any]) -> dict[str, Any]:
        wanted = self.wanted(agent)
        store = _release.Store(self.server.root, wanted.name)
        current = store.current().release
        if agent["instead_of"] not in ("", current):
            return _sentences.row(self.server, wanted, Outcome("unchanged"), current)
        chosen = agent["release"] or _release.rollback_to(store.all(), current, self.params["managed"])
        if agent["instead_of"]:
            chosen = store.facts(current).get("former", "") or chosen
        if chosen not in store.ids():
            if agent["instead_of"] and store.ids() == [current]:  # a first release, which nobody can go back from
                self.absent(agent)
                made = Outcome(
                    "rolled back", changed=True, failed=True, message="its first release is taken away again."
                )
                return _sentences.row(self.server, wanted, made)
            what = f"release '{chosen}' is not kept" if chosen else "no verified release besides the active one is kept"
            kept, active = ", ".join(store.ids()) or "none", current or "none"
            raise _release.ReleaseError(f"{what}. Those that are: {kept} (active: {active}).")
        row = self.release(replace(wanted, release=chosen, instead_of=agent["instead_of"]))
        if agent["instead_of"] and current in store.ids():
            store.note(current, verified=None)  # nobody shall be rolled back to it
        return row

    def verified(self, agent: dict[str, Any]) -> dict[str, Any]:
        found = self.agent(self.wanted(agent))
        return self.row(found, _transaction.verify(found))

    def absent(self, agent: dict[str, Any]) -> dict[str, Any]:
        wanted = self.wanted(agent)
        if not self.params["managed"]:
            made = hand_back(self.server, wanted, wanted.name in self.owners["built"])
            return self.removed_row(wanted, made)
        gone = _remove.remove(self.server, wanted.name)
        self.removed += gone.paths
        self.diff += gone.diff
        notes = () if gone.paths else ("there is nothing of it here",)
        word = "unchanged" if not gone.paths else "removed" if self.server.touch else "would change"
        return self.removed_row(wanted, Outcome(word, changed=bool(gone.paths), notes=notes))

    def removed_row(self, wanted: Wanted, made: Outcome) -> dict[str, Any]:
        """Without a URL: of an agent that nobody declares it may be a made-up one."""
        return {**_sentences.row(self.server, wanted, made), "url": ""}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_module.SERVER,
            "state": {
                "type": "str",
                "choices": ["present", "previous", "verified", "absent"],
                "default": "present",
            },
            "server": {"type": "str", "default": ""},
            "by": {"type": "str", "default": ""},
            "managed": {"type": "bool", "default": True},
            "ca_path": {"type": "path", "default": ""},
            "acme": {"type": "bool", "default": False},
            "stack": {"type": "dict", "default": {}},
            "listings": {"type": "list", "elements": "dict", "default": []},
            "shared": {"type": "dict", "default": {}},
            "agents": {"type": "list", "elements": "dict", "required": True, "options": AGENT_OPTIONS},
        },
        supports_check_mode=True,
    )
    _module.outlive_the_connection()
    _module.finish(module, AgentRelease(module.params, not module.check_mode).run)


if __name__ == "__main__":
    main()
