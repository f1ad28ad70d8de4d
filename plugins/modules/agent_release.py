#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_release
short_description: Keep, try and bring back the releases of an agent
version_added: 0.1.0
description:
  - A release is a copy of all that decides what an agent's container does. It lies in C(releases/NAME/ID) below
    O(root), is never changed again, and is there as a whole or not at all.
  - Its image has the tag C(PROJECT-NAME:ID).
author:
  - the locki.vaettir authors (@locki)
extends_documentation_fragment:
  - locki.vaettir.agent
  - locki.vaettir.agent.owner
  - locki.vaettir.attributes
attributes:
  check_mode:
    support: full
    details: Touches nothing. No lock is taken, no release made, nothing tried.
  diff_mode:
    support: partial
    details: For what V(restored) brings back.
options:
  state:
    description:
      - V(begun) takes the agent's lock, clears up after a run that was killed, and keeps as a release what somebody put
        into force by hand. It waits for a step of a killed run that still acts on the server, for 60 s at most.
      - V(prepared) makes a release of the live files, unless there is one that holds the same, and starts it in a
        container of its own that gets no visitors. V(ended) removes it, or M(locki.vaettir.agent_container) does.
      - V(restored) writes the files of O(release) and its keys of C(.env) back, and gives its image the tag
        of O(image). It puts nothing into force.
      - V(ended) notes that O(release) was verified and removes those beyond O(keep), or removes O(release) if it was
        not O(verified), this run made it, and it is not the current one. Then it gives the lock back.
      - V(ended) without O(release) leaves the current one, and notes it if it is O(verified) for the first time.
      - V(known) tells which releases there are.
      - V(begun), V(prepared) and V(ended) need O(owner).
    type: str
    choices: [begun, prepared, restored, ended, known]
    default: known
  break_lock:
    description: Whether to take another run's lock away from it.
    type: bool
    default: false
  lock_timeout:
    description: Seconds after which a lock counts for nothing.
    type: int
    default: 900
  files:
    description: Live paths relative to O(root), and their names in a release. Those that are not there are left out.
    type: dict
    default: {}
  image:
    description:
      - The image to release. C(PROJECT-NAME:proxy) unless set.
      - One without our label C(io.locki.vaettir.agent) is its owner's. Compose itself then runs the trial, with the
        service's own definition, and a trial that still runs after a moment counts as healthy.
    type: str
  network:
    description: Docker network in which a release is tried. C(PROJECT_default) unless set.
    type: str
  timeout:
    description: Seconds within which a tried release must be healthy.
    type: int
    default: 20
  release:
    description: ID of the release for V(restored) and V(ended).
    type: str
    default: ''
  probe:
    description:
      - What V(prepared) keeps with the release, for whoever wants to compare with it later, such as the URL and the
        Origin that it is verified with.
    type: dict
    default: {}
  verified:
    description: Whether O(release) was verified.
    type: bool
    default: false
  online:
    description: Whether it was an app that answered then, and not the page.
    type: bool
    default: false
  keep:
    description:
      - How many releases to keep.
      - The current one, the one before it, the last one that was verified besides, and the oldest one by hand stay in
        any case.
    type: int
    default: 3
"""

EXAMPLES = r"""
- name: Begin
  locki.vaettir.agent_release:
    root: /home/deploy/vaettir
    name: ocapistaine
    state: begun
    owner: {user: claire, node: laptop, pid: 4711}
    files:
      proxy-configs/ocapistaine.conf.template: ocapistaine.conf.template
      agents/ocapistaine.yml: compose.yml
  register: begun

- name: Which releases there are
  locki.vaettir.agent_release:
    root: /home/deploy/vaettir
    name: ocapistaine
  register: releases
"""

RETURN = r"""
locked:
  description: Who holds the agent's lock (user, node, pid, since, age in seconds). Empty if it is ours.
  type: dict
  returned: V(begun)
previous:
  description: ID of the release to go back to. Empty if there is none.
  type: str
  returned: V(begun)
previous_image:
  description: ID of that release's image. Empty if there is none, so that nothing of it can run.
  type: str
  returned: V(begun)
probe:
  description: What the previous release (V(begun)) or O(release) (V(restored)) was prepared with as O(probe).
  type: dict
  returned: V(begun) and V(restored)
healed:
  description: What was (or, in check mode, would be) cleared up after an interrupted run.
  type: list
  elements: str
  returned: V(begun)
kept:
  description: ID of the release that was made of what was in force by hand. Empty if there was nothing to keep.
  type: str
  returned: V(begun)
