# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors

from __future__ import annotations

import getpass
import multiprocessing
import os
import platform
from pathlib import Path
from typing import Any


def _text(path: str) -> str:
    """Empty where there is no /proc, or no such process."""
    try:
        return Path(path).read_bytes().replace(b"\0", b" ").decode("utf-8", "replace").strip()
    except OSError:
        return ""


def _started(pid: int) -> str:
    """The kernel's 22nd field; the second one, the program's name, may hold anything."""
    fields = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return fields[19] if len(fields) > 19 else ""


def _boot() -> str:
    """What counts the processes: this boot, and in it this container."""
    boot = _text("/proc/sys/kernel/random/boot_id")
    namespace = Path("/proc/self/ns/pid")
    return f"{boot} {namespace.readlink()}" if boot and namespace.is_symlink() else boot


def this_run(_input: Any = None) -> dict[str, Any]:
    # A template is filled in by the playbook's process or by a worker, which it has forked.
    playbook = multiprocessing.parent_process()
    pid = playbook.pid if playbook and playbook.pid else os.getpid()
    return {
        "user": getpass.getuser(),
        "node": platform.node(),
        "pid": pid,
        "started": _started(pid),
        "boot": _boot(),
    }


def run_is_over(lock: dict[str, Any]) -> bool:
    if not lock or lock.get("node") != platform.node() or (lock.get("boot") or "") != _boot():
        return False  # nobody can tell from here
    try:
        os.kill(int(lock["pid"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    if not _boot():
        return False
    # Another program, or another playbook, may have the number by now; a dead one not yet fetched has no command line.
    return "ansible" not in _text(f"/proc/{lock['pid']}/cmdline") or _started(int(lock["pid"])) != lock.get("started")


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"run_is_over": run_is_over, "this_run": this_run}
