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
  - Writes and removes a set of files below one folder in a single call, each file in one step (write next to it,
    C(fsync), rename).
  - Keeps a record of what it wrote in C(.locki/manifest.json) below O(root). A file that is there without being in
    the record belongs to the folder's owner. A backup of it is kept next to the new one.
  - A hand-edited file of ours is backed up as C(NAME.TIMESTAMP~) before it is replaced or removed. A secret that is
    removed has no backup.
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
  secrets:
    description:
      - Files below O(root) whose text nobody else may see. It stays out of the diff and of the log.
      - They are written before O(files), which may refer to them.
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
        default: '0600'
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
  absent:
    description: Paths relative to O(root) that must not exist. Only files in our record are removed.
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
        description: Text of one entry. C(%s) becomes the relative path in double quotes (JSON).
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
  git_exclude:
    description: Lines of a git checkout's own exclude list, between two markers. They are written first.
    type: dict
    suboptions:
      file:
        description: Path of the list. Nothing happens where it is empty.
        type: str
        required: true
      block:
        description: The lines. An empty text takes them and their markers away.
        type: str
        required: true
notes:
  - Internal to the collection, so it may change in any version.
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
  description: Relative paths of the backups of hand-edited files.
  type: list
  elements: str
  returned: always
  sample: ["proxy-configs/ocapistaine.conf.template.20261122T220000~"]
env_keys:
  description: Names of the keys of C(.env) that were (or, in check mode, would be) changed.
  type: list
  elements: str
  returned: always
  sample: [OCAPISTAINE_TARGET_URL]
"""

import contextlib
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.locki.vaettir.plugins.module_utils import _files, _fileset, _module


def write(params: dict[str, Any], found: _fileset.FileSet) -> dict[str, Any]:
    exclude = params["git_exclude"]
    if exclude and exclude["file"]:
        found.block(exclude["file"], exclude["block"])
    for entry in params["directories"]:
        found.directory(entry["path"], int(entry["mode"], 8))
    for entry in params["secrets"]:
        found.file(entry["path"], entry["content"].encode(), int(entry["mode"], 8), secret=True)
    for entry in params["files"]:
        found.file(entry["path"], entry["content"].encode(), int(entry["mode"], 8))
    for entry in params["listings"]:
        folder = os.path.dirname(entry["glob"])
        extra = [one["path"] for one in params["files"] if os.path.dirname(one["path"]) == folder]
        found.listing(**entry, extra=extra, without=params["absent"])
    for path in params["absent"]:
        found.remove(path)
    if params["env"]:
        found.env(params["env"]["present"], params["env"]["absent"])
    return found.result()


def run(module: AnsibleModule) -> dict[str, Any]:
    root, touch = module.params["root"], not module.check_mode
    with _files.locked(root) if touch else contextlib.nullcontext():
        return write(module.params, _fileset.FileSet(root, touch))


def records(**more: dict[str, Any]) -> dict[str, Any]:
    """An option: a list of things with a path."""
    options = {"path": {"type": "str", "required": True}, **more}
    return {"type": "list", "elements": "dict", "default": [], "options": options}


def texts(mode: str, no_log: bool = False) -> dict[str, Any]:
    content = {"type": "str", "required": True, "no_log": no_log}
    return records(content=content, mode={"type": "str", "default": mode})


def text() -> dict[str, Any]:
    return {"type": "str", "required": True}


def names() -> dict[str, Any]:
    return {"type": "list", "elements": "str", "default": []}


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "directories": records(mode={"type": "str", "default": "0755"}),
            "secrets": {**texts("0600", no_log=True), "no_log": False},  # paths are none, contents are
            "files": texts("0644"),
            "absent": names(),
            "listings": records(glob=text(), header=text(), entry=text(), empty=text()),
            "env": {"type": "dict", "options": {"present": {"type": "dict", "default": {}}, "absent": names()}},
            "git_exclude": {"type": "dict", "options": {"file": text(), "block": text()}},
        },
        supports_check_mode=True,
    )
    _module.finish(module, lambda: run(module))


if __name__ == "__main__":
    main()
