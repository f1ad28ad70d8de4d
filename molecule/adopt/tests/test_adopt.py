# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A server that its owner set up by hand: what is theirs stays theirs, and what was there can be brought back."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.rig import playbook, snapshot, steps
from tests.rig.shell import STATE

SERVER, HOME = "vaettir-adopt-one", "/home/deploy/vaettir"
PUBLIC, SIBLING = "https://ocapistaine.vaettir.example", "https://www.vaettir.example"
STREAM = f"{PUBLIC}/_stcore/stream"
TUNNEL, OTHER_TUNNEL = "ocapistaine.ngrok-free.app", "second.ngrok-free.app"
CONF = "proxy-configs/ocapistaine.conf.template"
FIXTURE = Path(__file__).parents[1] / "files"
ROLLBACK = "locki.vaettir.rollback_agent"
OWNERS = {
    **{str(path.relative_to(FIXTURE / "vaettir")): path for path in (FIXTURE / "vaettir").rglob("*") if path.is_file()},
    ".gitignore": FIXTURE / "gitignore",
    ".env": FIXTURE / "env",
}
# Our own records, and the layers of whatever is built.
ASIDE = [r"/\.docker/", r"/vaettir/\.locki/", r"/vaettir/releases/ocapistaine/current$", r"image <none>:<none>$"]


def deploy(status: int = 0, **settings) -> playbook.Run:
    agent = {"name": "ocapistaine", **settings.pop("agent", {})}
    when = settings.pop("when", None)
    run = playbook.run(playbook.DEPLOY, extra={"vaettir_agents": [agent], **settings}, when=when)
    assert run.status == status, run
    return run


def assert_fails_with(run: playbook.Run, *words: str) -> None:
    assert any(all(word in message for word in words) for message in run.messages), run.messages


def releases(server) -> list[dict]:
    """Newest first."""
    names = server.check_output(f"ls {HOME}/releases/ocapistaine | grep -E '^[0-9TZ-]+$'").split()
    texts = [server.file(f"{HOME}/releases/ocapistaine/{name}/release.json").content_string for name in names]
    return sorted((json.loads(text) for text in texts), key=lambda found: found["id"], reverse=True)


def current(server) -> str:
    text = server.file(f"{HOME}/releases/ocapistaine/current").content_string
    return text.splitlines()[0].removeprefix("release=")


def by_hand(server) -> dict:
    return next(release for release in releases(server) if release["by"] == "by hand")


def assert_owners_files(server) -> None:
    for path, source in OWNERS.items():
        assert server.file(f"{HOME}/{path}").content == source.read_bytes(), path
    assert server.check_output(f"git -C {HOME} status --porcelain") == ""


def assert_works(visitor) -> None:
    assert visitor.until(PUBLIC, 200).status == 200
    assert visitor.handshake(STREAM, PUBLIC)[0] == 101
    assert visitor.handshake(STREAM, SIBLING)[0] == 403
    assert "x-served-by" not in visitor.get(PUBLIC).headers


def remove(*options: str, when=None) -> playbook.Run:
    return playbook.run(playbook.REMOVE, "-e", "agent=ocapistaine", *options, extra={"vaettir_agents": []}, when=when)


def assert_handed_back(server, visitor) -> None:
    assert_owners_files(server)
    assert server.file(f"{HOME}/{CONF}").content == (FIXTURE / "ocapistaine.conf.template").read_bytes()
    assert not server.file(f"{HOME}/releases/ocapistaine").exists
    assert server.check_output("docker image ls --format '{{.Tag}}' vaettir-ocapistaine").split() == ["latest"]
    assert visitor.until(PUBLIC, 200).headers["x-served-by"] == "vaettir by hand"
    assert visitor.handshake(STREAM, PUBLIC)[0] == 101


