# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Faults of the server and the agent's nginx."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from ansible_collections.locki.vaettir.plugins.module_utils._chain import NGINX, SERVER

from . import images, servers
from .doctor import AGENT, DEPLOY, Fault, Stand, person
from .faults_tunnel import ODD, SECRET, behind
from .shell import run
from .stand import HOME

CONTAINER = f"vaettir-{AGENT}-1"
CONF, FRAGMENT = f"proxy-configs/{AGENT}.conf.template", f"agents/{AGENT}.yml"
DAEMON, PRELOAD = "/etc/docker/daemon.json", "/etc/ld.so.preload"
NOBODY = "127.0.0.54"  # no DNS server
GONE = "https://gone.ngrok-free.app"  # no tunnel of that name any more
OLD = "nginx:1.26.3"
HANGING = 55  # seconds: the check that is under way is stopped as well, so Docker ends it after 40
NOTICED = 8  # seconds until Docker has seen that a container is ill, and Traefik has heard of it
SSH = "-p tcp --dport 22 -j REJECT --reject-with tcp-reset"
# What an owner types.
UP = f"docker compose --profile production --profile proxy up -d {AGENT} 2>&1"
BUILD = f"docker compose build -q {AGENT} 2>&1"
RESTART = f"docker restart -t 1 {CONTAINER}"
Inject = Callable[[Stand], AbstractContextManager[None]]


def commands(begin: str, end: str, user: str = "root", seconds: float = 0) -> Inject:
    """Typed on the server, and what takes it back whatever a fix has done."""

    @contextmanager
    def inject(stand: Stand) -> Iterator[None]:
        try:
            stand.shell(begin, user)
            time.sleep(seconds)
            yield
        finally:
            stand.shell(end, user)

    return inject


def types(words: str, script: str) -> Callable[[Stand, str], None]:
    """A person with root's rights who does what the fix says."""

    def act(stand: Stand) -> None:
        stand.shell(script, "root")

    return person(words, act)


# -- the server ---------------------------------------------------------------------------------------------------


@contextmanager
def small_disk(stand: Stand) -> Iterator[None]:
    """The project folder on a file system of its own; containers have the previous one."""
    options = "size=300m,mode=755,uid=1000,gid=1000"
    stand.shell(f"mount -t tmpfs -o {options} tmpfs /mnt; cp -a . /mnt/; mount --move /mnt {HOME}", "root")
    try:
        yield
    finally:
        stand.shell(f"cd /; umount {HOME}", "root")


@contextmanager
def full_disk(stand: Stand) -> Iterator[None]:
    with small_disk(stand):
        stand.shell("fallocate -l 299m large || dd if=/dev/zero of=large bs=1M 2>/dev/null || true")
        yield


@contextmanager
def read_only(stand: Stand) -> Iterator[None]:
    """As the kernel leaves a disk that fails."""
    with small_disk(stand):
        stand.shell(f"mount -o remount,ro {HOME}", "root")
        yield


@contextmanager
def wrong_clock(stand: Stand) -> Iterator[None]:
    """The clock itself is this machine's: every program that starts on the server is told another time."""
    stand.shell("dpkg -s libfaketime >&- 2>&- || { apt-get update; apt-get install -y libfaketime; }", "root")
    try:
        stand.shell(f"echo +40d > /etc/faketimerc; dpkg -L libfaketime | grep e.so.1 > {PRELOAD}", "root")
        yield
    finally:
        stand.shell(f"rm -f {PRELOAD} /etc/faketimerc", "root")


@contextmanager
def dotenv(stand: Stand, script: str) -> Iterator[None]:
    """Edited, and the container made again by hand."""
    kept = stand.shell("cat .env")
    try:
        stand.shell(f"sed -i '{script}' .env; {UP}")
        time.sleep(NOTICED)
        yield
    finally:
        stand.write(".env", kept)
        stand.shell(UP)


def target(value: str) -> Inject:
    return partial(dotenv, script=f"s,^\\(ONE_TARGET_URL=\\)\\(.*\\),\\1{value},")


def firewall(*rules: str, more: str = "true") -> Inject:
    return commands(
        "; ".join(f"iptables -I {rule}" for rule in rules) + f"; {more}",
        f"iptables -F OUTPUT; iptables -F DOCKER-USER; iptables -A DOCKER-USER -j RETURN; {more}",
    )


