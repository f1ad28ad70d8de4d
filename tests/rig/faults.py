# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What may go wrong in or around a release, each with visitors in front: a dozen in `make test`, all in `make soak`."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import Any

from . import foreign, playbook, steps
from .releases import FILES, ONE, UP, Stand, note, public, seconds_to_restore, undisturbed
from .shell import run
from .stand import HOME

Fault = Callable[[Stand], None]
BLACK_HOLE = "hole.ngrok-free.app"


# -- a release that fails ----------------------------------------------------------------------------------------------


def _fails(
    stand: Stand, what: str, reason: str, waits: float = 0, options: Sequence[str] = (), **settings: Any
) -> None:
    """Nobody notices, all is as before within seconds, and the run says so. `waits`: for what does not answer."""
    before, held, workers = stand.state(), stand.in_force(), stand.workers()
    with stand.visitors(what) as visitors:
        done = stand.deploy("one", *options, status=1, **{**stand.next(), **settings})
    undisturbed(visitors)
    assert "rolled back to release" in done.messages[-1], done
    assert any(reason in message for message in done.messages), (reason, done)
    assert stand.state() == before
    assert (stand.in_force(), stand.workers()) == (held, workers)
    note(f"{what}: restored in {seconds_to_restore(done):.1f} s")
    assert seconds_to_restore(done) <= waits + stand.limit, done


def broken_conf(stand: Stand) -> None:
    """Passes every check of ours, and nginx refuses it."""
    options = ("-e", json.dumps(playbook.refused_conf()))
    _fails(stand, "broken conf template", "client_max_body_size", options=options)


def failing_build(stand: Stand) -> None:
    _fails(stand, "build that fails", "nginx:nowhere", base_image="nginx:nowhere")


def dying_image(stand: Stand) -> None:
    _fails(stand, "image that starts and dies", "", base_image="nginx:dies")


def refused_by_the_app(stand: Stand) -> None:
    """The app answers 403 to the Origin that the new release sends."""
    generic: dict[str, Any] = {"profile": "generic", "probe_path": "/_stcore/stream"}  # what answers is no Streamlit
    fix = "the app refuses its own public origin, which origin_mode `preserve` passes on. To fix it: set origin_mode"
    _fails(stand, "verification 403", f"broken at the app: {fix}", origin_mode="preserve", **generic)


def verification_time_out(stand: Stand) -> None:
    stand.edge.put(BLACK_HOLE, "http://127.0.0.1:9000")
    with stand.edge.faulty(BLACK_HOLE, "blackhole"):
        settings: dict[str, Any] = {"target_url": f"https://{BLACK_HOLE}", "require_online": True}
        # The trial waits for the tunnel, and so does whoever looks for the reason.
        _fails(stand, "verification time-out", "", waits=20, **settings)


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
    assert not [name for name in left if name.startswith(".") or name in ("pending", "run")], left
    stand.served()
    if stand.alone:
        again = stand.deploy()
        assert again.changed == [], again


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
            with steps.watch(stand.server, "one", "trial") as watch:
                stand.deploy(status=1, when=(watch.begun, stop), **settings)
        finally:
            stand.shell("systemctl start docker", "root")
        stand.served()
    _heals(stand, settings)


def disk_full(stand: Stand) -> None:
    """~/vaettir on a small tmpfs, and no byte left on it."""
    small = f"""
        cd /; docker ps -q | xargs docker stop -t 1
        cp -a {HOME} {HOME}.aside; mount -t tmpfs -o size=256m,mode=755,uid=1000,gid=1000 tmpfs {HOME}
        cp -a {HOME}.aside/. {HOME}/"""
    stand.shell(small, "root")
    try:
        stand.shell(f"{UP} --force-recreate --wait")
        stand.served()
        stand.shell("dd if=/dev/zero of=filler bs=4k 2>/dev/null || true")
        assert stand.shell("df --output=avail . | tail -1").strip() == "0"
        settings, before = stand.next(), stand.state()
        with stand.visitors("disk full") as visitors:
            known = stand.deploy(status=1, **settings)
            done = stand.deploy("one", "-e", "stack_insist=disk_full", status=1, **settings)
        undisturbed(visitors)
        assert f"the disk of {HOME} is full" in " ".join(known.messages), known
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
        with steps.watch(stand.server, "one", "switch") as watch:
            stand.deploy(status=None, when=(watch.begun, stand.reboot), **settings)
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
        with steps.watch(stand.server, "one", "trial") as watch:
            stand.deploy(when=(watch.begun, restart), **settings)
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


