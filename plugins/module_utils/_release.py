# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""An agent's releases on a server: copies, never changed again, of all that decides what its container does."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from . import _dotenv, _files, _names

ID_REGEX = r"^[0-9]{8}T[0-9]{6}Z(-[0-9]+)?$"
DISCORD_KEY = "DISCORD_INVITE_URL"
FACTS = "release.json"
VALUES = "values"
BY_HAND = "by hand"
PATIENCE = 60  # seconds that a transaction waits for another one of the same agent


class ReleaseError(Exception):
    """What is wrong, as one sentence."""


def _change(path: str, before: bytes | None, after: bytes | None, secret: bool = False) -> dict[str, str]:
    """A live file that is brought back, as a diff."""
    old, new = (
        "" if text is None else "(hidden: a secret)\n" if secret else text.decode(errors="replace")
        for text in (before, after)
    )
    return {"before_header": path, "after_header": path, "before": old, "after": new}


@dataclass
class State:
    """What a container says of itself (`agent-proxy state`)."""

    image: str = ""
    environment: str = ""
    release: str | None = None  # the active one that it sees; None: its image is too old to say
    draining: int = 0
    memory: int | None = None  # bytes; None: its image is too old to say
    knows: str = ""  # `pending`: its entry point can be switched; those of 0.1.0 cannot
    files: dict[str, str] = field(default_factory=dict)  # name -> digest of what is active


def parse_state(output: str) -> State:
    state = State()
    for line in output.splitlines():
        key, equals, value = line.partition("=")
        if equals and key in ("image", "environment", "release", "knows"):
            setattr(state, key, value)
        elif equals and key in ("draining", "memory") and value.isdigit():
            setattr(state, key, int(value))
        elif re.match(r"[0-9a-f]{64}  ", line):
            state.files[line[66:]] = line[:64]
    return state


@dataclass
class Current:
    """A release, and the images and environments of the containers that it is meant for."""

    release: str = ""
    images: list[str] = field(default_factory=list)
    environments: list[str] = field(default_factory=list)
    switch: str = ""  # which switch made it the active one; tells a committed one from one that is not
    action: str = ""  # start, replace or reload: what the switch does

    def text(self) -> str:
        lines = [f"release={self.release}"]
        lines += [f"image={digest}" for digest in dict.fromkeys(self.images) if digest]
        lines += [f"environment={digest}" for digest in dict.fromkeys(self.environments) if digest]
        lines += [f"{key}={getattr(self, key)}" for key in ("switch", "action") if getattr(self, key)]
        return "\n".join(lines) + "\n"


def parse_current(text: str) -> Current:
    pairs = [line.partition("=")[::2] for line in text.splitlines()]
    return Current(
        release=next((value for key, value in pairs if key == "release" and _names.matches(ID_REGEX, value)), ""),
        images=[value for key, value in pairs if key == "image"],
        environments=[value for key, value in pairs if key == "environment"],
        switch=next((value for key, value in pairs if key == "switch"), ""),
        action=next((value for key, value in pairs if key == "action"), ""),
    )


def values(name: str, environment: dict[str, str]) -> bytes:
    """The two values of an agent as its container command reads them."""
    target, discord = (environment.get(key, "") for key in (_names.target_url_key(name), DISCORD_KEY))
    return f"TARGET_URL={target}\nDISCORD_INVITE_URL={discord}\n".encode()


def digest(files: dict[str, bytes]) -> str:
    """One digest over all names and contents."""
    lines = (f"{_files.digest(content)}  {name}\n" for name, content in sorted(files.items()))
    return _files.digest("".join(lines).encode())


def age_key(identifier: str) -> tuple[str, int]:
    stamp, _dash, number = identifier.partition("-")
    return stamp, int(number or 1)


def newest_first(identifiers: Iterable[str]) -> list[str]:
    return sorted(identifiers, key=age_key, reverse=True)


def new_id(now: float, taken: Collection[str]) -> str:
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    number, identifier = 1, stamp
    while identifier in taken:
        number += 1
        identifier = f"{stamp}-{number}"
    return identifier


def iso(now: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now))


def rollback_to(releases: list[dict[str, Any]], current: str, managed: bool) -> str:
    """The newest one that was verified, besides the active one. What an owner had was never verified by us."""
    there = (one["id"] for one in releases if one["id"] != current and (one.get("verified") or not managed))
    return next(there, "")


