# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Makes a machine ready to run the rig: Debian packages, Docker, the Python environment. Standard library only."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import pwd
import shutil
import subprocess
import sys
from pathlib import Path

from .shell import ROOT, STATE, VENV, RigError, digest, only_one, run, say, wait_for

DOCKERD = STATE / "dockerd.json"  # the daemon that we started ourselves, so that exactly that one is stopped
DOCKER_SOCKET = Path("/var/run/docker.sock")
DOCKER_SERVICES = ("docker.socket", "docker.service", "containerd.service")
SYSTEMD = Path("/run/systemd/system")
PACKAGES = {"mmdebstrap": "mmdebstrap", "ssh": "openssh-client", "xz": "xz-utils"}  # command: Debian package


def setup(also: list[str]) -> None:
    """Everything a run needs; when all is there, this changes nothing and takes a moment."""
    if sys.version_info < (3, 11):  # noqa: UP036, it is what tells the user
        raise RigError(
            f"Python 3.11 or later is needed, this is {platform.python_version()}: PYTHON=python3.x make setup"
        )
    with only_one("setup"):
        missing = [package for command, package in PACKAGES.items() if not shutil.which(command) and is_debian()]
        if not importlib.util.find_spec("ensurepip"):
            missing.append("python3-venv")
        apt_install([*missing, *(package for package in also if not _installed(package))])
        _ensure_docker()
        _ensure_environment()
        _ensure_collection_link()


def is_debian() -> bool:
    """Debian itself; a derivative's mirror has other suites."""
    return Path("/etc/os-release").exists() and platform.freedesktop_os_release().get("ID") == "debian"


def debian_mirror() -> str:
    """The mirror that this machine's own apt uses (nothing on another system)."""
    if not is_debian():
        return ""
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    wanted = ["apt-get", "indextargets", "--format", "$(CODENAME) $(COMPONENT) $(REPO_URI)", "Identifier: Packages"]
    for line in run(wanted).stdout.splitlines():
        name, component, address = line.split(" ", 2)
        if (name, component) == (codename, "main"):
            if address.startswith("mirror+file:"):  # cloud images: a file with one mirror per line
                address = Path(address.removeprefix("mirror+file:").rstrip("/")).read_text(encoding="utf-8").split()[0]
            return address
    raise RigError(f"apt knows no mirror of {codename}/main: check /etc/apt and run apt-get update")


def apt_install(packages: list[str]) -> None:
    """Installs Debian packages, saying so first."""
    if not packages:
        return
    if not shutil.which("apt-get"):
        raise RigError(f"please install: {' '.join(packages)} (this is no Debian, so nothing is installed by itself)")
    say(f"installing Debian packages: {' '.join(packages)}")
    apt = [*as_root(), "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-q", "-o", "DPkg::Lock::Timeout=300"]
    if run(["apt-get", "-s", "install", "--no-install-recommends", *packages], check=False).returncode:
        run([*apt, "update"])
    install = [*apt, "install", "-y", "--no-install-recommends", *packages]
    if run(install, check=False).returncode:  # an index that is too old names versions that are gone
        run([*apt, "update"])
        run(install)


def stop_docker() -> None:
    """Stops the daemon that `setup` started, and no other; takes away the bridge that a stopped one leaves."""
    if not DOCKERD.exists():
        return
    noted = json.loads(DOCKERD.read_text(encoding="utf-8"))
    if "services" in noted:
        say(f"stopping the services that we started: {' '.join(noted['services'])}")
        run([*as_root(), "systemctl", "stop", *noted["services"]], check=False)  # not every system has all of them
    elif _birth(noted["pid"]) == noted["birth"]:
        say(f"stopping the dockerd that we started (pid {noted['pid']})")
        run([*as_root(), "kill", str(noted["pid"])])
        wait_for("the end of dockerd", lambda: not _birth(noted["pid"]), 60)
    DOCKERD.unlink()
    if Path("/sys/class/net/docker0").exists() and shutil.which("ip") and not _docker_answers():
        run([*as_root(), "ip", "link", "delete", "docker0"], check=False)


def as_root() -> list[str]:
    """What stands before a command that only root may run."""
    if os.geteuid() == 0:
        return []
    if not shutil.which("sudo"):
        raise RigError("this needs root, and there is no sudo")
    return ["sudo"]


def _installed(package: str) -> bool:
    return run(["dpkg-query", "-W", "-f", "${db:Status-Status}", package], check=False).stdout == "installed"


def _docker_answers(*prefix: str) -> bool:
    return bool(shutil.which("docker")) and run([*prefix, "docker", "info"], check=False).returncode == 0


