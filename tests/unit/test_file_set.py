# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Files in another's folder: atomic, recorded, and nothing of the owner's is lost."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _files, _fileset
from ansible_collections.locki.vaettir.plugins.modules import file_set

from .module_run import run_module

LISTING = {"path": "agents.yml", "glob": "agents/*.yml", "header": "include:\n", "entry": "  - %s\n", "empty": "  []\n"}


class Folder:
    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.capsys = root, capsys

    def set(self, check: bool = False, **arguments: Any) -> Any:
        return run_module(file_set, self.capsys, check, root=str(self.root), **arguments)

    def put(self, text: str, path: str = "a.txt", check: bool = False, **more: Any) -> Any:
        options = {"mode": more.pop("mode")} if "mode" in more else {}
        kind = "secrets" if more.pop("secret", False) else "files"
        return self.set(check, **{kind: [{"path": path, "content": text, **options}]}, **more)

    def keep(self, text: str, path: str = "a.txt") -> _fileset.FileSet:
        """As a release does with the files of a checkout."""
        with _files.locked(str(self.root)):
            found = _fileset.FileSet(str(self.root), True)
            found.file(path, text.encode(), keep=True)
        return found

    def text(self, path: str = "a.txt") -> str:
        return (self.root / path).read_text(encoding="utf-8")

    def visible(self) -> list[str]:
        names = (path.relative_to(self.root) for path in self.root.rglob("*") if path.is_file())
        return sorted(str(name) for name in names if name.parts[0] != _files.STATE_DIR)


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Folder:
    return Folder(tmp_path / "root", capsys)


def test_written_once(folder: Folder) -> None:
    first = folder.put("one\n", "deep/er/a.txt", mode="0640")
    assert first["changed"]
    assert folder.text("deep/er/a.txt") == "one\n"
    assert (folder.root / "deep/er/a.txt").stat().st_mode & 0o777 == 0o640
    second = folder.put("one\n", "deep/er/a.txt", mode="0640")
    assert (second["changed"], second["paths"], second["diff"]) == (False, [], [])


def test_our_own_older_text_needs_no_backup(folder: Folder) -> None:
    folder.put("one\n")
    assert folder.put("two\n")["backups"] == []
    assert folder.visible() == ["a.txt"]


def test_hand_edit_is_backed_up(folder: Folder) -> None:
    folder.put("one\n")
    (folder.root / "a.txt").write_text("mine\n", encoding="ascii")
    done = folder.put("two\n")
    assert folder.text() == "two\n"
    assert [folder.text(name) for name in done["backups"]] == ["mine\n"]
    assert done["backups"][0].endswith("~")


def test_owners_file_is_backed_up(folder: Folder) -> None:
    folder.root.mkdir()
    (folder.root / "a.txt").write_text("mine\n", encoding="ascii")
    done = folder.put("ours\n")
    assert [folder.text(name) for name in done["backups"]] == ["mine\n"]


def test_tracked_file_is_left_alone(folder: Folder) -> None:
    folder.root.mkdir()
    (folder.root / "a.txt").write_text("mine\n", encoding="ascii")
    done = folder.keep("ours\n")
    assert (done.changed, done.kept, folder.text()) == (False, ["a.txt"], "mine\n")
    assert done.digests == {"a.txt": _files.digest(b"mine\n")}


def test_keep_holds_for_the_owners_files_only(folder: Folder) -> None:
    folder.put("one\n")
    done = folder.keep("two\n")
    assert (done.changed, folder.text()) == (True, "two\n")
    assert done.digests == {"a.txt": _files.digest(b"two\n")}


def test_only_ours_is_removed(folder: Folder) -> None:
    folder.put("ours\n")
    (folder.root / "b.txt").write_text("mine\n", encoding="ascii")
    done = folder.set(absent=["a.txt", "b.txt", "nowhere.txt"])
    assert done["paths"] == ["a.txt"]
    assert folder.visible() == ["b.txt"]
    assert folder.set(absent=["a.txt"])["changed"] is False


def test_hand_edit_is_backed_up_when_removed(folder: Folder) -> None:
    folder.put("one\n")
    (folder.root / "a.txt").write_text("by hand\n", encoding="utf-8")
    (backup,) = folder.set(absent=["a.txt"])["backups"]
    assert folder.visible() == [backup]
    assert folder.text(backup) == "by hand\n"


