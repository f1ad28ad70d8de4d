# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The steps of a transaction, seen on the server itself: a test is told when one begins, or the module dies there."""

from __future__ import annotations

import os
import select
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .shell import RigError

HOME = "/home/deploy/vaettir"
# In their order. Each is true as soon as an agent's transaction has begun the step.
STEPS = {
    "lock": "holders()",
    "copy": "files() != files_before",
    "build": "runs('compose', 'build', agent)",
    "release": "releases() - releases_before",
    "trial": "is_there(f'-{agent}-trial')",
    "switch": "os.path.exists(f'{folder}/pending')",
    "watched": "runs('flock', '-s', '8')",  # the container knows of the switch, and waits for its end
    "commit": "text(f'{folder}/current') != current_before",
}

_SCRIPT = """
import glob, json, os, select, signal, sys, time
agent, step, kill, seconds = {agent!r}, {step!r}, {kill!r}, {seconds!r}
os.chdir({home!r})
folder = f'releases/{{agent}}'

def text(path):
    try:
        with open(path, encoding='utf-8', errors='replace') as stream:
            return stream.read()
    except OSError:
        return ''

def files():
    return [text(path) for path in ('.env', f'proxy-configs/{{agent}}.conf.template', f'agents/{{agent}}.yml')]

def releases():
    return set(glob.glob(f'{{folder}}/2*'))

def is_there(end):
    paths = glob.glob('/var/lib/docker/containers/*/config.v2.json')
    return any(json.loads(text(path) or '{{}}').get('Name', '').endswith(end) for path in paths)

def runs(*words):
    commands = (text(path).split('\\0') for path in glob.glob('/proc/[0-9]*/cmdline'))
    return any(all(word in command for word in words) for command in commands)

def holders():
    if not os.path.isdir(folder):
        return []
    locks = [line.split() for line in text('/proc/locks').splitlines()]
    taken = [lock for lock in locks if lock[1] == 'FLOCK' and lock[3] == 'WRITE']
    return [int(lock[4]) for lock in taken if lock[5].endswith(f':{{os.stat(folder).st_ino}}')]

files_before, releases_before, current_before = files(), releases(), text(f'{{folder}}/current')
print('waiting', flush=True)
end = time.monotonic() + seconds
while not ({condition}):
    if time.monotonic() > end:
        sys.exit(f'the step {{step}} was not begun within {{seconds:g}} s')
    if select.select([sys.stdin], [], [], 0.002)[0]:
        sys.exit('nobody waits any more')
if kill:
    killed = holders()
    for pid in killed:
        os.kill(pid, signal.SIGKILL)
    if not killed:
        sys.exit(f'there was no module to be killed at the step {{step}}')
print('begun', flush=True)
"""


class Watch:
    """Waits on the server for a step."""

    def __init__(self, server: str, agent: str, step: str, kill: bool, seconds: float) -> None:
        self.limit = seconds + 10
        script = _SCRIPT.format(agent=agent, step=step, kill=kill, seconds=seconds, home=HOME, condition=STEPS[step])
        self.process = subprocess.Popen(
            ["docker", "exec", "-i", server, "python3", "-u", "-c", script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        self.told = b""
        self._read("waiting")

    def _read(self, word: str) -> None:
        """The next line is `word`. What came with it (the step may begin at once) waits for the next call."""
        stream, end = self.process.stdout, time.monotonic() + self.limit
        assert stream
        while b"\n" not in self.told and select.select([stream], [], [], max(0, end - time.monotonic()))[0]:
            more = os.read(stream.fileno(), 65536)
            if not more:
                break
            self.told += more
        line, _, rest = self.told.partition(b"\n")
        if line.decode().strip() != word:
            raise RigError(f"{self.process.args!r:.60}: {self.told.decode()[-2000:] or 'no answer'}")
        self.told = rest

    def begun(self) -> None:
        """Comes back when the step has begun; if the module was to be killed there, it is dead."""
        self._read("begun")


@contextmanager
def watch(server: str, agent: str, step: str, *, kill: bool = False, seconds: float = 120) -> Iterator[Watch]:
    """`kill`: SIGKILL for the module that holds the agent's lock, as soon as it has begun the step."""
    made = Watch(server, agent, step, kill, seconds)
    try:
        yield made
    finally:
        made.process.kill()
        made.process.communicate()
