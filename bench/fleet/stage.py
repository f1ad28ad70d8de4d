# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The servers, and who rolls out to them: a command each, measured from outside."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.rig import ca, fleet, images, playbook
from tests.rig.shell import ROOT, STATE, VENV, RigError, run

from . import recipe

TARGET = "https://second.ngrok-free.app"  # every agent's; the app behind it echoes
FORKS = 20  # of everybody who has such a number
BEFORE = "9cf024b"  # the last commit before a release was one call
SSH = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR")


@dataclass(frozen=True)
class Job:
    """What a run is to bring about."""

    servers: int  # how many names
    agents: int
    change: int = 3600  # the value in every conf


@dataclass
class Sample:
    seconds: float
    cpu: float  # seconds of the control node's
    memory: int  # bytes of the control node's, at most; shared pages once
    calls: int  # ssh sessions
    bytes: int  # over the servers' network interface, the tunnel's included
    status: int
    output: str = field(default="", repr=False)

    def row(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "output"}


def agent_names(count: int) -> list[str]:
    return [f"agent{number}" for number in range(1, count + 1)]


class Stage:
    """Real servers; where a job has more names than there are servers, several names are one server's."""

    def __init__(self, found: fleet.Fleet, folder: Path) -> None:
        self.fleet, self.folder = found, folder
        self.real = list(found.servers)
        for server in self.real:  # sshd says in its log which sessions there were
            told = "echo 'LogLevel VERBOSE' >/etc/ssh/sshd_config.d/fleet.conf && systemctl reload ssh"
            found.root(server, told)

    def each(self, work: Callable[[str], Any], servers: list[str] | None = None) -> list[Any]:
        with ThreadPoolExecutor(8) as pool:
            return list(pool.map(work, servers or self.real))

    def names(self, count: int) -> dict[str, str]:
        """Name and address."""
        return {f"s{index + 1}": self.fleet.servers[self.real[index % len(self.real)]] for index in range(count)}

    def reset(self) -> None:
        """Nothing of a contestant's is left, but for the images that servers had before."""
        kept = f"^({images.NGINX}|{images.TRAEFIK})$"
        script = (
            "docker ps -aq | xargs -r docker rm -fv >/dev/null; docker volume prune -f >/dev/null; "
            f"docker images --format '{{{{.Repository}}}}:{{{{.Tag}}}}' | grep -Ev '{kept}' | xargs -r docker rmi -f >/dev/null; "
            f"docker builder prune -af >/dev/null; docker network prune -f >/dev/null; "
            f"rm -rf {fleet.HOME} /home/deploy/{recipe.FOLDER} /home/deploy/.ansible"
        )
        self.each(lambda server: self.fleet.root(server, script, check=False))

    def counters(self) -> tuple[int, int]:
        """ssh sessions and bytes of all servers so far."""
        script = (
            "journalctl -u ssh -o cat | grep -c 'Starting session' || true; "
            "cat /sys/class/net/eth0/statistics/rx_bytes /sys/class/net/eth0/statistics/tx_bytes"
        )
        found = [list(map(int, told.split())) for told in self.each(lambda server: self.fleet.root(server, script))]
        return sum(one[0] for one in found), sum(one[1] + one[2] for one in found)

    def measure(self, command: list[str], environment: dict[str, str], limit: float) -> Sample:
        calls, size = self.counters()
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            begin = time.monotonic()
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            memory = Memory(process.pid)
            ended = threading.Timer(limit, os.killpg, (process.pid, signal.SIGKILL))
            ended.start()
            _pid, status, usage = os.wait4(process.pid, 0)
            seconds = time.monotonic() - begin
            ended.cancel()
            process.returncode = os.waitstatus_to_exitcode(status)
            output.seek(0)
            text = output.read()
        more_calls, more_size = self.counters()
        used = usage.ru_utime + usage.ru_stime
        return Sample(
            seconds, used, memory.end(), more_calls - calls, more_size - size, process.returncode, text[-4000:]
        )


class Memory:
    """The largest sum of a session's processes, looked at twice a second."""

    def __init__(self, session: int) -> None:
        self.session, self.most = session, 0
        self.ended = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()

    def _watch(self) -> None:
        while not self.ended.wait(0.5):
            self.most = max(self.most, sum(map(_held, _members(self.session))))

    def end(self) -> int:
        self.ended.set()
        self.thread.join()
        return self.most


def _members(session: int) -> list[str]:
    done = run(["ps", "-o", "pid=", "-s", str(session)], check=False)
    return done.stdout.split()


def _held(pid: str) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii").splitlines()
    except OSError:  # it has ended
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


# --- Who takes part ---------------------------------------------------------------------------------------------------

