# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What may be wrong with a server: refused before anything on it changes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from tests.rig import images, playbook, servers, snapshot
from tests.rig.shell import wait_for

from . import stand

PLUGIN = "/usr/libexec/docker/cli-plugins/docker-compose"
OLD_PLUGIN = """#!/bin/sh
[ "$1" = docker-cli-plugin-metadata ] || { echo 2.19.0; exit; }
echo '{"SchemaVersion": "0.1.0", "Vendor": "x", "Version": "v2.19.0"}'
"""


@contextlib.contextmanager
def around(spoil: str, fix: str) -> Iterator[None]:
    stand.shell(spoil)
    try:
        yield
    finally:
        stand.shell(fix)


def docker_down() -> AbstractContextManager[None]:
    return around("systemctl stop docker.socket docker", "systemctl reset-failed docker; systemctl start docker")


def user_outside() -> AbstractContextManager[None]:
    return around("gpasswd -d deploy docker >&2", "gpasswd -a deploy docker >&2")


def hidden(path: str) -> AbstractContextManager[None]:
    return around(f"mv {path} {path}.hidden", f"mv {path}.hidden {path}")


def old_plugin() -> AbstractContextManager[None]:
    folder = "/home/deploy/.docker"
    spoil = f"mkdir -p {folder}/cli-plugins; cat > {folder}/cli-plugins/docker-compose <<'X'\n{OLD_PLUGIN}X\n"
    return around(f"{spoil}chmod -R a+rx {folder}; chown -R deploy: {folder}", f"rm -r {folder}")


@contextlib.contextmanager
def bookworm() -> Iterator[None]:
    """A Debian 12 without Docker, as far as a look at it tells."""
    with hidden("/usr/bin/docker"), hidden("/usr/lib/os-release"):
        stand.shell("printf 'ID=debian\nVERSION_ID=\"12\"\n' > /usr/lib/os-release")
        yield


@contextlib.contextmanager
def listener(port: int, address: str, user: str) -> Iterator[None]:
    script = f"exec python3 -m http.server --bind {address} {port} >/dev/null 2>&1"
    stand.shell(f"systemd-run -q --collect --unit listener -p User={user} bash -c '{script}'")
    try:
        wait_for("the listener", lambda: str(port) in stand.shell(f"ss -Hltn 'sport = :{port}'"), 10)
        yield
    finally:
        stand.shell("systemctl stop listener")


def container(port: int) -> AbstractContextManager[None]:
    start = f"docker run -d --name squatter -p {port}:80 --entrypoint sleep {images.NGINX} 600"
    return around(start, "docker rm -f squatter")


def rival() -> AbstractContextManager[None]:
    """Somebody's container whose labels claim the agent's name, too."""
    labels = "--label traefik.enable=true --label 'traefik.http.routers.r.rule=Host(`ocapistaine.vaettir.localhost`)'"
    return around(f"docker run -d --name rival {labels} --entrypoint sleep {images.NGINX} 600", "docker rm -f rival")


def running_traefik(environment: str) -> AbstractContextManager[None]:
    start = f"docker run -d --name vaettir-traefik-1 -e {environment} {images.TRAEFIK} traefik"
    return around(start, "docker rm -f vaettir-traefik-1")


def small_disk(size: str) -> AbstractContextManager[None]:
    mount = f"mkdir {stand.FOLDER}; mount -t tmpfs -o size={size},uid=deploy tmpfs {stand.FOLDER}"
    return around(mount, f"umount {stand.FOLDER}; rmdir {stand.FOLDER}")


def slow_clock() -> AbstractContextManager[None]:
    """As Python reads it: the machine's own is its host's, too."""
    path = "$(python3 -c 'import site; print(site.getsitepackages()[0])')/slow.pth"
    line = "import time; time.time = lambda real=time.time: real() - 3600"
    return around(f"echo '{line}' > {path}", f"rm {path}")


def strict_engine() -> AbstractContextManager[None]:
    """An Engine that refuses old versions of its API, as 29 does."""
    folder = "/etc/systemd/system/docker.service.d"
    setting = r"[Service]\nEnvironment=DOCKER_MIN_API_VERSION=1.44\n"
    again = servers.RESTART_DOCKER
    return around(f"mkdir {folder}; printf '{setting}' > {folder}/api.conf; {again}", f"rm -r {folder}; {again}")


def owners_file(name: str, content: str = "services: {}") -> AbstractContextManager[None]:
    write = f"cat > {stand.FOLDER}/{name} <<'END'\n{content}\nEND\n"
    return around(f"mkdir -p {stand.FOLDER}; {write}chown -R deploy: {stand.FOLDER}", f"rm -r {stand.FOLDER}")


@dataclass(frozen=True)
class Case:
    id: str
    spoiled: Callable[[], AbstractContextManager[None]]
    parts: tuple[str, ...]
    extra: dict[str, Any] = field(default_factory=dict)
    options: tuple[str, ...] = ()


def adopted(name: str, content: str, *parts: str) -> Case:
    """stack_manage: false, where the owner's compose file is not one that a deploy could use."""
    spoiled = partial(owners_file, "docker-compose.yml", content) if content else contextlib.nullcontext
    return Case(f"adopt-{name}", spoiled, ("on vaettir-badinput", *parts), {"stack_manage": False})


