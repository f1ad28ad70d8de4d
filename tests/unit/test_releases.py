# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""An agent's releases: whole or not there, put back byte for byte, and one transaction at a time."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _files, _names, _release
from hypothesis import given
from hypothesis import strategies as st

AGENT = "ocapistaine"
KEY = "OCAPISTAINE_TARGET_URL"
FILES = {
    "proxy-configs/Dockerfile": "Dockerfile",
    "proxy-configs/ocapistaine.conf.template": "ocapistaine.conf.template",
    "agents/ocapistaine.yml": "compose.yml",
    "secrets/ocapistaine/tunnel": "tunnel",
}
ONE, TWO = "20261123T014912Z", "20261123T014912Z-2"


class Server:
    """A project folder with one agent."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.store = _release.Store(str(root), AGENT)
        self.write("proxy-configs/Dockerfile", "FROM nginx\n")
        self.write("proxy-configs/ocapistaine.conf.template", "events {}\n")
        self.write(".env", f"# mine\nexport {KEY}='https://a.example' # here\nTOKEN=x", 0o600)

    def write(self, path: str, text: str, mode: int = 0o644, ours: bool = True) -> None:
        full = self.root / path
        full.parent.mkdir(parents=True, exist_ok=True)
        full.write_bytes(text.encode())
        full.chmod(mode)
        if ours and path != ".env":
            (self.root / _files.STATE_DIR).mkdir(exist_ok=True)
            _files.Manifest(str(self.root)).add(path, text.encode())

    def release(self, **more: Any) -> str:
        return self.store.create(FILES, {"by": "claire@laptop", "image": "sha256:1", **more}, time.time())

    def all(self) -> dict[str, tuple[bytes, int]]:
        """Everything the agent's containers and compose read."""
        paths = [path for path in (*FILES, ".env") if (self.root / path).exists()]
        return {path: ((self.root / path).read_bytes(), (self.root / path).stat().st_mode & 0o777) for path in paths}


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(tmp_path)


def test_a_release_holds_what_is_live(server: Server) -> None:
    server.write("secrets/ocapistaine/tunnel", "s" * 20, 0o600)
    identifier = server.release()
    assert _names.matches(_release.ID_REGEX, identifier)
    folder = server.root / "releases" / AGENT / identifier
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == {
        "Dockerfile": 0o644,
        "ocapistaine.conf.template": 0o644,
        "tunnel": 0o600,
        "values": 0o600,
        "release.json": 0o600,
    }
    assert (folder / "values").read_text() == "TARGET_URL=https://a.example\nDISCORD_INVITE_URL=\n"
    facts = server.store.facts(identifier)
    assert facts["digest"] == _release.digest(server.store.live(FILES))
    assert (facts["by"], facts["verified"]) == ("claire@laptop", None)
    assert server.store.same(FILES, "sha256:1") == identifier
    assert server.store.same(FILES, "sha256:2") == ""


def test_two_releases_of_one_second(server: Server) -> None:
    now = 1795398552.0
    made = [server.store.create(FILES, {}, now) for _ in range(11)]
    assert made[:2] == ["20261123T014912Z", "20261123T014912Z-2"]
    assert server.store.ids() == made[::-1]


