#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: file_set
short_description: Keep a set of files, and keys of a compose .env file, in one folder
version_added: 0.1.0
description:
  - Writes and removes a set of files below one folder in a single call, each file in one step (write beside,
    C(fsync), rename).
  - Keeps a record of what it wrote in C(.locki/manifest.json) below O(root). A file that is there without being in
    the record belongs to the folder's owner. When it is tracked by git it is left alone, otherwise it is kept beside
    the new one.
  - A file of ours that was edited by hand is kept as C(NAME.TIMESTAMP~) before it is replaced or removed. A secret is
    not kept when it is removed.
  - In C(.env), which others edit too, only the named keys change. All other lines, comments, their order and their line
    ends stay byte for byte, and a key that already has the value keeps its spelling (quotes, C(export), spaces). The
    file always has mode V(0600).
author:
  - the locki.vaettir authors (@locki)
extends_documentation_fragment:
  - locki.vaettir.attributes
attributes:
  check_mode:
    support: full
    details: Reports what would change and touches nothing.
  diff_mode:
    support: full
    details: Shows the text of every file that differs, but of C(.env) only the names of the keys.
options:
  root:
    description: Absolute path of the folder. It is made with mode V(0755) if it is not there.
    type: path
    required: true
  directories:
    description: Folders below O(root), with their modes.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path relative to O(root).
        type: str
        required: true
      mode:
        description: Octal mode.
        type: str
        default: '0755'
  files:
    description: Files below O(root).
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path relative to O(root).
        type: str
        required: true
      content:
        description: The whole text.
        type: str
        required: true
      mode:
        description: Octal mode.
        type: str
        default: '0644'
      secret:
        description: Whether to leave the text out of the diff.
        type: bool
        default: false
  absent:
    description: Paths relative to O(root) that must not exist. Only files in our record are removed.
    type: list
    elements: str
    default: []
  keep:
    description: >-
      Paths of O(files) to leave as they are where they exist, for instance because git tracks them for their owner.
    type: list
    elements: str
    default: []
  listings:
    description:
      - Files that name other files of the folder, one line each, such as a compose C(include) list.
      - They are made from what is in the folder, so that two runs for two different agents cannot lose each other's
        line.
      - They are written after O(files) and before O(absent), so that they never name a missing file.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path relative to O(root).
        type: str
        required: true
      glob:
        description: Pattern relative to O(root) of the files to name.
        type: str
        required: true
      header:
        description: Text before the entries.
        type: str
        required: true
      entry:
        description: Text of one entry. C(%s) becomes the relative path.
        type: str
        required: true
      empty:
        description: Text instead of the entries where nothing matches.
        type: str
        required: true
  env:
    description: Keys of the C(.env) file in O(root). They are changed after all files.
    type: dict
    suboptions:
      present:
        description: Keys and their values.
        type: dict
        default: {}
      absent:
        description: Keys to remove.
        type: list
        elements: str
        default: []
notes:
  - Format of C(.env) as in the Compose specification, C(.env) file syntax.
