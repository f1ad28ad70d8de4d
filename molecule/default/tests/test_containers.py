# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What each container may do: section 5 of the CIS Docker Benchmark, as docker-bench-security checks it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.rig.transcript import Transcript

TRAEFIK, DOCKER_API = "vaettir-traefik-1", "vaettir-docker-api-1"
AGENTS = ["vaettir-ocapistaine-1", "vaettir-second-1", "vaettir-offline-1"]
CONTAINERS = [TRAEFIK, DOCKER_API, *AGENTS]
HOSTS_FOLDERS = ("/", "/boot", "/dev", "/etc", "/lib", "/proc", "/sys", "/usr", "/var/run", "/run")
# Beyond these a container has none.
NEEDED = {
    TRAEFIK: {"DAC_OVERRIDE"},  # certificates and keys are the login user's
    DOCKER_API: {"SETGID"},  # nginx sets its worker's groups
}
Container = dict[str, Any]


def ports(found: Container) -> list[dict[str, str]]:
    return [binding for bound in (found["HostConfig"]["PortBindings"] or {}).values() for binding in bound]


def option(found: Container, word: str) -> bool:
    return any(word in one for one in found["HostConfig"]["SecurityOpt"] or [])


def sources(found: Container) -> set[str]:
    return {mount["Source"] for mount in found["Mounts"] if mount["Type"] == "bind"}


# What is wrong with a container, by the number and the words of the benchmark.
CHECKS: dict[str, Callable[[Container], Any]] = {
    "5.1 AppArmor is off": lambda one: option(one, "apparmor=unconfined"),
    "5.3 capabilities that nothing needs": lambda one: (
        one["HostConfig"]["CapDrop"] != ["ALL"]
        or set(one["HostConfig"]["CapAdd"] or []) - NEEDED.get(one["Name"].lstrip("/"), set())
    ),
    "5.4 privileged": lambda one: one["HostConfig"]["Privileged"],
    "5.5 a folder of the host's system": lambda one: any(
        source in HOSTS_FOLDERS or source.startswith(("/etc/", "/dev/")) for source in sources(one)
    ),
    "5.7 a privileged port": lambda one: [port for port in ports(one) if int(port["HostPort"]) < 1024],
    "5.9 the host's network": lambda one: one["HostConfig"]["NetworkMode"] == "host",
    "5.10 no memory limit": lambda one: not one["HostConfig"]["Memory"],
    "5.11 no CPU shares": lambda one: not one["HostConfig"]["CpuShares"],
    "5.12 a writable root": lambda one: not one["HostConfig"]["ReadonlyRootfs"],
    "5.13 a port on every interface": lambda one: [port for port in ports(one) if port["HostIp"] in ("", "0.0.0.0")],
    "5.14 starts again without end": lambda one: one["HostConfig"]["RestartPolicy"]["Name"] != "on-failure",
    "5.15 the host's processes": lambda one: one["HostConfig"]["PidMode"] == "host",
    "5.16 the host's IPC": lambda one: one["HostConfig"]["IpcMode"] == "host",
    "5.17 a device of the host's": lambda one: one["HostConfig"]["Devices"],
    "5.19 mounts that reach the host": lambda one: [
        mount for mount in one["Mounts"] if mount["Propagation"] in ("shared", "rshared")
    ],
    "5.20 the host's name": lambda one: one["HostConfig"]["UTSMode"] == "host",
    "5.21 seccomp is off": lambda one: option(one, "seccomp=unconfined"),
    "5.24 a cgroup of its own choice": lambda one: one["HostConfig"]["CgroupParent"],
    "5.25 may gain privileges": lambda one: not option(one, "no-new-privileges"),
    "5.26 no health check": lambda one: not one["State"].get("Health"),
    "5.28 no limit of processes": lambda one: (one["HostConfig"]["PidsLimit"] or 0) <= 0,
    "5.29 Docker's default bridge": lambda one: "bridge" in one["NetworkSettings"]["Networks"],
    "5.30 the host's users": lambda one: one["HostConfig"]["UsernsMode"] == "host",
    "5.31 the Engine's socket": lambda one: any(source.endswith("docker.sock") for source in sources(one)),
    "root inside": lambda one: one["Config"]["User"] in ("", "0", "root"),
}
BY_PURPOSE = {
    "5.11 no CPU shares": "a limit would slow down visitors on an idle server",
    "5.14 starts again without end": "a server shall serve again after a reboot, whatever happened before it",
}
ACCEPTED = {
    **dict.fromkeys(AGENTS, BY_PURPOSE),
    TRAEFIK: {
        **BY_PURPOSE,
        "5.13 a port on every interface": "it is the server's public entry",
        "root inside": "the login user and the authority's earlier files have different owners",
    },
    DOCKER_API: {
        **BY_PURPOSE,
        "5.31 the Engine's socket": "this container exists so that no other one has it; it lets five questions through",
        "root inside": "the Engine's socket is root's",
    },
}


