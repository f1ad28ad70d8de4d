# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Makes another release of an agent the active one: a reload, a container next to the old one, or compose's start.

Whoever dies in between, the container's own entry point goes back to the committed release (see `Store.begin`).
"""

from __future__ import annotations

import time
from typing import Any, Mapping

from . import _containers, _docker, _engine, _files, _release, _tunnel
from ._plan import Plan
from ._transaction import Undo

HEALTHY = 30  # seconds within which a new container must be healthy; a transaction has 45 from the switch to the commit
TRIAL = 20  # the same of a trial
OWNERS_MOMENT = 1.5  # seconds after which an nginx that refuses its conf has ended
# The entry point of 0.1.0 knows no switch: this waits for its end, and without a commit Traefik sends nobody.
WATCHED = """
if [ ! -d /run/vaettir ] && [ -f /etc/vaettir/releases/pending ]; then (
    exec 8</etc/vaettir/releases/pending </dev/null >/dev/null 2>&1
    switch=$(grep ^switch= <&8)
    flock -s 8
    until [ -f /run/vaettir/in-force ]; do sleep 0.2; done
    grep -qx "$switch" /etc/vaettir/releases/current || touch /run/vaettir/drain
) & fi
exec "$0" "$@"
"""
NEVER = {"Name": "no"}  # restart policy of a container whose release is not committed


class Switch:
    """The containers of one agent in one transaction."""

    def __init__(
        self, root: str, store: _release.Store, containers: _containers.Containers, settings: Mapping[str, Any]
    ) -> None:
        self.root, self.store, self.containers = root, store, containers
        self.name = containers.name
        self.drain_now = settings.get("drain") == "now"
        self.drain_window = int(settings.get("drain_window", 300))
        self.state = _release.State()  # of the container that serves before the switch
        self.trial = _release.State()
        self.old: dict[str, Any] | None = None  # the container that is replaced
        self.policy: dict[str, Any] = {}  # restart policy that the new one gets with the commit
        self.kept_at = ""  # the origin at which Traefik's kept connections are used up
        self.switched = self.started = False
        self.notes: list[str] = []

    # --- the trial

    def start_trial(self, release: str, image: str, inspected: dict[str, Any]) -> dict[str, Any]:
        """A container that runs a release and nothing else; Traefik and compose do not see it."""
        _containers.remove(self.containers.trial_name)
        ours = _docker.labels(inspected).get(_docker.AGENT_LABEL)
        return self._our_trial(release, image) if ours else self._owners_trial()

    def _our_trial(self, release: str, image: str) -> dict[str, Any]:
        name, service = self.containers.trial_name, _engine.model(self.root)["services"][self.name]
        brought = [one for one in service.get("volumes") or [] if one["target"] == _tunnel.INSIDE]
        words = (
            *("run", "--detach", "--name", name),
            *("--volume", f"{self.store.folder}:/etc/vaettir/releases:ro"),
            *(f"--volume={one['source']}:{one['target']}:ro" for one in brought),
            *("--label", f"{_containers.TRIAL_LABEL}={self.name}"),
            # An image that compose built has compose's labels.
            *("--label", f"{_docker.COMPOSE}project=", "--label", f"{_docker.COMPOSE}service="),
            *("--network", f"{self.containers.project}_default"),
            *_engine.confinement(service),
            *("--health-interval", "300ms", "--security-opt", "no-new-privileges"),
            *(image, "serve", release),
        )
        _engine.start(name, lambda: _docker.checked(*words))
        container = _containers.wait_until(("healthy",), name, TRIAL)
        if container and _docker.health(container) == "healthy":
            return container
        if container:
            raise _release.ReleaseError(f"the new release does not answer within {TRIAL} s.")
        log = _docker.docker("logs", name)[2]
        raise _release.ReleaseError(f"the new release does not start: {_containers.reason(log)}.")

    def _owners_trial(self) -> dict[str, Any]:
        """An image that is not ours knows no command of ours: its service, once more, without a router."""
        name = self.containers.trial_name
        labels = ("--label", "traefik.enable=false", "--label", f"{_containers.TRIAL_LABEL}={self.name}")
        run = ("run", "--detach", "--no-deps", "--name", name, *labels, self.name)
        _engine.start(name, lambda: _docker.checked("compose", "--profile", "*", *run, cwd=self.root))
        time.sleep(OWNERS_MOMENT)
        container = _docker.inspect("container", name)
        if not container or not container["State"]["Running"]:
            log = _docker.docker("logs", name)[2]
            raise _release.ReleaseError(f"nginx refuses the new conf: {_containers.reason(log)}.")
        return container

    # --- the switch

    def switch(self, plan: Plan, release: str, kept_at: str, undo: Undo) -> None:
        _containers.remove(self.containers.trial_name)
        self.kept_at, self.switched = kept_at, True
        work = {"start": self._start, "reload": self._reload, "replace": self._replace}[plan.action]
        work(release, undo)

    def _values(self, release: str) -> bytes:
        return self.store.read(release)[_release.VALUES]

    def _start(self, release: str, undo: Undo) -> None:
        """Nothing runs that could be replaced. What compose starts is made for this switch."""
        values = _files.digest(self._values(release))
        self.store.begin(_release.Current(release, [self.trial.image], [values], action="start"))
        self.started = True
        undo.step(self.store.let_go)
        self.up()

    def up(self) -> None:
        """As its owner would type it; a new container in any case, since one that starts again keeps what it had."""
        words = ("--profile", "production", "--profile", "proxy", "up", "--detach", "--no-deps", "--no-build")
        # A new one has no notes of its predecessor's.
        more = ("--force-recreate", "--renew-anon-volumes", "--wait", "--wait-timeout", str(HEALTHY), self.name)
        _engine.start(
            self.containers.container_name,
            lambda: _docker.checked("compose", *words, *more, cwd=self.root, timeout=120),
        )
        # Compose has waited, unless the runtime had to be asked twice. An image of the owner's may have no health.
        _containers.wait_until(("healthy", ""), self.containers.container_name, HEALTHY)

    def _reload(self, release: str, undo: Undo) -> None:
        container = self._running()
        current = _release.Current(release, [self.state.image], [self.state.environment], action="reload")
        self.store.begin(current)
        undo.step(self._unload, container)
        self._nginx_reloads(container)
        self._end_kept(container)

    def _unload(self, container: dict[str, Any]) -> None:
        self.store.let_go()
        self._nginx_reloads(container)
        self._end_kept(container)

    def _running(self) -> dict[str, Any]:
        container = self.containers.current()
        if not container or not _docker.running(container):
            raise _release.ReleaseError(f"{self.containers.container_name} does not run: start it with compose.")
        return container

    def _nginx_reloads(self, container: dict[str, Any]) -> None:
        now = ("now",) if self.drain_now else ()
        words = (*_containers.COMMAND, "reload", *now)
        status, output, error = _containers.execute(container["Id"], *words, timeout=40)
        if status:
            raise _docker.DockerError(f"nginx was not reloaded: {_containers.reason(error or output)}")

    def _end_kept(self, container: dict[str, Any]) -> None:
        """Nobody new meets the workers of before."""
        found = _containers.state(container["Id"]).draining
        if found and self.kept_at:
            _containers.use_up_kept(self.kept_at)
        if found:
            self.notes = [f"{found} nginx workers drain: they keep the WebSockets that were open before"]

    def _replace(self, release: str, undo: Undo) -> None:
        self.old = old = self._running()
        body = self._definition(old)
        if self.trial.knows != "pending":  # an image of 0.1.0, which is never reloaded: it has one release
            body["Entrypoint"] = ["/bin/sh", "-c", WATCHED, *_containers.COMMAND]
            body["Cmd"] = ["serve", release]
        values = _release.values(self.name, _docker.environment({"Config": body}))
        images, environments = [self.trial.image, self.state.image], [_files.digest(values), self.state.environment]
        self.store.begin(_release.Current(release, images, environments, action="replace"))
        undo.step(self._unreplace, old)
        self._next_to(old, body)

    def _definition(self, old: dict[str, Any]) -> dict[str, Any]:
        """The new container as compose would make it, had it no other one of that name."""
        name, project = self.name, self.containers.next_project
        _containers.remove(self.containers.next_name)
        config_hash, error = _containers.compose_hash(self.root, name, {})
        if error:
            raise _docker.DockerError(error)
        try:
            model = _engine.model(self.root)
            _engine.ensure_volumes(model, name)
            made = _engine.compose_create(self.root, _engine.alone(model, name, project), name)
        finally:
            _containers.remove(self.containers.next_name)
        return _engine.create_body(made, _docker.labels(old), config_hash, self.containers.container_name)

    def _next_to(self, old: dict[str, Any], body: dict[str, Any]) -> None:
        """The new container, once it is healthy. Neither its own end nor a reboot starts it again before the commit."""
        name = self.containers.container_name
        self.policy = body["HostConfig"]["RestartPolicy"]
        _docker.checked("rename", old["Id"], self.containers.prefix("old") + old["Id"][:8])
        made = _engine.create(name, {**body, "HostConfig": {**body["HostConfig"], "RestartPolicy": NEVER}})
        _engine.start(made)
        new = _containers.wait_until(("healthy",), name, HEALTHY)
        if new and _docker.health(new) == "healthy":
            return
        if new:
            raise _docker.DockerError(f"the new container is not healthy within {HEALTHY} s")
        log = _docker.docker("logs", name)[2]
        raise _docker.DockerError(f"the new container does not start: {_containers.reason(log)}")

    def _unreplace(self, old: dict[str, Any]) -> None:
        """The old container is the agent's one again."""
        self.store.let_go()
        new = self.containers.current()
        new = new if new and new["Id"] != old["Id"] else None
        served = _docker.running(new) and _docker.health(new or old) in ("healthy", "unhealthy")
        if new and served:
            _containers.execute(new["Id"], "touch", "/run/vaettir/drain")
            _docker.checked("rename", new["Id"], self.containers.prefix("undone") + new["Id"][:8])
        elif new:
            _containers.remove(new["Id"])
        now = _docker.inspect("container", old["Id"])
        if now and now["Name"] != f"/{self.containers.container_name}":
            _docker.checked("rename", old["Id"], self.containers.container_name)
        if new and served:
            _containers.retire(new["Id"])

    # --- the end

    def _settle(self, policy: dict[str, Any]) -> None:
        new = self.containers.current()
        if new:
            _engine.request("POST", f"/containers/{new['Id']}/update", {"RestartPolicy": policy})

    def drain(self, wait: bool) -> None:
        """The replaced container ends its WebSockets after the window, for which nobody waits. `wait` is for the moment
        from which it gets no new visitors."""
        if not self.old:
            return
        self._settle(self.policy)
        _docker.checked("update", "--restart", "no", self.old["Id"])
        window = 0 if self.drain_now else self.drain_window
        _containers.drain(self.old["Id"], window)
        if wait:
            _containers.wait_until(("unhealthy",), self.old["Id"], _containers.RETIRED)
            time.sleep(_containers.SETTLED)
        self.notes = [f"the replaced container drains: it keeps its WebSockets for {window} s"]

    def purge_cache(self) -> None:
        """Not worth an undo: the release is active, and what could not be emptied was good enough before."""
        if not self.switched:
            return
        container = self._running()
        status, output, error = _containers.execute(container["Id"], *_containers.COMMAND, "purge")
        told = f"not emptied: {_containers.reason(error or output)}" if status else f"emptied: {output.strip()}"
        self.notes.append(f"the cache of assets was {told}")

    # --- after a death

    def recover(self, touch: bool) -> list[str]:
        """Clears up after a run that was killed; says what it did (or, without `touch`, would do)."""
        names = self.containers.all()
        done = [f"removed {name}, which an interrupted run had left" for name in self._left(names, touch)]
        unfinished = self.store.pending()
        before = "" if unfinished or not touch else self.store.recover_0_1_0()
        if touch:
            self.store.sweep()
        for name in (one for one in names if one.startswith(self.containers.prefix("old"))):
            done += self._recover_old(name, committed=not unfinished and not before, touch=touch)
        container = self.containers.current()
        if unfinished and unfinished.action == "start" and container:
            done.append(f"removed {self.containers.container_name}: its release {unfinished.release} was not verified")
            if touch:
                _containers.remove(container["Id"])
        elif unfinished or before:
            release = self.store.current().release or "nothing"
            done.append(f"{release} is active: what an interrupted run had switched to was not verified")
            if touch:
                self.store.abandon()  # the container goes back by itself: a reload that fails here stops one run only
            if touch and container and _docker.running(container):
                self._nginx_reloads(container)
        return done

    def _left(self, names: list[str], touch: bool) -> list[str]:
        """Trials and new containers of undone replacements."""
        left = [name for name in (self.containers.trial_name, self.containers.next_name) if name in names]
        undone = [name for name in names if name.startswith(self.containers.prefix("undone"))]
        if touch:
            for name in left:
                _containers.remove(name)
            for name in undone:
                _containers.retire(name)
        return left + undone

    def _recover_old(self, name: str, committed: bool, touch: bool) -> list[str]:
        """A replaced container: it serves again, or drains, or goes."""
        old, new = _docker.inspect("container", name), self.containers.current()
        if not old:
            return []
        if not _containers.draining(old) and not (new and committed):
            if touch:
                self._unreplace(old)
            return [f"{name} is {self.containers.container_name} again: its replacement was interrupted"]
        if not _docker.running(old):
            if touch:
                _containers.remove(old["Id"])
            return [f"removed {name}, which had been replaced"]
        if new and _containers.execute(old["Id"], "test", "-e", "/run/vaettir/drain")[0] == 1:
            if touch:
                self._go_forward(old, new)
            return [f"{name} ends: it had been replaced"]
        return []

    def _go_forward(self, old: dict[str, Any], new: dict[str, Any]) -> None:
        """The new one's release was committed; only the end of the old one was not begun."""
        if _containers.draining(new):
            self._settle(old["HostConfig"]["RestartPolicy"])
        if not _docker.running(new):
            _engine.start(new["Id"])
            _containers.wait_until(("healthy",), new["Id"], HEALTHY)
        _docker.checked("update", "--restart", "no", old["Id"])
        _containers.drain(old["Id"], 0)
