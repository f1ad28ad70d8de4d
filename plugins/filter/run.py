# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors

from __future__ import annotations

import getpass
import multiprocessing
import os
import platform
from pathlib import Path
from typing import Any


def this_run(_input: Any = None) -> dict[str, Any]:
    # A template is filled in by the playbook's process or by a worker, which it has forked.
    playbook = multiprocessing.parent_process()
    return {
        "user": getpass.getuser(),
        "node": platform.node(),
        "pid": playbook.pid if playbook else os.getpid(),
    }


def run_is_over(lock: dict[str, Any]) -> bool:
    if not lock or lock.get("node") != platform.node():
        return False  # nobody can tell from here
    try:
        os.kill(int(lock["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    if not Path("/proc/self/cmdline").exists():
        return False
    try:
        # Another program may have the number by now; one that is dead and not yet fetched has no command line.
        return b"ansible" not in Path(f"/proc/{lock['pid']}/cmdline").read_bytes()
    except OSError:
        return True


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"run_is_over": run_is_over, "this_run": this_run}