release:
  description: ID of the new release. Empty in check mode.
  type: str
  returned: V(prepared)
made:
  description: Whether this call made it. A former one that holds the same is taken instead.
  type: bool
  returned: V(prepared)
address:
  description: IP address of the container that tries it.
  type: str
  returned: V(prepared)
image_digest:
  description: Digest of the files that the image itself has.
  type: str
  returned: V(prepared)
paths:
  description: Paths relative to O(root) that were (or, in check mode, would be) written or removed.
  type: list
  elements: str
  returned: V(restored)
digests:
  description: >-
    SHA-256 in hexadecimal digits of what each path of O(files) holds then. Those that O(release) lacks are left out.
  type: dict
  returned: V(restored)
values:
  description: The keys of C(.env) that O(release) knows, with its values. Empty where it has none.
  type: dict
  returned: V(restored)
removed:
  description: IDs of the releases that were removed.
  type: list
  elements: str
  returned: V(ended)
releases:
  description: All releases, newest first, with id, time, by, digest, image, verified and current.
  type: list
  elements: dict
  returned: V(known)
current:
  description: ID of the current release. Empty if there is none.
  type: str
  returned: V(known)
lock:
  description: Who holds the agent's lock, with its age in seconds. Empty if nobody does.
  type: dict
  returned: V(known)