@pytest.fixture
def what_changes():
    before = snapshot.take(SERVER)

    def tell() -> list[str]:
        found = snapshot.difference(before, snapshot.take(SERVER), written=False)
        return [line for line in found if not re.search("|".join(ASIDE), line)]

    return tell


def test_the_owners_files_are_theirs(server):
    assert_owners_files(server)


def test_nothing_else_was_written(server):
    found = server.check_output(f"cd {HOME} && find . -type f -not -path './.git/*' -printf '%P\\n'").split()
    known = {*OWNERS, CONF, "tunnel-ca.pem", "traefik/certs/fullchain.pem", "traefik/certs/privkey.pem"}
    more = sorted(set(found) - known)
    (kept,) = [path for path in more if re.fullmatch(re.escape(CONF) + r"\.[0-9T]+~", path)]
    assert server.file(f"{HOME}/{kept}").content == (FIXTURE / "ocapistaine.conf.template").read_bytes()
    assert [path for path in more if path != kept and not path.startswith((".locki/", "releases/ocapistaine/"))] == []


def test_the_owners_other_containers_run_as_they_did(server):
    released = min(release["time"] for release in releases(server))
    for name in ("traefik", "www"):
        started = server.check_output(f"docker inspect -f '{{{{.State.StartedAt}}}}' vaettir-{name}-1")
        assert started < released, name
    names = server.check_output("docker ps -a --format '{{.Names}} {{.Image}}' | sort").splitlines()
    assert names == [
        "vaettir-ocapistaine-1 vaettir-ocapistaine",
        "vaettir-traefik-1 traefik:v3.3.2",
        "vaettir-www-1 nginx:1.30.6",
    ]


def test_their_agent_has_our_rules(visitor, server, edge):
    edge.reset()
    assert_works(visitor)
    assert edge.requests()[-1].headers["x-forwarded-host"] == "ocapistaine.vaettir.example"
    assert visitor.get(f"{SIBLING}/").text == "<h1>vaettir</h1>\n"
    shown = server.check_output("docker exec vaettir-ocapistaine-1 cat /etc/nginx/nginx.conf | grep Origin")
    assert f'"https://{TUNNEL}"; # Origin' in shown


def test_their_agent_is_verified_as_any_other():
    run = playbook.run("locki.vaettir.verify_agent", "-e", "from_outside=false")
    assert (run.status, run.changed) == (0, []), run
    assert f"ocapistaine on {SERVER}: WebSocket upgrade verified at {PUBLIC}" in " ".join(run.output.split())


def test_their_page_is_shown(visitor, edge):
    with edge.faulty(TUNNEL, "reset"):
        page = visitor.get(PUBLIC, Accept="text/html")
    assert page.status == 503
    assert "<h1>Ò Capistaine se repose</h1>" in page.text
    assert 'href="https://discord.gg/vaettir-test"' in page.text


def test_what_was_there_is_a_release(server):
    kept = by_hand(server)
    folder = f"{HOME}/releases/ocapistaine/{kept['id']}"
    original = (FIXTURE / "ocapistaine.conf.template").read_bytes()
    assert server.file(f"{folder}/ocapistaine.conf.template").content == original
    assert (
        server.check_output(f"docker image inspect -f '{{{{.Id}}}}' vaettir-ocapistaine:{kept['id']}") == kept["image"]
    )


def test_another_target_changes_one_line_of_env(server, visitor, edge, what_changes):
    run = deploy(agent={"target_url": f"https://{OTHER_TUNNEL}"})
    said = " ".join(run.output.split())
    assert "which dropped its open WebSockets. Releases drop none once the stack is handed over" in said
    edge.reset()
    assert visitor.until(f"{PUBLIC}/elsewhere", 200).status == 200
    assert edge.requests()[-1].host == OTHER_TUNNEL
    env = (FIXTURE / "env").read_bytes().splitlines(keepends=True)
    now = server.file(f"{HOME}/.env").content.splitlines(keepends=True)
    different = [(old, new) for old, new in zip(env, now, strict=True) if old != new]
    assert [new.split(b"=")[0] for _old, new in different] == [b"OCAPISTAINE_TARGET_URL"]
    assert f"https://{OTHER_TUNNEL}".encode() in different[0][1]
    changed = [line for line in what_changes() if "/releases/" not in line and "image vaettir-ocapistaine:" not in line]
    assert changed == [
        f"changed file {HOME}/.env",
        f"changed file {HOME}/{CONF}",
        "changed container vaettir-ocapistaine-1",
    ]


