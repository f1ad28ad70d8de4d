# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Starts, fills and removes the containers that play servers and the world outside them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from . import ca, images, machine
from .edge_client import Edge, EdgeError
from .shell import LABEL, STATE, RigError, digest, run, say, wait_for

SPEC_LABEL = f"{LABEL}.spec"  # digest of what a container was made from: the same again means it is kept
CA_IN_OUTSIDE = "/etc/rig"
PEBBLE_SETTINGS = "/etc/pebble"
CONTROL_PORT = 4040
# On a server, with other settings; systemd refuses more than a few starts in a minute.
RESTART_DOCKER = "systemctl daemon-reload; systemctl reset-failed docker; systemctl restart docker"

# What systemd and an inner dockerd need; --privileged is refused by Docker 20.10 where CAP_SYS_RESOURCE is missing.
_SERVER_OPTIONS = (
    # SYS_PTRACE: what runs in a container as somebody else than root can be joined (`docker exec`)
    *("--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "--cap-add", "SYS_PTRACE"),
    *("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"),
    *("-t", "--tmpfs", "/run", "--tmpfs", "/run/lock"),
)


def outside_up(name: str) -> dict[str, Any]:
    """Starts the outside world (kept if it runs as wanted); returns its name, address and control URL."""
    ca.ensure()

    def put_ca() -> None:
        run(["docker", "cp", f"{ca.FOLDER}/.", f"{name}:{CA_IN_OUTSIDE}"])

    changed = _container(name, "outside", images.OUTSIDE, [], put_ca, digest([ca.FOLDER]))
    url = control(name)
    _wait(name, "the outside world", lambda: _healthy(url), 60)
    return {"name": name, "ip": address(name), "control": url, "changed": changed}


def apps_up(name: str) -> dict[str, Any]:
    """Starts the laptop with the apps of all profiles (kept if it runs as wanted); each has a port of its own."""
    changed = _container(name, "apps", images.APPS, [])
    _wait(name, "the apps", lambda: "apps: ready" in run(["docker", "logs", name]).stdout.splitlines(), 120)
    return {"name": name, "ip": address(name), "changed": changed}


def pebble_up(name: str, dns: str, settings: Path) -> dict[str, Any]:
    """Starts the certificate authority with the settings of that folder (kept if it runs as wanted)."""

    def put_settings() -> None:
        run(["docker", "cp", f"{settings}/.", f"{name}:{PEBBLE_SETTINGS}"])

    changed = _container(name, "pebble", images.PEBBLE, ["--dns", dns], put_settings, digest([settings]))
    _wait(name, "Pebble", lambda: "ACME directory" in run(["docker", "logs", name]).stdout, 30)
    return {"name": name, "ip": address(name), "changed": changed}


def control(outside: str) -> str:
    """The URL of an outside world's control API."""
    return f"http://{address(outside)}:{CONTROL_PORT}"


def server_up(
    name: str, dns: str, publish: Sequence[str] = (), bare: bool = False, newer: bool = False
) -> dict[str, Any]:
    """Starts a server (kept if it runs as wanted) and waits for its systemd, Docker and ssh; returns its address."""
    ca.ensure()
    image = images.SERVER_BARE if bare else images.SERVER_NEXT if newer else images.SERVER
    options = [*_SERVER_OPTIONS, "--dns", dns, *(word for port in publish for word in ("-p", port))]
    if run(["docker", "info", "-f", "{{.CgroupVersion}}"]).stdout.strip() == "2":
        # The container's own, writable part of the tree; the entry point remounts it.
        options += ["--cgroupns", "private"]
    changed = _container(name, "server", image, options)

    def inside(*command: str, **more: Any) -> subprocess.CompletedProcess[str]:
        return run(["docker", "exec", "-i", name, *command], check=False, **more)

    states = ("running", "degraded")
    _wait(name, "systemd", lambda: inside("systemctl", "is-system-running").stdout.strip() in states, 60)
    _wait(name, "sshd", lambda: inside("systemctl", "is-active", "--quiet", "ssh").returncode == 0, 30)
    if not bare:
        _wait(name, "its dockerd", lambda: inside("docker", "info").returncode == 0, 60)
    key = ca.SSH_KEY.with_suffix(".pub").read_text(encoding="ascii")
    script = "umask 077; mkdir -p ~/.ssh; cat > ~/.ssh/authorized_keys"
    run(["docker", "exec", "-i", "-u", "deploy", name, "bash", "-lc", f"cd; HOME=/home/deploy; {script}"], input=key)
    return {"name": name, "ip": address(name), "changed": changed}


def down(names: Sequence[str]) -> dict[str, Any]:
    """Removes containers of ours with their volumes; those that are not there are no fault."""
    ours = set(list_ours())
    there = [name for name in names if name in ours]
    if there:
        run(["docker", "rm", "-fv", *there])
    return {"changed": bool(there)}


def list_ours() -> list[str]:
    """The names of all containers of the rig, running or not."""
    listing = run(["docker", "ps", "-a", "--filter", f"label={SPEC_LABEL}", "--format", "{{.Names}}"])
    return listing.stdout.split()


def load(servers: Sequence[str], wanted: Sequence[str]) -> dict[str, Any]:
    """Hands images of this machine to servers, each only where it is missing or another; all servers at once."""
    here = {tag: _fingerprint([], tag) for tag in wanted}
    for tag, found in here.items():
        if not found:
            raise RigError(f"{tag} is not on this machine; run `python -m tests.rig images`")

    def one(server: str) -> list[str]:
        missing = [tag for tag in wanted if _fingerprint(["docker", "exec", server], tag) != here[tag]]
        if missing:
            say(f"{server}: loading {' '.join(missing)}")
            with subprocess.Popen(["docker", "save", *missing], stdout=subprocess.PIPE) as source:
                run(["docker", "exec", "-i", server, "docker", "load", "--quiet"], stdin=source.stdout)
            if source.returncode:
                raise RigError(f"docker save {' '.join(missing)} failed")
        return missing

    with ThreadPoolExecutor(len(servers)) as pool:
        return {"changed": any(list(pool.map(one, servers)))}


def clean() -> None:
    """Leaves nothing of ours behind: containers, networks, volumes, images, the daemon that we started, .rig."""
    if shutil.which("docker") and run(["docker", "info"], check=False).returncode == 0:
        # A test's own containers inherit the label from the image; one with another name is somebody's, and stays.
        made_from = run(["docker", "ps", "-a", "--filter", f"label={LABEL}", "--format", "{{.Names}}"]).stdout.split()
        names = {*list_ours(), *(name for name in made_from if name.startswith("vaettir-"))}
        if names:
            say(f"removing {' '.join(sorted(names))}")
            run(["docker", "rm", "-fv", *names])
        for kind in ("network", "volume"):
            left = run(["docker", kind, "ls", "-q", "--filter", f"label={LABEL}"]).stdout.split()
            if left:
                run(["docker", kind, "rm", *left])
        images.remove_all()
    machine.stop_docker()
    shutil.rmtree(STATE, ignore_errors=True)


def _container(
    name: str,
    role: str,
    image: str,
    options: Sequence[str],
    before_start: Callable[[], None] | None = None,
    more: str = "",
) -> bool:
    """One container of ours, made anew if it was made from something else; tells whether anything was done."""
    current = images.image_id(image)
    if not current:
        raise RigError(f"{image} is not on this machine; run `python -m tests.rig images`")
    spec = digest([current, role, more, *options])
    template = f'{{{{.State.Running}}}} {{{{index .Config.Labels "{SPEC_LABEL}"}}}}'
    found = run(["docker", "inspect", "--type", "container", "-f", template, name], check=False)
    if found.returncode == 0:
        running, *label = found.stdout.split()
        if not label:
            raise RigError(f"a container {name} that is not ours is in the way")
        if label == [spec]:
            if running != "true":
                say(f"{name}: starting")
                run(["docker", "start", name])
            return running != "true"
        say(f"{name}: made from something else; replacing it")
        run(["docker", "rm", "-fv", name])
    else:
        say(f"{name}: starting")
    labels = ["--label", f"{LABEL}={role}", "--label", f"{SPEC_LABEL}={spec}"]
    run(["docker", "create", "--name", name, "--hostname", name, *labels, *options, image])
    if before_start:
        before_start()
    run(["docker", "start", name])
    return True


def address(name: str) -> str:
    """Of a container, as the others reach it."""
    networks = json.loads(run(["docker", "inspect", "-f", "{{json .NetworkSettings.Networks}}", name]).stdout)
    return str(networks["bridge"]["IPAddress"])


def _fingerprint(prefix: Sequence[str], tag: str) -> str:
    """The same on any daemon: ids differ between Docker's two image stores."""
    template = "{{.Created}} {{json .RootFS.Layers}}"
    return run([*prefix, "docker", "image", "inspect", "-f", template, tag], check=False).stdout.strip()


def _healthy(control: str) -> bool:
    try:
        Edge(control).wait(0)
    except EdgeError:
        return False
    return True


def _wait(name: str, what: str, ready: Callable[[], bool], seconds: float) -> None:
    """Waits for something inside a container; shows the container's log if it does not come."""

    def alive_and_ready() -> bool:
        if ready():
            return True
        if run(["docker", "inspect", "-f", "{{.State.Running}}", name]).stdout.strip() != "true":
            raise RigError(f"{name} ended")
        return False

    try:
        wait_for(f"{name}: {what}", alive_and_ready, seconds)
    except RigError as error:
        log = run(["docker", "logs", "--tail", "40", name], check=False)
        raise RigError(f"{error}\n{log.stdout}{log.stderr}") from error