def _ensure_docker() -> None:
    """A working daemon is used as it is; else Debian's is installed and started."""
    if _docker_answers():
        return
    if os.environ.get("DOCKER_HOST"):
        raise RigError(f"DOCKER_HOST={os.environ['DOCKER_HOST']} does not answer: start it, or unset DOCKER_HOST")
    if SYSTEMD.is_dir() and not _active("docker.service"):
        idle = [name for name in DOCKER_SERVICES if not _active(name)]
        DOCKERD.write_text(json.dumps({"services": idle}), encoding="ascii")
    user = pwd.getpwuid(os.geteuid()).pw_name
    joined = False
    if not shutil.which("dockerd", path=f"{os.environ['PATH']}:/usr/sbin"):
        member = os.geteuid() != 0
        join = f", and {user} will join the group docker" if member else ""
        say(f"there is no Docker: Debian's docker.io will be installed and started{join}")
        # Debian 13 packs the client apart; the name is unknown to 12.
        apt_install(["docker.io", "iptables", *(["docker-cli"] if _apt_knows("docker-cli") else [])])
        if member:
            run([*as_root(), "usermod", "-aG", "docker", user])
            joined = True
    if not DOCKER_SOCKET.exists() or os.access(DOCKER_SOCKET, os.W_OK):
        _start_docker()
    if joined and DOCKER_SOCKET.exists():
        # The group counts from the next login; until then the socket is the user's own.
        run([*as_root(), "chown", user, DOCKER_SOCKET])
    if not _docker_answers():
        raise RigError(
            f"Docker runs, but {user} may not use it yet: membership of the group docker"
            f" (sudo usermod -aG docker {user}) counts from the next login. Without one: sg docker -c 'make demo'"
        )


def _start_docker() -> None:
    """By systemd where there is one, else by hand."""
    if _docker_answers(*as_root()):
        return
    if SYSTEMD.is_dir():
        say("starting the service docker")
        run([*as_root(), "systemctl", "start", "docker"])
        wait_for("Docker", lambda: _docker_answers(*as_root()), 60)
        return
    say("starting dockerd by hand (no systemd here); its log: .rig/dockerd.log")
    with (STATE / "dockerd.log").open("ab") as log:
        daemon = subprocess.Popen(
            [*as_root(), "env", f"PATH={os.environ['PATH']}:/usr/sbin:/sbin", "dockerd"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            cwd="/",
        )

    def ready() -> bool:
        if daemon.poll() is not None:
            raise RigError(f"dockerd ended: {(STATE / 'dockerd.log').read_text(errors='replace')[-1500:]}")
        return _docker_answers(*as_root())

    wait_for("dockerd", ready, 60)
    pid = int(Path("/var/run/docker.pid").read_text(encoding="ascii"))
    DOCKERD.write_text(json.dumps({"pid": pid, "birth": _birth(pid)}), encoding="ascii")


def _apt_knows(package: str) -> bool:
    if not run(["apt-cache", "policy", "docker.io"]).stdout:  # no index yet
        run([*as_root(), "apt-get", "-q", "update"])
    return run(["apt-cache", "show", package], check=False).returncode == 0


def _active(service: str) -> bool:
    return run(["systemctl", "is-active", "--quiet", service], check=False).returncode == 0


def _birth(pid: int) -> str:
    """A process's start time, which tells it from a later one with the same number; empty when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


def _ensure_environment() -> None:
    """`.venv` from requirements.txt; further packages are added to it, another Python makes it anew."""
    base = Path(sys.executable) if sys.prefix == sys.base_prefix else Path(sys.base_prefix, "bin", "python3")
    wanted = [digest([platform.python_version(), sys.base_prefix]), digest([ROOT / "requirements.txt"])]
    stamp = VENV / "rig-stamp"
    found = stamp.read_text(encoding="ascii").split() if stamp.exists() else []
    if found == wanted:
        return
    say("making .venv from requirements.txt")
    if found[:1] != wanted[:1]:
        run([base, "-m", "venv", "--clear", VENV])
    pip: list[str | Path] = [
        VENV / "bin" / "python",
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
    ]
    run([*pip, "--require-hashes", "-r", ROOT / "requirements.txt"])
    stamp.write_text(" ".join(wanted), encoding="ascii")


def _ensure_collection_link() -> None:
    """The checkout under its collection name: a checkout does not find its own roles by their full name otherwise."""
    link = ROOT / ".collections" / "ansible_collections" / "locki" / "vaettir"
    if link.exists() and not link.is_symlink():
        raise RigError(f"{link} is an installed copy of the collection: remove it, so that the checkout itself is used")
    if not link.is_symlink():
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to("../../..")
