# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""`make demo`: a server and the world outside it, deployed by the user's own command, checked, and what to try next."""

from __future__ import annotations

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from . import ca, images, servers
from .edge_client import Edge
from .shell import VENV, RigError, run, say, streamed
from .visitor import Visitor

# The names and ports of inventories/demo.
SERVER, OUTSIDE = "vaettir-demo", "vaettir-demo-outside"
HTTP_PORT, HTTPS_PORT = 8080, 8443
ADDRESS = "127.0.0.1"
PUBLISH = tuple(f"{ADDRESS}:{port}:{port}" for port in (HTTP_PORT, HTTPS_PORT))
DOMAIN = "vaettir.localhost"
HOST = f"ocapistaine.{DOMAIN}"
URL = f"https://{HOST}:{HTTPS_PORT}"
TUNNEL, APP = "ocapistaine.ngrok-free.app", "http://127.0.0.1:8501"
DEPLOY = ("ansible-playbook", "deploy-agent.yml", "-e", "agent=ocapistaine")
DEPLOY_LIMIT = 600  # seconds


@dataclass
class World:
    """The two containers of a demo; `address` is the server's own."""

    server: str
    address: str
    edge: Edge


def start(server: str = SERVER, outside: str = OUTSIDE, publish: tuple[str, ...] = PUBLISH) -> World:
    """Images, CA, the world outside, a server, the images on it: whatever is missing or was made from other sources."""
    images.build_all()
    ca.ensure()
    if not _running(server):
        for port in publish:
            _check_port(*port.split(":")[:2])
    world = servers.outside_up(outside)
    machine = servers.server_up(server, world["ip"], publish)
    servers.load([server], [images.NGINX, images.TRAEFIK])
    edge = Edge(world["control"])
    edge.put(TUNNEL, APP)  # whoever tried the page may have left it stopped
    return World(server, machine["ip"], edge)


def deploy(*options: str, show: Callable[[str], object] = print) -> int:
    """The user's own command with its output shown; returns how many tasks changed something."""
    environment = {**os.environ, "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONUNBUFFERED": "1"}
    if sys.stdout.isatty():
        environment.setdefault("ANSIBLE_FORCE_COLOR", "1")
    changed = None
    command = [str(VENV / "bin" / DEPLOY[0]), *DEPLOY[1:], *options]
    with streamed(command, DEPLOY_LIMIT, _end, env=environment) as process:
        try:
            for line in process.stdout or ():
                show(line.rstrip("\n"))
                recap = re.search(r"changed=(\d+).*unreachable=0.*failed=0", re.sub(r"\x1b\[[0-9;]*m", "", line))
                changed = int(recap[1]) + (changed or 0) if recap else changed
            status = process.wait()
        finally:
            _end(process)
    if status or changed is None:
        raise RigError(
            f"{' '.join(DEPLOY)}: exit status {status}; its own words stand above (its limit is {DEPLOY_LIMIT} s)"
        )
    return changed


def verify(address: str = ADDRESS) -> list[tuple[str, str]]:
    """What a visitor needs, tried from here through the published ports; each line: what, and what came."""
    visitor = Visitor(address)
    page = visitor.until(URL, 200)
    _expect(
        page.status == 200 and "<title>Streamlit</title>" in page.text,
        f"{URL} answers {page.status} instead of the app's page",
    )
    protocol = visitor.alpn(URL, "h2", "http/1.1")
    _expect(protocol == "h2", f"{URL} speaks {protocol} instead of HTTP/2")
    status, _ = visitor.handshake(f"wss://{HOST}:{HTTPS_PORT}/_stcore/stream", URL)
    _expect(status == 101, f"the WebSocket handshake of {HOST} is answered with {status} instead of 101")
    foreign, _ = visitor.handshake(f"wss://{HOST}:{HTTPS_PORT}/_stcore/stream", "https://evil.example")
    _expect(foreign == 403, f"a WebSocket from a foreign site is answered with {foreign} instead of 403")
    plain = f"http://{HOST}:{HTTP_PORT}/"
    redirect = visitor.get(plain)
    _expect(redirect.headers.get("location") == f"{URL}/", f"{plain} leads to {redirect.headers.get('location')}")
    return [
        ("page", f"200 over TLS and HTTP/2, certificate verified ({len(page.body)} bytes)"),
        ("WebSocket", f"101 for Origin {URL}, 403 for a foreign one"),
        ("redirect", f"{plain} leads to {URL}/"),
    ]