def test_an_agents_own_folder_goes_with_its_last_file(folder: Folder) -> None:
    for path in ("secrets/a/tunnel", "traefik/dynamic/tls.yml", "agents/a.yml"):
        folder.put("one\n", path)
    folder.set(
        directories=[{"path": "traefik/dynamic"}],
        absent=["secrets/a/tunnel", "traefik/dynamic/tls.yml", "agents/a.yml"],
    )
    assert not (folder.root / "secrets/a").exists()
    for kept in ("secrets", "traefik/dynamic", "agents"):
        assert (folder.root / kept).is_dir()


def test_mode_is_fixed(folder: Folder) -> None:
    folder.put("one\n", mode="0600")
    (folder.root / "a.txt").chmod(0o666)
    assert folder.put("one\n", mode="0600")["changed"]
    assert (folder.root / "a.txt").stat().st_mode & 0o777 == 0o600


def test_folders(folder: Folder) -> None:
    wanted = [{"path": "secret", "mode": "0700"}, {"path": "plain"}]
    assert folder.set(directories=wanted)["paths"] == ["secret/", "plain/"]
    assert (folder.root / "secret").stat().st_mode & 0o777 == 0o700
    assert folder.set(directories=wanted)["changed"] is False
    (folder.root / "secret").chmod(0o755)
    assert folder.set(directories=wanted)["paths"] == ["secret/"]


def test_secret_stays_out_of_the_diff(folder: Folder) -> None:
    folder.put("old-s3cret\n", secret=True)
    done = folder.put("new-s3cret\n", secret=True)
    assert done["changed"]
    assert "s3cret" not in str(done)
    assert done["diff"][0]["before"] != done["diff"][0]["after"]
    assert (folder.root / "a.txt").stat().st_mode & 0o777 == 0o600
    assert "one" in str(folder.put("one\n", "b.txt")["diff"])


def test_secret_stays_out_of_the_diff_when_removed(folder: Folder) -> None:
    folder.put("old-s3cret\n", secret=True, mode="0600")
    assert "s3cret" not in str(folder.set(absent=["a.txt"])["diff"])


def test_secrets_are_written_before_the_files_that_refer_to_them(folder: Folder) -> None:
    both = [{"path": path, "content": "long enough\n"} for path in ("key.pem", "tls.yml")]
    assert folder.set(files=both[1:], secrets=both[:1])["paths"] == ["key.pem", "tls.yml"]


def test_check_mode_touches_nothing(folder: Folder) -> None:
    assert folder.put("one\n", check=True, directories=[{"path": "d"}], listings=[LISTING])["paths"]
    assert not folder.root.exists()
    folder.put("one\n")
    (folder.root / "a.txt").write_text("mine\n", encoding="ascii")
    before = {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.root.rglob("*")}
    planned = folder.put("two\n", check=True, absent=["a.txt"])
    assert planned["backups"]
    assert {path: (path.stat().st_mtime_ns, path.stat().st_ino) for path in folder.root.rglob("*")} == before


def test_listing_names_what_is_there(folder: Folder) -> None:
    def listing(*agents: str, absent: tuple[str, ...] = (), check: bool = False) -> Any:
        files = [{"path": f"agents/{name}.yml", "content": f"{name}\n"} for name in agents]
        return folder.set(check, files=files, listings=[LISTING], absent=[f"agents/{name}.yml" for name in absent])

    listing()
    assert folder.text("agents.yml") == "include:\n  []\n"
    planned = listing("one", check=True)
    assert "agents/one.yml" in str(planned["diff"][-1]["after"])
    listing("one")
    listing("two")
    assert folder.text("agents.yml") == 'include:\n  - "agents/one.yml"\n  - "agents/two.yml"\n'
    listing(absent=("one",))
    assert folder.text("agents.yml") == 'include:\n  - "agents/two.yml"\n'
    assert not (folder.root / "agents/one.yml").exists()


