# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The transaction's verbs on an agent whose image and compose service are ours."""

from __future__ import annotations

import contextlib
import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, Callable, Mapping, Sequence
from urllib.parse import urlsplit

from . import _bisect, _containers, _docker, _files, _names, _probe, _questions, _release, _remove, _tunnel, _visitor
from ._at_once import AtOnce, at_once
from ._fileset import FileSet
from ._plan import FRAGMENT, IMAGE_FILES, Aim, Plan, Runs, compare, nginx_differs
from ._server import PAGE, Server, Wanted
from ._switch import Switch
from ._transaction import BETTER, GOOD, Answer, Expectation, Previous, Trial, Undo, Verdict, Verification, View

HANDSHAKE_ONLY: dict[str, Any] = {"foreign_origin": "", "http2": False, "upload": 0, "accept": []}
HANDSHAKE = 5  # seconds for a handshake, besides those until nginx gives up a tunnel that does not answer
CONFIRM = 2  # seconds until an answer that no retry can make better is asked for once more
SETTLE = 10  # seconds until Traefik has taken a new container in
# Seconds for what a visitor does; until the app's first word; of silence.
VISIT, VISIT_FIRST, VISIT_SILENCE = 4.0, 2.0, 0.7
CERTIFICATE = (3, 20)  # seconds that a certificate may be under way: without a switch, with one


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


VISITOR = "visitor"  # the reason of an answer to one of a visitor's questions


def _visits_answer(fault: _bisect.Fault, answer: Answer, was_so: bool = False) -> Answer:
    """What failed before as well is the same as before, whichever question it is."""
    often = "" if fault.always else f", {fault.bad} of {fault.asked} times"
    was = f"; before: {fault.there}" if fault.there and fault.there != fault.here else ""
    reason = VISITOR if was_so else f"{VISITOR}: {fault.question}"
    return Answer(reason, f"a visitor's {fault.question}: {fault.here}{often}{was}", told=answer.told)