Command = Callable[[Stage, Job], tuple[list[str], dict[str, str]]]


@dataclass(frozen=True)
class Contestant:
    name: str
    title: str
    command: Command
    verifies: bool  # and so may have several names for one server: no two runs write the same files at once


def _ansible(collections: Path) -> Command:
    def command(stage: Stage, job: Job) -> tuple[list[str], dict[str, str]]:
        agents = [
            {"name": name, "target_url": TARGET, "read_timeout": job.change, "profile": "generic", "probe_path": "/ws"}
            for name in agent_names(job.agents)
        ]
        instances = [
            {"instance": name, "address": address, "user": "deploy", "identity_file": str(ca.SSH_KEY)}
            for name, address in stage.names(job.servers).items()
        ]
        path = stage.folder / "hosts.json"
        path.write_text(json.dumps(fleet.inventory(instances, {"vaettir_agents": agents})), encoding="utf-8")
        environment = {
            "ANSIBLE_COLLECTIONS_PATH": str(collections),
            "ANSIBLE_CALLBACKS_ENABLED": "locki.vaettir.report",
            "ANSIBLE_PIPELINING": "true",
            "ANSIBLE_FORKS": str(FORKS),
            "ANSIBLE_NOCOLOR": "1",
        }
        return [str(VENV / "bin" / "ansible-playbook"), "-i", str(path), playbook.DEPLOY], environment

    return command


def _before() -> Path:
    """The collection of that commit."""
    folder = STATE / "bench" / BEFORE
    collection = folder / "ansible_collections" / "locki" / "vaettir"
    if not collection.exists():
        collection.mkdir(parents=True)
        with subprocess.Popen(["git", "archive", BEFORE], cwd=ROOT, stdout=subprocess.PIPE) as archive:
            run(["tar", "-xf", "-", "-C", collection], stdin=archive.stdout)
        if archive.returncode:
            raise RigError(f"this checkout does not have the commit {BEFORE}: make it a full clone, or use --only.")
    return folder


def _written(stage: Stage, job: Job) -> Path:
    project = stage.folder / "project"
    run(["rm", "-rf", project])
    recipe.project(project, agent_names(job.agents), TARGET, job.change)
    return project


def _pyinfra(stage: Stage, job: Job) -> tuple[list[str], dict[str, str]]:
    data = {
        "ssh_user": "deploy",
        "ssh_key": str(ca.SSH_KEY),
        "ssh_known_hosts_file": os.devnull,
        "ssh_strict_host_key_checking": "off",
    }
    hosts = [(name, {**data, "ssh_hostname": address}) for name, address in stage.names(job.servers).items()]
    inventory = stage.folder / "inventory.py"
    inventory.write_text(f"servers = {hosts!r}\n", encoding="utf-8")
    words = [
        VENV / "bin" / "pyinfra",
        "-y",
        "--parallel",
        FORKS,
        inventory,
        Path(__file__).with_name("pyinfra_deploy.py"),
    ]
    environment = {
        "FLEET_PROJECT": str(_written(stage, job)),
        "FLEET_FOLDER": f"/home/deploy/{recipe.FOLDER}",
        "FLEET_BUILD_AND_UP": recipe.BUILD_AND_UP,
        "FLEET_ASKED": recipe.asked(agent_names(job.agents)),
    }
    return [str(word) for word in words], environment


def _shell(at_once: int) -> Command:
    """One connection for each server, which is the least there can be."""

    def command(stage: Stage, job: Job) -> tuple[list[str], dict[str, str]]:
        there = (
            f"mkdir -p {recipe.FOLDER} && tar -xf - -C {recipe.FOLDER} && cd {recipe.FOLDER} && "
            f"{recipe.BUILD_AND_UP} && {recipe.asked(agent_names(job.agents))}"
        )
        ssh = shlex.join(["ssh", "-i", str(ca.SSH_KEY), *SSH])
        one = f'tar -cf - -C {_written(stage, job)} . | {ssh} "deploy@$0" {shlex.quote(there)}'
        names = shlex.join(stage.names(job.servers).values())
        script = f"printf '%s\\n' {names} | xargs -P {at_once} -n 1 bash -o pipefail -c {shlex.quote(one)}"
        return ["bash", "-c", script], {}

    return command


def contestants() -> list[Contestant]:
    return [
        Contestant("ours", "this commit", _ansible(playbook.COLLECTIONS), True),
        Contestant("before", f"before the redesign ({BEFORE})", lambda *words: _ansible(_before())(*words), True),
        Contestant("pyinfra", "pyinfra", _pyinfra, False),
        Contestant("loop", "shell script, looped", _shell(1), False),
        Contestant("xargs", f"shell script, xargs -P {FORKS}", _shell(FORKS), False),
    ]
