# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Whatever happens to one agent, the others and the owner's own things stay as they are."""

from __future__ import annotations

import re

import pytest

from tests.rig import playbook, snapshot, steps

SERVER = "vaettir-isolation-one"
HOME = "/home/deploy/vaettir"
ONE = {"name": "one", "target_url": "https://second.ngrok-free.app"}
TWO = {"name": "two", "target_url": "http://edge.test:9000"}
THREE = {"name": "three", "target_url": "https://second.ngrok-free.app"}
OWNERS_DOTENV = (
    b'# my own, do not touch\r\nOWN_KEY="a value # with = signs"\r\n\r\nexport OTHER=1   \r\n'
    b'MULTI="first\r\nOCAPISTAINE_TARGET_URL=not-a-key\r\n"\r\n# end, without a line end'
)
OURS = (
    b"\r\nDISCORD_INVITE_URL=https://discord.gg/vaettir-test\r\n"
    b"ONE_TARGET_URL=https://second.ngrok-free.app\r\nTWO_TARGET_URL=http://edge.test:9000\r\n"
)


ASIDE = [
    *(r"/\.docker/buildx/", r"/\.locki/manifest\.json$", r"/releases/", r"image vaettir-[a-z]+:\d{8}T\d{6}Z"),
    *(r"vaettir-offline[-:]", r"image <none>:<none>$", r"/offline\.(conf\.template|yml)$"),
]


def public(agent: str) -> str:
    return f"https://{agent}.vaettir.example"


def deploy(*agents, agent=None, **settings) -> playbook.Run:
    options = ["-e", f"agent={agent}"] if agent else []
    run = playbook.run(playbook.DEPLOY, *options, extra={"vaettir_agents": list(agents), **settings})
    assert run.status == 0, run
    return run


def remove(agent: str) -> playbook.Run:
    run = playbook.run(playbook.REMOVE, "-e", f"agent={agent}")
    assert run.status == 0, run
    return run


@pytest.fixture
def what_changes():
    """Tells in a line each what is not as it was when the test began; releases, records of ours and of Docker aside.

    So are the page container, which knows every declared agent and changes with the declaration, and its former images.
    """
    before = snapshot.take(SERVER)

    def tell() -> list[str]:
        found = snapshot.difference(before, snapshot.take(SERVER), written=False)
        return [line for line in found if not re.search("|".join(ASIDE), line)]

    return tell


def test_yesterdays_agent_and_todays_are_both_there(visitor):
    for agent in ("one", "two"):
        assert visitor.handshake(f"{public(agent)}/_stcore/stream", public(agent))[0] == 101


def test_the_owners_dotenv_is_there_byte_for_byte(server):
    assert server.file(f"{HOME}/.env").content == OWNERS_DOTENV + OURS
    assert server.file(f"{HOME}/.env").mode == 0o600


def test_the_owners_checkout_stays_clean(server):
    assert server.check_output(f"git -C {HOME} status --porcelain") == ""
    assert server.check_output(f"git -C {HOME} check-ignore proxy-configs/one.conf.template")
    assert server.check_output(f"cd {HOME} && cat proxy-configs/agent.conf.template.example").startswith(
        "# the owner's"
    )


def test_the_owners_page_is_the_one_that_is_shown(visitor, edge):
    with edge.stopped("second.ngrok-free.app"):
        page = visitor.get(public("one"), Accept="text/html")
    assert page.status == 503
    assert '<title>the owner\'s own page</title><a href="https://discord.gg/vaettir-test">' in page.text
    assert visitor.until(public("one"), 200).status == 200


def test_a_changed_agent_is_the_only_one_that_changes(what_changes, visitor, server, edge):
    changed = {**TWO, "target_url": "https://moved.ngrok-free.app"}
    edge.put("moved.ngrok-free.app", "http://127.0.0.1:9000")
    deploy(ONE, changed, agent="two")
    assert what_changes() == [f"changed file {HOME}/.env"]  # and nginx read it, without a new container
    assert server.file(f"{HOME}/.env").content == OWNERS_DOTENV + OURS.replace(
        b"http://edge.test:9000", b"https://moved.ngrok-free.app"
    )
    edge.reset()
    assert visitor.get(f"{public('two')}/moved").status == 200
    assert [request.host for request in edge.requests()] == ["moved.ngrok-free.app"]
    deploy(ONE, TWO)
    assert what_changes() == []


def test_a_third_agent_comes_and_goes(what_changes, visitor, server):
    deploy(ONE, TWO, THREE, agent="three")
    assert visitor.handshake(f"{public('three')}/_stcore/stream", public("three"))[0] == 101
    assert server.check_output(f"git -C {HOME} status --porcelain") == ""
    assert sorted(what_changes()) == [
        f"changed file {HOME}/.env",
        f"changed file {HOME}/agents.yml",
        "new container vaettir-three-1",
        f"new file {HOME}/agents/three.yml",
        f"new file {HOME}/proxy-configs/three.ca.pem",
        f"new file {HOME}/proxy-configs/three.conf.template",
        "new image vaettir-three:proxy",
        "new volume vaettir_three-assets-1000",
    ]
    planned = playbook.run(playbook.REMOVE, "--check", "-e", "agent=three")
    assert planned.status == 0, planned
    assert planned.changed
    assert visitor.get(public("three")).status == 200
    remove("three")
    assert what_changes() == []
    # It was declared at the last deploy, so its visitors get the page; without the declaration nobody answers.
    assert visitor.until(public("three"), 503).headers["x-vaettir-state"] == "stopped"
    deploy(ONE, TWO, agent="one")
    assert visitor.until(public("three"), 404).status == 404
    assert remove("three").changed == []
    assert server.file(f"{HOME}/.env").content == OWNERS_DOTENV + OURS


def test_a_changed_invite_reaches_an_agent_with_its_own_next_deploy(what_changes, server):
    new = "https://discord.gg/another"

    def shown(agent: str) -> bool:
        return new in server.check_output(f"docker exec vaettir-{agent}-1 cat /etc/nginx/page.html")

    deploy(ONE, TWO, agent="one", stack_discord_invite_url=new)
    assert (shown("one"), shown("two")) == (True, False)
    assert what_changes() == [f"changed file {HOME}/.env"]
    deploy(ONE, TWO, stack_discord_invite_url=new)
    assert shown("two")
    deploy(ONE, TWO)
    assert what_changes() == []


def kept_time_out(server) -> str:
    conf = server.check_output("docker exec vaettir-two-1 cat /etc/nginx/nginx.conf")
    return next(line.split()[-1] for line in conf.splitlines() if "proxy_read_timeout 36" in line)


def test_a_killed_run_is_recovered_by_the_next(server):
    """SIGKILL of Ansible and of the module, which alone would go on by itself."""
    first = server.check_output("docker inspect -f '{{.Id}}' vaettir-one-1")
    settings = {"vaettir_agents": [ONE, {**TWO, "read_timeout": 3602}]}
    with steps.watch(SERVER, "two", "switch", kill=True) as watch:
        when = (watch.begun, playbook.kill)
        killed = playbook.run(playbook.DEPLOY, "-e", "agent=two", extra=settings, when=when)
    assert killed.status < 0
    assert "3602s" in server.check_output(f"grep -m1 proxy_read_timeout {HOME}/proxy-configs/two.conf.template")
    run = playbook.run(playbook.DEPLOY, extra=settings)
    assert run.status == 0, run
    assert run.row("two").outcome == "released", run
    assert run.row("one").outcome == "unchanged", run
    assert kept_time_out(server) == "3602s;"
    assert server.check_output("docker inspect -f '{{.Id}}' vaettir-one-1") == first
