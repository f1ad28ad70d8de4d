# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Releases with visitors in front of them: short forms of what the soak test does at length."""

from __future__ import annotations

import json
import re
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

from tests.rig import playbook, steps
from tests.rig.releases import (
    TUNNEL,
    UP,
    VERIFY_LIMIT,
    Stand,
    note,
    public,
    release_json,
    seconds_to_verify,
    undisturbed,
)
from tests.rig.shell import wait_for
from tests.rig.stand import HOME

KEPT = 3
WINDOW = 12  # seconds, of molecule.yml


def test_five_releases_in_a_row(stand: Stand):
    first, seconds = stand.ids(), []
    with stand.visitors("5 releases in a row", sockets=50, per_second=40) as visitors:
        for _round in range(5):
            settings = stand.next()
            run = stand.deploy(**settings)
            assert run.changed
            assert stand.in_force() == settings["max_body_size"]
            seconds.append(seconds_to_verify(run, stand.server))
    undisturbed(visitors)
    note(f"verification of 5 releases: {', '.join(f'{each:.1f}' for each in seconds)} s")
    assert max(seconds) <= VERIFY_LIMIT * stand.slack
    assert stand.ids() == first


def test_kept_releases_with_who_and_when(stand: Stand):
    kept = stand.releases()
    assert len(kept) == KEPT
    assert stand.release() == kept[-1]
    told = release_json(stand, kept[-1])
    assert told["id"] == kept[-1]
    assert told["verified"]
    assert "@" in told["by"]
    tags = stand.shell("docker images --format '{{.Tag}}' vaettir-one").split()
    assert sorted(tag for tag in tags if tag.startswith("2")) == kept


def test_no_change_is_no_reload(stand: Stand):
    before, workers = stand.state(), (stand.workers("one"), stand.workers("two"), stand.workers("offline"))
    assert stand.deploy().changed == []
    assert (stand.state(), (stand.workers("one"), stand.workers("two"), stand.workers("offline"))) == (before, workers)


def test_rollback_takes_seconds(stand: Stand):
    newer = stand.releases()[-1]
    size, conf = stand.in_force(), stand.shell("cat proxy-configs/one.conf.template")
    with stand.visitors("rollback-agent.yml, twice") as visitors:
        run, seconds = stand.rollback()
        assert run.status == 0, run
        assert seconds <= stand.limit
        assert stand.in_force() != size
        back, seconds_again = stand.rollback("one", "-e", f"release={newer}")
        assert back.status == 0, back
        assert seconds_again <= stand.limit
    note(f"rollback-agent.yml: {seconds:.1f} s and {seconds_again:.1f} s")
    undisturbed(visitors)
    assert (stand.in_force(), stand.shell("cat proxy-configs/one.conf.template")) == (size, conf)


def test_rollback_to_what_never_was(stand: Stand):
    before = stand.state()
    run, _seconds = stand.rollback("one", "-e", "release=20200101T000000Z")
    assert run.status != 0
    assert "20200101T000000Z" in run.messages[-1]
    assert stand.state() == before


