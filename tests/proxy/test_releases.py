# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What a container takes from its releases, and how nginx goes over to another one without losing anybody."""

from __future__ import annotations

import hashlib
import itertools
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _containers

from tests.rig import images, load
from tests.rig.edge_client import Edge
from tests.rig.shell import LABEL, run, wait_for

from . import stand
from .conftest import ECHO
from .visitor import ask, handshake_headers

HOST = "ocapistaine.vaettir.example"
ONE, TWO, THREE = "20261123T013000Z", "20261123T014500Z", "20261123T014500Z-2"
SLOW = 1.0  # seconds that a slow DNS takes: a full machine may add as much, and nginx waits for 3
CONF = "/etc/nginx/nginx.conf"
FOLDER = Path(__file__).parent


@pytest.fixture(scope="module")
def settings(agent: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    # One worker: it is clear which one holds a socket. The load's visitors come without TLS.
    return agent(worker_processes=1, extra_origins=[f"http://{HOST}"])


@pytest.fixture
def releases(tmp_path: Path) -> Path:
    (tmp_path / "releases").mkdir()
    return tmp_path / "releases"


@pytest.fixture
def start(image: str, settings: dict[str, Any], releases: Path) -> Callable[..., Any]:
    """A container with these releases."""

    def make(*options: str, command: tuple[str, ...] = ()) -> Any:
        mount = ["-v", f"{releases}:/etc/vaettir/releases:ro"]
        return stand.container(image, settings, stand.environment(settings), *mount, *options, command=command)

    return make


def discord(proxy: stand.Proxy) -> str:
    """The last part of the invite on the page: which values are active."""
    return proxy.exec("cat", "/etc/nginx/facts.json").stdout.split("discord.gg/")[1].split('"')[0]


# --- What serve takes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("case", "conf", "values"),
    [
        ("current", "release", "release"),
        ("an image built by hand since", "image", "release"),
        ("an edited .env since", "release", "vaettir"),
        ("a release that nginx refuses", "image", "release"),
        ("a release that is not there", "image", "vaettir"),
    ],
)
def test_inputs(
    start: Callable[..., Any],
    settings: dict[str, Any],
    releases: Path,
    own: dict[str, str],
    case: str,
    conf: str,
    values: str,
) -> None:
    broken = "nonsense;\n" if "refuses" in case else ""
    if "not there" not in case:
        stand.write_release(releases, ONE, settings, discord="https://discord.gg/release", more=f"# release\n{broken}")
    image = "0" * 64 if "image" in case else own["image"]
    stand.make_current(releases, ONE, image, "0" * 64 if ".env" in case else own["environment"])
    with start() as proxy:
        assert ("# release" in proxy.exec("cat", CONF).stdout) == (conf == "release")
        assert discord(proxy) == values
        state, logs = proxy.state(), proxy.logs()
        lines = f"TARGET_URL=https://{ECHO}\nDISCORD_INVITE_URL=https://discord.gg/{values}\n"
        assert state["release"] == ("" if "not there" in case else ONE)
        assert state["values"] == hashlib.sha256(lines.encode()).hexdigest()
        template = proxy.exec(
            "cat", f"/etc/vaettir/{f'releases/{ONE}/' * (conf == 'release')}ocapistaine.conf.template"
        )
        assert state["ocapistaine.conf.template"] == hashlib.sha256(template.stdout.encode()).hexdigest()
        assert ask(proxy.ip, "GET", "/", [("Host", HOST)]).status == 200
    assert ("the image's own files take the place of release" in logs) == bool(broken)


def test_secret_of_the_release(
    start: Callable[..., Any], settings: dict[str, Any], releases: Path, own: dict[str, str], edge: Edge
) -> None:
    """It comes, changes and goes with its release; without one, what is mounted counts."""
    for release, word in ((ONE, "the-secret-of-the-release"), (TWO, "another-secret-of-the-release"), (THREE, "")):
        stand.write_release(releases, release, settings)
        if word:
            (releases / release / "tunnel").write_text(word, encoding="ascii")
            (releases / release / "tunnel").chmod(0o600)
    stand.make_current(releases, ONE, own["image"], own["environment"])
    with start() as proxy:

        def secret() -> str | None:
            edge.reset()
            ask(proxy.ip, "GET", "/", [("Host", HOST)])
            return edge.requests()[0].headers.get("x-vaettir-secret")

        assert secret() == "the-secret-of-the-release"
        assert proxy.state()["tunnel"] == hashlib.sha256(b"the-secret-of-the-release").hexdigest()
        modes = proxy.exec("stat", "-c", "%a", "/etc/nginx/tunnel-secret.conf", "/run/vaettir/in-force").stdout
        assert modes.split() == ["600", "600"]
        for release, expected in ((TWO, "another-secret-of-the-release"), (THREE, None)):
            stand.make_current(releases, release, own["image"], own["environment"])
            assert proxy.exec("agent-proxy", "reload").stdout == "reloaded\n"
            assert secret() == expected
        assert "tunnel" not in proxy.state()


