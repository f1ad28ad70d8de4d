# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What the modules have in common: options (documented in doc_fragments/agent.py), and how they end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from . import _docker, _release

AGENT: dict[str, Any] = {
    "root": {"type": "path", "required": True},
    "project": {"type": "str", "default": "vaettir"},
    "name": {"type": "str", "required": True},
}
OWNER: dict[str, Any] = {
    "owner": {
        "type": "dict",
        "options": {
            "user": {"type": "str", "required": True},
            "node": {"type": "str", "required": True},
            "pid": {"type": "int", "required": True},
            "started": {"type": "str", "default": ""},
            "boot": {"type": "str", "default": ""},
        },
    },
}


def finish(module: AnsibleModule, work: Callable[[], dict[str, Any]]) -> None:
    """Answer with what the work returns, or with what stopped it as one sentence."""
    try:
        module.exit_json(**{"changed": False, **work()})
    except (_docker.DockerError, _release.ReleaseError) as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=f"{error.filename or module.params['root']}: {error.strerror or error}")