def resolver(address: str) -> Inject:
    """In place of the server's own; that one answers as 1.1.1.1, which is not to be had here."""
    own = "own=$(sed 's/nameserver //' /tmp/resolv.conf)"
    ways = [f"{chain} -d 1.1.1.1 -p {kind} --dport 53" for chain in ("OUTPUT", "PREROUTING") for kind in ("udp", "tcp")]
    inserted, deleted = ("; ".join(f"iptables -t nat -{word} {way} -j DNAT --to $own" for way in ways) for word in "ID")
    return commands(
        f"cp /etc/resolv.conf /tmp/; {own}; {inserted}; echo nameserver {address} > /etc/resolv.conf; {RESTART}",
        f"{own}; {deleted}; cat /tmp/resolv.conf > /etc/resolv.conf; {RESTART}",
    )


# -- nginx --------------------------------------------------------------------------------------------------------


@contextmanager
def edited(stand: Stand, script: str, path: str = CONF) -> Iterator[None]:
    """A hand-made file, made active as the documentation says."""
    kept = stand.shell(f"cat {path}")
    try:
        stand.shell(f"sed -i '{script}' {path}; {BUILD}; {UP} || true")
        time.sleep(NOTICED)
        yield
    finally:
        stand.write(path, kept)
        stand.shell(f"rm -f {path}.*~; {BUILD}; {UP}")


@contextmanager
def old_nginx(stand: Stand) -> Iterator[None]:
    """Of a stable distribution, with what the official image says of itself."""
    text = (images.FOLDER / "nginx" / "Dockerfile").read_text(encoding="utf-8").replace("/forky:", "/trixie:")
    text += f"ENV NGINX_VERSION={OLD.rpartition(':')[2]}\n"
    run(["docker", "build", "-q", "--label", "vaettir-rig=nginx", "-t", OLD, "-"], input=text)
    servers.load([stand.server], [OLD])
    with edited(stand, f"s,{images.NGINX},{OLD},", FRAGMENT):
        yield


@contextmanager
def without_secret(stand: Stand) -> Iterator[None]:
    """What the tunnel's policy asks for, and a hand-made conf does not send."""
    stand.agent["tunnel_secret"] = SECRET
    with behind(stand, f"{ODD} policy {SECRET}"):
        stand.deploy()
        with edited(stand, "/tunnel-secret.conf/d"):
            yield


@contextmanager
def maintenance(stand: Stand) -> Iterator[None]:
    done = stand.play(DEPLOY, "-e", f"agent={AGENT}", "-e", "maintenance=true")
    assert done.status == 0, done
    yield


@contextmanager
def gone(stand: Stand, path: str, more: str = "true") -> Iterator[None]:
    """Something of the project folder is deleted."""
    stand.shell(f"rm -rf ~/kept; mkdir ~/kept; cp -a {path} ~/kept/; rm -rf {path}; {more}")
    try:
        yield
    finally:
        stand.shell(f"rm -rf {path}; mv ~/kept/* $(dirname {path})/; rmdir ~/kept")


_OTHER = "docker compose -p other --profile proxy"
_LOGIN = "pkill -u deploy sshd || true"

