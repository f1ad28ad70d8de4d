# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The whole chain under attack, and as auditors see it; .rig/logs/hostile.md has what each saw. About 15 minutes."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml

from tests.rig import attack, ca, images, load, playbook
from tests.rig.shell import LABEL, ROOT, STATE, run, wait_for
from tests.rig.stand import Stand, converged
from tests.rig.transcript import Transcript

ATTACKED, SIBLING = "one", "two"
HOST = f"{ATTACKED}.vaettir.example"
TUNNEL = "second.ngrok-free.app"
SECONDS = 60  # of an attack
OPENING = 30  # more, until all of its sockets are there
ANSWERS = {"101", "200", "404", "429", "503"}  # 404: ngrok's own for a handshake when the tunnel is stopped
VISITORS = 4  # the attackers, and everybody else
P99 = 2.0  # seconds, for everybody else, on a machine that also makes the attack


def limits() -> dict[str, int]:
    """As they are shipped: scenarios have others, since one address plays many visitors there."""
    defaults = yaml.safe_load((ROOT / "roles" / "agent_proxy" / "defaults" / "main.yml").read_text(encoding="utf-8"))
    return {name: value for name, value in defaults.items() if name.startswith("agent_proxy_visitor_")}


@pytest.fixture(scope="module")
def stand() -> Iterator[Stand]:
    with converged("isolation"):
        done = playbook.run(playbook.DEPLOY, extra=limits())
        assert done.status == 0, done
        yield Stand.current()


@pytest.fixture(scope="module")
def report() -> Transcript:
    return Transcript("hostile", "The chain under attack, and as auditors see it")


def public(agent: str) -> str:
    return f"https://{agent}.vaettir.example"


@contextlib.contextmanager
def attackers(stand: Stand) -> Iterator[dict[str, dict[str, int]]]:
    """All at once, each from an address of its own; filled with what they got when they have ended."""
    script = Path(attack.__file__).read_text(encoding="utf-8")
    found: dict[str, dict[str, int]] = {}
    running = {}
    for kind in attack.ATTACKS:
        docker = ["docker", "run", "--rm", "-i", "--label", f"{LABEL}=attacker", "--entrypoint", "python3"]
        words = [*docker, images.OUTSIDE, "-", kind, stand.address, HOST, str(SECONDS + OPENING)]
        running[kind] = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stream = running[kind].stdin
        assert stream
        stream.write(script)
        stream.close()
        running[kind].stdin = None
    try:
        time.sleep(OPENING)
        yield found
    finally:
        for kind, process in running.items():
            found[kind] = json.loads(process.communicate(timeout=SECONDS + OPENING + 30)[0])


def unhealthy(stand: Stand) -> str:
    """Of the server's containers, those that are not well."""
    return stand.shell("docker ps -a --format '{{.Names}} {{.Status}}' | grep -Ev '\\(healthy\\)|-old-' || true")


def everybody_else(stand: Stand, seconds: float) -> dict[str, load.Visitors]:
    """Visitors of both agents meanwhile, from one more address."""
    with contextlib.ExitStack() as stack:
        seen = {
            agent: stack.enter_context(load.on(public(agent), stand.address, sockets=10, per_second=8))
            for agent in (ATTACKED, SIBLING)
        }
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            assert not unhealthy(stand)
            time.sleep(2)
    return seen


def told(seen: dict[str, load.Visitors]) -> str:
    return "\n".join(f"{agent}: {visitors}; p99 {visitors.p99 * 1000:.0f} ms" for agent, visitors in seen.items())


def test_one_agent_under_attack(stand: Stand, report: Transcript) -> None:
    report.add("visitors of both agents, without an attack", told(everybody_else(stand, 20)))
    stand.edge.reset()
    begin = time.monotonic()
    with attackers(stand) as found:
        seen = everybody_else(stand, SECONDS * 0.6)
        report.add(f"the same, while {HOST} is attacked from three addresses", told(seen))
        with stand.edge.stopped(TUNNEL):
            page = stand.visitor.get(public(ATTACKED), Accept="text/html")
            reason = (page.status, page.headers["x-vaettir-state"])
        requests = stand.edge.counters()["by_host"][TUNNEL]["requests"]
        seconds = time.monotonic() - begin
    shipped = limits()
    most = VISITORS * (shipped["agent_proxy_visitor_burst"] + shipped["agent_proxy_visitor_rate"] * seconds)
    report.add("the page of the attacked agent when its tunnel stops meanwhile", str(reason))
    report.add("what the attackers got, by status", json.dumps(found, indent=1))
    report.add("requests through the tunnel", f"{requests} in {seconds:.0f} s")
    assert requests < most
    assert reason == (503, "offline")
    assert not any(visitors.failed or visitors.dropped for visitors in seen.values()), told(seen)
    assert max(visitors.p99 for visitors in seen.values()) < P99, told(seen)
    assert {*found["sockets"], *found["requests"]} <= ANSWERS
    assert found["sockets"]["429"] > attack.SOCKETS / 2
    assert found["requests"]["429"] > attack.PER_SECOND * SECONDS / 4
    wait_for("the end of the attack", lambda: stand.visitor.get(public(ATTACKED)).status == 200, 10)
    assert not unhealthy(stand)


# What testssl.sh finds above LOW, and why it stays.
TESTSSL_ACCEPTED = {
    "cert_revocation": "the certificate is the rig's own; a public authority puts its addresses in",
    "security_headers": "what a page may load or be framed by is the app's to say; the proxy adds none of its own",
}