INSTALL = {"stack_install_docker": True}
TRAEFIK = "name: vaettir\nservices:\n  traefik: {image: traefik}\n"
CASES = [
    Case("daemon-down", docker_down, ("Docker's daemon on", "does not answer", "systemctl start docker")),
    Case("daemon-down-install", docker_down, ("does not answer", "systemctl start docker"), INSTALL),
    Case("user-not-let-in", user_outside, ("does not answer user deploy", "usermod -aG docker deploy")),
    Case(
        "docker-missing",
        lambda: hidden("/usr/bin/docker"),
        ("is not installed", "set stack_install_docker to true"),
        options=("--check",),
    ),
    Case("docker-missing-bookworm", bookworm, ("stack_install_docker", "'debian 12'", "docs.docker.com"), INSTALL),
    Case("compose-missing", lambda: hidden(PLUGIN), ("Docker Compose on", "is missing", "docker-compose-plugin")),
    Case("compose-old", old_plugin, ("Docker Compose on", "is 2.19.0", "2.20 or later")),
    Case("port-80", lambda: listener(80, "0.0.0.0", "root"), ("stack_http_port 80 is taken",), {"stack_http_port": 80}),
    Case(
        "port-443-local",
        lambda: listener(443, "127.0.0.1", "root"),
        ("stack_https_port 443 is taken",),
        {"stack_https_port": 443},
    ),
    Case("port-ipv6", lambda: listener(8443, "::", "root"), ("stack_https_port 8443 is taken",)),
    Case(
        "port-of-own-program",
        lambda: listener(8080, "0.0.0.0", "deploy"),
        ("stack_http_port 8080 is taken by python3",),
    ),
    Case(
        "port-of-container",
        lambda: container(443),
        ("stack_https_port 443 is taken by container squatter",),
        {"stack_https_port": 443},
    ),
    Case(
        "known-rival-check",
        rival,
        ("(r of rival)", "out of the other container's labels", "stack_insist=router_twice`"),
        options=("--check",),
    ),
    Case(
        "known-traefik-runs",
        partial(running_traefik, "GODEBUG=http2xconnect=1"),
        ("breaks them", "remove http2xconnect=1 from GODEBUG in vaettir-traefik-1", "stack_insist=traefik_http2`"),
    ),
    Case(
        "known-disk",
        partial(small_disk, "100m"),
        (f"the disk of {stand.FOLDER} is nearly full", "`docker system prune", "stack_insist=disk_low`"),
    ),
    Case(
        "known-clock",
        slow_clock,
        ("clock", "certificates count as expired", "timedatectl set-ntp true", "stack_insist=clock_wrong`"),
    ),
    Case(
        "known-engine",
        strict_engine,
        ("too old for the Docker Engine (v3.6.0 ", "set stack_traefik_image to", "stack_insist=traefik_engine`"),
        {"stack_traefik_image": "traefik:v3.6.0"},
    ),
    Case(
        "owners-compose.yaml",
        partial(owners_file, "compose.yaml"),
        ("compose.yaml", "never overwritten", "docker-compose.override.yml"),
    ),
    adopted("no-file", "", "no compose file of its owner's that works (there is none)"),
    adopted("bad-yaml", "services: [", "that works (yaml: "),
    adopted("missing-variable", TRAEFIK + "  a: {image: '${TAG:?set it}'}", "required variable TAG is missing"),
    adopted("no-traefik", "services:\n  caddy: {image: caddy}", "has no service 'traefik' (there are caddy)"),
    adopted("other-project", TRAEFIK.replace("vaettir", "web"), "the compose project 'web'", "write `name: vaettir`"),
    adopted("no-service", TRAEFIK, "has no service 'ocapistaine' with a `build`"),
    adopted(
        "container-name",
        TRAEFIK + "  ocapistaine: {build: ., container_name: proxy}",
        "container_name 'proxy' of service ocapistaine",
        "leave that line out",
    ),
]


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_refused_before_anything_changes(case: Case, server: str) -> None:
    with case.spoiled():
        before = snapshot.take(server)
        done = playbook.run(stand.DEPLOY, *case.options, extra={"agent": "ocapistaine", **case.extra})
        assert stand.difference(before) == []
    stand.refused(done, server, *case.parts)


def test_who_insists_is_warned_and_goes_on(server: str) -> None:
    """Of names that lead nowhere as well, unless the control node is not to ask."""
    names = [("ocapistaine", "a.nowhere.invalid", True), ("other", "b.nowhere.invalid", False)]
    agents = [{"name": name, "extra_domains": [domain], "from_outside": asked} for name, domain, asked in names]
    acme = {"stack_tls": "acme", "stack_acme_email": "a@vaettir.example"}
    with rival():
        done = playbook.run(
            stand.DEPLOY, "--check", extra={"stack_insist": ["router_twice"], "vaettir_agents": agents, **acme}
        )
    assert done.status == 0, done
    warned = [event.message for event in done.of("ok", server) if "To fix it: " in event.message]
    assert len(warned) == 1, done
    assert "(r of rival)" in warned[0]
    assert "a.nowhere.invalid has no address" in warned[0]
    assert "b.nowhere.invalid" not in warned[0]
    assert done.changed, done
