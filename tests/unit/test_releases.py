# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""An agent's releases: whole or not there, put back byte for byte, and one run at a time."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.locki.vaettir.plugins.filter import run
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
OWNER = {"user": "claire", "node": "laptop", "pid": 4711}


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
    diff = {change.path: (change.diff()["before"], change.diff()["after"]) for change in planned}
    assert diff == {
        "proxy-configs/ocapistaine.conf.template": ("ours {}\n", "by hand {}\r\n"),
        "agents/ocapistaine.yml": ("services: {}\n", ""),
        "secrets/ocapistaine/tunnel": ("", "(hidden: a secret)\n"),
        ".env": (f"{KEY}=(value)\nDISCORD_INVITE_URL=(value)\n", f"{KEY}=(former value)\n"),
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


def test_switch_and_back(server: Server) -> None:
    one, two = _release.Current("20261123T014912Z", ["a"], ["e"]), _release.Current("20261123T014912Z-2", ["b"], ["e"])
    server.store.make()
    assert server.store.switch(one)
    assert server.store.revert()
    assert server.store.current() == _release.Current()
    assert not (server.root / "releases" / AGENT / "current").exists()

    server.store.switch(one)
    server.store.settle()
    assert server.store.switch(two)
    assert not server.store.switch(two)
    # A run that was killed here: the next one still knows what had been verified.
    server.store.switch(_release.Current("20261123T014912Z-3"))
    assert server.store.before() == one
    assert server.store.revert()
    assert server.store.current() == one
    assert not server.store.revert()


identifiers = st.from_regex(_release.ID_REGEX, fullmatch=True)
digests = st.lists(st.text("0123456789abcdef", min_size=1), unique=True, max_size=3)


@given(st.builds(_release.Current, identifiers, digests, digests))
def test_current_is_read_as_it_was_written(current: _release.Current) -> None:
    assert _release.parse_current(current.text()) == current


@given(st.text())
def test_any_text_is_some_current(text: str) -> None:
    release = _release.parse_current(text).release
    assert release == "" or _names.matches(_release.ID_REGEX, release)


def test_state() -> None:
    one, two = "a" * 64, "b" * 64
    text = f"image={one}\nenvironment={two}\nrelease=20261123T013000Z\ndraining=3\n"
    text += f"{one}  my agent.conf.template\n{two}  image:Dockerfile\nx\n"
    state = _release.parse_state(text)
    assert (state.image, state.environment, state.release, state.draining) == (one, two, "20261123T013000Z", 3)
    assert state.files == {"my agent.conf.template": one, "image:Dockerfile": two}
    assert _release.parse_state("sh: agent-proxy: not found") == _release.State()
    assert _release.parse_state("release=\n").release == ""


def test_lock() -> None:
    lock = {**OWNER, "since": 1000}
    assert _release.holder({}, OWNER, 1001, 900) == {}
    assert _release.holder(lock, OWNER, 1001, 900) == {}
    other = {**OWNER, "pid": 1}
    assert _release.holder(lock, other, 1010, 900) == {**lock, "age": 10}
    assert _release.holder(lock, other, 1900, 900) == {}
    assert _release.holder({"since": 0}, other, 1900, 900) == {}


def test_only_its_owner_gives_a_lock_back(server: Server) -> None:
    server.store.make()
    server.store.take(OWNER, time.time())
    server.store.release_lock({**OWNER, "pid": 1})
    assert server.store.lock()["pid"] == OWNER["pid"]
    server.store.release_lock(OWNER)
    assert server.store.lock() == {}


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_a_broken_lock_is_none(server: Server, text: str) -> None:
    server.store.make()
    (server.root / "releases" / AGENT / "lock").write_text(text)
    assert server.store.lock() == {}


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


def test_this_run() -> None:
    found = run.this_run("")
    assert found["pid"] == os.getpid()
    assert found["node"] == platform.node()
    assert found == run.this_run("")
    assert found["started"].isdigit()
    assert re.fullmatch(r"[0-9a-f-]{36} pid:\[\d+\]", found["boot"])


def test_run_is_over() -> None:
    here = run.this_run("")
    assert run.run_is_over({**here, "pid": 2**22 + 1})  # beyond Linux' highest
    assert run.run_is_over({**here, "pid": 1}), "another program has its number"
    assert not run.run_is_over({**here, "node": "elsewhere", "pid": 2**22 + 1})
    assert not run.run_is_over({**here, "boot": "another container's", "pid": 2**22 + 1})
    assert not run.run_is_over({})
    other = subprocess.Popen(["sh", "-c", "read -r _", "ansible-playbook"], stdin=subprocess.PIPE)
    try:
        while "ansible" not in run._text(f"/proc/{other.pid}/cmdline"):
            time.sleep(0.01)  # the kernel has not written its words yet
        lock = {**here, "pid": other.pid, "started": run._started(other.pid)}
        assert not run.run_is_over(lock)
        assert run.run_is_over({**lock, "started": here["started"]}), "another playbook has its number"
    finally:
        other.kill()
        other.communicate()


def test_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "_text", lambda _path: "")
    here = run.this_run("")
    assert (here["started"], here["boot"]) == ("", "")
    assert not run.run_is_over(here)
    assert run.run_is_over({**here, "pid": 2**22 + 1})


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
