# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The secret that the tunnel's traffic policy asks for, and where it must not be."""

from __future__ import annotations

import json
import time

from tests.rig import playbook

AGENT = "guarded"
PUBLIC = f"https://{AGENT}.vaettir.example"
SECRET = "a-secret-of-the-tunnel"


def deploy(*, secret: str, status: int = 0) -> playbook.Run:
    # Former workers answer what comes over Traefik's open connections for another 95 s; here they must not.
    agent = {"name": AGENT, "target_url": "https://second.ngrok-free.app", "tunnel_secret": secret, "drain": "now"}
    run = playbook.run(playbook.DEPLOY, "-e", f"agent={AGENT}", extra={"vaettir_agents": [agent]})
    assert run.status == status, run
    if run.changed:
        time.sleep(5)  # they end one a second
    return run


def received(visitor, edge) -> str | None:
    edge.reset()
    assert visitor.until(PUBLIC, 200).status == 200
    found: str | None = edge.requests()[-1].headers.get("x-vaettir-secret")
    return found


def test_secret_reaches_the_tunnel_and_nothing_else(visitor, edge, server):
    deploy(secret=SECRET)
    assert received(visitor, edge) == SECRET
    assert deploy(secret=SECRET).changed == []

    stored = server.file(f"/home/deploy/vaettir/secrets/{AGENT}/tunnel")
    assert (stored.user, stored.mode) == ("deploy", 0o600)
    assert SECRET not in server.check_output(f"docker inspect vaettir-{AGENT}-1")
    assert SECRET not in server.check_output(f"docker exec vaettir-{AGENT}-1 cat /etc/nginx/nginx.conf")
    assert SECRET not in server.check_output(f"docker logs vaettir-{AGENT}-1 2>&1")
    layers = json.loads(server.check_output(f"docker image inspect vaettir-{AGENT}:proxy"))
    assert SECRET not in json.dumps(layers)

    deploy(secret="")
    assert received(visitor, edge) is None
    assert not stored.exists

    run = playbook.run(playbook.REMOVE, "-e", f"agent={AGENT}")
    assert run.status == 0, run
    assert not server.file(f"/home/deploy/vaettir/secrets/{AGENT}").exists