def test_a_conf_that_their_nginx_refuses_reaches_nobody(visitor, what_changes):
    run = deploy(2, **playbook.refused_conf())
    assert_fails_with(run, "nginx refuses the new conf", "client_max_body_size", "rolled back to release")
    assert [line for line in what_changes() if "image vaettir-ocapistaine:latest" not in line] == []
    assert_works(visitor)


def test_a_release_that_gets_worse_is_undone(server, visitor, edge):
    before, release = [server.file(f"{HOME}/{path}").content for path in (CONF, ".env")], current(server)
    image = server.check_output("docker inspect -f '{{.Image}}' vaettir-ocapistaine-1")
    try:
        with steps.watch(SERVER, "ocapistaine", "switch") as watch:
            worse = (watch.begun, lambda: edge.fault(TUNNEL, "reset"))
            run = deploy(2, agent={"read_timeout": 3601, "require_online": True}, when=worse)
    finally:
        edge.fault(TUNNEL, None)
    assert_fails_with(run, "broken at the ngrok edge", f"rolled back to release {release}")
    assert [server.file(f"{HOME}/{path}").content for path in (CONF, ".env")] == before
    assert server.check_output("docker inspect -f '{{.Image}}' vaettir-ocapistaine-1") == image
    assert current(server) == release
    assert_works(visitor)


def test_a_release_of_a_run_that_was_killed_is_undone_by_the_next(server, visitor):
    release, image = current(server), server.check_output("docker inspect -f '{{.Image}}' vaettir-ocapistaine-1")
    with steps.watch(SERVER, "ocapistaine", "switch", kill=True) as watch:
        deploy(2, agent={"read_timeout": 3602}, when=(watch.begun, lambda: None))
    run = deploy(agent={"target_url": f"https://{OTHER_TUNNEL}"})  # as before it
    assert f"ocapistaine on {SERVER}: removed vaettir-ocapistaine-1: its release" in run.said, run
    assert server.check_output("docker inspect -f '{{.Image}}' vaettir-ocapistaine-1") == image
    assert current(server) == release
    assert_works(visitor)


def test_a_rollback_brings_the_owners_conf_back(server, visitor):
    kept = by_hand(server)["id"]
    server.check_output(f"echo '# an edit that nobody built' >> {HOME}/{CONF}")
    run = playbook.run(ROLLBACK, "-e", "agent=ocapistaine", "-e", f"release={kept}")
    assert run.status == 0, run
    assert server.file(f"{HOME}/{CONF}").content == (FIXTURE / "ocapistaine.conf.template").read_bytes()
    assert server.file(f"{HOME}/{CONF}").mode == 0o664
    assert "# an edit that nobody built" in server.check_output(f"cat {HOME}/{CONF}.*~")
    assert_owners_files(server)  # .env with its own spelling too
    assert visitor.until(PUBLIC, 200).headers["x-served-by"] == "vaettir by hand"
    assert visitor.handshake(STREAM, PUBLIC)[0] == 101


def test_a_removal_that_makes_it_worse_is_undone(server, visitor, edge):
    deploy()
    release = current(server)
    try:
        with steps.watch(SERVER, "ocapistaine", "switch") as watch:
            run = remove(when=(watch.begun, lambda: edge.fault(TUNNEL, "ERR_NGROK_3200")))
    finally:
        edge.fault(TUNNEL, None)
    assert run.status == 2, run
    assert_fails_with(run, f"rolled back to release {release}")
    assert_works(visitor)
    assert current(server) == release