@pytest.fixture(scope="module")
def containers(server) -> dict[str, Container]:
    found = json.loads(server.check_output(f"docker inspect {' '.join(CONTAINERS)}"))
    return {one["Name"].lstrip("/"): one for one in found}


@pytest.fixture(scope="module")
def table():
    return Transcript(
        "containers", "What each container may do: section 5 of the CIS Docker Benchmark, what is accepted and why"
    )


@pytest.mark.parametrize("name", CONTAINERS)
def test_the_benchmark(containers, table, name):
    found = {check for check, applies in CHECKS.items() if applies(containers[name])}
    accepted = ACCEPTED[name]
    lines = [
        f"{'accepted' if check in accepted else 'FOUND':9} {check}: {accepted.get(check, '')}"
        for check in sorted(found)
    ]
    table.add(name, "\n".join([f"passed    {len(CHECKS) - len(found)} of {len(CHECKS)}", *lines]))
    assert found == accepted.keys()


@pytest.mark.parametrize("name", AGENTS)
def test_nginx_has_no_rights_at_all(server, name):
    told = server.check_output(f"docker exec {name} grep -hE '^(Uid|Cap(Eff|Bnd)):' /proc/1/status").splitlines()
    (user, *capabilities) = (line.split() for line in told)
    assert "0" not in user[1:]
    assert {value for _name, value in capabilities} == {"0000000000000000"}


@pytest.mark.parametrize("path", ["/usr/local/bin/x", "/etc/vaettir/x", "/etc/x"])
def test_nothing_of_the_image_can_be_written(server, path):
    done = server.run(f"docker exec vaettir-second-1 sh -c 'echo > {path}'")
    assert done.rc != 0
    assert "Read-only file system" in done.stderr or "Permission denied" in done.stderr


def inside(server, container: str, request: str) -> str:
    """The first line of what the nginx of ocapistaine answers to another container of the server."""
    address = server.check_output(
        "docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' vaettir-ocapistaine-1"
    )
    script = f"exec 3<>/dev/tcp/{address}/80; printf '{request}' >&3; head -1 <&3"
    return str(server.check_output(f'docker exec {container} bash -c "{script}"'))


HOST = r"Host: ocapistaine.vaettir.example\r\n"
FORGED = r"X-Forwarded-For: 192.0.2.1\r\n"
WEBSOCKET = r"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
KEY = r"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param(rf"GET / HTTP/1.1\r\n{HOST}{FORGED}\r\n", id="a forged address"),
        pytest.param(
            rf"GET /_stcore/stream HTTP/1.1\r\n{HOST}{WEBSOCKET}{KEY}\r\n", id="a handshake without an Origin"
        ),
    ],
)
def test_a_sibling_does_not_come_in(server, edge, asked):
    edge.reset()
    assert "403" in inside(server, "vaettir-second-1", asked)
    assert edge.requests() == []


def docker_api(server, method: str, path: str) -> int:
    """What Traefik's way to Docker answers, by its socket on the server."""
    folder = server.check_output("docker volume inspect -f '{{.Mountpoint}}' vaettir_docker-api")
    words = f"curl -s --path-as-is -o /dev/null -w '%{{http_code}}' -X {method} --unix-socket {folder}/docker.sock"
    return int(server.check_output(f"sudo {words} 'http://docker{path}'"))


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/info"),
        ("GET", "/images/json"),
        ("GET", "/containers/vaettir-second-1/logs"),
        ("GET", "/containers/json/../../images/json"),
        ("GET", "/containers/vaettir-second-1/archive?path=/"),
        ("POST", "/containers/create"),
        ("POST", "/containers/json"),
        ("POST", "/v1.41/containers/vaettir-second-1/exec"),
        ("DELETE", "/containers/vaettir-second-1"),
    ],
)
def test_traefik_cannot_ask_docker_for_more(server, method, path):
    assert docker_api(server, method, path) == 403


def test_traefik_sees_the_containers(server):
    assert docker_api(server, "GET", "/v1.41/containers/json") == 200


def test_traefik_hears_of_docker_again_after_its_way_there_was_killed(server, visitor):
    server.check_output(f"docker kill {DOCKER_API} && docker start {DOCKER_API}")
    server.check_output("docker stop vaettir-second-1")
    try:
        assert visitor.until("https://second.vaettir.example:8443", 503, 30).headers["x-vaettir-state"] == "stopped"
    finally:
        server.check_output("docker start vaettir-second-1")
    assert visitor.until("https://second.vaettir.example:8443", 200, 30).status == 200
