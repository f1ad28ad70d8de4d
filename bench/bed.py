# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The test bed: an edge, everybody who proxies it, and a container with the tools; CPUs shared out among them."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.proxy import stand
from tests.rig import ca, images
from tests.rig.shell import LABEL, STATE, RigError, run, say, wait_for

HERE = Path(__file__).parent
NETWORK = "vaettir-bench"
TUNNEL = "ocapistaine.ngrok-free.app"
TOOLS_IMAGE = "vaettir-bench/tools:1"
BODY = 100_000_000  # bytes of the large one
PAGE_HOST = "{name}.vaettir.example"


@dataclass
class Contestant:
    """One proxy in front of the edge, or the edge itself."""

    name: str
    image: str = ""
    options: list[str] = field(default_factory=list)
    command: list[str] = field(default_factory=list)
    pid: int = 0
    address: str = ""

    @property
    def direct(self) -> bool:
        return not self.image

    @property
    def container(self) -> str:
        return f"{NETWORK}-{self.name}"


def cpus() -> tuple[str, str]:
    """CPUs of the proxy that is measured, and of all the rest: load, edge, line, browser."""
    mine = sorted(os.sched_getaffinity(0))
    if len(mine) >= 4:
        return f"{mine[1]},{mine[2]}", ",".join(str(cpu) for cpu in (mine[0], *mine[3:]))
    if len(mine) >= 2:
        return str(mine[1]), str(mine[0])
    return str(mine[0]), str(mine[0])