def test_what_is_half_made_is_no_release(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    server.store.make()
    monkeypatch.setattr(_files, "write_atomic", full)
    with pytest.raises(OSError, match="No space left"):
        server.release()
    assert list((server.root / "releases" / AGENT).iterdir()) == []
    killed = server.root / "releases" / AGENT / ".20261123T014912Z.tmp"
    killed.mkdir()
    assert server.store.ids() == []
    server.store.sweep()
    assert list((server.root / "releases" / AGENT).iterdir()) == []


def test_put_back_byte_for_byte(server: Server) -> None:
    server.write("proxy-configs/ocapistaine.conf.template", "by hand {}\r\n", 0o640, ours=False)
    _files.Manifest(str(server.root)).forget("proxy-configs/ocapistaine.conf.template")
    server.write("secrets/ocapistaine/tunnel", "s" * 20, 0o600)
    before, identifier = server.all(), server.release()

    server.write("proxy-configs/ocapistaine.conf.template", "ours {}\n")
    server.write("agents/ocapistaine.yml", "services: {}\n")
    (server.root / "secrets/ocapistaine/tunnel").unlink()
    server.write(".env", f"# mine\n{KEY}=https://b.example\nTOKEN=x\nDISCORD_INVITE_URL=https://discord.gg/b\n", 0o600)
    planned = server.store.restore(identifier, FILES, touch=False)
    assert server.all() != before
    assert server.store.restore(identifier, FILES) == planned
    diff = {change["after_header"]: (change["before"], change["after"]) for change in planned}
    assert diff == {
        "proxy-configs/ocapistaine.conf.template": ("ours {}\n", "by hand {}\r\n"),
        "agents/ocapistaine.yml": ("services: {}\n", ""),
        "secrets/ocapistaine/tunnel": ("", "(hidden: a secret)\n"),
        ".env": (f"{KEY}=(value)\nDISCORD_INVITE_URL=(value)\n", f"{KEY}=(previous value)\n"),
    }
    assert server.store.released_values(identifier) == {KEY: "https://a.example", "DISCORD_INVITE_URL": ""}
    env, _mode = server.all()[".env"]
    assert env == f"# mine\nexport {KEY}='https://a.example' # here\nTOKEN=x\n".encode()
    assert {**server.all(), ".env": 0} == {**before, ".env": 0}
    manifest = _files.Manifest(str(server.root))
    assert not manifest.owns("proxy-configs/ocapistaine.conf.template"), "what was by hand is by hand again"
    assert manifest.owns("proxy-configs/Dockerfile")
    assert server.store.restore(identifier, FILES) == []


def test_the_owners_file_is_not_removed(server: Server) -> None:
    identifier = server.release()
    server.write("agents/ocapistaine.yml", "mine\n", ours=False)
    assert server.store.restore(identifier, FILES) == []
    assert (server.root / "agents/ocapistaine.yml").exists()


@pytest.mark.parametrize("name", ["", "..", "20261123T014912Z/..", "current", "20261123T014912Z\n", "2026"])
def test_only_an_id_is_an_id(server: Server, name: str) -> None:
    with pytest.raises(_release.ReleaseError, match="is not valid"):
        server.store.facts(name)


def test_a_release_that_is_not_there(server: Server) -> None:
    identifier = server.release()
    with pytest.raises(_release.ReleaseError, match=f"there are {identifier}"):
        server.store.facts("20000101T000000Z")


identifiers = st.from_regex(_release.ID_REGEX, fullmatch=True)
digest = st.text("0123456789abcdef", min_size=1)
digests = st.lists(digest, unique=True, max_size=3)
actions = st.sampled_from(["", "start", "replace", "reload"])


@given(st.builds(_release.Current, identifiers, digests, digests, st.just("") | digest, actions))
def test_current_is_read_as_it_was_written(current: _release.Current) -> None:
    assert _release.parse_current(current.text()) == current


@given(st.text())
def test_any_text_is_some_current(text: str) -> None:
    release = _release.parse_current(text).release
    assert release == "" or _names.matches(_release.ID_REGEX, release)


def test_state() -> None:
    one, two = "a" * 64, "b" * 64
    text = f"image={one}\nenvironment={two}\nrelease=20261123T013000Z\ndraining=3\nmemory=23400000\nknows=pending\n"
    text += f"{one}  my agent.conf.template\n{two}  image:Dockerfile\nx\n"
    state = _release.parse_state(text)
    assert (state.image, state.environment, state.release, state.draining) == (one, two, "20261123T013000Z", 3)
    assert (state.knows, state.memory) == ("pending", 23_400_000)
    assert state.files == {"my agent.conf.template": one, "image:Dockerfile": two}
    assert _release.parse_state("sh: agent-proxy: not found") == _release.State()
    assert _release.parse_state("release=\n").release == ""
    assert _release.parse_state("release=\nmemory=\n").memory is None
    assert _release.parse_state("release=\n").knows == ""


def test_what_goes() -> None:
    releases = [{"id": f"2026112{day}T000000Z", "verified": None} for day in (9, 8, 7, 6, 5, 4)]
    ids = [str(release["id"]) for release in releases]
    releases[3]["verified"] = "then"
    assert _release.superfluous(releases, ids[4], 3) == [ids[5]]
    assert _release.superfluous(releases, ids[0], 0) == [ids[1], ids[2], ids[4], ids[5]]
    assert _release.superfluous(releases, "", 9) == []
    releases[0]["former"] = ids[5]
    releases[1]["by"] = releases[4]["by"] = _release.BY_HAND
    assert _release.superfluous(releases, ids[0], 0) == [ids[1], ids[2]], "the one before, the oldest by hand"
    releases[0]["verified"] = "now"
    assert _release.superfluous(releases, ids[0], 1) == [ids[1], ids[2]], "one verified to go back to"
    assert _release.strays(["proxy", *ids], ids[1:]) == ids[:1]


def test_a_folder_that_docker_made_in_place_of_a_deleted_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody but root could write into it; it is empty, and in a folder of ours."""
    store = _release.Store(str(tmp_path), AGENT)
    store.make()
    before = Path(store.folder).stat().st_ino
    store.make()
    assert Path(store.folder).stat().st_ino == before
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    (kept := Path(store.folder, "current")).touch()
    store.make()
    assert kept.exists()
    kept.unlink()
    removed: list[str] = []
    monkeypatch.setattr(os, "rmdir", removed.append)
    store.make()
    assert removed == [store.folder]


@pytest.mark.parametrize(
    ("releases", "managed", "chosen"),
    [
        ([], True, ""),
        ([{"id": ONE, "verified": "then"}], True, ""),
        ([{"id": ONE, "verified": "then"}, {"id": TWO, "verified": None}], True, ""),
        ([{"id": ONE, "verified": "then"}, {"id": TWO, "verified": None}], False, TWO),
        (
            [{"id": ONE}, {"id": TWO, "verified": None}, {"id": "3", "verified": "then"}, {"id": "4", "verified": "x"}],
            True,
            "3",
        ),
    ],
)
def test_what_a_rollback_goes_to(releases: list[dict[str, Any]], managed: bool, chosen: str) -> None:
    assert _release.rollback_to(releases, ONE, managed) == chosen


def test_what_is_the_owners(server: Server) -> None:
    """Files that we did not write, or only the line of .env."""
    files = {path: name for path, name in FILES.items() if name != "Dockerfile"}
    assert not server.store.foreign(files)
    assert not server.store.touched(files)
    server.write("proxy-configs/ocapistaine.conf.template", "by hand\n", ours=False)
    assert not server.store.foreign(files), "ours, edited by hand"
    assert server.store.touched(files)
    _files.Manifest(str(server.root)).forget("proxy-configs/ocapistaine.conf.template")
    assert server.store.foreign(files)
    (server.root / "proxy-configs/ocapistaine.conf.template").unlink()
    assert server.store.foreign(files), "its line of .env"
    server.write(".env", "TOKEN=x\n")
    assert not server.store.foreign(files)


# --- The active one ---------------------------------------------------------------------------------------------------


@pytest.fixture
def store(server: Server) -> _release.Store:
    server.store.make()
    return server.store


def held(path: str) -> bool:
    """As the kernel and the container's flock command answer who asks for a file."""
    with Path(path).open("rb") as other:
        try:
            fcntl.flock(other, fcntl.LOCK_SH | fcntl.LOCK_NB)
            here = False
        except BlockingIOError:
            here = True
    there = subprocess.run(["flock", "-ns", "-E", "75", path, "true"], check=False).returncode
    assert there == (75 if here else 0)
    return here


def begun(store: _release.Store, release: str = ONE) -> _release.Current:
    store.begin(_release.Current(release, ["a"], ["e"], action="reload"))
    pending = store.pending()
    assert pending is not None
    return pending


def test_a_switch_that_is_committed(store: _release.Store) -> None:
    pending = begun(store)
    assert replace(pending, switch="") == _release.Current(ONE, ["a"], ["e"], action="reload")
    assert held(store.path("pending"))
    assert store.current() == _release.Current(), "what starts now gets nothing of it"
    store.commit()
    assert store.current() == pending
    assert store.pending() is None
    assert not held(store.path("current"))


def test_a_switch_that_is_abandoned(store: _release.Store) -> None:
    store.adopt_current(_release.Current(TWO))
    begun(store)
    store.let_go()
    assert not held(store.path("pending"))
    assert store.pending(), "as long as it is there, the next run recovers"
    store.abandon()
    assert store.pending() is None
    assert store.current() == _release.Current(TWO)
    store.abandon()
    store.commit()
    assert store.current() == _release.Current(TWO)


def test_every_switch_is_another_one(store: _release.Store) -> None:
    switches = [begun(store).switch for _ in range(3)]
    assert len(set(switches)) == 3
    assert all(switches)
    assert [one.name for one in Path(store.folder).iterdir()] == ["pending"]


def test_a_switch_is_locked_before_anyone_can_see_it(store: _release.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rename, seen = os.rename, []

    def see(source: str, target: str) -> None:
        seen.append((held(source), Path(source).read_text().splitlines()[0]))
        rename(source, target)

    monkeypatch.setattr(os, "rename", see)
    begun(store)
    assert seen == [(True, f"release={ONE}")]


def test_a_release_knows_the_one_before_it(server: Server) -> None:
    store = server.store
    one, two = server.release(), server.release()
    store.adopt_current(_release.Current(one))
    for _ in range(2):
        begun(store, two)
        store.commit()
    assert "former" not in store.facts(one)
    assert store.facts(two)["former"] == one
    store.adopt_current(_release.Current(one))
    assert store.facts(one)["former"] == two


def test_what_is_committed_stays_committed(store: _release.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the disk says once the file has its name."""
    begun(store)
    monkeypatch.setattr(os, "fsync", lambda _folder: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    store.commit()
    assert store.current().release == ONE
    assert not held(store.path("current"))


@pytest.mark.parametrize(
    ("before", "current", "told"),
    [(None, ONE, ""), (f"release={TWO}\nimage=a\n", TWO, TWO), ("", "", "")],
)
def test_a_switch_of_0_1_0_that_nobody_verified(
    store: _release.Store, before: str | None, current: str, told: str
) -> None:
    store.adopt_current(_release.Current(ONE))
    Path(store.path("lock")).write_text("{}", encoding="ascii")
    if before is not None:
        Path(store.path("before")).write_text(before, encoding="ascii")
    assert store.recover_0_1_0() == told
    assert store.current().release == current
    assert [one.name for one in Path(store.folder).iterdir()] == (["current"] if current else [])


# --- One transaction at a time ----------------------------------------------------------------------------------------


@contextmanager
def another(store: _release.Store, work: str) -> Iterator[int]:
    """A process that has locked the agent, or has begun a switch, and lives until it is killed."""
    ready, tell = os.pipe()
    child = os.fork()
    if not child:
        try:
            with store.locked("jean@elsewhere"):
                if work == "begin":
                    begun(store)
                os.write(tell, b".")
                signal.pause()
        finally:
            os._exit(1)
    os.read(ready, 1)
    try:
        yield child
    finally:
        end(child)
        os.waitpid(child, 0)
        os.close(ready)
        os.close(tell)


def end(child: int) -> None:
    os.kill(child, signal.SIGKILL)
    os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)


def again(store: _release.Store) -> _release.Store:
    """As another run sees it."""
    return _release.Store(store.root, store.name)


def test_a_killed_process_holds_nothing(store: _release.Store) -> None:
    with another(store, "begin") as child:
        assert held(store.path("pending"))
        assert store.busy()
        end(child)
        assert not held(store.path("pending"))
        assert not store.busy()
    with store.locked("claire@laptop", patience=0):
        assert store.pending(), "which the next run recovers"


def test_what_a_transaction_starts_holds_nothing(store: _release.Store) -> None:
    """The one that ends a replaced container outlives it."""
    with store.locked("claire@laptop"):
        begun(store)
        child = subprocess.Popen(["sleep", "5"])
    try:
        assert not store.busy()
        assert not held(store.path("pending"))
    finally:
        child.kill()
        child.wait()


def test_who_has_the_lock_is_named(store: _release.Store) -> None:
    told = "^ocapistaine is being deployed by jean@elsewhere for [01] s: wait for it.$"
    with another(store, "lock"), pytest.raises(_release.ReleaseError, match=told), store.locked("claire", patience=0):
        pass


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"by": "jean"}'])
def test_who_has_the_lock_need_not_be_known(store: _release.Store, text: str) -> None:
    with store.locked("jean"):
        Path(store.path("run")).write_text(text, encoding="ascii")
        with pytest.raises(_release.ReleaseError, match="by another run: wait"), again(store).locked("x", patience=0):
            pass


def test_a_lock_is_waited_for(store: _release.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    with another(store, "lock") as child:
        monkeypatch.setattr(time, "sleep", lambda _seconds: end(child))
        with store.locked("claire", patience=1):
            assert json.loads(Path(store.path("run")).read_text())["by"] == "claire"
            assert store.busy()
    assert not store.busy()
    assert not Path(store.path("run")).exists()


def test_a_full_disk_keeps_nobody_out(store: _release.Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(_files, "write_atomic", full)
    with store.locked("claire"):
        assert again(store).busy()


def test_the_end_of_a_transaction_ends_its_switch(store: _release.Store) -> None:
    with suppress(KeyboardInterrupt), store.locked("claire"):
        begun(store)
        raise KeyboardInterrupt
    assert not held(store.path("pending"))


def test_whoever_waited_for_a_removal_locks_the_new_folder(
    store: _release.Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiter, waits, entered, done = again(store), threading.Event(), threading.Event(), threading.Event()
    flock = waiter._flock

    def tell(*words: Any) -> None:
        waits.set()
        flock(*words)

    def wait() -> None:
        with waiter.locked("jean"):
            entered.set()
            done.wait(5)

    monkeypatch.setattr(waiter, "_flock", tell)
    thread = threading.Thread(target=wait)
    with store.locked("claire"):
        thread.start()
        assert waits.wait(5)
        shutil.rmtree(store.folder)
        assert not entered.wait(0.01)
    assert entered.wait(5)
    assert again(store).busy()
    done.set()
    thread.join()
    assert not again(store).busy()


def test_nobody_is_busy_without_a_folder(tmp_path: Path) -> None:
    store = _release.Store(str(tmp_path), AGENT)
    assert not store.busy()
    store.make()
    assert not store.busy()


def test_what_git_tracks_for_its_owner_is_never_written(server: Server) -> None:
    conf = "proxy-configs/ocapistaine.conf.template"
    identifier = server.release()
    _files.Manifest(str(server.root)).forget(conf)
    server.write(conf, "events {} # edited\n", ours=False)
    assert [change["after_header"] for change in server.store.restore(identifier, FILES, keep=[conf])] == []
    assert (server.root / conf).read_text() == "events {} # edited\n"
    assert [change["after_header"] for change in server.store.restore(identifier, FILES)] == [conf]