def test_testssl(stand: Stand, report: Transcript) -> None:
    answer = STATE / "testssl.json"
    answer.unlink(missing_ok=True)
    options = [
        "--quiet",
        "--color",
        "0",
        "--warnings",
        "batch",
        "--nodns",
        "none",
        "--add-ca",
        str(ca.FOLDER / "ca.pem"),
    ]
    words = ["testssl", *options, "--ip", stand.address, "--jsonfile", str(answer), f"https://{HOST}/"]
    run(words, check=False, timeout=600)  # its exit status counts findings of any kind
    found = json.loads(answer.read_text(encoding="utf-8"))
    # WARN is about testssl.sh itself: what its own OpenSSL cannot ask.
    lines = [
        f"{row['severity']} {row['id']}: {row['finding']}" for row in found if row["severity"] not in ("OK", "INFO")
    ]
    report.add(f"testssl https://{HOST}/ ({len(found)} answers)", "\n".join(lines))
    asked = {row["id"] for row in found}
    assert {"TLS1_3", "ALPN_HTTP2", "HSTS_time", "ROBOT", "cert_chain_of_trust"} <= asked
    high = {row["id"]: row["finding"] for row in found if row["severity"] in ("MEDIUM", "HIGH", "CRITICAL")}
    assert high.keys() == TESTSSL_ACCEPTED.keys(), high


# Not 12 and 13: compression is between the two ends, and passes as any other frame.
CASES = {"cases": ["*"], "exclude-cases": ["12.*", "13.*"]}
CA_THERE = "/reports/ca.pem"


def autobahn(stand: Stand, name: str, url: str, **server: str) -> dict[str, tuple[str, str]]:
    """Autobahn's verdict on every case against that URL: on behaviour, and on the closing handshake."""
    container = f"vaettir-isolation-autobahn-{name}"
    spec = {"outdir": "/reports/out", "servers": [{"agent": name, "url": url, **server}], **CASES}
    run(["docker", "rm", "-f", container], check=False)
    words = ["docker", "create", "--name", container, "--label", f"{LABEL}=autobahn"]
    words += ["--add-host", f"{HOST}:{stand.address}", "-e", f"SSL_CERT_FILE={CA_THERE}"]
    run([*words, images.AUTOBAHN, "-m", "fuzzingclient", "-s", "/reports/spec.json"])
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "spec.json").write_text(json.dumps(spec), encoding="ascii")
        shutil.copy(ca.FOLDER / "ca.pem", folder)
        run(["docker", "cp", f"{folder}/.", f"{container}:/reports"])
        try:
            run(["docker", "start", "-a", container], timeout=900)
            run(["docker", "cp", f"{container}:/reports/out/index.json", folder])
        finally:
            run(["docker", "rm", "-f", container], check=False)
        (cases,) = json.loads(Path(folder, "index.json").read_text(encoding="utf-8")).values()
    return {case: (verdict["behavior"], verdict["behaviorClose"]) for case, verdict in cases.items()}


def test_autobahn(stand: Stand, report: Transcript) -> None:
    """The chain behaves as the app does without it."""
    images.build_all([images.AUTOBAHN])
    outside = urlsplit(stand.edge.base_url).hostname
    # Slow ones wait for what does not come, so both go at the same time.
    with ThreadPoolExecutor(2) as pool:
        through = pool.submit(autobahn, stand, "chain", f"wss://{HOST}/ws", hostname=HOST)
        direct = pool.submit(autobahn, stand, "direct", f"ws://{outside}:9000/ws")
        chain, app = through.result(), direct.result()
    other = {case: (app.get(case), verdict) for case, verdict in chain.items() if verdict != app.get(case)}
    summary = {
        name: dict(Counter(verdict[0] for verdict in cases.values()))
        for name, cases in (("direct", app), ("chain", chain))
    }
    report.add(
        "Autobahn's cases, directly and through the chain", f"{json.dumps(summary)}; different: {other or 'none'}"
    )
    assert len(chain) == len(app) > 300
    assert not other


def test_images_by_digest(stand: Stand, report: Transcript) -> None:
    """From a registry, as a supply chain has it: that image or none."""
    registry = "127.0.0.1:5000"
    stand.shell(
        "apt-get -q update; DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends docker-registry;"
        # as Debian configures it, it asks for a password
        "sed -i '/^auth:/,/path:/d' /etc/docker/registry/config.yml; systemctl restart docker-registry",
        user="root",
    )
    wait_for("the registry", lambda: stand.shell(f"curl -s http://{registry}/v2/ || true") == "{}", 20)
    tag = f"{registry}/nginx:own"
    pushed = stand.shell(f"docker tag {images.NGINX} {tag}; docker push {tag}; docker rmi {tag}")
    digest = pushed.split("digest: ")[1].split()[0]

    def deployed(image: str) -> int:
        return playbook.run(playbook.DEPLOY, extra={**limits(), "agent_proxy_base_image": image}).status

    def serving() -> str:
        base = '{{.Config.Image}} {{index .Config.Labels "io.locki.vaettir.base"}}'
        return stand.shell(f"docker inspect -f '{base}' vaettir-{ATTACKED}-1 vaettir-docker-api-1")

    assert deployed(f"{tag}@{digest}") == 0
    before = serving()
    assert before.count(f"{tag}@{digest}") == 2
    assert stand.visitor.get(public(ATTACKED)).status == 200
    assert deployed(f"{tag}@{digest[:-4]}0000") != 0
    assert serving() == before
    assert stand.visitor.get(public(ATTACKED)).status == 200
    report.add(f"deploy-agent.yml -e agent_proxy_base_image={tag}@{digest}", before)