def superfluous(releases: list[dict[str, Any]], current: str, keep: int) -> list[str]:
    """Releases (newest first) that go: all but the newest ones, and those that one may want to go back to."""
    previous = next((release.get("former") for release in releases if release["id"] == current), "")
    verified = next((release["id"] for release in releases if release.get("verified") and release["id"] != current), "")
    by_hand = [release["id"] for release in releases if release.get("by") == BY_HAND]
    kept = {current, previous, verified, *by_hand[-1:]}  # the oldest hand-made one is what we found
    return [release["id"] for release in releases[keep:] if release["id"] not in kept]


def strays(tags: Iterable[str], releases: Collection[str]) -> list[str]:
    """Tags of releases that are gone."""
    return [tag for tag in tags if _names.matches(ID_REGEX, tag) and tag not in releases]


class Store:
    """The folder releases/X."""

    def __init__(self, root: str, name: str) -> None:
        self.root, self.name = root, name
        self.folder = os.path.join(root, "releases", name)
        self._switch: int | None = None  # `pending`, open and locked
        self.env_keys = [_names.target_url_key(name), DISCORD_KEY]

    def path(self, *parts: str) -> str:
        return os.path.join(self.folder, *parts)

    def make(self) -> None:
        """Before Docker does it, as root; and instead of the one that it has made, where somebody deleted ours."""
        if os.path.isdir(self.folder) and os.stat(self.folder).st_uid != os.geteuid() and not os.listdir(self.folder):
            os.rmdir(self.folder)
        os.makedirs(self.folder, mode=0o755, exist_ok=True)

    def _text(self, name: str) -> str | None:
        content = _files.read_bytes(self.path(name))
        return None if content is None else content.decode("utf-8", "replace")

    def _write(self, name: str, text: str, mode: int = 0o644) -> None:
        _files.write_atomic(self.path(name), text.encode(), mode)

    # --- the active one

    def current(self) -> Current:
        """The committed release: what a container gets when it starts, whatever is under way."""
        return parse_current(self._text("current") or "")

    def pending(self) -> Current | None:
        """What a transaction has switched to and not committed. It counts only while that transaction lives."""
        text = self._text("pending")
        return None if text is None else parse_current(text)

    def begin(self, wanted: Current) -> None:
        """The file is locked as long as this transaction lives: containers wait for that, and the kernel sees to it."""
        self.abandon()
        made = os.open(self.path(".pending"), os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._switch = made
        fcntl.flock(made, fcntl.LOCK_EX)
        os.write(made, replace(wanted, switch=uuid.uuid4().hex).text().encode())
        os.fsync(made)
        os.rename(self.path(".pending"), self.path("pending"))

    def commit(self) -> None:
        """In one step; the release knows which one was committed before it."""
        pending = self.pending()
        if pending is None:
            return
        self._note_previous(pending.release)
        os.replace(self.path("pending"), self.path("current"))
        with contextlib.suppress(OSError):  # it is committed, whatever comes
            folder = os.open(self.folder, os.O_RDONLY)
            os.fsync(folder)
            os.close(folder)
        self.let_go()

    def _note_previous(self, release: str) -> None:
        before = self.current().release
        if before not in ("", release):
            self.note(release, former=before)

    def abandon(self) -> None:
        """Nothing is left of the switch; until then the next run recovers what it finds of it."""
        self._remove("pending")
        self.let_go()

    def let_go(self) -> None:
        """The switch counts no more: containers that wait for its end go on, with what is committed."""
        if self._switch is not None:
            os.close(self._switch)
            self._switch = None

    def adopt_current(self, current: Current) -> None:
        """For what somebody made active without us: it is committed as it is."""
        self._note_previous(current.release)
        self._write("current", current.text())

    def recover_0_1_0(self) -> str:
        """A switch of release 0.1.0 that nobody verified: what was current before it, or nothing."""
        text = self._text("before")
        self._remove("lock")
        if text is None:
            return ""
        if text:
            self._write("current", text)
        else:
            self._remove("current")
        self._remove("before")
        return parse_current(text).release

    def _remove(self, name: str) -> None:
        if os.path.lexists(self.path(name)):
            os.unlink(self.path(name))

    # --- the lock

    @contextlib.contextmanager
    def locked(self, by: str, patience: float = PATIENCE) -> Iterator[None]:
        """One transaction at a time. The kernel drops the lock of a dead one."""
        folder = self._own_folder(time.monotonic() + patience)
        try:
            with contextlib.suppress(OSError):  # on a full disk nobody is told who holds the lock
                self._write("run", json.dumps({"by": by, "since": int(time.time())}))
            yield
        finally:
            self.let_go()
            with contextlib.suppress(OSError):
                self._remove("run")
            os.close(folder)

    def busy(self) -> bool:
        """Whether a transaction is under way."""
        try:
            folder = os.open(self.folder, os.O_RDONLY)
        except OSError:
            return False
        try:
            fcntl.flock(folder, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(folder)
        return False

    def _own_folder(self, end: float) -> int:
        """The folder, open and locked. Who waited for a removal holds a folder that is gone, so it looks again."""
        while True:
            self.make()
            folder = os.open(self.folder, os.O_RDONLY)
            try:
                self._flock(folder, end)
                if os.path.isdir(self.folder) and os.path.samestat(os.fstat(folder), os.stat(self.folder)):
                    return folder
            except BaseException:
                os.close(folder)
                raise
            os.close(folder)

    def _flock(self, descriptor: int, end: float) -> None:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except BlockingIOError:
                if time.monotonic() > end:
                    raise ReleaseError(f"{self.name} is being deployed by {self._holder()}: wait for it.") from None
                time.sleep(0.1)

    def _holder(self) -> str:
        try:
            run = json.loads(self._text("run") or "{}")
            return f"{run['by']} for {time.time() - run['since']:.0f} s"
        except (ValueError, KeyError, TypeError):
            return "another run"

    # --- releases

    def ids(self) -> list[str]:
        """Newest first."""
        names = os.listdir(self.folder) if os.path.isdir(self.folder) else []
        return newest_first(name for name in names if _names.matches(ID_REGEX, name))

    def facts(self, identifier: str) -> dict[str, Any]:
        if not _names.matches(ID_REGEX, identifier):
            raise ReleaseError(f"release '{_names.masked(identifier)}' is not valid: use a name like 20261123T013000Z.")
        content = _files.read_bytes(self.path(identifier, FACTS))
        if content is None:
            there = ", ".join(self.ids()) or "none"
            raise ReleaseError(f"there is no release {identifier} of {self.name}: there are {there}.")
        found: dict[str, Any] = json.loads(content)
        return found

    def all(self) -> list[dict[str, Any]]:
        return [self.facts(identifier) for identifier in self.ids()]

    def read(self, identifier: str) -> dict[str, bytes]:
        """A release's files by name."""
        self.facts(identifier)
        names = [name for name in os.listdir(self.path(identifier)) if name != FACTS]
        return {name: _files.read_bytes(self.path(identifier, name)) or b"" for name in names}

    def environment(self) -> str:
        # surrogateescape: bytes that are not UTF-8 come out as they went in
        return (_files.read_bytes(os.path.join(self.root, ".env")) or b"").decode("utf-8", "surrogateescape")

    def live(self, files: Mapping[str, str]) -> dict[str, bytes]:
        """What a release made now would hold; files that are not there are left out."""
        found = {name: _files.read_bytes(os.path.join(self.root, path)) for path, name in files.items()}
        there = {name: content for name, content in found.items() if content is not None}
        text = self.environment().encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        return {**there, VALUES: values(self.name, _dotenv.read(text))}

    def touched(self, files: Mapping[str, str]) -> bool:
        """Whether a live file is not as we wrote it."""
        manifest = _files.Manifest(self.root)
        contents = {path: _files.read_bytes(os.path.join(self.root, path)) for path in files}
        return any(content is not None and not manifest.wrote(path, content) for path, content in contents.items())

    def foreign(self, files: Mapping[str, str]) -> bool:
        """Whether there is something of the agent, and nothing of it is ours."""
        own = (f"{self.name}.conf.template", f"{self.name}.ca.pem", "compose.yml", "tunnel")
        manifest = _files.Manifest(self.root)
        there = [path for path, name in files.items() if name in own and os.path.exists(os.path.join(self.root, path))]
        if any(manifest.owns(path) for path in there):
            return False
        return bool(there) or self.env_keys[0] in _dotenv.read(self.environment())

    def same(self, files: Mapping[str, str], image: str) -> str:
        """The release that holds what is live, or nothing."""
        wanted = digest(self.live(files))
        return next((r["id"] for r in self.all() if r["digest"] == wanted and r["image"] == image), "")

    def create(self, files: Mapping[str, str], more: dict[str, Any], now: float) -> str:
        """A new release of what is live; it is there as a whole or not at all."""
        self.make()
        identifier = new_id(now, os.listdir(self.folder))
        temporary = self.path(f".{identifier}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        os.mkdir(temporary, mode=0o755)
        try:
            self._copy(temporary, files, {"id": identifier, "time": iso(now), "verified": None, **more})
            os.rename(temporary, self.path(identifier))
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        return identifier

    def _copy(self, folder: str, files: Mapping[str, str], facts: dict[str, Any]) -> None:
        """What is live into a folder, and how to put it back."""
        manifest, contents = _files.Manifest(self.root), self.live(files)
        there = {path: name for path, name in files.items() if name in contents}
        for path, name in there.items():
            mode = os.stat(os.path.join(self.root, path)).st_mode & 0o777
            _files.write_atomic(os.path.join(folder, name), contents[name], mode)
        _files.write_atomic(os.path.join(folder, VALUES), contents[VALUES], 0o600)
        facts = {
            **facts,
            "digest": digest(contents),
            "ours": sorted(path for path in there if manifest.owns(path)),
            "env": _dotenv.raw(self.environment(), self.env_keys),
        }
        _files.write_atomic(os.path.join(folder, FACTS), json.dumps(facts, indent=1).encode(), 0o600)

    def note(self, identifier: str, **more: Any) -> None:
        """Adds to what is known of a release; its files never change."""
        text = json.dumps({**self.facts(identifier), **more}, indent=1)
        _files.write_atomic(self.path(identifier, FACTS), text.encode(), 0o600)

    def remove(self, identifier: str) -> None:
        # Under another name first: a half-removed release must not look like one.
        temporary = self.path(f".{identifier}.tmp")
        if os.path.isdir(self.path(identifier)):
            os.rename(self.path(identifier), temporary)
        shutil.rmtree(temporary, ignore_errors=True)

    def sweep(self) -> None:
        """What a killed run left half-made."""
        for name in os.listdir(self.folder):
            if name.startswith(".") and os.path.isdir(self.path(name)):
                shutil.rmtree(self.path(name), ignore_errors=True)
            elif name.startswith("."):
                self._remove(name)

    def restore(
        self, identifier: str, files: Mapping[str, str], touch: bool = True, keep: Collection[str] = ()
    ) -> list[dict[str, str]]:
        """A release's files and keys of .env are the live ones again, byte for byte; what changed. Of `keep`, the
        owner's are never written."""
        facts, contents = self.facts(identifier), self.read(identifier)
        changes: list[dict[str, str]] = []
        manifest = _files.Manifest(self.root)
        owners = [path for path in keep if not manifest.owns(path)]
        for relative, name in ((path, name) for path, name in files.items() if path not in owners):
            path = os.path.join(self.root, relative)
            before = _files.read_bytes(path)
            had = 0o777 if before is None else os.stat(path).st_mode & 0o777
            if name in contents:
                mode = os.stat(self.path(identifier, name)).st_mode & 0o777
                secret = not (mode & had & 0o077) or name == "tunnel"
                if before != contents[name] or had != mode:
                    changes.append(_change(relative, before, contents[name], secret))
                if touch:
                    self._put_back(manifest, relative, contents[name], mode, relative in facts["ours"])
            elif before is not None and manifest.owns(relative):
                changes.append(_change(relative, before, None, not had & 0o077 or name == "tunnel"))
                if touch:
                    os.unlink(path)
                    manifest.forget(relative)
        text = self.environment()
        restored = _dotenv.restore(text, facts["env"])
        if restored != text:
            changes.append(self._env_change(text, restored))
            if touch:
                content = restored.encode("utf-8", "surrogateescape")
                _files.write_atomic(os.path.join(self.root, ".env"), content, 0o600)
        return changes

    def _env_change(self, before: str, after: str) -> dict[str, str]:
        """Only the keys: their neighbours are none of ours, and values may be secrets."""
        old, new = _dotenv.raw(before, self.env_keys), _dotenv.raw(after, self.env_keys)
        keys = [key for key in self.env_keys if old[key] != new[key]]
        return _change(
            ".env",
            "".join(f"{key}=(value)\n" for key in keys if old[key] is not None).encode(),
            "".join(f"{key}=(previous value)\n" for key in keys if new[key] is not None).encode(),
        )

    def values_of_env(self) -> dict[str, str]:
        return {key: value for key, value in _dotenv.read(self.environment()).items() if key in self.env_keys}

    def released_values(self, identifier: str) -> dict[str, str]:
        """A release's values by their keys in .env."""
        text = self.read(identifier)[VALUES].decode("utf-8", "replace")
        target, discord = text.partition(f"\n{DISCORD_KEY}=")[::2]
        return dict(zip(self.env_keys, (target[len("TARGET_URL=") :], discord[:-1])))

    def _put_back(self, manifest: _files.Manifest, relative: str, content: bytes, mode: int, ours: bool) -> None:
        path = os.path.join(self.root, relative)
        same = manifest.owns(relative) == ours and _files.read_bytes(path) == content
        if same and os.stat(path).st_mode & 0o777 == mode:
            return  # what is right already needs no room on a full disk
        os.makedirs(os.path.dirname(path), mode=0o755 if mode & 0o077 else 0o700, exist_ok=True)
        if ours:
            manifest.add(relative, content)
        else:
            manifest.forget(relative)  # it belongs to its owner again
        _files.write_atomic(path, content, mode)