def test_trial(image: str, start: Callable[..., Any], settings: dict[str, Any], releases: Path) -> None:
    """`serve ID` is that release or nothing, whatever is current."""
    stand.write_release(releases, ONE, settings, discord="https://discord.gg/release", more="# release\n")
    stand.write_release(releases, TWO, settings, more="nonsense;\n")
    stand.make_current(releases, TWO, "0" * 64, "0" * 64)
    with start(command=("serve", ONE)) as proxy:
        assert "# release" in proxy.exec("cat", CONF).stdout
        assert discord(proxy) == "release"
    for release, words in (
        (TWO, "nginx refuses release"),
        (THREE, "there is no release"),
        ("..", "there is no release"),
    ):
        mount = ["-v", f"{releases}:/etc/vaettir/releases:ro"]
        done = run(["docker", "run", "--rm", *mount, image, "serve", release], check=False)
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert done.stderr.startswith(f"agent-proxy: {words}")


def test_test_touches_nothing(start: Callable[..., Any], settings: dict[str, Any], releases: Path) -> None:
    stand.write_release(releases, ONE, settings)
    stand.write_release(releases, TWO, settings, more="nonsense;\n")
    stand.write_release(releases, THREE, settings)
    (releases / THREE / "offline.js").write_text("let = nonsense\n", encoding="ascii")
    with start() as proxy:
        all_files = ["sh", "-c", "ls -lR --full-time /etc/nginx /run/vaettir /tmp; cat /etc/nginx/*.conf"]
        before = proxy.exec(*all_files).stdout
        good = proxy.exec("agent-proxy", "test", ONE)
        assert (good.stdout, good.stderr) == ("", "")
        line = (releases / TWO / "ocapistaine.conf.template").read_text().count("\n")
        for release, reason in (
            (TWO, f'unknown directive "nonsense" in ocapistaine.conf.template:{line}'),
            (THREE, 'SyntaxError: Unexpected token "let"'),
        ):
            bad = proxy.exec("agent-proxy", "test", release, check=False)
            assert (bad.returncode, bad.stdout, bad.stderr.count("\n")) == (1, "", 1)
            assert bad.stderr.startswith(f"agent-proxy: nginx refuses release {release}: {reason}")
        assert proxy.exec(*all_files).stdout == before


# --- Reload -----------------------------------------------------------------------------------------------------------


def test_reload(
    start: Callable[..., Any], settings: dict[str, Any], releases: Path, own: dict[str, str], edge: Edge
) -> None:
    stand.write_release(releases, ONE, settings)
    stand.write_release(releases, TWO, settings, discord="https://discord.gg/two")
    stand.write_release(releases, THREE, settings, more="nonsense;\n")
    with start() as proxy:

        def reload(release: str, check: bool = True) -> Any:
            stand.make_current(releases, release, own["image"], own["environment"])
            return proxy.exec("agent-proxy", "reload", check=check)

        def page() -> str:
            with edge.stopped(ECHO):
                return ask(proxy.ip, "GET", "/", [("Host", HOST)]).body.decode()

        def workers_now() -> list[str]:
            processes = run(["docker", "top", proxy.container, "-o", "pid,args"]).stdout.splitlines()
            return [line for line in processes if re.fullmatch(r"\d+ +nginx: worker process", line)]

        workers = workers_now()
        assert reload(ONE).stdout == "unchanged\n"
        assert workers_now() == workers
        assert "https://discord.gg/vaettir" in page()
        assert reload(TWO).stdout == "reloaded\n"
        assert "https://discord.gg/two" in page()
        assert reload(TWO).stdout == "unchanged\n"
        before, workers = proxy.state(), workers_now()
        refused = reload(THREE, check=False)
        assert (refused.returncode, refused.stdout) == (1, "")
        assert "the active one stays" in refused.stderr
        assert 'unknown directive "nonsense"' in refused.stderr
        after = {**proxy.state(), "memory": before["memory"]}
        assert (after, workers_now()) == ({**before, "release": THREE}, workers)
        # By hand, without a release: values in the command's environment are somebody's edit.
        bad = proxy.exec("agent-proxy", "reload", check=False, env={"OCAPISTAINE_TARGET_URL": "https://a b"})
        assert bad.returncode == 1
        other = stand.environment(settings, "https://discord.gg/by-hand")
        stand.make_current(releases, ONE, own["image"], own["environment"])
        assert proxy.exec("agent-proxy", "reload", env=other).stdout == "reloaded\n"
        assert discord(proxy) == "by-hand"


