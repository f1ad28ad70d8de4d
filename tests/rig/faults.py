# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What may go wrong in or around a release, each with visitors in front: a dozen in `make test`, all in `make soak`."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

from . import playbook
from .releases import FILES, ONE, UP, Stand, note, seconds_to_restore, undisturbed
from .shell import run
from .stand import HOME

Fault = Callable[[Stand], None]
BLACK_HOLE = "hole.ngrok-free.app"


# -- a release that fails ----------------------------------------------------------------------------------------------


def _fails(stand: Stand, what: str, reason: str, **settings: Any) -> None:
    """Nobody notices, all is as before within seconds, and the run says so."""
    before, held, workers = stand.state(), stand.in_force(), stand.workers()
    with stand.visitors(what) as visitors:
        done = stand.deploy(status=1, **{**stand.next(), **settings})
    undisturbed(visitors)
    assert "rolled back to release" in done.messages[-1], done
    assert any(reason in message for message in done.messages), (reason, done)
    assert stand.state() == before
    assert (stand.in_force(), stand.workers()) == (held, workers)
    note(f"{what}: restored in {seconds_to_restore(done):.1f} s")
    assert seconds_to_restore(done) <= stand.limit, done


def broken_conf(stand: Stand) -> None:
    """Passes every check of ours, and nginx refuses it."""
    _fails(stand, "broken conf template", "client_max_body_size", max_body_size="99999999999999999999m")


def failing_build(stand: Stand) -> None:
    _fails(stand, "build that fails", "nginx:nowhere", base_image="nginx:nowhere")


def dying_image(stand: Stand) -> None:
    _fails(stand, "image that starts and dies", "", base_image="nginx:dies")


def refused_by_the_app(stand: Stand) -> None:
    """The app answers 403 to the Origin that the new release sends."""
    _fails(stand, "verification 403", "refuses the Origin", origin_mode="preserve")


def verification_time_out(stand: Stand) -> None:
    stand.edge.put(BLACK_HOLE, "http://127.0.0.1:9000")
    with stand.edge.faulty(BLACK_HOLE, "blackhole"):
        _fails(stand, "verification time-out", "", target_url=f"https://{BLACK_HOLE}", require_online=True)


# -- the server or the world fails ----------------------------------------------------------------------------------


def _heals(stand: Stand, settings: dict[str, Any]) -> None:
    """A rerun does what the first run could not."""
    stand.deploy(**settings)
    _healed(stand, settings)


def _healed(stand: Stand, settings: dict[str, Any]) -> None:
    """It is in force, nothing half-made is left, and there is nothing more to do."""
    assert stand.in_force() == settings["max_body_size"]
    stand.has_drained()
    names = [name for name in stand.ids() if name.startswith("vaettir-one")]
    assert names == ["vaettir-one-1"], names
    left = stand.shell("ls -A releases/one").split()
    assert not [name for name in left if name.startswith(".2") or name in ("lock", "before")], left
    stand.served()
    if stand.alone:
        assert stand.deploy().changed == []


def docker_stopped_before(stand: Stand) -> None:
    """Everybody is thrown out by that, not by us: the deploy says what is wrong, and touches nothing."""
    settings, before = stand.next(), stand.shell(f"sha256sum {' '.join(FILES)} 2>/dev/null || true")
    with stand.visitors("Docker daemon stopped before the release"):
        stand.shell("systemctl stop docker.socket docker", "root")
        try:
            done = stand.deploy(status=1, **settings)
        finally:
            stand.shell("systemctl start docker", "root")
        stand.served()
    assert "systemctl start docker" in done.messages[-1], done
    assert stand.shell(f"sha256sum {' '.join(FILES)} 2>/dev/null || true") == before
    _heals(stand, settings)


def docker_stopped_midway(stand: Stand) -> None:
    settings = stand.next()
    with stand.visitors("Docker daemon stopped in the middle of a release"):
        stop = partial(stand.shell, "systemctl stop docker.socket docker", "root")
        try:
            stand.deploy(status=1, when=("Make the release and start its trial", stop), **settings)
        finally:
            stand.shell("systemctl start docker", "root")
        stand.served()
    _heals(stand, settings)


def disk_full(stand: Stand) -> None:
    """~/vaettir on a small tmpfs, and no byte left on it."""
    small = f"""
        cd /; docker ps -q | xargs docker stop -t 1
        cp -a {HOME} {HOME}.aside; mount -t tmpfs -o size=8m,mode=755,uid=1000,gid=1000 tmpfs {HOME}
        cp -a {HOME}.aside/. {HOME}/"""
    stand.shell(small, "root")
    try:
        stand.shell(f"{UP} --force-recreate --wait")
        stand.served()
        stand.shell("dd if=/dev/zero of=filler bs=4k 2>/dev/null || true")
        assert stand.shell("df --output=avail . | tail -1").strip() == "0"
        settings, before = stand.next(), stand.state()
        with stand.visitors("disk full") as visitors:
            done = stand.deploy(status=1, **settings)
        undisturbed(visitors)
        assert "No space left" in " ".join(done.messages), done
        after = stand.state()
        assert after == before
        stand.shell("rm filler")
        _heals(stand, settings)
    finally:
        stand.shell("rm -f filler")
        stand.shell(
            f"cd /; docker ps -q | xargs -r docker stop -t 1; rm -rf {HOME}.aside; cp -a {HOME} {HOME}.aside", "root"
        )
        stand.shell(f"cd /; umount {HOME}; cp -a {HOME}.aside/. {HOME}/; rm -rf {HOME}.aside", "root")
        stand.shell(f"{UP} --force-recreate --wait")
    stand.served()