# -- death at a step --------------------------------------------------------------------------------------------------


def _another_image(stand: Stand) -> dict[str, Any]:
    """While such a container and the replaced one both serve, visitors meet them by turns."""
    newer = stand.settings.get("base_image") == "nginx:newer"
    return {**stand.next(), "base_image": "nginx:1.30.6" if newer else "nginx:newer"}


# Step: a release that has it.
STEPS: dict[str, Callable[[Stand], dict[str, Any]]] = {
    "lock": Stand.next,
    "copy": Stand.next_labels,
    "build": _another_image,
    "release": Stand.next,
    "trial": Stand.next,
    "switch": Stand.next_labels,
    "watched": Stand.next,
    "commit": Stand.next_labels,
}
ANSIBLE, MODULE = "ansible", "module"
ENDED = 22  # seconds after which a container has ended the workers of a switch that was not committed, and no others


def killed(stand: Stand, who: str, step: str) -> None:
    """SIGKILL at a step; the rerun begins at once. Without Ansible the module goes on, and the rerun waits for it."""
    settings = STEPS[step](stand)
    with stand.visitors(f"SIGKILL of {who} at the step {step}") as visitors:
        with steps.watch(stand.server, "one", step, kill=who == MODULE) as watch:
            happens = playbook.kill if who == ANSIBLE else _nothing
            done = stand.deploy(status=None, when=(watch.begun, happens), **settings)
        assert done.status < 0 if who == ANSIBLE else done.status > 0, done
        assert who == ANSIBLE or "ended on the server before it could answer" in done.output, done
        stand.served()
        if (who, step) == (MODULE, "watched"):
            time.sleep(ENDED)
        stand.deploy(**settings)
    assert not visitors.failed, (visitors, visitors.failed[:10])
    if "extra_domains" not in settings and "base_image" not in settings:
        undisturbed(visitors)
    _healed(stand, settings)


def _nothing() -> None:
    """It happened on the server."""


# -- death right after the switch to a release whose verification fails ------------------------------------------------


@dataclass(frozen=True)
class Death:
    happens: Callable[[Stand], object]
    through: str = ""  # how Ansible reaches the server: ssh, or ssh with a terminal
    stays_up: bool = True  # the server, and its Docker


def _kill_module(stand: Stand) -> None:
    with steps.watch(stand.server, "one", "switch", kill=True) as watch:
        watch.begun()


def _kill_sshd(stand: Stand) -> None:
    """Its child, which has the connection."""
    stand.shell("pkill -KILL -u deploy ^sshd", "root")


def _restart_docker(stand: Stand) -> None:
    stand.shell("systemctl reset-failed docker; systemctl restart docker", "root")


DEATHS = {
    ANSIBLE: Death(lambda _stand: playbook.kill(), through="terminal"),
    "connection": Death(_kill_sshd, through="ssh"),
    "terminal": Death(_kill_sshd, through="terminal"),
    MODULE: Death(_kill_module),
    "docker": Death(_restart_docker, stays_up=False),
    "server": Death(Stand.reboot, stays_up=False),
}
ACTIONS: dict[str, Callable[[Stand], dict[str, Any]]] = {"reload": Stand.next, "replacement": _another_image}
UNVERIFIED_LIMIT = 60  # seconds
STEADY = {False: 5, True: 30}  # seconds that the previous release has to be the only one; with time, longer


