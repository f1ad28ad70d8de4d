# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What every part of the rig needs: the checkout's folders, a progress line, a command, a digest."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
STATE = ROOT / ".rig"
VENV = ROOT / ".venv"
LABEL = "vaettir-rig"  # on every container, image, network and volume of ours, so that all can be found and removed

_started = time.monotonic()


class RigError(Exception):
    """A sentence for the person at the keyboard; no traceback."""


def say(text: str) -> None:
    """One progress line, on stderr: stdout is for results."""
    print(f"[{time.monotonic() - _started:5.1f}s] {text}", file=sys.stderr, flush=True)


def run(command: Sequence[str | Path], *, check: bool = True, **options: Any) -> subprocess.CompletedProcess[str]:
    """A command with its output captured; a failure shows that output."""
    options.setdefault("stdout", subprocess.PIPE)
    options.setdefault("stderr", subprocess.PIPE)
    words = [str(word) for word in command]
    try:
        done = subprocess.run(words, check=False, text=True, **options)
    except FileNotFoundError as error:
        raise RigError(f"{words[0]} is not installed; run `make setup`") from error
    if check and done.returncode:
        output = "\n".join(((done.stdout or "") + (done.stderr or "")).splitlines()[-30:])
        raise RigError(f"{' '.join(words)[:300]}: exit status {done.returncode}\n{output}")
    return done


@contextlib.contextmanager
def streamed(
    command: Sequence[str | Path], limit: float, end: Callable[[subprocess.Popen[str]], object], **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """A command in a group of its own, whose lines are read as they come; `end` stops one that takes too long."""
    with subprocess.Popen(
        [str(word) for word in command],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        start_new_session=True,
        **options,
    ) as process:
        late = threading.Timer(limit, end, [process])
        late.start()
        try:
            yield process
        finally:
            late.cancel()


def wait_for(what: str, ready: Any, seconds: float, pause: float = 0.2) -> None:
    """Asks `ready()` until it says yes."""
    end = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > end:
            raise RigError(f"{what} was not ready after {seconds:.0f} s")
        time.sleep(pause)


def end_tree(pid: int) -> None:
    """A process with all it started: Ansible's workers lead sessions of their own, so a group would not do."""
    parents: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents.setdefault(int(path.read_text().rsplit(")", 1)[1].split()[1]), []).append(int(path.parent.name))
    tree = [pid]
    for member in tree:
        tree += parents.get(member, [])
    for member in tree:
        with contextlib.suppress(ProcessLookupError):
            os.kill(member, signal.SIGKILL)


@contextlib.contextmanager
def only_one(what: str) -> Iterator[None]:
    """Two processes (or threads) that would make the same thing wait for each other."""
    STATE.mkdir(exist_ok=True)
    with (STATE / f"{what}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def digest(parts: Iterable[str | bytes | Path]) -> str:
    """One digest over strings and files (a folder counts with all its files and their modes)."""
    total = hashlib.sha256()
    for part in parts:
        if isinstance(part, Path):
            for path in sorted(part.rglob("*")) if part.is_dir() else [part]:
                if path.is_file() and "__pycache__" not in path.parts:
                    data = path.read_bytes()
                    total.update(
                        f"{path.relative_to(ROOT)} {path.stat().st_mode & 0o111} {len(data)}\0".encode() + data
                    )
        else:
            data = part.encode() if isinstance(part, str) else part
            total.update(f"{len(data)}\0".encode() + data)
    return total.hexdigest()[:32]