def read_only_home(stand: Stand) -> None:
    settings, before = stand.next(), stand.state()
    stand.shell("cd /; mount --bind /home/deploy /home/deploy; mount -o remount,bind,ro /home/deploy", "root")
    try:
        with stand.visitors("read-only home") as visitors:
            done = stand.deploy(status=1, **settings)
    finally:
        stand.shell("cd /; umount /home/deploy", "root")
    undisturbed(visitors)
    assert "ead-only" in " ".join(done.messages), done
    assert stand.state() == before
    _heals(stand, settings)


def reboot_midway(stand: Stand) -> None:
    settings = stand.next()
    with stand.visitors("server rebooted in mid-release"):
        stand.deploy(status=None, when=(FORCE, stand.reboot), **settings)
        stand.served()
    _heals(stand, settings)


def reboot_after(stand: Stand) -> None:
    """What is in force stays in force, a value that only a reload brought included."""
    settings = {**stand.next(), "target_url": "http://edge.test:9000"}
    stand.deploy(**settings)
    with stand.visitors("server rebooted after a release"):
        stand.reboot()
        stand.served()
    assert stand.in_force() == settings["max_body_size"]
    assert "edge.test" in stand.shell("docker exec vaettir-one-1 cat /etc/nginx/nginx.conf")
    assert stand.deploy().changed == []
    stand.deploy(**stand.next(), target_url=ONE["target_url"])


def traefik_restarted(stand: Stand) -> None:
    """Its own restart drops its visitors; the release goes through all the same."""
    settings = stand.next()
    restart = partial(stand.shell, "docker restart -t 1 vaettir-traefik-1")
    with stand.visitors("Traefik restarted during a release"):
        stand.deploy(when=("Make the release and start its trial", restart), **settings)
        stand.served()
    _heals(stand, settings)


def dns_dead(stand: Stand) -> None:
    """nginx has the tunnel's address, and keeps it over a reload."""
    settings = stand.next()
    try:
        with stand.visitors("DNS of the tunnel dead during a release") as visitors:
            stand.edge.dns("down")
            stand.deploy(**settings)
    finally:
        stand.edge.dns("up")
    undisturbed(visitors)
    _healed(stand, settings)


# -- killed ---------------------------------------------------------------------------------------------------------

FORCE = "Reload the container, or replace it beside the old one"
# Task: a release in which it has something to do.
KILLS: dict[str, Callable[[Stand], dict[str, Any]]] = {
    "Lock the agent, heal what a killed run left": Stand.next,
    "Write the agent's files and its key of .env": Stand.next_labels,
    "Build the agent's image": lambda stand: {**stand.next(), "base_image": f"nginx:{_other(stand)}"},
    "Make the release and start its trial": Stand.next,
    "WebSocket handshake with the trial": Stand.next_labels,
    FORCE: Stand.next_labels,
    "WebSocket handshake through Traefik on this server": Stand.next_labels,
    "Let the replaced container drain": Stand.next_labels,
    "Unlock the agent, forget its oldest releases": Stand.next,
}


def _other(stand: Stand) -> str:
    return "1.30.6" if stand.settings.get("base_image") == "nginx:newer" else "newer"


def killed(stand: Stand, task: str) -> None:
    """SIGKILL a moment after a task has begun on the server; the rerun begins at once."""

    def kill() -> None:
        time.sleep(0.4)
        playbook.kill()

    settings = KILLS[task](stand)
    with stand.visitors(f"SIGKILL at '{task}'") as visitors:
        done = stand.deploy(status=None, when=(task, kill), **settings)
        assert done.status < 0, done
        stand.served()
        stand.deploy(**settings)
    assert not visitors.failed, visitors
    if "extra_domains" not in settings and "base_image" not in settings:
        undisturbed(visitors)
    _healed(stand, settings)


# -- two at once ------------------------------------------------------------------------------------------------------


def same_agent_twice(stand: Stand) -> None:
    """One of them deploys; the other is told who does."""
    choices = [stand.next(), stand.next()]
    with stand.visitors("two control nodes, the same agent") as visitors, ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda settings: stand.deploy(status=None, **settings), choices))
    undisturbed(visitors)
    assert sorted(bool(done.status) for done in runs) == [False, True], runs
    ((settings, _done),) = [pair for pair in zip(choices, runs, strict=True) if pair[1].status == 0]
    (loser,) = [done for done in runs if done.status]
    assert "is being deployed by" in loser.messages[-1], loser
    assert stand.in_force() == settings["max_body_size"]
    stand.settings = {**stand.settings, **settings}
    _healed(stand, settings)