"""

EXAMPLES = r"""
- name: One agent's files
  locki.vaettir.file_set:
    root: /home/deploy/vaettir
    files:
      - path: agents/ocapistaine.yml
        content: "{{ lookup('ansible.builtin.template', 'agent.yml.j2') }}"
    listings:
      - path: agents.yml
        glob: agents/*.yml
        header: "include:\n"
        entry: "  - path: %s\n"
        empty: "  []\n"
    env:
      present:
        OCAPISTAINE_TARGET_URL: https://ocapistaine.ngrok-free.app
"""

RETURN = r"""
paths:
  description: Relative paths that were (or, in check mode, would be) written or removed.
  type: list
  elements: str
  returned: always
  sample: [agents.yml, agents/ocapistaine.yml]
backups:
  description: Relative paths of the copies that were kept of files edited by hand.
  type: list
  elements: str
  returned: always
  sample: ["proxy-configs/ocapistaine.conf.template.20261122T220000~"]
digests:
  description: SHA-256 in hexadecimal digits of what each path of O(files) holds (or, in check mode, would hold).
  type: dict
  returned: always
keys:
  description: Names of the keys of C(.env) that were (or, in check mode, would be) changed.
  type: list
  elements: str
  returned: always
  sample: [OCAPISTAINE_TARGET_URL]
kept:
  description: Relative paths that differ from the wanted text and were left alone, because they are the owner's.
  type: list
  elements: str
  returned: always
"""

import contextlib
import os
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.locki.vaettir.plugins.module_utils import _dotenv, _files, _module


class FileSet:
    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.root: str = module.params["root"]
        self.diff: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.backups: list[str] = []
        self.kept: list[str] = []
        self.digests: dict[str, str] = {}
        self.keys: list[str] = []
        self.changed = False

    def run(self) -> dict[str, Any]:
        params = self.module.params
        with contextlib.nullcontext() if self.module.check_mode else _files.locked(self.root):
            self.manifest = _files.Manifest(self.root)
            for directory in params["directories"]:
                self.directory(directory["path"], int(directory["mode"], 8))
            for entry in params["files"]:
                self.file(entry["path"], entry["content"].encode(), int(entry["mode"], 8), entry["secret"])
            for entry in params["listings"]:
                self.file(entry["path"], self.listing(entry).encode(), 0o644, False)
            for path in params["absent"]:
                self.remove(path)
            if params["env"]:
                self.env(params["env"]["present"], params["env"]["absent"])
        return {
            "changed": self.changed,
            "paths": self.paths,
            "backups": self.backups,
            "kept": self.kept,
            "digests": self.digests,
            "keys": self.keys,
            "diff": self.diff,
        }

    def listing(self, entry: dict[str, str]) -> str:
        wanted = [item["path"] for item in self.module.params["files"]]
        extra = [path for path in wanted if os.path.dirname(path) == os.path.dirname(entry["glob"])]
        names = _files.listing(self.root, entry["glob"], self.module.params["absent"], extra)
        return entry["header"] + ("".join(entry["entry"] % name for name in names) or entry["empty"])

    def directory(self, relative: str, mode: int) -> None:
        path = os.path.join(self.root, relative)
        if os.path.isdir(path) and os.stat(path).st_mode & 0o777 == mode:
            return
        self.changed = True
        self.paths.append(relative + "/")
        if not self.module.check_mode:
            os.makedirs(path, exist_ok=True)
            os.chmod(path, mode)

    def file(self, relative: str, content: bytes, mode: int, secret: bool) -> None:
        path = os.path.join(self.root, relative)
        before = _files.read_bytes(path)
        owners = before is not None and not self.manifest.owns(relative)
        if before is not None and owners and relative in self.module.params["keep"]:
            if before != content:
                self.kept.append(relative)
            self.digests[relative] = _files.digest(before)
            return
        self.digests[relative] = _files.digest(content)
        same = before == content
        if same and not owners and os.stat(path).st_mode & 0o777 == mode:
            return
        if not same or os.stat(path).st_mode & 0o777 != mode:
            self.note(relative, before, content, secret)
        if before is not None and not same:
            self.keep_edit(relative, before)
        if not self.module.check_mode:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            self.manifest.add(relative, content)
            _files.write_atomic(path, content, mode)

    def remove(self, relative: str) -> None:
        path = os.path.join(self.root, relative)
        before = _files.read_bytes(path)
        if before is None or not self.manifest.owns(relative):
            return
        secret = os.stat(path).st_mode & 0o077 == 0  # nobody else may read it
        self.note(relative, before, b"", secret)
        if not secret:
            self.keep_edit(relative, before)
        if not self.module.check_mode:
            os.unlink(path)
            self.manifest.forget(relative)
            self.remove_empty(os.path.dirname(relative))

    def remove_empty(self, relative: str) -> None:
        """One agent's own folder goes with its last file; those at the top, and the wanted ones, stay."""
        wanted = [directory["path"] for directory in self.module.params["directories"]]
        if os.path.dirname(relative) and relative not in wanted:
            with contextlib.suppress(OSError):
                os.rmdir(os.path.join(self.root, relative))

    def env(self, present: dict[str, Any], absent: list[str]) -> None:
        path = os.path.join(self.root, ".env")
        content = _files.read_bytes(path)
        # surrogateescape: bytes that are not UTF-8 come out as they went in
        before = (content or b"").decode("utf-8", "surrogateescape")
        after = _dotenv.change(before, {key: str(value) for key, value in present.items()}, absent)
        if before == after and content is not None and os.stat(path).st_mode & 0o777 == 0o600:
            return
        old, new = _dotenv.read(before), _dotenv.read(after)
        self.keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        self.differs(
            ".env",
            "".join(f"{key}=(value)\n" for key in self.keys if key in old),
            "".join(f"{key}=(new value)\n" for key in self.keys if key in new),
        )
        if not self.module.check_mode:
            _files.write_atomic(path, after.encode("utf-8", "surrogateescape"), 0o600)

    def keep_edit(self, relative: str, before: bytes) -> None:
        """What somebody wrote by hand is kept beside the file."""
        if self.manifest.wrote(relative, before):
            return
        backup = f"{relative}.{time.strftime('%Y%m%dT%H%M%S')}~"
        self.backups.append(backup)
        if not self.module.check_mode:
            mode = os.stat(os.path.join(self.root, relative)).st_mode & 0o777
            _files.write_atomic(os.path.join(self.root, backup), before, mode)

    def note(self, relative: str, before: bytes | None, after: bytes, secret: bool) -> None:
        hidden = "(hidden: a secret)\n"
        self.differs(
            relative,
            hidden if secret else (before or b"").decode(errors="replace"),
            hidden if secret else after.decode(errors="replace"),
        )

    def differs(self, relative: str, before: str, after: str) -> None:
        self.changed = True
        self.paths.append(relative)
        names = {"before_header": relative, "after_header": relative}
        self.diff.append({**names, "before": before, "after": after})


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "directories": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "str", "required": True},
                    "mode": {"type": "str", "default": "0755"},
                },
            },
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "str", "required": True},
                    "content": {"type": "str", "required": True},
                    "mode": {"type": "str", "default": "0644"},
                    "secret": {"type": "bool", "default": False},
                },
            },
            "absent": {"type": "list", "elements": "str", "default": []},
            "keep": {"type": "list", "elements": "str", "default": []},
            "listings": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "str", "required": True},
                    "glob": {"type": "str", "required": True},
                    "header": {"type": "str", "required": True},
                    "entry": {"type": "str", "required": True},
                    "empty": {"type": "str", "required": True},
                },
            },
            "env": {
                "type": "dict",
                "options": {
                    "present": {"type": "dict", "default": {}},
                    "absent": {"type": "list", "elements": "str", "default": []},
                },
            },
        },
        supports_check_mode=True,
    )
    _module.finish(module, FileSet(module).run)


if __name__ == "__main__":
    main()