class Bed:
    """What the measurements call."""

    def __init__(self, contestants: list[Contestant], edge_pid: int, edge_address: str, front_address: str) -> None:
        self.contestants = contestants
        self.edge_pid = edge_pid
        self.edge_address = edge_address
        self.front_address = front_address
        self.asked = 0  # our own questions to the edge's counters, each a connection and a request

    def tools(self, *command: str) -> str:
        return run(["docker", "exec", f"{NETWORK}-tools", *command], timeout=120).stdout

    def inside(self, function: str, **arguments: Any) -> Any:
        answer = self.tools("python3", "/bench/inside.py", function, json.dumps(arguments))
        return json.loads(answer) if answer.strip() else None

    def counters(self) -> tuple[int, int]:
        """TLS handshakes (every accepted connection is one) and requests of the edge, this question excluded."""
        text = self.tools("curl", "-sS", f"http://{self.edge_address}:8081/counters")
        accepts, _, requests = (int(word) for word in text.splitlines()[2].split())
        self.asked += 1
        return accepts - self.asked, requests - self.asked

    def near(self) -> dict[str, int]:
        return {contestant.address: contestant.pid for contestant in self.contestants}

    def restart(self) -> None:
        """Fresh processes: for memory. Only before the line, whose devices would go."""
        names = [contestant.container for contestant in self.contestants if not contestant.direct]
        run(["docker", "restart", "-t", "1", *names])
        self.locate()

    def locate(self) -> None:
        for contestant in self.contestants:
            name = f"{NETWORK}-tools" if contestant.direct else contestant.container
            contestant.pid, contestant.address = _place(name)
        for contestant in self.contestants:
            if not contestant.direct:
                address = contestant.address
                wait_for(contestant.name, lambda address=address: self._answers(address), 20)

    def _answers(self, address: str) -> bool:
        command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://{address}/bench/00.txt"]
        return run(["docker", "exec", f"{NETWORK}-tools", *command], check=False).stdout == "200"

    @contextlib.contextmanager
    def long_line(self, milliseconds: int, megabits: int = 0) -> Iterator[None]:
        """Nothing for 0; else every packet to and from the edge takes half of it longer, through the laptop's uplink."""
        if not milliseconds:
            yield
            return
        arguments = {"far": self.edge_pid, "near": self.near(), "round_trip": milliseconds / 1000, "megabits": megabits}
        command = ["docker", "exec", f"{NETWORK}-tools", "python3", "/bench/inside.py", "line", json.dumps(arguments)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            pid = process.stdout.readline().strip()
            if not pid:
                raise RigError("the long line did not start")
            where = {"edge": self.edge_address, "far": self.edge_pid, "near": self.near()}
            self.inside("route", **where, long=True)
            try:
                yield
            finally:
                self.inside("route", **where, long=False)
                self.tools("sh", "-c", f"kill {pid}")


def _place(container: str) -> tuple[int, str]:
    template = "{{.State.Pid}} {{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    pid, address = run(["docker", "inspect", "-f", template, container]).stdout.split()
    return int(pid), address


def _start(name: str, image: str, cpuset: str, *options: str, command: list[str] | None = None) -> None:
    labels = ["--label", f"{LABEL}=bench", "--cpuset-cpus", cpuset]
    network = [] if any(word.startswith("container:") for word in options) else ["--network", NETWORK]
    run(["docker", "run", "-d", "--name", name, *labels, *network, *options, image, *(command or [])])


def _files() -> Path:
    """What the edge serves: 40 small assets of 1 KB and a large one."""
    folder = STATE / "bench" / "www" / "bench"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(40):
        (folder / f"{number:02d}.txt").write_bytes(b"%04d" % number * 256)
    with (folder / "large.bin").open("wb") as large:
        large.truncate(BODY)
    return folder.parent


def _ours() -> str:
    """The image that the role builds, from its own templates."""
    agent = stand.settings(
        ca_certificate=str(ca.FOLDER / "ca.pem"),
        domain=PAGE_HOST.format(name="ours"),
        # The load is one visitor: limits that count, but that it does not meet.
        visitor_websockets=9999,
        visitor_requests=9999,
        visitor_rate=1_000_000,
        visitor_burst=1_000_000,
    )
    tag = "vaettir-bench/ours:1"
    with tempfile.TemporaryDirectory() as folder:
        stand.write_context(Path(folder), agent)
        label = ["--label", f"{LABEL}=image"]
        run(["docker", "build", "-q", *label, "-t", tag, "--build-arg", f"AGENT_NAME={agent['name']}", folder])
    return tag


def _contestants() -> list[Contestant]:
    authority = ["-v", f"{ca.FOLDER}/ca.pem:/etc/rig/ca.pem:ro"]
    peers = ["-v", f"{HERE}/peers:/etc/bench:ro", *authority]
    target = ["-e", f"OCAPISTAINE_TARGET_URL=https://{TUNNEL}"]
    return [
        Contestant("direct"),
        Contestant("recipe", images.NGINX, ["-v", f"{HERE}/peers/recipe.conf:/etc/nginx/nginx.conf:ro"], []),
        Contestant("ours", _ours(), target),
        Contestant(
            "caddy", TOOLS_IMAGE, peers, ["caddy", "run", "--config", "/etc/bench/Caddyfile", "--adapter", "caddyfile"]
        ),
        Contestant("haproxy", TOOLS_IMAGE, peers, ["haproxy", "-W", "-db", "-f", "/etc/bench/haproxy.cfg"]),
        Contestant("traefik", images.TRAEFIK, peers, ["--configFile=/etc/bench/traefik.yml"]),
    ]


def _front(contestants: list[Contestant]) -> Path:
    """Traefik in front of everybody, for the page: a browser speaks TLS and HTTP/2 to it."""
    folder = STATE / "bench" / "front"
    folder.mkdir(parents=True, exist_ok=True)
    names = [one.name for one in contestants if not one.direct]
    dynamic = {
        "http": {
            "routers": {
                name: {"rule": f"Host(`{PAGE_HOST.format(name=name)}`)", "service": name, "tls": {}} for name in names
            },
            "services": {
                name: {"loadBalancer": {"servers": [{"url": f"http://{NETWORK}-{name}:80"}]}} for name in names
            },
        },
        "tls": {"certificates": [{"certFile": "/etc/rig/public.pem", "keyFile": "/etc/rig/public.key"}]},
    }
    (folder / "dynamic.yml").write_text(json.dumps(dynamic), encoding="utf-8")  # JSON is YAML
    return folder


def remove() -> None:
    """All of this bench, also what a killed run left."""
    for what, options in (("container", ["-aq"]), ("network", ["-q"])):
        found = run(["docker", what, "ls", *options, "--filter", f"label={LABEL}=bench"]).stdout.split()
        if found:
            run(["docker", what, "rm", *(["-fv"] if what == "container" else []), *found])


@contextlib.contextmanager
def bed() -> Iterator[Bed]:
    """Everything up; everything gone at the end."""
    ca.ensure()
    remove()
    say("bench: images")
    run(["docker", "build", "-q", "--label", f"{LABEL}=image", "-t", TOOLS_IMAGE, str(HERE / "peers")])
    contestants = _contestants()
    try:
        say("bench: containers")
        proxies, rest = cpus()
        run(["docker", "network", "create", "--label", f"{LABEL}=bench", NETWORK])
        files = ["-v", f"{HERE}/edge.conf:/etc/nginx/nginx.conf:ro", "-v", f"{_files()}:/srv/www:ro"]
        certificates = [f"-v={ca.FOLDER}/edge.{kind}:/etc/rig/edge.{kind}:ro" for kind in ("pem", "key")]
        edge = f"{NETWORK}-edge"
        _start(edge, images.NGINX, rest, "--network-alias", TUNNEL, *files, *certificates)
        apps = (
            "cd /srv; python3 -m streamlit run rig/apps/ocapistaine.py --server.address=127.0.0.1 --server.port=8501"
            " --server.headless=true --server.fileWatcherType=none --browser.gatherUsageStats=false &"
            " exec python3 -m rig.apps.echo --address 127.0.0.1 --port 9000"
        )
        _start(
            f"{NETWORK}-apps",
            images.OUTSIDE,
            rest,
            "--network",
            f"container:{edge}",
            "--entrypoint",
            "sh",
            command=["-c", apps],
        )
        # The tools see every process and may enter its network.
        powers = ["--cap-add", "SYS_ADMIN", "--cap-add", "NET_ADMIN", "--cap-add", "SYS_PTRACE", "--pid", "host"]
        powers += ["--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined"]
        powers += [
            "--device",
            "/dev/net/tun",
            "-v",
            f"{HERE}:/bench:ro",
            "-v",
            f"{ca.FOLDER}/ca.pem:/etc/rig/ca.pem:ro",
        ]
        _start(f"{NETWORK}-tools", TOOLS_IMAGE, rest, *powers, command=["sleep", "1200"])
        for contestant in contestants:
            if not contestant.direct:
                _start(
                    contestant.container,
                    contestant.image,
                    proxies,
                    *contestant.options,
                    command=contestant.command,
                )
        front = ["-v", f"{_front(contestants)}:/etc/bench:ro"]
        front += [f"-v={ca.FOLDER}/public.{kind}:/etc/rig/public.{kind}:ro" for kind in ("pem", "key")]
        points = ["--entryPoints.websecure.address=:443", "--providers.file.filename=/etc/bench/dynamic.yml"]
        _start(f"{NETWORK}-front", images.TRAEFIK, rest, *front, command=points)
        made = Bed(contestants, *_place(edge), front_address=_place(f"{NETWORK}-front")[1])
        made.locate()
        wait_for("Streamlit", lambda: made.tools("curl", "-sk", f"https://{TUNNEL}/_stcore/health") == "ok", 60)
        yield made
    finally:
        remove()