def two_agents_at_once(stand: Stand) -> None:
    one, two = stand.next(), stand.next()
    jobs = [partial(stand.deploy, "one", status=None, **one), partial(stand.deploy, "two", status=None, **two)]
    with stand.visitors("two control nodes, two agents") as visitors, ThreadPoolExecutor(2) as pool:
        runs = [future.result() for future in [pool.submit(job) for job in jobs]]
    undisturbed(visitors)
    assert [done.status for done in runs] == [0, 0], runs
    assert (stand.in_force("one"), stand.in_force("two")) == (one["max_body_size"], two["max_body_size"])
    stand.served("two")


# -- files of the owner's -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def _dotenv(stand: Stand, content: str) -> Iterator[None]:
    kept = stand.shell("cat .env")
    stand.write(".env", content)
    try:
        yield
    finally:
        stand.write(".env", kept)


def dotenv(stand: Stand, what: str, change: Callable[[str], str]) -> None:
    """Our values are read as compose reads them, and every byte of the owner's stays."""
    wanted = change(stand.shell("cat .env"))
    target = stand.settings.get("target_url", ONE["target_url"])
    with _dotenv(stand, wanted):
        for settings in (stand.next(), stand.next_labels()):
            with stand.visitors(f".env {what}") as visitors:
                stand.deploy(**settings)
            assert not visitors.failed, visitors
            assert stand.in_force() == settings["max_body_size"]
            assert stand.shell("cat .env | base64") == stand.shell("base64", text=wanted)
        conf = stand.shell("docker exec vaettir-one-1 cat /etc/nginx/nginx.conf")
        assert target.split("//")[1].split(":")[0] in conf
        stand.has_drained()
        stand.served()


def _lines(content: str, change: Callable[[str, str], str]) -> str:
    pairs = (line.split("=", 1) for line in content.splitlines() if "=" in line and not line.startswith("#"))
    return "".join(change(key, value) for key, value in pairs)


DOTENVS: dict[str, Callable[[str], str]] = {
    "with Windows line ends": lambda text: text.replace("\n", "\r\n"),
    "without a final newline": lambda text: text.rstrip("\n"),
    "with export": lambda text: _lines(text, lambda key, value: f"export {key}={value}\n"),
    "with quotes": lambda text: "OWN='a # b'\n" + _lines(text, lambda key, value: f'{key}="{value}"\n'),
    "with dollars": lambda text: "OWN='pa$$word'\nMORE=\"a\\$b\"\nHALF=$HOME/x\n" + text,
}


def broken_fragment(stand: Stand) -> None:
    """Compose reads no file at all any more; a reload needs no compose, a replacement says what is wrong."""
    settings = stand.next()
    kept = stand.shell("cat agents/two.yml")
    stand.write("agents/two.yml", kept + "\n  broken: [\n")
    try:
        with stand.visitors("broken fragment of another agent") as visitors:
            stand.deploy(**settings)
        undisturbed(visitors)
        assert stand.in_force() == settings["max_body_size"]
        _fails(stand, "broken fragment of another agent, replacement", "yaml", **stand.next_labels())
    finally:
        stand.write("agents/two.yml", kept)


# -- the tables -----------------------------------------------------------------------------------------------------


def _killed(tasks: Sequence[str]) -> dict[str, Fault]:
    return {f"killed_at_{task.replace(' ', '_')}": partial(killed, task=task) for task in tasks}


def _dotenvs(names: Sequence[str]) -> dict[str, Fault]:
    return {f"dotenv_{name.replace(' ', '_')}": partial(dotenv, what=name, change=DOTENVS[name]) for name in names}


DOZEN: dict[str, Fault] = {
    **{
        fault.__name__: fault
        for fault in (
            *(broken_conf, failing_build, dying_image, refused_by_the_app, verification_time_out),
            *(read_only_home, same_agent_twice, dns_dead, broken_fragment),
        )
    },
    **_killed(["Make the release and start its trial", FORCE]),
    **_dotenvs(["with Windows line ends"]),
}
REST: dict[str, Fault] = {
    **{
        fault.__name__: fault
        for fault in (
            *(docker_stopped_before, docker_stopped_midway, disk_full, traefik_restarted, two_agents_at_once),
            *(reboot_midway, reboot_after),
        )
    },
    **_killed(list(KILLS)),
    **_dotenvs(list(DOTENVS)[1:]),
}
ALL = {**DOZEN, **REST}


def check(stand: Stand, name: str) -> None:
    """Each begins on a server in order, whatever became of the one before."""
    if stand.spoiled:
        run(["docker", "exec", stand.server, "systemctl", "start", "docker"])
        stand.edge.dns("up")
        stand.deploy(**stand.next())
        stand.has_drained()
    stand.spoiled = True
    ALL[name](stand)
    stand.spoiled = False