@pytest.fixture
def slow_dns(outside: dict[str, Any]) -> Iterator[str]:
    """The address of a DNS that knows what the outside world's knows, but takes its time."""
    name = "vaettir-proxy-slow-dns"
    script = ["-v", f"{FOLDER}/slow_dns.py:/slow_dns.py:ro", "--entrypoint", "python3"]
    run(["docker", "rm", "-f", name], check=False)
    words = ["docker", "run", "-d", "--name", name, "--label", f"{LABEL}=proxy-test", *script]
    run([*words, images.OUTSIDE, "/slow_dns.py", outside["ip"], str(SLOW)])
    try:
        yield run(["docker", "inspect", "-f", "{{.NetworkSettings.IPAddress}}", name]).stdout.strip()
    finally:
        run(["docker", "rm", "-f", name])


def test_twenty_reloads_under_load(
    agent: Callable[..., dict[str, Any]], image: str, releases: Path, own: dict[str, str], slow_dns: str, edge: Edge
) -> None:
    """Two of them to a target whose name a slow DNS must tell. Nobody loses a request or a socket."""
    app = edge.tunnels()[ECHO]["app"]
    targets = ["third.ngrok-free.app", "fourth.ngrok-free.app"]
    for target in targets:
        edge.put(target, app)
    hosts = [ECHO, *(targets[0] for _ in range(10)), *(targets[1] for _ in range(10))]
    every = {"worker_processes": 1, "extra_origins": [f"http://{HOST}"], "resolver": [slow_dns]}
    all_settings = [agent(**every, target_url=f"https://{host}") for host in hosts]
    for number, settings in enumerate(all_settings):
        stand.write_release(releases, f"{ONE}-{number}", settings, discord=f"https://discord.gg/{number}")
    stand.make_current(releases, f"{ONE}-0", own["image"], own["environment"])
    options = ["-v", f"{releases}:/etc/vaettir/releases:ro", "--dns", slow_dns]
    try:
        with stand.container(image, settings, stand.environment(agent()), *options) as proxy:
            wait_for("the target", lambda: ask(proxy.ip, "GET", "/", [("Host", HOST)]).status == 200, 10)
            with load.on(f"http://{HOST}", proxy.ip, sockets=10, per_second=200) as visitors:
                for number in range(1, 21):
                    stand.make_current(releases, f"{ONE}-{number}", own["image"], own["environment"])
                    done = proxy.exec("agent-proxy", "reload")
                    assert done.stdout == "reloaded\n"
                    assert "resolved" not in done.stderr
                time.sleep(2.5)  # every socket has said something once more
                assert int(proxy.state()["draining"]) >= 1  # where the sockets are
        print(visitors)
        assert visitors.answered > 1500
        assert (visitors.failed, visitors.dropped) == ([], [])
        assert {request.host for request in edge.requests()[-50:]} == {targets[1]}
    finally:
        for target in targets:
            edge.delete(target)


def test_reload_with_dns_dead(
    start: Callable[..., Any],
    agent: Callable[..., dict[str, Any]],
    releases: Path,
    own: dict[str, str],
    edge: Edge,
    outside: dict[str, Any],
) -> None:
    """It says so and goes on: visitors get the page until the name is there."""
    stand.write_release(releases, ONE, agent(target_url="https://third.ngrok-free.app"))
    with start("--dns", outside["ip"]) as proxy:
        stand.make_current(releases, ONE, own["image"], own["environment"])
        edge.dns("silent")
        try:
            begin = time.monotonic()
            done = proxy.exec("agent-proxy", "reload")
            assert time.monotonic() - begin < 8
            assert done.stdout == "reloaded\n"
            assert "agent-proxy: third.ngrok-free.app cannot be resolved now.\n" in done.stderr
            assert ask(proxy.ip, "GET", "/", [("Host", HOST)]).headers["x-vaettir-state"] == "offline"
        finally:
            edge.dns("up")


# --- Old workers ------------------------------------------------------------------------------------------------------


class Held:
    """An open WebSocket; `ended` is when it was closed."""

    def __init__(self, proxy: stand.Proxy) -> None:
        self.connection = socket.create_connection((proxy.ip, 80), timeout=5)
        lines = ["GET /ws HTTP/1.1", *(f"{name}: {value}" for name, value in handshake_headers(HOST, proxy.origin))]
        self.connection.sendall("\r\n".join([*lines, "", ""]).encode())
        assert self.connection.recv(4096).startswith(b"HTTP/1.1 101")
        self.connection.settimeout(None)
        self.ended: float | None = None
        threading.Thread(target=self.wait, daemon=True).start()

    def wait(self) -> None:
        while self.connection.recv(4096):
            pass
        self.ended = time.monotonic()