def test_listing_never_names_a_missing_file(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    """A compose include of a missing file breaks every agent: the list loses the name before the file goes."""
    folder.set(files=[{"path": "agents/one.yml", "content": "x\n"}], listings=[LISTING])
    removed: list[str] = []

    def unlink(path: str) -> None:
        assert "one.yml" not in folder.text("agents.yml")
        removed.append(path)

    monkeypatch.setattr(os, "unlink", unlink)
    folder.set(listings=[LISTING], absent=["agents/one.yml"])
    assert removed


def test_failed_write_leaves_the_old_file_and_no_rest(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.put("one\n")
    replace = os.replace

    def full(source: str, target: str) -> None:
        if target.endswith("a.txt"):
            raise OSError(28, "No space left on device", target)
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    done = folder.put("two\n")
    assert done["failed"]
    assert "No space left" in done["msg"]
    assert folder.text() == "one\n"
    assert folder.visible() == ["a.txt"]
    monkeypatch.undo()
    # The record holds both texts: after a death between record and file, neither counts as the owner's.
    assert folder.put("three\n")["backups"] == []


def test_killed_between_record_and_file(folder: Folder) -> None:
    folder.put("one\n")
    _files.Manifest(str(folder.root)).add("a.txt", b"two\n")
    done = folder.put("two\n")
    assert (done["changed"], done["backups"]) == (True, [])
    _files.Manifest(str(folder.root)).add("b.txt", b"new\n")  # and nothing of it on the disk
    assert folder.put("new\n", "b.txt")["changed"]


def test_record_is_the_owners_alone(folder: Folder) -> None:
    folder.put("one\n")
    assert (folder.root / _files.STATE_DIR).stat().st_mode & 0o777 == 0o700
    assert (folder.root / _files.STATE_DIR / "manifest.json").stat().st_mode & 0o777 == 0o600


KEY, VALUE = "OCAPISTAINE_TARGET_URL", "https://ocapistaine.ngrok-free.app"


def test_keys_of_env(folder: Folder) -> None:
    folder.root.mkdir()
    path = folder.root / ".env"
    path.write_bytes(b"TOKEN=s3cret\xff\r\nOLD=gone\r\n")
    path.chmod(0o644)
    arguments: dict[str, Any] = {"env": {"present": {KEY: VALUE}, "absent": ["OLD"]}}
    planned = folder.set(check=True, **arguments)
    assert (planned["changed"], planned["paths"]) == (True, [".env"])
    assert [entry.name for entry in folder.root.iterdir()] == [".env"], "check mode wrote something"
    assert path.read_bytes() == b"TOKEN=s3cret\xff\r\nOLD=gone\r\n"
    done = folder.set(**arguments)
    assert done["env_keys"] == planned["env_keys"] == [KEY, "OLD"]
    assert path.read_bytes() == b"TOKEN=s3cret\xff\r\n" + f"{KEY}={VALUE}\r\n".encode()
    assert path.stat().st_mode & 0o777 == 0o600
    for secret in ("s3cret", VALUE, "gone"):
        assert secret not in str({**done, "invocation": ""})
    again = folder.set(**arguments)
    assert (again["changed"], again["env_keys"]) == (False, [])


def test_mode_of_env_is_fixed(folder: Folder) -> None:
    folder.root.mkdir()
    path = folder.root / ".env"
    path.write_text("A=1\n", encoding="ascii")
    path.chmod(0o640)
    assert folder.set(env={})["changed"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_text(encoding="ascii") == "A=1\n"


def test_without_keys_env_is_not_looked_at(folder: Folder) -> None:
    folder.put("one\n")
    assert not (folder.root / ".env").exists()


EXCLUDE, BLOCK = ".git/info/exclude", "# BEGIN locki.vaettir\n*~\n/.locki/\n# END locki.vaettir\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", BLOCK),
        ("*.log", "*.log\n" + BLOCK),
        (f"*.log\n{BLOCK}*.tmp\n", f"*.log\n{BLOCK}*.tmp\n"),
        ("a\n# BEGIN locki.vaettir\n/old/\n# END locki.vaettir", "a\n" + BLOCK),
    ],
)
def test_lines_of_an_exclude_list(folder: Folder, before: str, after: str) -> None:
    path = folder.root / EXCLUDE
    path.parent.mkdir(parents=True)
    path.write_text(before, encoding="ascii")
    path.chmod(0o640)
    wanted: dict[str, Any] = {"git_exclude": {"file": str(path), "block": "*~\n/.locki/\n"}}
    assert folder.set(check=True, **wanted)["changed"] is (before != after)
    assert folder.text(EXCLUDE) == before, "check mode wrote something"
    assert folder.set(**wanted)["paths"] == ([] if before == after else [EXCLUDE])
    assert folder.text(EXCLUDE) == after
    assert path.stat().st_mode & 0o777 == 0o640
    assert folder.set(**wanted)["changed"] is False
    folder.set(git_exclude={"file": str(path), "block": ""})
    assert folder.text(EXCLUDE) == after.replace(BLOCK, "")


def test_exclude_list_is_made_where_there_is_none(folder: Folder) -> None:
    folder.set(git_exclude={"file": str(folder.root / EXCLUDE), "block": "*~\n/.locki/\n"})
    assert folder.text(EXCLUDE) == BLOCK
    assert folder.set(git_exclude={"file": "", "block": "x\n"})["changed"] is False