def test_a_container_is_replaced_beside_the_old_one(stand: Stand):
    old = stand.ids()["vaettir-one-1"]
    with stand.visitors("replacement: new base image and labels", sockets=50, per_second=40) as visitors:
        committed: list[float] = []
        with steps.watch(stand.server, "one", "commit") as watch:
            when = (watch.begun, lambda: committed.append(visitors.seconds))
            stand.deploy(when=when, **stand.next_labels(), base_image="nginx:newer")
        stand.has_drained(WINDOW + 20)
        wait_for("everybody's return", lambda: visitors.open == visitors.sockets, 10)
    assert not visitors.failed, (visitors, visitors.failed[:5])
    assert len(visitors.dropped) == visitors.sockets, visitors
    times = sorted(drop.at for drop in visitors.dropped)
    assert times[0] > committed[0] + WINDOW - 1, (committed, times)
    assert max(later - earlier for earlier, later in pairwise(times)) > 0.5, "both workers ended at once"

    assert [name for name in stand.ids() if name.startswith("vaettir-one")] == ["vaettir-one-1"]
    (found,) = json.loads(stand.shell("docker inspect vaettir-one-1"))
    assert found["Id"] != old
    assert found["Config"]["Labels"]["com.docker.compose.container-number"] == "1"
    assert found["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
    before = stand.ids()
    stand.shell(f"{UP} --wait 2>&1")
    assert stand.ids() == before, "the next `up -d` by hand changed something"
    assert stand.visitor.until(public(f"r{stand.size}"), 200).status == 200


def test_an_edit_by_hand_the_recipes_way(stand: Stand):
    conf = "proxy-configs/one.conf.template"
    stand.shell(f"sed -i 's/client_max_body_size [^;]*/client_max_body_size 7m/' {conf}")
    stand.shell(f"docker compose build one 2>&1 && {UP} --wait 2>&1")
    assert stand.in_force() == "7m"
    edited = stand.shell(f"cat {conf}")
    run = stand.deploy(**stand.next())
    assert f"a hand-edited file has its backup: {conf}." in run.output
    assert stand.shell(f"cat {conf}.*~") == edited
    assert stand.in_force() == f"{stand.size}m"
    (by_hand,) = [name for name in stand.releases() if release_json(stand, name)["by"] == "by hand"]
    run, _seconds = stand.rollback("one", "-e", f"release={by_hand}")
    assert run.status == 0, run
    assert (stand.in_force(), stand.shell(f"cat {conf}")) == ("7m", edited)
    stand.shell(f"rm -f {conf}.*~")


def test_a_first_release_that_fails_is_taken_away(stand: Stand):
    def everything() -> str:
        return stand.shell(
            "find . -path ./.locki -prune -o -type f -print | sort | xargs sha256sum; docker volume ls -q;"
            "docker ps -a --format '{{.Names}}' | sort; docker images --format '{{.Repository}}' | sort -u"
        )

    before = [line for line in everything().splitlines() if "offline" not in line]
    with stand.visitors("a first release that fails") as visitors:
        generic = {"profile": "generic", "probe_path": "/_stcore/stream"}  # what answers is no Streamlit
        run = stand.deploy("three", status=1, target_url=f"https://{TUNNEL}", origin_mode="preserve", **generic)
    undisturbed(visitors)
    (told,) = run.messages
    assert "broken at the app: the app refuses its own public origin" in told, run
    assert "To fix it: set origin_mode of agent three to rewrite" in told, run
    assert "It was its first release, and is taken away again." in told, run
    assert (run.row("three").outcome, run.row("three").release) == ("rolled back", "-")
    assert [line for line in everything().splitlines() if "offline" not in line] == before
    assert not stand.shell("ls -A releases | grep three || true")


def test_an_offline_tunnel_is_no_failed_release(stand: Stand):
    settings = stand.next()
    with stand.edge.stopped(TUNNEL):
        run = stand.deploy(**settings)
        assert "its tunnel is offline" in run.output
        assert stand.in_force() == settings["max_body_size"]
        assert stand.visitor.get(public("one")).status == 503
        settings = stand.next()
        refused = stand.deploy(status=1, **settings, require_online=True)
        (told,) = refused.messages
        assert f"broken at the ngrok agent: no ngrok agent is connected for https://{TUNNEL}" in told, refused
        assert f"To fix it: on the laptop: `ngrok http --url=https://{TUNNEL} PORT`" in told, refused
        assert "It was so before this release, which stays." in told, refused
        # It was so before, and going back would not mend it.
        assert stand.in_force() == settings["max_body_size"]
    stand.served()


RUNC = """#!/bin/sh
# Every other container, and every other command in one, is refused, in runc's own words on a busy machine.
case " $* " in
*" create "*) asked=creates ;;
*" exec "*) grep -q agent-proxy "$(printf %s "$*" | sed 's/.*--process //; s/ .*//')" && asked=execs || asked= ;;
*) asked= ;;
esac
[ "$asked" ] || exec /usr/sbin/runc.real "$@"
echo >> "/run/$asked"
[ $(($(wc -l < "/run/$asked") % 2)) = 1 ] || exec /usr/sbin/runc.real "$@"
while [ "$1" != --log ]; do shift; done
echo '{"level":"error","msg":"waiting for init preliminary setup: read init-p: connection reset by peer"}' >> "$2"
exit 1
"""


def test_a_container_runtime_that_fails_now_and_then(stand: Stand):
    def asked(what: str) -> int:
        times = int(stand.shell(f"wc -l < /run/{what}", "root"))
        assert times % 2 == 0
        return times

    settings = stand.next_labels()
    put = "rm -f /run/creates /run/execs; cd /usr/sbin; cat >runc.new; chmod 755 runc.new; ln runc runc.real"
    try:
        stand.shell(f"{put}; mv runc.new runc", "root", text=RUNC)
        with stand.visitors("a container runtime that fails now and then") as visitors:
            stand.deploy(**settings)
        assert asked("creates") >= 6, "the agent's trial, its new container, the page's trial, each twice"
        container = stand.ids()["vaettir-one-1"]
        run = stand.deploy(**stand.next())
        assert stand.ids()["vaettir-one-1"] == container, f"a reload was enough: {run.said}"
        stand.shell("docker rm --force vaettir-two-1 && rm /run/creates", "root")
        stand.deploy("two")
        assert asked("creates") == 4, "its trial, and what compose starts"
    finally:
        stand.shell("mv /usr/sbin/runc.real /usr/sbin/runc", "root")
    assert not visitors.failed, visitors
    assert asked("execs") > 20
    assert stand.in_force() == stand.settings["max_body_size"]
    stand.has_drained()


def test_maintenance_with_a_new_container(stand: Stand):
    """While both serve, one visitor meets the app and the page by turns; so does the proof."""
    bases = ["nginx:1.30.6", "nginx:newer"]
    if stand.settings.get("base_image") != bases[1]:
        bases.reverse()
    for maintenance, base in zip((True, False), bases, strict=True):
        container, wanted = stand.ids()["vaettir-one-1"], 503 if maintenance else 200
        run = stand.deploy(maintenance=maintenance, base_image=base, require_online=not maintenance)
        assert ("in maintenance" if maintenance else "WebSocket upgrade verified") in run.said
        assert stand.ids()["vaettir-one-1"] != container
        stand.has_drained()
        assert stand.visitor.until(public("one"), wanted).status == wanted
    stand.settings.pop("require_online")


CURL = """#!/bin/sh
case " $* " in
*" -sSv "*) printf '< HTTP/1.1 502 Bad Gateway\\r\\n< \\r\\n' >&2 ;;
*) exec /usr/bin/curl "$@" ;;
esac
"""


def test_what_curl_contradicts_is_rolled_back(stand: Stand):
    """The second witness asks after the commit."""
    stand.deploy(**stand.next())
    before, held, size = stand.state(), stand.release(), stand.in_force()
    stand.shell("cat >/usr/local/bin/curl; chmod 755 /usr/local/bin/curl", "root", text=CURL)
    try:
        with stand.visitors("curl contradicts the verification") as visitors:
            run = stand.deploy(status=1, **stand.next())
    finally:
        stand.shell("rm /usr/local/bin/curl", "root")
    undisturbed(visitors)
    (told,) = run.messages
    assert "curl contradicts the verification: answer 502" in told, run
    assert f"It was rolled back to release {held}." in told, run
    assert (run.row("one").outcome, run.row("one").release) == ("rolled back", held)
    after, kept = stand.state(), {"releases", "images", "releases/one/current"}
    assert {key for key in before if before[key] != after[key]} <= kept, (before, after)
    assert (stand.release(), stand.in_force()) == (held, size)
    (contradicted,) = [name for name in after["releases"].split() if name not in before["releases"]]
    assert not release_json(stand, contradicted.rpartition("/")[2])["verified"], "a rollback would choose it"
    assert stand.deploy().changed == []


def test_a_changed_target_is_a_reload_without_a_gap(stand: Stand):
    container = stand.ids()["vaettir-one-1"]
    stand.edge.put("moved.ngrok-free.app", "http://127.0.0.1:9000")
    with stand.visitors("changed target") as visitors:
        run = stand.deploy(target_url="https://moved.ngrok-free.app", purge_cache=True, **stand.next())
        stand.edge.reset()
        time.sleep(1)
        hosts = {request.host for request in stand.edge.requests() if request.path.startswith("/load/")}
    undisturbed(visitors)
    assert hosts == {"moved.ngrok-free.app"}
    assert re.search(r"the cache of assets was emptied: \d+ assets removed", run.said)
    assert stand.ids()["vaettir-one-1"] == container
    assert "ONE_TARGET_URL=https://moved.ngrok-free.app" in stand.shell("cat .env")
    stand.settings.pop("target_url")
    stand.settings.pop("purge_cache")


def test_old_rules_that_must_not_live_on(stand: Stand):
    """`drain: now`, as for a new secret, ends what the workers of the release before still hold."""
    with stand.visitors("drain now") as visitors:
        stand.deploy(drain="now", tunnel_secret="a-secret-of-the-tunnel", **stand.next())
        wait_for("the end of old sockets", lambda: len(visitors.dropped) == visitors.sockets, 20)
        wait_for("everybody's return", lambda: visitors.open == visitors.sockets, 10)
    assert not visitors.failed, visitors
    stand.settings.pop("drain")
    assert "shutting down" not in stand.workers()
    told = stand.shell(f"grep -rlI a-secret-of-the-tunnel {HOME} | xargs stat -c '%a %U %n'").splitlines()
    assert told
    assert [line for line in told if not line.startswith("600 deploy ")] == []


def test_releases_go_with_their_agent(stand: Stand):
    run = playbook.run(playbook.REMOVE, "-e", "agent=two")
    assert run.status == 0, run
    assert not stand.shell("ls -A releases | grep two || true")
    assert not stand.shell("docker images --format '{{.Repository}}' | grep vaettir-two || true")


def at_once(times: int, ask: Callable[[], int]) -> Counter[int]:
    """How often each status comes, when so many visitors come at the same moment."""
    with ThreadPoolExecutor(times) as pool:
        return Counter(pool.map(lambda _: ask(), range(times)))


def test_after_a_release_nobody_meets_the_former_rules(stand: Stand):
    """Traefik keeps a connection for each of those who came at once, to workers that become former ones."""

    def get() -> int:
        return stand.visitor.get(public("one")).status

    def shake(path: str = "/_stcore/stream") -> int:
        return stand.visitor.handshake(public("one") + path, public("one"))[0]

    stand.edge.delay(500)
    try:
        assert at_once(60, get) == {200: 60}
        refused = at_once(60, lambda: shake("/"))  # one that becomes no WebSocket leaves its connection
        assert 101 not in refused, refused
    finally:
        stand.edge.delay(0)
    container = stand.ids()["vaettir-one-1"]
    stand.edge.reset()
    run = stand.deploy(maintenance=True)
    assert not [request for request in stand.edge.requests() if "kept" in request.path], "they went to the tunnel"
    assert stand.ids()["vaettir-one-1"] == container, f"a reload was enough: {run.said}"
    seen = at_once(60, get)
    note(f"60 kept connections: after the reload 60 visitors saw {dict(seen)}")
    assert seen == {503: 60}
    assert at_once(60, shake) == {503: 60}
    stand.deploy(maintenance=False)
    assert at_once(20, get) == {200: 20}
    assert at_once(20, shake) == {101: 20}