@pytest.fixture
def generations(
    start: Callable[..., Any], agent: Callable[..., dict[str, Any]], releases: Path, own: dict[str, str]
) -> Iterator[tuple[stand.Proxy, list[Held], Callable[..., float]]]:
    """A proxy with three workers that drain, each with a socket, and a way to reload under another bound."""
    numbers = itertools.count()

    def reload(proxy: stand.Proxy, most: int, *now: str) -> float:
        release = f"{ONE}-{next(numbers)}"
        settings = agent(worker_processes=1, draining_max=most)
        stand.write_release(releases, release, settings, more=f"# {release}\n")
        stand.make_current(releases, release, own["image"], own["environment"])
        assert proxy.exec("agent-proxy", "reload", *now).stdout == "reloaded\n"
        return time.monotonic()

    with start() as proxy:
        sockets = []
        for _ in range(3):
            sockets.append(Held(proxy))
            reload(proxy, 3)
        time.sleep(1.5)
        assert proxy.state()["draining"] == "3"
        assert [held.ended for held in sockets] == [None] * 3
        yield proxy, sockets, reload


def test_draining_workers_are_bounded(
    generations: tuple[stand.Proxy, list[Held], Callable[..., float]],
) -> None:
    """Above the bound the oldest ones end, one at a time."""
    proxy, sockets, reload = generations
    sockets.append(Held(proxy))
    reloaded = reload(proxy, 2)
    wait_for("the second one's end", lambda: sockets[1].ended, 5)
    time.sleep(2)
    assert [held.ended is None for held in sockets] == [False, False, True, True]
    first, second = (held.ended or 0.0 for held in sockets[:2])
    assert reloaded - 1 < first < reloaded + 1
    assert 0.8 < second - first < 2
    assert proxy.state()["draining"] == "2"


def test_reload_now(generations: tuple[stand.Proxy, list[Held], Callable[..., float]]) -> None:
    """No socket of before stays, and the command does not wait for that; who comes meanwhile is served."""
    proxy, sockets, reload = generations
    back = reload(proxy, 64, "now")
    new = Held(proxy)
    assert sockets[1].ended is None
    wait_for("the last one's end", lambda: sockets[2].ended, 5)
    ends = [held.ended or 0.0 for held in sockets]
    assert [0.8 < later - earlier < 2 for earlier, later in itertools.pairwise(ends)] == [True, True]
    assert ends[2] > back + 1
    time.sleep(1.5)
    assert new.ended is None
    assert proxy.state()["draining"] == "0"


def test_a_container_that_was_paused_is_healthy_again_at_once(
    start: Callable[..., Any], settings: dict[str, Any], releases: Path, own: dict[str, str]
) -> None:
    """Docker calls it unhealthy until the next check, and Traefik sends nobody there meanwhile."""
    stand.write_release(releases, ONE, settings)
    stand.make_current(releases, ONE, own["image"], own["environment"])
    with start() as proxy:
        wait_for("its good health", lambda: proxy.health() == "healthy", 10)
        run(["docker", "pause", proxy.container])
        time.sleep(7)
        run(["docker", "unpause", proxy.container])
        wait_for("its good health again", lambda: proxy.health() == "healthy", 10)


def test_drain(
    start: Callable[..., Any], agent: Callable[..., dict[str, Any]], releases: Path, own: dict[str, str]
) -> None:
    """Unhealthy within seconds, whatever Docker's check is at; open to all until the window ends; then the sockets go
    worker by worker, and the container."""
    stand.write_release(releases, ONE, agent(worker_processes=3))
    stand.make_current(releases, ONE, own["image"], own["environment"])
    with start() as proxy:
        sockets = [Held(proxy) for _ in range(30)]
        wait_for("its good health", lambda: proxy.health() == "healthy", 10)
        checks = ["docker", "top", proxy.container, "-o", "pid,args"]
        wait_for("a check that takes its time", lambda: "/run/good" in run(checks).stdout, 10)
        begin = time.monotonic()
        run(["docker", "exec", "-d", proxy.container, "agent-proxy", "drain", "0"])
        wait_for("its bad health", lambda: proxy.health() == "unhealthy", _containers.RETIRED)
        while time.monotonic() < begin + 9:
            assert ask(proxy.ip, "GET", "/", [("Host", HOST)]).status == 200
            time.sleep(0.2)
        sockets.append(Held(proxy))
        assert not any(held.ended for held in sockets)
        wait_for("the last socket's end", lambda: all(held.ended for held in sockets), 10)
        running = ["docker", "inspect", "-f", "{{.State.Running}} {{.State.ExitCode}}", proxy.container]
        wait_for("the container's end", lambda: run(running).stdout.strip() == "false 0", 3)
    ends = sorted(held.ended or 0.0 for held in sockets)
    assert ends[0] > begin + 10
    waves = [later - earlier for earlier, later in itertools.pairwise(ends) if later - earlier > 0.3]
    assert len(waves) == 2, waves
    assert all(0.8 < pause < 2 for pause in waves)