def test_a_removal_hands_the_agent_back(server, visitor, edge):
    server.check_output(f"echo '# tried by hand' >> {HOME}/{CONF}")
    before = snapshot.take(SERVER)
    assert remove("--check").status == 0
    assert snapshot.difference(before, snapshot.take(SERVER)) == []
    # The owner pruned, nobody declares the agent any more, and its tunnel is down: no reason to keep it.
    server.check_output(f"docker image rm vaettir-ocapistaine:{by_hand(server)['id']}")
    with edge.faulty(TUNNEL, "ERR_NGROK_3200"):
        run = remove()
    assert run.status == 0, run
    assert_handed_back(server, visitor)
    assert "# tried by hand" in server.check_output(f"cat {HOME}/{CONF}.*~")
    again = remove()
    assert (again.status, again.changed) == (0, []), again
    build = "docker compose build ocapistaine && docker compose --profile production --profile proxy up -d ocapistaine"
    server.check_output(f"cd {HOME} && {build}")
    assert_handed_back(server, visitor)


def test_a_stopped_agent_is_handed_back_stopped(server, visitor):
    deploy()
    server.check_output("docker stop vaettir-ocapistaine-1")
    run = remove()
    assert run.status == 0, run
    assert server.check_output("docker inspect -f '{{.State.Status}}' vaettir-ocapistaine-1") == "created"
    assert_owners_files(server)
    server.check_output("docker start vaettir-ocapistaine-1")
    assert_handed_back(server, visitor)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"agent": {"name": "another"}}, "has no service 'another' with a `build` (there are ocapistaine)"),
        (
            {"agent": {"tunnel_secret": "a-secret-of-the-tunnel"}},
            "tunnel_secret of agent ocapistaine cannot reach the image",
        ),
        ({"stack_manage": True, "stack_acme_email": "a@b.example"}, "has a docker-compose.yml of its owner"),
    ],
    ids=["no service", "a secret", "ours"],
)
def test_what_cannot_be_is_said_before_anything_changes(settings, words, what_changes):
    run = deploy(2, **settings)
    assert_fails_with(run, words)
    assert what_changes() == []


def test_handing_the_stack_over(server, visitor):
    """The steps of docs/adopt.md."""
    deploy()
    override = """
services:
  www:
    image: nginx:1.30.6
    profiles: [production]
    volumes: ["./www:/var/www/html:ro"]
    labels:
      - traefik.enable=true
      - traefik.http.routers.www.rule=Host(`www.vaettir.example`)
      - traefik.http.routers.www.entrypoints=websecure
"""
    steps = f"""
cd {HOME}
mkdir -m 700 ~/vaettir-2025 && cp -p .env ~/vaettir-2025/
mv releases/ocapistaine ~/vaettir-2025/
docker compose --profile '*' down
git mv docker-compose.yml docker-compose.2025.yml
cat > docker-compose.override.yml <<'END'{override}END
"""
    assert server.run(steps).rc == 0
    ca = STATE / "ca"
    tls = {"stack_tls": "files", "stack_tls_certificate": f"{ca}/public.pem", "stack_tls_key": f"{ca}/public.key"}
    tls["stack_traefik_image"] = "traefik:v3.3.2"
    deploy(stack_manage=True, agent_proxy_ca_certificate=f"{ca}/ca.pem", stack_tls_ca=f"{ca}/ca.pem", **tls)
    assert_works(visitor)
    server.check_output(f"cd {HOME} && docker compose --profile production up -d www")
    assert visitor.until(f"{SIBLING}/", 200).text == "<h1>vaettir</h1>\n"
    for path in ("docker/agent-proxy.Dockerfile", "proxy-configs/error-offline.html.template", ".env"):
        assert server.file(f"{HOME}/{path}").content == OWNERS[path].read_bytes(), path