class Managed:
    """Verbs in the order in which a transaction uses them."""

    def __init__(self, server: Server, wanted: Wanted) -> None:
        self.server, self.wanted, self.touch = server, wanted, server.touch
        self.name, self.settings = wanted.name, wanted.settings
        self.store = _release.Store(server.root, wanted.name)
        self.containers = _containers.Containers(server.project, wanted.name)
        self.image = wanted.image or f"{server.project}-{wanted.name}:proxy"
        self.files = FileSet(server.root, self.touch)
        self.switching = Switch(server.root, self.store, self.containers, self.settings)
        self.facts: dict[str, Any] = {}  # of the kept release that is rolled back to
        self.digests: dict[str, str] = {}
        self.previous = Previous()
        self.made = ""  # ID of the release that this transaction made
        self.answers: dict[str, dict[str, Any]] = {}
        self.visits: dict[str, list[dict[str, Any]]] = {}
        self.seen: list[str] = []  # what is worth knowing of them
        self.looked_at: dict[str, Any] | None = None  # the container that the last check was about
        self.was_copied = self.found = False  # `found`: a container before this transaction
        self.is_active = False  # what runs is the committed release
        online = self.settings.get("require_online") and not self.settings.get("maintenance")
        self.expected = Expectation(offline=not online)

    @property
    def tracked(self) -> list[str]:
        """Files that git tracks for their owner."""
        return list((self.server.stack.get("git") or {}).get("tracked") or [])

    @property
    def patience(self) -> int:
        return HANDSHAKE + int(self.settings["connect_timeout"])

    @property
    def checked(self) -> bool:
        """The page container has no public name of its own."""
        return self.name != PAGE

    @property
    def ours(self) -> bool:
        """A hand-made conf keeps no promises of ours."""
        return self.facts.get("by") != _release.BY_HAND

    # --- before anything changes

    def lock(self) -> contextlib.AbstractContextManager[None]:
        return self.store.locked(self.server.by) if self.touch else contextlib.nullcontext()

    def recover(self) -> list[str]:
        done = self.switching.recover(self.touch)
        if self.touch:
            self.store.abandon()
        return done

    def snapshot(self) -> Previous:
        self.previous = self._previous()
        return self.previous

    def _previous(self) -> Previous:
        """The release to roll back to. What somebody made active without us becomes one."""
        current, files = self.store.current(), self.wanted.released_as
        container, image = self.containers.current(), self.containers.image(self.image)
        runs = container["Image"] if container else image["Id"] if image else ""
        self.found = container is not None
        if self.wanted.instead_of not in ("", current.release):
            raise _release.ReleaseError(f"{current.release} is active by now: there is nothing to roll back.")
        if self.touch and image and image["Id"] != runs:
            self._give_name_back(current.release, image["Id"], runs)
        found = not current.release and self.store.foreign(files)
        touched = image is not None and self.store.touched(files)
        self.is_active = self._is_active(current, container, runs)
        if (not container and not found and not touched) or self.is_active or not self.touch:
            return self._as_previous(current.release)
        with _files.locked(self.server.root):
            kept = self._keep(current, runs)
        return self._as_previous(self.store.current().release, kept)

    def _give_name_back(self, release: str, named: str, runs: str) -> None:
        """A killed rollback has given the service's name to the image of the release that it was for."""
        images = {one["id"]: one["image"] for one in self.store.all()}
        if images.get(release) == runs and named in images.values():
            _docker.checked("tag", runs, self.image)

    def _as_previous(self, release: str, kept: str = "") -> Previous:
        facts = self.store.facts(release) if release in self.store.ids() else {}
        return Previous(release, bool(facts.get("image")), kept)

    def _is_active(self, current: _release.Current, container: dict[str, Any] | None, runs: str) -> bool:
        """Whether the container still is as the committed release made it."""
        if current.release not in self.store.ids() or self.store.facts(current.release)["image"] != runs:
            return False
        if not container:
            return True
        values = _release.values(self.name, _docker.environment(container))
        released = self.store.read(current.release)[_release.VALUES]
        return values == released or _files.digest(values) in current.environments

    def _keep(self, current: _release.Current, runs: str) -> str:
        """A release of what is live; its ID, unless there is one that holds the same."""
        files = self.wanted.released_as
        live = self.store.live(files)
        if set(live) == {_release.VALUES} and not self.store.foreign(files):
            return ""
        releases = self.store.all()
        images = current.images if any(r["id"] == current.release and r["image"] == runs for r in releases) else []
        known = [release["id"] for release in releases if release["digest"] == _release.digest(live)]
        facts = {"by": _release.BY_HAND, "image": runs}
        kept = "" if known else self.store.create(files, facts, time.time())
        if kept and runs:
            _docker.checked("tag", runs, self.tag(kept))
        self.store.adopt_current(_release.Current(kept or known[0], images))
        return kept

    def tag(self, release: str) -> str:
        return f"{self.server.project}-{self.name}:{release}"

    # --- the files

    def copy(self, undo: Undo) -> bool:
        """The live files. No running container reads them."""
        undo.step(self._forget_switch, undo)
        undo.step(self.restore)
        with _files.locked(self.server.root) if self.touch else contextlib.nullcontext():
            self.was_copied = True
            return self._bring_back() if self.wanted.release else self._write()

    def _write(self) -> bool:
        wanted, files = self.wanted, FileSet(self.server.root, self.touch)
        self.files = files
        paths = [one.path for one in wanted.files]
        if any(one.secret for one in wanted.files):
            files.directory("secrets", 0o700)
        for one in wanted.files:
            files.file(one.path, one.content, one.mode, one.secret, one.keep)
        for listing in self.server.listings:
            folder = os.path.dirname(listing["glob"])
            extra = [path for path in paths if os.path.dirname(path) == folder]
            files.listing(**listing, extra=extra, without=wanted.absent)
        for path in wanted.absent:
            files.remove(path, later=path == _names.keys_file(self.name))
        files.env(dict(wanted.env), [])
        named = wanted.released_as
        self.digests = {named[path]: digest for path, digest in files.digests.items() if path in named}
        return files.changed

    def _bring_back(self) -> bool:
        """A kept release's files, keys of .env and image, whatever the base image is now."""
        release, named = self.wanted.release, dict(self.wanted.released_as)
        self.facts, self.files = self.store.facts(release), FileSet(self.server.root, self.touch)
        tagged = self._bring_image_back(release)
        contents = self.store.read(release)
        self._back_up_edits(contents)
        changes = self.store.restore(release, named, self.touch, self.tracked)
        self.digests = {name: _files.digest(contents[name]) for name in named.values() if name in contents}
        self.files.diff += changes
        self.files.paths += [change["after_header"] for change in changes]
        return bool(changes) or tagged

    def _bring_image_back(self, release: str) -> bool:
        image, now = _docker.inspect("image", self.tag(release)), _docker.inspect("image", self.image)
        if self.facts["image"] and not image:
            raise _release.ReleaseError(
                f"the image {self.tag(release)} of release {release} is gone: choose another release."
            )
        tagged = image is not None and (now is None or now["Id"] != image["Id"])
        if tagged and self.touch:
            _docker.checked("tag", self.tag(release), self.image)
        return tagged

    def _back_up_edits(self, wanted: dict[str, bytes]) -> None:
        """What was hand-edited and was never active: no release has it."""
        previous = self.store.read(self.previous.release) if self.previous.release in self.store.ids() else {}
        for path, name in self.wanted.released_as.items():
            live = _files.read_bytes(os.path.join(self.server.root, path))
            if live is not None and live not in (wanted.get(name), previous.get(name)):
                self.files.back_up(path, live)

    def _forget_switch(self, undo: Undo) -> None:
        """Last of all: what could not be undone is the next run's, which knows it by `pending`."""
        if not undo.errors:
            self.store.abandon()

    def restore(self) -> None:
        """The previous release's files, byte for byte; without one, nothing of the agent is left."""
        if not self.was_copied:
            return
        if not self.previous.release:
            if self.checked and self.found:
                _remove.remove_files(self.server, self.name)  # whatever runs is nobody's release, and goes on
            elif self.checked:
                _remove.unlocked(self.server, self.name)
            return
        if not self.previous.ran:
            _containers.remove(self.containers.container_name)
        with _files.locked(self.server.root):
            if not self.previous.ran:
                self._remove_fragment()
            self.store.restore(self.previous.release, self.wanted.released_as, keep=self.tracked)
        if self.previous.ran and _docker.inspect("image", self.tag(self.previous.release)):
            _docker.checked("tag", self.tag(self.previous.release), self.image)
        if self.previous.ran and self.switching.started:
            self.switching.up()

    def _remove_fragment(self) -> None:
        fragment = next(path for path, name in self.wanted.released_as.items() if name == FRAGMENT)
        files = FileSet(self.server.root, True)
        for listing in self.server.listings:
            files.listing(**listing, without=[fragment])
        files.remove(fragment)

    # --- the plan

    def compare(self) -> Plan:
        runs = self._runs()
        self.switching.state = runs.state
        return compare(self._aim(), runs)

    def differs(self) -> str:
        """After the switch: why the container is still not as it should be."""
        container, image = self.containers.current(), self.containers.image(self.image)
        if not container or not _docker.running(container):
            return f"{self.containers.container_name} does not run"
        if image and container["Image"] != image["Id"]:
            return "it does not run its image"
        return "; ".join(nginx_differs(self._aim(), _containers.state(container["Id"])))

    def _aim(self) -> Aim:
        files = {
            name: digest for name, digest in self.digests.items() if not self.wanted.release or name not in IMAGE_FILES
        }
        values = _release.values(
            self.name, {**self.store.values_of_env(), **self.wanted.env, **self._released_values()}
        )
        files[_release.VALUES] = _files.digest(values)
        return Aim(self.image, "" if self.wanted.release else str(self.settings.get("base_image") or ""), files)

    def _released_values(self) -> dict[str, str]:
        return self.store.released_values(self.wanted.release) if self.wanted.release else {}

    def _runs(self) -> Runs:
        container, current = self.containers.current(), self.store.current().release
        running = container if _docker.running(container) else None
        base = str(self.settings.get("base_image") or "")
        released = self.store.read(current) if current in self.store.ids() else {}
        return Runs(
            container=container,
            image=self.containers.image(self.image),
            base=self.containers.image(base) if base and not self.wanted.release else None,
            state=_containers.state(running["Id"]) if running else _release.State(),
            release=current,
            released={name: _files.digest(content) for name, content in released.items()},
            service=self._service_differs(running) if running else "",
        )

    def _service_differs(self, container: dict[str, Any]) -> str:
        """Asked with the container's own values: a changed value is none of the service."""
        differs = "its compose service differs"
        fragment = next((path for path, name in self.wanted.released_as.items() if name == FRAGMENT), "")
        if not self.touch and fragment in self.files.paths:
            return differs
        wanted, error = self.containers.config_hash(self.server.root, self.own_values(container))
        if error:  # compose may fail for another agent's file: our own tells whether ours changed
            live = _files.read_bytes(os.path.join(self.server.root, fragment))
            return differs if live != _files.read_bytes(self.store.path(self.store.current().release, FRAGMENT)) else ""
        return differs if wanted != _docker.labels(container).get(_containers.CONFIG_HASH) else ""

    def own_values(self, container: dict[str, Any]) -> dict[str, str]:
        """What it was created with of the keys of .env that are its agent's."""
        own = _docker.environment(container)
        return {key: own.get(key, "") for key in self.store.env_keys}

    def build(self, plan: Plan) -> None:
        if plan.build:
            _docker.checked("compose", "build", self.name, cwd=self.server.root, timeout=1800)

    # --- the trial

    def start_trial(self, undo: Undo) -> Trial:
        image = _docker.inspect("image", self.image)
        if not image:
            raise _release.ReleaseError(f"there is no image {self.image}: build it.")
        undo.step(self._discard_trial)
        release = self._make_release(image["Id"])
        _docker.checked("tag", image["Id"], self.tag(release))
        container = self.switching.start_trial(release, self.tag(release), image)
        state = _containers.state(container["Id"])
        self.switching.trial, self.looked_at = state, container
        if not self.checked:
            return Trial(release)
        question = {**self.question(), **HANDSHAKE_ONLY}
        return Trial(
            release, self._ask("nginx", question, _docker.address(container), direct=True, timeout=self.patience)
        )

    def _make_release(self, image: str) -> str:
        """A release of the live files, unless one holds the same."""
        files = self.wanted.released_as
        same = self.store.same(dict(files), image)
        if same:
            return same
        with _files.locked(self.server.root):
            facts = {"by": self.server.by, "image": image, "probe": self.asked()}
            self.made = self.store.create(dict(files), facts, time.time())
        return self.made

    def _discard_trial(self) -> None:
        _containers.remove(self.containers.trial_name)
        if self.made and self.made != self.store.current().release:
            self.discard(self.made)

    def discard(self, release: str) -> None:
        self.store.remove(release)
        _docker.docker("image", "rm", self.tag(release))

    def switch(self, plan: Plan, trial: Trial, undo: Undo) -> None:
        kept_at = self.question()["origin"] if self.checked and self.ours else ""
        self.switching.switch(plan, trial.release, kept_at, undo)

    # --- the checks

    def asked(self) -> dict[str, str]:
        """What a release is kept with, for whoever wants to compare with it later."""
        return {key: self.question()[key] for key in ("url", "origin")} if self.checked else {}

    def question(self) -> dict[str, Any]:
        """What is asked of a release. One that is rolled back to is asked at the name that it has."""
        agent = dict(self.settings)
        asked = {
            "url": _questions.public_url(agent),
            "origin": agent["public_origin"],
            "websocket": _questions.upgrade(agent),
            "upgrade": _questions.upgrade(agent),
            "foreign_origin": _questions.FOREIGN_ORIGIN,
            "http2": _questions.upgrade(agent),
            "upload": 0 if self.wanted.release else _questions.upload(agent),  # a kept one has a limit of its own
            "accept": _questions.forms(agent, managed=True),
            **(self.facts.get("probe") or {}),
        }
        return asked if self.ours else {**asked, **HANDSHAKE_ONLY}

    def _ask(self, hop: str, question: dict[str, Any], address: str, **more: Any) -> Answer:
        answer = self._answer(question, address, **more)
        self.answers[hop] = answer.told
        return answer

    def _answer(self, question: dict[str, Any], address: str, *, direct: bool = False, **more: Any) -> Answer:
        asked = {"timeout": _questions.patience(dict(self.settings)), **question, "address": address, **more}
        if direct:
            asked.update(url=re.sub(r"^https://([^/:]+)(:[0-9]+)?", r"http://\1", asked["url"]), http2=False)
        else:
            asked.update(ca_path=self.server.ca_path)
        try:
            told = _probe.ask(**asked)
        except ValueError as error:  # of an authority that cannot be read, say
            raise _release.ReleaseError(str(error)) from None
        return Answer(told["reason"], told["error"], told["state"], told["status"], told)

    def baseline(self, previous: Previous) -> Verification | None:
        """What serves before the switch, as it was verified. The trial starts meanwhile: it changes nothing."""
        was = self._handshake_of(previous)
        if was is None or not self.visited or was.traefik.reason not in GOOD:
            return was
        question = self._question_of(previous)
        visits = self._visits(["traefik"], question)
        doubtful = _bisect.worse(visits.get("traefik", []), ())
        visit = self._repeated(visits, ["traefik"], question, doubtful).get("traefik", [])
        faults = _bisect.worse(visit, ())
        traefik = _visits_answer(faults[0], was.traefik, was_so=True) if faults else was.traefik
        return Verification(traefik, visit=tuple(visit))

    def _question_of(self, previous: Previous) -> dict[str, Any]:
        kept = self.store.facts(previous.release).get("probe") or self.asked()
        return {**self.question(), **kept}

    def _handshake_of(self, previous: Previous) -> Verification | None:
        if not self.checked or not previous.ran:
            return None
        return Verification(self._answer(self._question_of(previous), "127.0.0.1", timeout=self.patience))

    def verify(self, switched: bool, view: View) -> Verification:
        """Through Traefik and the container itself, until both are good or nothing more can be hoped for."""
        if not self.checked:
            return Verification(asked=False)
        self.looked_at = self.containers.current()
        if not _docker.running(self.looked_at):
            raise _release.ReleaseError(f"{self.containers.container_name} does not run: deploy the agent.")
        begin = time.monotonic()
        while True:
            found = self._verification()
            waited, failed = time.monotonic() - begin, view.judge(found).word != BETTER
            lags = failed and self.expected.met_by(found.direct)
            patience = SETTLE if lags else CONFIRM if failed else CERTIFICATE[switched] if found.untrusted else 0
            if waited > patience or not (failed or found.untrusted):
                break
            time.sleep(0.5)
        whole = view.whole and self.visited and not failed and found.online
        return self._visit(found, view) if whole else found

    @property
    def visited(self) -> bool:
        """A hand-made conf keeps no promises of ours."""
        return self.checked and self.ours

    def _visit(self, found: Verification, view: View) -> Verification:
        """What a visitor does, at the container itself and through Traefik, next to what served before.

        A replaced container that was not good still takes its part of what comes through Traefik.
        """
        before: Sequence[Mapping[str, Any]] = view.baseline.visit if view.baseline else ()
        names = ["nginx", *(["traefik"] if before or not view.old_serves else [])]
        self.visits = self._visits([*names, *([] if before else ["tunnel"])], self.question())
        doubtful = [one for name in names for one in self._worse(name, before)]
        self.visits = self._repeated(self.visits, [*names, "tunnel"], self.question(), doubtful)
        was_so = {one.question for one in _bisect.worse(before, ())}
        for name, answer in (("nginx", found.direct), ("traefik", found.traefik)):
            fault = self._fault(name, before)
            if fault:
                made = _visits_answer(fault, answer, was_so=fault.question in was_so)
                return replace(found, direct=made) if name == "nginx" else replace(found, traefik=made)
        return found

    def _worse(self, name: str, before: Sequence[Mapping[str, Any]]) -> list[_bisect.Fault]:
        tunnel = self.visits.get("tunnel", [])
        return _bisect.worse(self.visits.get(name, []), before or tunnel, tunnel)

    def _fault(self, name: str, before: Sequence[Mapping[str, Any]]) -> _bisect.Fault | None:
        """What visitors lack there, and had before: what they never had is the app's own, and an app that has gone
        meanwhile is offline."""
        here, tunnel = self.visits.get(name, []), self.visits.get("tunnel", [])
        for fault in self._worse(name, before):
            told = f"a visitor's {fault.question} fails at the app itself: {fault.here}"
            if not before and fault.question in _bisect.failed(tunnel):
                self.seen += [told] if told not in self.seen else []
            elif not (self.expected.offline and all(_bisect.gone(one, fault.question) for one in (here, tunnel))):
                return fault
        return None

    def _repeated(
        self,
        visits: dict[str, list[dict[str, Any]]],
        places: Sequence[str],
        question: Mapping[str, Any],
        faults: Sequence[_bisect.Fault],
    ) -> dict[str, list[dict[str, Any]]]:
        """With what was found asked once more."""
        if not faults:
            return visits
        more = _bisect.more_of(one.question for one in faults)
        return _bisect.joined(visits, self._visits(places, question, more))

    def _visits(
        self, places: Sequence[str], question: Mapping[str, Any], more: Mapping[str, int] | None = None
    ) -> dict[str, list[dict[str, Any]]]:
        asked = _visitor.plan(self.settings, first=VISIT_FIRST, silence=VISIT_SILENCE, seconds=VISIT)
        asked = _bisect.again(asked, more) if more else asked
        own = _visitor.own_names({**self.settings, "public_origin": question["origin"]})
        work = {name: partial(_visitor.visit, self._place(name, question), asked, own) for name in places}
        return at_once(work, asked.seconds + _visitor.GRACE)

    def _place(self, name: str, question: Mapping[str, Any]) -> _visitor.Place:
        origin, agent = str(question["origin"]), dict(self.settings)
        if name == "nginx":
            plain = f"http://{urlsplit(origin).hostname}"
            return _visitor.Place(name, plain, (_docker.address(self.looked_at or {}),), origin)
        if name == "traefik":
            trusted = "routed" not in self.answers
            made = _visitor.Place(name, _origin(question["url"]), ("127.0.0.1",), origin)
            return replace(made, ca_path=self.server.ca_path, verify=trusted)
        target = str(agent["target_url"])
        live = os.path.join(self.server.root, _names.ca_file(self.name))
        own = _questions.tunnel_origin(agent, target)
        headers = _questions.tunnel_headers(agent, own)
        brought = (_tunnel.socket(self.server.root, self.name),) if agent["tunnel"] == _tunnel.SSH else ()
        return _visitor.Place(name, target, brought, own, headers, live if os.path.isfile(live) else "")

    def _verification(self) -> Verification:
        question = self.question()
        # A replaced container still serves next to the new one, which has to be good by itself.
        few = {} if self.switching.old else {"foreign_origin": "", "upload": 0, "accept": []}
        address = _docker.address(self.looked_at or {})
        pool = ThreadPoolExecutor(2)
        try:
            direct = pool.submit(self._ask, "nginx", {**question, **few}, address, direct=True)
            traefik = self._ask("traefik", question, "127.0.0.1")
        finally:
            pool.shutdown(wait=False)  # who is late waits for nobody
        untrusted = None
        if self.server.acme and traefik.word == "tls_untrusted":
            untrusted = traefik
            traefik = self._ask("routed", question, "127.0.0.1", verify=False)
        if few and self.expected.met_by(direct.result()) and not self.expected.met_by(traefik):
            return Verification(traefik, self._ask("nginx", question, address, direct=True), untrusted)
        return Verification(traefik, direct.result(), untrusted)

    def explain(self, answer: Answer) -> str:
        """In the diagnosis' words, while what failed still is there to be asked."""
        places = ["tunnel", "nginx", *(["traefik"] if self.switching.switched else [])]
        missing = [] if answer.is_page or not self.visited else [name for name in places if name not in self.visits]
        group = AtOnce(VISIT + _visitor.GRACE)  # next to the other questions
        more = group.begin("visits", partial(self._visits, missing, self.question()), {})
        return self._explanation(lambda: {**self.visits, **more()}).of(answer)

    def untrusted(self) -> str:
        """Why the certificate is not trusted, and whether that is a matter of time."""
        return self._explanation(dict).of_certificate()

    def _explanation(self, visits: Callable[[], dict[str, Any]]) -> Any:
        # A third of all code, which Python compiles at each call; most calls have nothing to explain.
        from . import _explain

        about = (self.looked_at, dict(self.answers), visits)
        return _explain.Explanation(self.server, self.settings, self.expected, *about)

    def answers_again(self, previous: Previous) -> str:
        """After an undo: what the previous release answers, in a word."""
        end = time.monotonic() + SETTLE
        while True:
            found = self._handshake_of(previous)
            if found is None or self.expected.met_by(found.traefik) or time.monotonic() > end:
                return found.traefik.reason if found else ""
            time.sleep(0.5)

    # --- the end

    def commit(self, verification: Verification, verdict: Verdict) -> None:
        """`current` comes last: what fails before it is undone, and nothing of this fails after it."""
        release = (self.store.pending() or self.store.current()).release
        better = verdict.word == BETTER and release in self.store.ids()
        if better and (self.switching.switched or self._is_news(release, verification)):
            self.store.note(release, verified=_release.iso(time.time()), online=verification.online)
        self.store.commit()

    def _is_news(self, release: str, verification: Verification) -> bool:
        known = self.store.facts(release)
        return not known["verified"] or verification.online > known.get("online", True)

    def settled(self, verification: Verification) -> bool:
        """Whether nothing is left to do, not even a word in the records."""
        release = self.store.current().release
        return self.is_active and not self._is_news(release, verification) and not self.store.busy()

    def drain(self) -> None:
        keys = _names.keys_file(self.name)
        leaves = keys in self.wanted.absent and keys in self.files.paths
        self.switching.drain(wait=leaves)
        if leaves:  # until now a laptop may have been whom the replaced container asked
            with _files.locked(self.server.root):
                FileSet(self.server.root, True).remove(keys)
        if self.settings.get("purge_cache"):
            self.switching.purge_cache()

    def prune(self) -> None:
        """Releases that nobody will go back to, and images of releases that are gone."""
        if not self.touch or not self.switching.switched:
            return
        keep = int(self.settings.get("keep_releases", 3))
        for release in _release.superfluous(self.store.all(), self.store.current().release, keep):
            self.discard(release)
        repository = f"{self.server.project}-{self.name}"
        tags = _docker.checked("image", "ls", "--format", "{{.Tag}}", repository).split()
        for tag in _release.strays(tags, self.store.ids()):
            _docker.docker("image", "rm", self.tag(tag))

    def notes(self) -> list[str]:
        backups = [f"a hand-edited file has its backup: {path}" for path in self.files.backups]
        left = [f"{path} is tracked by git and left as it is" for path in self.files.kept]
        return backups + left + self.seen + self.switching.notes
