# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The scenario `releases` as its tests and the soak test use it: deploy, look around, have visitors meanwhile."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from . import ca, load, playbook, stand
from .shell import STATE, say, wait_for

ROLLBACK = "locki.vaettir.rollback_agent"
ONE: dict[str, Any] = {"name": "one", "target_url": "https://second.ngrok-free.app"}
TWO: dict[str, Any] = {"name": "two", "target_url": "http://edge.test:9000"}
TUNNEL = "second.ngrok-free.app"
RESTORE_LIMIT, VERIFY_LIMIT = 10, 5  # seconds, on a machine that does nothing else
SHARED = 6  # times as long, where other scenarios run beside
UP = "docker compose --profile production --profile proxy up -d"
# Everything that makes up a release of agent `one`, live.
FILES = (
    *(".env", "agents.yml", "agents/one.yml", "docker-compose.yml"),
    *(f"proxy-configs/{name}" for name in ("Dockerfile", "entrypoint.sh", "offline.js", "error-offline.html.template")),
    *("proxy-configs/one.conf.template", "proxy-configs/one.ca.pem", "secrets/one/tunnel", "releases/one/current"),
)


def public(agent: str) -> str:
    return f"https://{agent}.vaettir.example"


@dataclass
class Stand(stand.Stand):
    """The one server of the scenario."""

    settings: dict[str, Any] = field(default_factory=dict)  # of agent one, as last deployed with success
    size: int = 300  # the last max_body_size in MB: each release has one of its own
    spoiled: bool = False
    alone: bool = False  # the soak test: with all the time and the whole machine

    # -- the server -----------------------------------------------------------------------------------------------

    def state(self) -> dict[str, str]:
        """What a failed release has to leave as it was: files, images, containers."""
        told = self.shell(
            f"sha256sum {' '.join(FILES)} 2>/dev/null || true; echo --; ls -d releases/one/2*; echo --;"
            "docker images --no-trunc --format '{{.Repository}}:{{.Tag}} {{.ID}}' vaettir-one | grep -v none; echo --;"
            "docker ps -a --no-trunc --format '{{.Names}} {{.ID}} {{.State}}'"
        )
        files, releases, images, containers = told.split("--\n")
        found = {path: digest for digest, path in (line.split(None, 1) for line in files.splitlines())}
        found["releases"] = releases
        found["images"] = "\n".join(sorted(images.splitlines()))
        found["containers"] = "\n".join(sorted(containers.splitlines()))
        return found

    def ids(self) -> dict[str, str]:
        """Containers by name."""
        told = self.shell("docker ps -a --no-trunc --format '{{.Names}} {{.ID}}'")
        return dict(line.split() for line in told.splitlines())

    def in_force(self, agent: str = "one") -> str:
        """The limit that a container's nginx has, which tells releases apart."""
        told = self.shell(
            f"docker exec vaettir-{agent}-1 grep -m1 -o 'client_max_body_size [^;]*' /etc/nginx/nginx.conf"
        )
        return told.split()[-1]

    def workers(self, agent: str = "one") -> str:
        """nginx's processes: the same again means that nothing was reloaded."""
        return self.shell(f"docker top vaettir-{agent}-1 -o pid,args | grep -E 'master|worker' || true")

    def releases(self, agent: str = "one") -> list[str]:
        """Newest last."""
        return sorted(self.shell(f"cd releases/{agent} && ls -d 2*").split())

    def release(self, agent: str = "one") -> str:
        """The one in force."""
        found = re.search(r"^release=(.*)$", self.shell(f"cat releases/{agent}/current"), re.MULTILINE)
        return found[1] if found else ""

    @property
    def slack(self) -> int:
        """How many times as long as on a machine of its own anything may take."""
        return 1 if self.alone else SHARED

    @property
    def limit(self) -> float:
        """Seconds that a restore or a rollback may take."""
        return RESTORE_LIMIT * self.slack

    def has_drained(self, seconds: float = 60) -> None:
        """No replaced container is left."""
        wait_for("the end of the replaced container", lambda: not any("-old-" in name for name in self.ids()), seconds)

    # -- playbooks ------------------------------------------------------------------------------------------------

    def deploy(
        self, agent: str = "one", *options: str, status: int | None = 0, when: Any = None, **settings: Any
    ) -> playbook.Run:
        """A release with these settings; `status=None` takes any end."""
        wanted = {**self.settings, **settings} if agent == "one" else settings
        own = {**(ONE if agent == "one" else TWO if agent == "two" else {"name": agent}), **wanted}
        one = own if agent == "one" else {**ONE, **self.settings}
        two = own if agent == "two" else TWO
        agents = [one, two, *([own] if agent not in ("one", "two") else [])]
        done = playbook.run(
            playbook.DEPLOY, "-e", f"agent={agent}", *options, extra={"vaettir_agents": agents}, when=when
        )
        if status is not None:
            assert bool(done.status) == bool(status), done
        if done.status == 0 and agent == "one" and "--check" not in options:
            self.settings = wanted
        return done

    def through(self, connection: str) -> list[str]:
        """Options: Ansible reaches the server with `ssh`, or also with a `terminal`, as it does without pipelining."""
        if not connection:
            return []
        reached = {
            "ansible_connection": "ssh",
            "ansible_host": self.address,
            "ansible_ssh_private_key_file": str(ca.SSH_KEY),
            "ansible_pipelining": connection != "terminal",
        }
        path = STATE / "molecule" / f"{self.server}-{connection}.json"
        path.write_text(json.dumps({"all": {"hosts": {self.server: reached}}}), encoding="utf-8")
        return ["-i", str(path)]

    def next(self) -> dict[str, Any]:
        """Settings that no release had before."""
        self.size += 1
        return {"max_body_size": f"{self.size}m"}

    def next_labels(self) -> dict[str, Any]:
        """And one that only another container can have."""
        return {**self.next(), "extra_domains": [f"r{self.size}.vaettir.example"]}

    def rollback(self, agent: str = "one", *options: str) -> tuple[playbook.Run, float]:
        begin = time.monotonic()
        done = playbook.run(
            ROLLBACK, "-e", f"agent={agent}", *options, extra={"vaettir_agents": [{**ONE, **self.settings}, TWO]}
        )
        return done, time.monotonic() - begin

    # -- visitors -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def visitors(
        self, what: str, agent: str = "one", sockets: int = 20, per_second: float = 30
    ) -> Iterator[load.Visitors]:
        """Somebody is there all the time; what they saw is kept for the closing note."""
        with load.on(public(agent), self.address, sockets=sockets, per_second=per_second) as visitors:
            yield visitors
        note(f"{what}: {visitors.saw()}")

    def served(self, agent: str = "one", seconds: float = 60) -> None:
        answer = self.visitor.until(public(agent), 200, seconds)
        assert answer.status == 200, (answer.status, answer.headers)


def note(line: str) -> None:
    """For the closing note: .rig/logs/visitors.txt."""
    say(line)
    with (STATE / "logs" / "visitors.txt").open("a", encoding="utf-8") as stream:
        stream.write(f"{line}\n")


def undisturbed(visitors: load.Visitors) -> None:
    assert not visitors.failed, (visitors, visitors.failed[:10])
    assert not visitors.dropped, (visitors, visitors.dropped[:10])
    assert visitors.answered > 20, visitors


def seconds_to_verify(done: playbook.Run, server: str, agent: str = "one") -> float:
    """At most: the whole transaction, and the second witness."""
    return done.row(agent).seconds + done.seconds(server, "Verify the upgrade with curl")


def seconds_to_restore(done: playbook.Run, agent: str = "one") -> float:
    """At most: the whole transaction, from its begin to when the previous release was verified."""
    return done.row(agent).seconds


def release_json(stand: Stand, release: str, agent: str = "one") -> dict[str, Any]:
    found: dict[str, Any] = json.loads(stand.shell(f"cat releases/{agent}/{release}/release.json"))
    return found