def up() -> None:
    """The whole of `make demo`."""
    begin = time.monotonic()
    start()
    say(f"deploying, with your own command: {' '.join(DEPLOY)}")
    changed = deploy()
    say("checking from outside")
    checks = verify()
    checks.append(("playbook", f"changed={changed}" + ("" if changed else ": all was as wanted, nothing was touched")))
    say(f"done in {time.monotonic() - begin:.0f} s")
    lines = "\n".join(f"  {what:10} {result}" for what, result in checks)
    print(TEXT.format(lines=lines, url=URL, port=HTTPS_PORT, server=SERVER, outside=OUTSIDE, domain=DOMAIN))


TEXT = """
ocapistaine is online:  {url}

Verified from this machine, through the published ports
{lines}

Real here: Ansible, Docker, Traefik, nginx, Streamlit. Played by the container {outside}: ngrok's edge, and the laptop
with the app. The server is the container {server}.

The browser will warn, because the demo made a certificate authority of its own. Go on all the same, or let the browser
trust .rig/ca/ca.pem (Firefox: Settings, Certificates, Authorities, Import; take it out again after the demo).
From another computer:  ssh -L {port}:127.0.0.1:{port} THIS_MACHINE  there, then the same address in its browser.

Try next
  curl --cacert .rig/ca/ca.pem -I {url}
  make demo-tunnel-stop         the laptop goes offline; reload the page in your browser
  make demo-tunnel-start        it is back, and the page brings you back by itself
  . .venv/bin/activate          once per shell, for the next four
  ansible-playbook deploy-agent.yml -e agent=ocapistaine     again: changed=0
  ansible-playbook deploy-agent.yml -e agent=second          one more agent: https://second.{domain}:{port}
  ansible-playbook remove-agent.yml -e agent=second          and away with it
  ansible vaettir -m command -a 'docker ps'                  what runs on the server
  docker exec -it -u deploy {server} bash                look around there: cd ~/vaettir && docker compose ps
  make demo-down                leaves nothing of all this
"""


def tunnel(app: str | None) -> None:
    """Starts the demo's tunnel (to that app), or stops it."""
    if not _running(OUTSIDE):
        raise RigError("the demo does not run; start it with `make demo`")
    edge = Edge(servers.control(OUTSIDE))
    if app:
        edge.put(TUNNEL, app)
        say(f"the tunnel {TUNNEL} is up again; a waiting page goes back to the app by itself")
    elif TUNNEL in edge.tunnels():
        edge.delete(TUNNEL)
        say(f"the tunnel {TUNNEL} is stopped: reload {URL}; `make demo-tunnel-start` brings it back")
    else:
        say(f"the tunnel {TUNNEL} is stopped already; `make demo-tunnel-start` brings it back")


def _end(process: subprocess.Popen[str]) -> None:
    """Asks first: Ansible's workers lead sessions of their own, and only Ansible itself knows them."""
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()


def _running(name: str) -> bool:
    state: str = run(["docker", "inspect", "-f", "{{.State.Running}}", name], check=False).stdout.strip()
    return state == "true"


def _check_port(address: str, port: str) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, int(port)))
        except OSError as error:
            raise RigError(
                f"port {port} of {address}, which the demo publishes, cannot be had ({error.strerror}): "
                f"stop the program that uses it (`ss -ltnp sport = :{port}` names it) and run `make demo` again"
            ) from None


def _expect(holds: bool, otherwise: str) -> None:
    if not holds:
        raise RigError(otherwise)


def main() -> Any:
    parser = argparse.ArgumentParser(prog="python -m tests.rig.demo", description=__doc__)
    parser.add_argument("command", choices=["up", "tunnel-stop", "tunnel-start"])
    command = parser.parse_args().command
    return up() if command == "up" else tunnel(APP if command == "tunnel-start" else None)


if __name__ == "__main__":
    try:
        main()
    except RigError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; `make demo` goes on where it stopped, `make demo-down` takes everything away")
