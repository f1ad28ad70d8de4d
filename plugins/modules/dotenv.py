#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: dotenv
short_description: Set and remove keys of a compose .env file that others edit too
version_added: 0.1.0
description:
  - Changes the named keys only. All other lines, comments, their order and their line ends stay byte for byte.
  - A key that already has the value keeps its spelling (quotes, C(export), spaces).
  - The file is replaced in one step and always has mode V(0600).
  - Values never appear in the result. The diff shows names only.
author:
  - the locki.vaettir authors (@locki)
attributes:
  check_mode:
    support: full
    description: Reports what would change and touches nothing.
  diff_mode:
    support: partial
    description: Shows the names of the keys, not their values, since the file holds its owner's secrets.
options:
  root:
    description: Absolute path of the folder that holds C(.env).
    type: path
    required: true
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
  - Format of the file as in the Compose specification, C(.env) file syntax.
"""

EXAMPLES = r"""
- name: The agent's tunnel
  locki.vaettir.dotenv:
    root: /home/deploy/vaettir
    present:
      OCAPISTAINE_TARGET_URL: https://ocapistaine.ngrok-free.app
"""

RETURN = r"""
keys:
  description: Names of the keys that were (or, in check mode, would be) changed.
  type: list
  elements: str
  returned: always
  sample: [OCAPISTAINE_TARGET_URL]
"""

import os
from contextlib import nullcontext
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.locki.vaettir.plugins.module_utils import _dotenv, _files


def run(module: AnsibleModule) -> dict[str, Any]:
    root = module.params["root"]
    path = os.path.join(root, ".env")
    present = {key: str(value) for key, value in module.params["present"].items()}
    with nullcontext() if module.check_mode else _files.locked(root):
        content = _files.read_bytes(path)
        # surrogateescape: bytes that are not UTF-8 come out as they went in
        before = (content or b"").decode("utf-8", "surrogateescape")
        after = _dotenv.change(before, present, module.params["absent"])
        old, new = _dotenv.read(before), _dotenv.read(after)
        keys = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
        mode_differs = content is None or os.stat(path).st_mode & 0o777 != 0o600
        changed = before != after or mode_differs
        if changed and not module.check_mode:
            _files.write_atomic(path, after.encode("utf-8", "surrogateescape"), 0o600)
    return {
        "changed": changed,
        "keys": keys,
        "diff": {
            "before_header": ".env",
            "after_header": ".env",
            "before": "".join(f"{key}=(value)\n" for key in keys if key in old),
            "after": "".join(f"{key}=(new value)\n" for key in keys if key in new),
        },
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "root": {"type": "path", "required": True},
            "present": {"type": "dict", "default": {}},
            "absent": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(**run(module))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or module.params['root']}: {error.strerror}")


if __name__ == "__main__":
    main()