FAULTS: tuple[Fault, ...] = (
    Fault(
        "the server's ssh port is closed",
        SERVER,
        commands(f"iptables -I INPUT {SSH}", f"iptables -D INPUT {SSH} || true"),
        types("until it works", f"iptables -D INPUT {SSH}"),
    ),
    Fault("Docker is stopped", SERVER, commands("systemctl stop docker.socket docker", "systemctl start docker")),
    Fault(
        "the login user may not use Docker any more",
        SERVER,
        commands(f"gpasswd -d deploy docker; {_LOGIN}", f"usermod -aG docker deploy; {_LOGIN}"),
        types("usermod -aG docker $USER", f"usermod -aG docker deploy; {_LOGIN}"),
    ),
    Fault("the disk is full", SERVER, full_disk, types("delete what is large", "rm large")),
    Fault("the file system is read-only", SERVER, read_only),
    Fault(
        "the project folder has become root's",
        SERVER,
        commands(f"chown -R root: {HOME}", f"chown -R deploy: {HOME}"),
    ),
    Fault("the server's clock is wrong", SERVER, wrong_clock, types("timedatectl set-ntp true", f"rm {PRELOAD}")),
    Fault("`.env` has lost the agent's key", SERVER, partial(dotenv, script="/^ONE_TARGET_URL=/d")),
    Fault("`.env` has a target with a path", SERVER, target("\\2/app")),
    Fault("`.env` has a target with another scheme", SERVER, partial(dotenv, script="s,=https://o,=ftp://o,")),
    Fault("`.env` leads to a tunnel that is gone", SERVER, target(GONE)),
    Fault("`.env` leads to a name without an address", SERVER, target("https://nowhere.test")),
    Fault("`.env` says http instead of https", SERVER, partial(dotenv, script="s,=https://o,=http://o,"), warns=True),
    Fault("the server's DNS server is dead", SERVER, resolver(NOBODY)),
    Fault(
        "Docker gives containers a DNS server that is dead",
        SERVER,
        commands(
            f"""echo '{{"dns": ["{NOBODY}"]}}' > {DAEMON}; {servers.RESTART_DOCKER}""",
            f"rm -f {DAEMON}; {servers.RESTART_DOCKER}",
        ),
        types("remove `dns`", f"rm {DAEMON}; {servers.RESTART_DOCKER}"),
    ),
    Fault(
        "a firewall keeps containers from DNS",
        SERVER,
        firewall("DOCKER-USER -p udp --dport 53 -j DROP", "DOCKER-USER -p tcp --dport 53 -j DROP", more=RESTART),
    ),
    Fault(
        "a firewall keeps containers from the internet", SERVER, firewall("DOCKER-USER -p tcp --dport 443 -j REJECT")
    ),
    Fault(
        "a firewall keeps the whole server from the internet",
        SERVER,
        firewall("OUTPUT ! -o lo -p tcp --dport 443 -j REJECT", "DOCKER-USER -p tcp --dport 443 -j DROP"),
    ),
    Fault(
        "the kernel forwards no packets",
        SERVER,
        commands("sysctl -w net.ipv4.ip_forward=0", "sysctl -w net.ipv4.ip_forward=1"),
    ),
    # --- nginx
    Fault("the container is stopped", NGINX, commands(f"docker stop {CONTAINER}", UP, "deploy")),
    Fault("the container is removed", NGINX, commands(f"docker rm -f {CONTAINER}", UP, "deploy")),
    Fault(
        "the container is paused",
        NGINX,
        commands(f"docker pause {CONTAINER}", f"docker unpause {CONTAINER} || true", "deploy"),
    ),
    Fault(
        "nginx hangs",
        NGINX,
        commands(f"docker top {CONTAINER} -o pid | tail -n +2 | xargs kill -STOP", RESTART, seconds=HANGING),
    ),
    Fault("a hand-made conf is broken", NGINX, partial(edited, script="s/^http {/htp {/")),
    Fault(
        "a hand-made Dockerfile is broken",
        NGINX,
        partial(edited, script="/^ENTRYPOINT/d", path="proxy-configs/Dockerfile"),
    ),
    Fault("nginx is older than 1.27.4", NGINX, old_nginx),
    Fault("a hand-made conf does not send the tunnel's secret", NGINX, without_secret),
    Fault(
        "a hand-made conf refuses the agent's own origin", NGINX, partial(edited, script='s,"https://one[^ ]* yes;,,')
    ),
    Fault("a hand-made conf sends the app the public origin", NGINX, partial(edited, script="/; # Origin/d")),
    Fault("a hand-made conf loses the WebSocket's Upgrade", NGINX, partial(edited, script="/_header Upgrade/d")),
    Fault(
        "a hand-made conf accepts every origin",
        NGINX,
        partial(edited, script='s/default no;/default yes;/; s,default $http_origin;,default "${TARGET_URL}";,'),
        warns=True,
    ),
    Fault("maintenance was left on", NGINX, maintenance),
    Fault("`proxy-configs` is deleted", NGINX, partial(gone, path="proxy-configs"), warns=True),
    Fault(
        "the agent's releases are deleted",
        NGINX,
        partial(gone, path="releases/one", more=f"{RESTART}; sleep {NOTICED}"),
        warns=True,
    ),
    Fault(
        "a second project runs the agent as well",
        NGINX,
        commands(f"{_OTHER} up -d {AGENT} 2>&1", f"{_OTHER} down -v 2>&1; {UP}", "deploy", NOTICED),
    ),
    Fault(
        "a second project runs the agent instead of ours",
        NGINX,
        commands(
            f"docker rm -f {CONTAINER}; {_OTHER} up -d {AGENT} 2>&1", f"{_OTHER} down -v 2>&1; {UP}", "deploy", NOTICED
        ),
    ),
)
CHOSEN: tuple[str, ...] = (  # names of those that `make test` has
    "`.env` leads to a tunnel that is gone",
    "a firewall keeps containers from the internet",
    "a hand-made conf is broken",
)
