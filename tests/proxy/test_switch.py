# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What a container makes of a switch to another release: it counts while its transaction lives, and if it commits."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _release

from tests.rig.shell import run, wait_for

from . import stand

ONE, TWO, THREE = "20261123T013000Z", "20261123T014500Z", "20261123T020000Z"
SOON = 5  # seconds
Start = Callable[..., AbstractContextManager[stand.Proxy]]


@pytest.fixture(scope="module")
def settings() -> dict[str, Any]:
    return stand.settings(worker_processes=1)


class Releases:
    """Of an agent: ONE is committed, and a process can switch to the others."""

    def __init__(self, root: Path, settings: dict[str, Any], own: dict[str, str]) -> None:
        self.own, self.store = own, _release.Store(str(root), settings["name"])
        self.store.make()
        for release in (ONE, TWO, THREE):
            stand.write_release(Path(self.store.folder), release, settings, discord=f"https://discord.gg/{release}")
            Path(self.store.path(release, _release.FACTS)).write_text("{}", encoding="ascii")
        self.store.adopt_current(self.made(ONE))

    def made(self, release: str) -> _release.Current:
        return _release.Current(release, [self.own["image"]], [self.own["environment"]])

    def begin(self, release: str) -> None:
        self.store.begin(self.made(release))

    @contextmanager
    def begun_elsewhere(self, release: str) -> Iterator[int]:
        """By a process that lives until it is killed."""
        ready, tell = os.pipe()
        child = os.fork()
        if not child:
            try:
                self.begin(release)
                os.write(tell, b".")
                signal.pause()
            finally:
                os._exit(1)
        os.read(ready, 1)
        try:
            yield child
        finally:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            os.close(ready)
            os.close(tell)


@pytest.fixture
def releases(tmp_path: Path, settings: dict[str, Any], own: dict[str, str]) -> Iterator[Releases]:
    made = Releases(tmp_path, settings, own)
    yield made
    made.store.let_go()


@pytest.fixture
def start(image: str, settings: dict[str, Any], releases: Releases) -> Start:
    """A container with these releases."""

    def make() -> AbstractContextManager[stand.Proxy]:
        mount = ["-v", f"{releases.store.folder}:/etc/vaettir/releases:ro"]
        return stand.container(image, settings, stand.environment(settings), *mount)

    return make


def serves(proxy: stand.Proxy) -> str:
    """The release that nginx reads, by the invite on its page."""
    return proxy.exec("cat", "/etc/nginx/facts.json").stdout.split("discord.gg/")[1].split('"')[0]


def there(proxy: stand.Proxy, name: str) -> bool:
    return proxy.exec("test", "-e", f"/run/vaettir/{name}", check=False).returncode == 0


def restart(proxy: stand.Proxy) -> None:
    proxy.exec("rm", "/run/vaettir/in-force")
    run(["docker", "restart", "-t", "1", proxy.container])
    wait_for("its nginx", lambda: there(proxy, "in-force") and workers(proxy), 10)


def reload(proxy: stand.Proxy) -> str:
    return proxy.exec("agent-proxy", "reload").stdout.strip()


def workers(proxy: stand.Proxy) -> list[str]:
    processes = run(["docker", "top", proxy.container, "-o", "pid,args"]).stdout.splitlines()
    return [line.split()[0] for line in processes if line.endswith("nginx: worker process")]


def test_a_switch_counts_while_its_transaction_lives(start: Start, releases: Releases) -> None:
    releases.begin(TWO)
    releases.store.let_go()
    with start() as proxy:
        assert (serves(proxy), proxy.state()["release"]) == (ONE, ONE)
        assert (reload(proxy), serves(proxy)) == ("unchanged", ONE)
        releases.begin(TWO)
        assert (serves(proxy), proxy.state()["release"]) == (ONE, TWO)
        assert (reload(proxy), serves(proxy)) == ("reloaded", TWO)


def test_a_reload_goes_back_when_its_transaction_is_killed(start: Start, releases: Releases) -> None:
    with start() as proxy:
        with releases.begun_elsewhere(TWO):
            assert (reload(proxy), serves(proxy)) == ("reloaded", TWO)
            unverified = workers(proxy)
        killed = time.monotonic()
        wait_for("the committed release", lambda: serves(proxy) == ONE, SOON)
        assert proxy.state()["release"] == ONE
        assert not there(proxy, "drain")
        wait_for("new workers", lambda: not set(unverified) & set(workers(proxy)), SOON)
        assert time.monotonic() - killed < 2 * SOON


def test_a_reload_that_is_committed_stays(start: Start, releases: Releases) -> None:
    with start() as proxy:
        releases.begin(TWO)
        assert reload(proxy) == "reloaded"
        serving = workers(proxy)
        releases.store.commit()
        time.sleep(2)
        assert (serves(proxy), workers(proxy)) == (TWO, serving)
        restart(proxy)
        assert (serves(proxy), there(proxy, "drain")) == (TWO, False)


def test_who_waits_for_an_earlier_switch_does_not_undo_the_next(start: Start, releases: Releases) -> None:
    with start() as proxy:
        releases.begin(TWO)
        reload(proxy)
        releases.store.let_go()
        releases.begin(THREE)
        reload(proxy)
        releases.store.commit()
        time.sleep(2)
        assert (serves(proxy), proxy.state()["release"]) == (THREE, THREE)


def test_a_container_that_starts_again_gets_what_is_committed(start: Start, releases: Releases) -> None:
    with start() as proxy:
        releases.begin(TWO)
        restart(proxy)
        assert (serves(proxy), there(proxy, "born"), there(proxy, "drain")) == (ONE, False, False)


def test_a_new_container_of_a_switch_that_is_committed(start: Start, releases: Releases) -> None:
    """It is like any other then, whatever is committed later."""
    releases.begin(TWO)
    with start() as proxy:
        assert (serves(proxy), there(proxy, "born")) == (TWO, True)
        releases.store.commit()
        wait_for("its commit", lambda: not there(proxy, "born"), SOON)
        assert not there(proxy, "drain")
        for later in (THREE, ONE):
            releases.begin(later)
            releases.store.commit()
        restart(proxy)
        assert (serves(proxy), there(proxy, "drain")) == (ONE, False)


def test_a_new_container_of_a_switch_that_is_killed_drains(start: Start, releases: Releases) -> None:
    with releases.begun_elsewhere(TWO) as transaction, start() as proxy:
        assert (serves(proxy), there(proxy, "drain")) == (TWO, False)
        os.kill(transaction, signal.SIGKILL)
        wait_for("its end", lambda: there(proxy, "drain"), SOON)
        assert "agent-proxy: the release that this container was made for was not committed." in proxy.logs()
        restart(proxy)
        assert (serves(proxy), there(proxy, "drain")) == (ONE, True)


def test_a_new_container_that_starts_again_before_its_commit_drains(start: Start, releases: Releases) -> None:
    """It has the committed release, so it is not what its transaction verifies."""
    releases.begin(TWO)
    with start() as proxy:
        restart(proxy)
        assert (serves(proxy), there(proxy, "drain")) == (ONE, True)