"""

import contextlib
import os
import shutil
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.locki.vaettir.plugins.module_utils import _agent, _docker, _engine, _files, _module, _release

NOTHING: dict[str, Any] = {
    "changed": False,
    "locked": {},
    "previous": "",
    "previous_image": "",
    "probe": {},
    "healed": [],
    "kept": "",
}
SHOWN = ("id", "time", "by", "digest", "image", "verified")
OWNERS_MOMENT = 1.5  # seconds after which an nginx that refuses its conf has ended


class AgentRelease:
    def __init__(self, module: AnsibleModule) -> None:
        self.params = module.params
        self.touch = not module.check_mode
        self.root: str = module.params["root"]
        self.project, self.name = module.params["project"], module.params["name"]
        self.agent = _agent.Agent(self.project, self.name)
        self.store = _release.Store(self.root, self.name)

    def locked(self) -> contextlib.AbstractContextManager[None]:
        return _files.locked(self.root) if self.touch else contextlib.nullcontext()

    def image_tag(self, tag: str) -> str:
        return f"{self.project}-{self.name}:{tag}"

    def image_name(self) -> str:
        return str(self.params["image"] or self.image_tag("proxy"))

    def run(self) -> dict[str, Any]:
        state = self.params["state"]
        if state in ("begun", "known") or not self.touch:
            return self.do(state)
        with self.store.busy():
            if self.params["owner"]:
                self.store.renew(self.params["owner"], time.time())
            return self.do(state)

    def do(self, state: str) -> dict[str, Any]:
        result: dict[str, Any] = getattr(self, state)()
        return result

    def known(self) -> dict[str, Any]:
        current, lock = self.store.current().release, self.store.lock()
        shown = [{key: release.get(key) for key in SHOWN} for release in self.store.all()]
        return {
            "changed": False,
            "current": current,
            "lock": {**lock, "age": int(time.time() - lock.get("since", 0))} if lock else {},
            "releases": [{**release, "current": release["id"] == current} for release in shown],
        }

    # --- begun

    def begun(self) -> dict[str, Any]:
        locked = self.held()
        if locked:  # nor wait for what it does
            return {**NOTHING, "locked": locked}
        if not self.touch:
            # Without docker, this run would install it first.
            return NOTHING if shutil.which("docker") is None else self.cleared()
        self.store.make()
        with self.store.busy():
            with self.locked():
                locked = self.held()
                if locked:
                    return {**NOTHING, "locked": locked}
                self.store.take(self.params["owner"], time.time())
            try:
                return self.cleared()
            except BaseException:
                self.store.release_lock(self.params["owner"])
                raise

    def held(self) -> dict[str, Any]:
        """Whose lock keeps us out."""
        params = self.params
        locked = _release.holder(self.store.lock(), params["owner"], time.time(), params["lock_timeout"])
        return {} if params["break_lock"] else locked

    def cleared(self) -> dict[str, Any]:
        healed = self.agent.heal(self.store, self.touch)
        if self.touch:
            self.store.sweep()
        previous, kept = self.previous()
        facts = self.store.facts(previous) if previous in self.store.ids() else {}
        return {
            "changed": bool(healed or kept),
            "locked": {},
            "previous": previous,
            "previous_image": facts.get("image", ""),
            "probe": facts.get("probe", {}),
            "healed": healed,
            "kept": kept,
        }

    def previous(self) -> tuple[str, str]:
        """The release to go back to; and the same if it had to be made of what is live."""
        current, before = self.store.current(), self.store.before()
        if before is not None:  # a run was killed before its release had been verified
            return before.release, ""
        container, image = self.agent.current(), _docker.inspect("image", self.image_name())
        runs = container["Image"] if container else image["Id"] if image else ""
        found = not current.release and self.store.foreign(self.params["files"])
        if not container and not found and not (image and self.store.touched(self.params["files"])):
            return current.release, ""
        if self.in_force(current, container, runs):
            return current.release, ""
        if not self.touch:
            return current.release, ""
        with self.locked():
            return self.keep(current, runs)

    def in_force(self, current: _release.Current, container: dict[str, Any] | None, runs: str) -> bool:
        """Whether the container still is as the current release made it."""
        if current.release not in self.store.ids() or self.store.facts(current.release)["image"] != runs:
            return False
        if not container:
            return True
        values = _release.values(self.name, _docker.environment(container))
        released = self.store.read(current.release)[_release.VALUES]
        return values == released or _files.digest(values) in current.environments

    def keep(self, current: _release.Current, runs: str) -> tuple[str, str]:
        files = self.params["files"]
        live = self.store.live(files)
        if set(live) == {_release.VALUES} and not self.store.foreign(files):
            return current.release, ""
        releases = self.store.all()
        images = current.images if any(r["id"] == current.release and r["image"] == runs for r in releases) else []
        known = [release["id"] for release in releases if release["digest"] == _release.digest(live)]
        kept = "" if known else self.store.create(files, {"by": _release.BY_HAND, "image": runs}, time.time())
        identifier = kept or known[0]
        if kept and runs:
            _docker.checked("tag", runs, self.image_tag(kept))
        self.store.switch(_release.Current(identifier, images))
        self.store.settle()
        return identifier, kept

    # --- prepared

    def prepared(self) -> dict[str, Any]:
        if not self.touch:
            return {"changed": True, "release": "", "made": False, "address": "", "image_digest": ""}
        image = _docker.inspect("image", self.image_name())
        if not image:
            raise _release.ReleaseError(f"there is no image {self.image_name()}: build it.")
        owner = self.params["owner"]
        same = self.store.same(self.params["files"], image["Id"])
        with self.locked():
            by = f"{owner['user']}@{owner['node']}"
            more = {"by": by, "run": owner, "image": image["Id"], "probe": self.params["probe"]}
            release = same or self.store.create(self.params["files"], more, time.time())
        try:
            _docker.checked("tag", image["Id"], self.image_tag(release))
            trial = self.tried_out(release) if _docker.labels(image).get(_docker.AGENT_LABEL) else self.owners_trial()
            digest = _agent.state(trial["Id"]).image
            self.store.note(release, image_digest=digest)
        except (_docker.DockerError, _release.ReleaseError, OSError):
            _agent.remove(self.agent.trial_name)
            if not same:
                self.discard(release)
            raise
        address = _docker.address(trial)
        return {"changed": True, "release": release, "made": not same, "address": address, "image_digest": digest}

    def tried_out(self, release: str) -> dict[str, Any]:
        """The container that runs a release and nothing else; Traefik and compose do not see it."""
        name = self.agent.trial_name
        _agent.remove(name)
        mounts = ["--volume", f"{self.store.folder}:/etc/vaettir/releases:ro"]
        secret = os.path.join(self.root, "secrets", self.name)
        if os.path.isdir(secret):
            mounts += ["--volume", f"{secret}:/etc/vaettir/secret:ro"]
        words = (
            *("run", "--detach", "--name", name, *mounts),
            *("--label", f"{_agent.TRIAL_LABEL}={self.name}"),
            # An image that compose built has compose's labels.
            *("--label", f"{_docker.COMPOSE}project=", "--label", f"{_docker.COMPOSE}service="),
            *("--network", self.params["network"] or f"{self.project}_default"),
            *("--health-interval", "300ms", "--security-opt", "no-new-privileges"),
            *(self.image_tag(release), "serve", release),
        )
        _engine.start(name, lambda: _docker.checked(*words))
        container = _agent.wait_until(("healthy",), name, self.params["timeout"])
        if container and _docker.health(container) == "healthy":
            return container
        _status, _output, log = _docker.docker("logs", name)
        if container:
            raise _release.ReleaseError(f"the new release does not answer within {self.params['timeout']} s.")
        raise _release.ReleaseError(f"the new release does not start: {_agent.reason(log)}")

    def owners_trial(self) -> dict[str, Any]:
        """An image that is not ours knows no command of ours: its service, once more, without a router."""
        name = self.agent.trial_name
        _agent.remove(name)
        run = ("run", "--detach", "--no-deps", "--name", name, "--label", "traefik.enable=false", self.name)
        _engine.start(name, lambda: _docker.checked("compose", "--profile", "*", *run, cwd=self.root))
        time.sleep(OWNERS_MOMENT)
        container = _docker.inspect("container", name)
        if not container or not container["State"]["Running"]:
            raise _release.ReleaseError(f"nginx refuses the new conf: {_agent.reason(_docker.docker('logs', name)[2])}")
        return container

    # --- restored and ended

    def restored(self) -> dict[str, Any]:
        release, tag = self.params["release"], self.image_tag(self.params["release"])
        released = self.store.facts(release)["image"]
        image, now = _docker.inspect("image", tag), _docker.inspect("image", self.image_name())
        if released and not image:
            raise _release.ReleaseError(f"the image {tag} of release {release} is gone: choose another release.")
        with self.locked():
            changes = self.store.restore(release, self.params["files"], self.touch)
        tagged = image is not None and (now is None or now["Id"] != image["Id"])
        if tagged and self.touch:
            _docker.checked("tag", tag, self.image_name())
        contents = self.store.read(release)
        digests = {
            path: _files.digest(contents[name]) for path, name in self.params["files"].items() if name in contents
        }
        return {
            "changed": bool(changes) or tagged,
            "paths": [change.path for change in changes],
            "digests": digests,
            "probe": self.store.facts(release).get("probe", {}),
            "values": self.store.released_values(release),
            "diff": [change.diff() for change in changes],
        }

    def ended(self) -> dict[str, Any]:
        if not self.touch:
            return {"changed": False, "removed": []}
        try:
            _agent.remove(self.agent.trial_name)
            removed = self.closed(self.params["release"])
        finally:  # a full disk must not leave the agent locked
            self.store.release_lock(self.params["owner"])
        return {"changed": bool(self.params["release"]), "removed": removed}

    def closed(self, release: str) -> list[str]:
        """Notes how it went, and removes what is no longer wanted."""
        removed, current, there = [], self.store.current().release, self.store.ids()
        if self.params["verified"] or not release:  # without a release, nothing of ours is pending
            self.store.settle()
        if self.params["verified"]:
            known = self.store.facts(current) if not release and current in there else None
            if known and (not known["verified"] or self.params["online"] > known.get("online", True)):
                release = current
            if release:
                self.store.note(release, verified=_release.iso(time.time()), online=self.params["online"])
            removed = _release.superfluous(self.store.all(), current, self.params["keep"])
        elif release in there and release != current and self.ours(self.store.facts(release)):
            removed = [release]
        for identifier in removed:
            self.discard(identifier)
        self.untag()
        return removed

    def ours(self, facts: dict[str, Any]) -> bool:
        """Whether this run made a release, and nobody verified it."""
        return not facts["verified"] and _release.same_run(facts.get("run", {}), self.params["owner"])

    def discard(self, release: str) -> None:
        self.store.remove(release)
        _docker.docker("image", "rm", self.image_tag(release))

    def untag(self) -> None:
        """Images of releases that are gone: one that still drained when its release went could not go with it."""
        repository = f"{self.project}-{self.name}"
        tags = _docker.checked("image", "ls", "--format", "{{.Tag}}", repository).split()
        for tag in _release.strays(tags, self.store.ids()):
            _docker.docker("image", "rm", self.image_tag(tag))


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_module.AGENT,
            **_module.OWNER,
            "state": {
                "type": "str",
                "choices": ["begun", "prepared", "restored", "ended", "known"],
                "default": "known",
            },
            "break_lock": {"type": "bool", "default": False},
            "lock_timeout": {"type": "int", "default": 900},
            "files": {"type": "dict", "default": {}},
            "image": {"type": "str"},
            "network": {"type": "str"},
            "timeout": {"type": "int", "default": 20},
            "release": {"type": "str", "default": ""},
            "probe": {"type": "dict", "default": {}},
            "verified": {"type": "bool", "default": False},
            "online": {"type": "bool", "default": False},
            "keep": {"type": "int", "default": 3},
        },
        required_if=[("state", state, ["owner"]) for state in ("begun", "prepared", "ended")],
        supports_check_mode=True,
    )
    _module.finish(module, AgentRelease(module).run)


if __name__ == "__main__":
    main()
