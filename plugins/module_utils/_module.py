# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What the modules have in common: two options, and how they end."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from . import _docker, _release

SERVER: dict[str, Any] = {
    "root": {"type": "path", "required": True},
    "project": {"type": "str", "default": "vaettir"},
}

STOPS = (_docker.DockerError, _release.ReleaseError, OSError)  # what a person can do something about


def sentence(error: Exception, root: str) -> str:
    """What stopped the work."""
    if isinstance(error, OSError):
        return f"{error.filename or root}: {error.strerror or error}"
    return str(error)


def outlive_the_connection() -> None:
    """A terminal that goes away takes nobody along. Who ends the module has it undo what is under way."""

    def end(number: int, _frame: Any) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end)


def finish(module: AnsibleModule, work: Callable[[], dict[str, Any]]) -> None:
    """Answer with what the work returns, or with what stopped it as one sentence."""
    try:
        module.exit_json(**{"changed": False, **work()})
    except STOPS as error:
        module.fail_json(msg=sentence(error, module.params["root"]))
