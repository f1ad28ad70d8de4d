# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Today's playbooks take over what release 0.1.0 deployed. converge.yml shows that no visitor notices the first run;
files/ holds the collection of 0.1.0 (molecule.yml says how it was made).
"""

from __future__ import annotations

import json
from pathlib import Path

from tests.rig import playbook, snapshot, steps
from tests.rig.releases import ONE, ROLLBACK, TWO, Stand, public, release_json, undisturbed
from tests.rig.shell import STATE, wait_for

COLLECTIONS_0_1_0 = STATE / "collections-0.1.0"  # as in molecule.yml
UNVERIFIED = 60  # seconds that it may serve
SERVE = ["serve"]  # the image's own command


def command(stand: Stand, agent: str) -> list[str]:
    (found,) = json.loads(stand.shell(f"docker inspect vaettir-{agent}-1"))
    return list(found["Config"]["Cmd"] or [])


def half_made(stand: Stand, agent: str) -> str:
    """What only a run that was killed leaves behind."""
    names = "before|lock|pending|run|[.].*[.]tmp"
    return stand.shell(f"ls -A releases/{agent} | grep -xE '{names}' || true") + stand.shell(
        f"docker ps -a --format '{{{{.Names}}}}' | grep -E '{agent}-(trial|next|undone)' || true"
    )


def rolled_back(stand: Stand, agent: str) -> str:
    """The agent's container is one of 0.1.0 again; its release."""
    previous = stand.releases(agent)[0]
    extra = {"vaettir_agents": [{**ONE, **stand.settings}, TWO]}
    run = playbook.run(ROLLBACK, "-e", f"agent={agent}", "-e", f"release={previous}", extra=extra)
    assert (run.status, stand.release(agent)) == (0, previous), run
    stand.has_drained()
    return previous


def test_the_first_run_replaced_each_container_once(stand: Stand):
    stand.has_drained(180)
    assert len(stand.releases()) == 3
    assert (stand.release(), stand.in_force()) == (stand.releases()[-1], "22m")
    for agent in ("one", "two", "offline"):
        (found,) = json.loads(stand.shell(f"docker inspect vaettir-{agent}-1"))
        assert (found["HostConfig"]["ReadonlyRootfs"], found["HostConfig"]["CapDrop"]) == (True, ["ALL"])
        assert found["HostConfig"]["RestartPolicy"]["Name"] == "unless-stopped"
        assert "knows=pending" in stand.shell(f"docker exec vaettir-{agent}-1 agent-proxy state")


def test_traefik_was_not_touched(stand: Stand):
    """It goes on with the Engine's own socket until somebody upgrades it."""
    before = json.loads((STATE / "molecule" / f"{stand.server}.snapshot.json").read_text(encoding="utf-8"))
    assert snapshot.take(stand.server)["container"]["vaettir-traefik-1"] == before["container"]["vaettir-traefik-1"]
    (found,) = json.loads(stand.shell("docker inspect vaettir-traefik-1"))
    assert "/var/run/docker.sock" in {mount["Source"] for mount in found["Mounts"]}


def test_status_knows_the_releases_of_0_1_0(stand: Stand, tmp_path: Path):
    written = tmp_path / "status.json"
    run = playbook.run("locki.vaettir.status", "-e", f"status_file={written}")
    assert run.status == 0, run
    rows = {row["agent"]: row for row in json.loads(written.read_text(encoding="utf-8"))["agents"]}
    for agent in ("one", "two"):
        told = release_json(stand, stand.release(agent), agent)
        assert rows[agent]["release"] == told["id"]
        assert (rows[agent]["by"], rows[agent]["verified"]) == (told["by"], told["verified"])
        assert (rows[agent]["container"], rows[agent]["tunnel"]) == ("healthy", "ok")


def test_a_run_of_0_1_0_that_was_killed_right_after_its_switch(stand: Stand):
    """Its release was not verified: the next run goes back to the one that was, which is what the inventory says."""
    verified = rolled_back(stand, "two")
    size = stand.in_force("two")
    with stand.visitors("a run of 0.1.0 killed after its switch, today's run after it", agent="two") as visitors:
        killed = playbook.run(
            playbook.DEPLOY,
            *("-e", "agent=two"),
            extra={"vaettir_agents": [{**ONE, **stand.settings}, {**TWO, "max_body_size": "44m"}]},
            when=("Look at the container again", playbook.kill),
            collections=COLLECTIONS_0_1_0,
        )
        assert killed.status < 0, killed
        assert {"before", "lock"} <= set(half_made(stand, "two").split())
        assert (stand.in_force("two"), stand.release("two") != verified) == ("44m", True)
        run = stand.deploy("two")
        assert run.row("two").outcome == "released", run  # what was rolled back
        assert f"{verified} is active: what an interrupted run had switched to was not verified" in run.output
        assert stand.in_force("two") == size
    assert not visitors.failed, (visitors, visitors.failed[:10])
    assert half_made(stand, "two") == ""


def test_rollback_to_a_release_that_0_1_0_made(stand: Stand):
    previous = stand.releases()[0]
    with stand.visitors("rollback to a release of 0.1.0, and back by a deploy") as visitors:
        run, _seconds = stand.rollback("one", "-e", f"release={previous}")
        assert run.status == 0, run
        assert (stand.in_force(), stand.release()) == ("21m", previous)
        assert command(stand, "one") == ["serve", previous]
        assert stand.deploy().row("one").outcome == "released"
        assert (stand.in_force(), command(stand, "one")) == ("22m", SERVE)
        stand.has_drained()
    assert not visitors.failed, (visitors, visitors.failed[:10])
    assert "knows=pending" in stand.shell("docker exec vaettir-one-1 agent-proxy state")


def test_a_rollback_to_0_1_0_that_is_killed(stand: Stand):
    """The container of 0.1.0 knows no switch, and still gives way by itself to the release that was verified."""
    container, previous = stand.ids()["vaettir-one-1"], stand.releases()[0]
    with stand.visitors("a killed rollback to a release of 0.1.0") as visitors:
        with steps.watch(stand.server, "one", "watched", kill=True) as watch:
            run, _seconds = stand.rollback("one", "-e", f"release={previous}")
            watch.begun()
        assert run.status != 0, run
        unhealthy = "docker ps -q --filter health=unhealthy --filter name=^vaettir-one-1$"
        wait_for("its end", lambda: stand.shell(unhealthy), UNVERIFIED)
        assert stand.release() != previous
        assert stand.deploy().row("one").outcome == "unchanged"
    undisturbed(visitors)
    assert stand.ids()["vaettir-one-1"] == container
    assert stand.in_force() == "22m"


def test_a_changed_value_replaces_a_container_of_0_1_0(stand: Stand):
    """Its entry point cannot be switched back by itself. With visitors who stay, the old one drains."""
    rolled_back(stand, "two")
    container = stand.ids()["vaettir-two-1"]
    with stand.visitors("a changed value on a container of 0.1.0", agent="two") as visitors:
        assert stand.deploy("two", max_body_size="45m").row("two").outcome == "released"
        assert stand.in_force("two") == "45m"
        assert stand.ids()["vaettir-two-1"] != container
        assert any("-old-" in name for name in stand.ids()), "nobody's WebSocket ends at once"
        assert not visitors.dropped
        stand.has_drained()
    assert not visitors.failed, (visitors, visitors.failed[:10])
    assert command(stand, "two") == SERVE
    assert stand.visitor.get(public("two")).status == 200