def unverified(stand: Stand, death: str, action: str) -> None:
    """The previous release is active again, without another run."""
    what, before = f"{action}: death of {death} right after the switch", stand.release()
    settings, dies = ACTIONS[action](stand), DEATHS[death]
    host = public("one").removeprefix("https://")
    with stand.visitors(what) as visitors, foreign.foreign(host, stand.visitor) as visitor:
        died: list[float] = []

        def happens() -> None:
            died.append(time.monotonic())
            dies.happens(stand)

        through = stand.through(dies.through)
        done = stand.deploy("one", *through, status=None, when=(visitor.is_let_in, happens), **settings, **foreign.OPEN)
        assert done.status, done
        visitor.visitor.address = stand.address
        seconds = visitor.seconds_until_refused(died[0], STEADY[stand.alone], UNVERIFIED_LIMIT * stand.slack)
    note(f"{what}: the previous release is active after {seconds:.1f} s")
    assert stand.release() == before
    assert seconds <= UNVERIFIED_LIMIT, visitor.seen
    if dies.stays_up:
        undisturbed(visitors)
    stand.served()
    _heals(stand, settings)


# -- two at once ------------------------------------------------------------------------------------------------------


def same_agent_twice(stand: Stand) -> None:
    """The second run waits for the first."""
    choices = [stand.next(), stand.next()]
    with stand.visitors("two control nodes, the same agent") as visitors, ThreadPoolExecutor(2) as pool:
        runs = list(pool.map(lambda settings: stand.deploy(status=None, **settings), choices))
    undisturbed(visitors)
    assert [done.row("one").outcome for done in runs] == ["released", "released"], runs
    (last,) = [settings for settings in choices if settings["max_body_size"] == stand.in_force()]
    stand.settings = {**stand.settings, **last}
    _healed(stand, last)


def held_for_too_long(stand: Stand) -> None:
    """Whoever waits in vain is told for whom."""
    run_file = json.dumps({"by": "alice@laptop", "since": int(time.time()) - 90})
    stand.shell("exec 9<releases/one; flock 9; sleep 600 >/dev/null 2>&1 & echo $! >/tmp/holder")
    stand.write("releases/one/run", run_file)
    before, workers, settings = stand.state(), stand.workers(), stand.next()
    try:
        with stand.visitors("an agent that somebody else holds") as visitors:
            done = stand.deploy(status=1, **settings)
    finally:
        stand.shell("kill $(cat /tmp/holder); rm -f releases/one/run")
    undisturbed(visitors)
    assert re.search(r"one is being deployed by alice@laptop for [0-9]+ s: wait for it\.", done.messages[-1]), done
    assert (stand.state(), stand.workers()) == (before, workers)
    _heals(stand, settings)


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


def _killed(*pairs: tuple[str, str]) -> dict[str, Fault]:
    return {f"{who}_killed_at_{step}": partial(killed, who=who, step=step) for who, step in pairs}


def _unverified(*pairs: tuple[str, str]) -> dict[str, Fault]:
    return {
        f"death_of_{death}_after_{action}": partial(unverified, death=death, action=action) for death, action in pairs
    }


def _dotenvs(names: Sequence[str]) -> dict[str, Fault]:
    return {f"dotenv_{name.replace(' ', '_')}": partial(dotenv, what=name, change=DOTENVS[name]) for name in names}


def _plain(*faults: Fault) -> dict[str, Fault]:
    return {fault.__name__: fault for fault in faults}


# Each step and each kind of death occurs.
DOZEN: dict[str, Fault] = {
    **_plain(refused_by_the_app, same_agent_twice),
    **_killed((ANSIBLE, "lock"), (MODULE, "copy"), (ANSIBLE, "build"), (MODULE, "release")),
    **_killed((ANSIBLE, "trial"), (MODULE, "watched"), (ANSIBLE, "commit")),
    **_unverified((ANSIBLE, "replacement"), ("connection", "reload"), ("terminal", "replacement")),
    **_unverified((MODULE, "reload"), ("docker", "replacement"), ("server", "reload")),
}
ALL: dict[str, Fault] = {
    **DOZEN,
    **_plain(broken_conf, failing_build, dying_image, verification_time_out),
    **_plain(docker_stopped_before, docker_stopped_midway, disk_full, read_only_home, reboot_midway, reboot_after),
    **_plain(traefik_restarted, dns_dead, held_for_too_long, two_agents_at_once, broken_fragment),
    **_killed(*product((ANSIBLE, MODULE), STEPS)),
    **_unverified(*product(DEATHS, ACTIONS)),
    **_dotenvs(list(DOTENVS)),
}


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
