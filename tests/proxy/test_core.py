# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The conf's core form, in an image of somebody's own as the first recipe has it: nginx, envsubst, a page."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _names

from tests.rig import ca, images
from tests.rig.edge_client import Edge
from tests.rig.shell import LABEL, run, wait_for

from . import stand
from .conftest import ECHO
from .visitor import ask, handshake_headers, shake_hands

HOST = "ocapistaine.vaettir.example"
OWN, SIBLING = f"https://{HOST}", "https://second.vaettir.example"
PAGE = "<title>the owner's page</title>"
START = r"""
envsubst '${OCAPISTAINE_TARGET_URL}' < /conf > /etc/nginx/nginx.conf
nginx -t || exit 1
exec nginx -g 'daemon off;'
"""


def core(agent: dict[str, Any]) -> str:
    """As the role writes it."""
    conf = stand.render("agent.conf.template.j2", {**agent, "core": True, "ca_certificate": ""})
    return _names.filled(conf, agent["target_values"])


@contextmanager
def container(agent: dict[str, Any], folder: Path) -> Iterator[stand.Proxy]:
    """Once nginx answers."""
    name = f"vaettir-test-{uuid.uuid4().hex[:12]}"
    (folder / "conf").write_text(core(agent), encoding="utf-8")
    (folder / "error-offline.html").write_text(PAGE, encoding="utf-8")
    mounts = {
        folder / "conf": "/conf",
        folder / "error-offline.html": "/usr/share/nginx/html/error-offline.html",
        ca.FOLDER / "ca.pem": "/etc/ssl/certs/ca-certificates.crt",
    }
    volumes = [word for here, there in mounts.items() for word in ("-v", f"{here}:{there}:ro")]
    words = ["docker", "run", "-d", "--name", name, "--label", f"{LABEL}=proxy-test", *volumes]
    run([*words, "-e", f"OCAPISTAINE_TARGET_URL={agent['target_url']}", images.NGINX, "sh", "-c", START])

    def ready() -> bool:
        asked = run(["docker", "exec", name, "bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/8081"], check=False)
        return asked.returncode == 0

    try:
        wait_for("nginx with the core conf", ready, 20, 0.1)
        ip = run(["docker", "inspect", "-f", "{{.NetworkSettings.IPAddress}}", name]).stdout.strip()
        yield stand.Proxy(name, ip, agent)
    finally:
        run(["docker", "rm", "-fv", name])


@pytest.fixture(scope="module")
def own(agent: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Iterator[stand.Proxy]:
    with container(agent(), tmp_path_factory.mktemp("core")) as proxy:
        # its upstream's name is resolved in the background
        wait_for("the tunnel", lambda: ask(proxy.ip, "GET", "/", [("Host", HOST)]).status == 200, 10)
        yield proxy


def test_origin_rule(own: stand.Proxy, edge: Edge) -> None:
    edge.reset()
    assert shake_hands(own.ip, "/_stcore/stream", handshake_headers(HOST, OWN)).status == 101
    assert shake_hands(own.ip, "/_stcore/stream", handshake_headers(HOST, SIBLING)).status == 403
    (seen,) = edge.requests()
    assert (seen.host, seen.headers["origin"]) == (ECHO, f"https://{ECHO}")


def test_what_the_app_is_told(own: stand.Proxy, edge: Edge) -> None:
    edge.reset()
    assert ask(
        own.ip, "POST", "/form", [("Host", HOST), ("X-Forwarded-For", "192.0.2.7"), ("Remote-User", "root")], b"x"
    )
    (seen,) = edge.requests()
    assert seen.headers["x-forwarded-for"].startswith("192.0.2.7")
    assert seen.headers["x-forwarded-host"] == HOST
    assert "remote-user" not in seen.headers


@pytest.mark.parametrize("fault", ["blackhole", "reset"])
def test_page_of_the_image(own: stand.Proxy, edge: Edge, fault: str) -> None:
    for method in ("GET", "POST"):
        with edge.faulty(ECHO, fault):
            reply = ask(own.ip, method, "/any?x=1", [("Host", HOST)], b"x" if method == "POST" else b"")
        assert (reply.status, reply.body.decode()) == (503, PAGE)
        assert reply.headers["x-vaettir-state"] == "offline"
        assert reply.headers["content-type"] == "text/html"
    with edge.faulty(ECHO, fault):
        reply = shake_hands(own.ip, "/_stcore/stream", handshake_headers(HOST, OWN))
    assert (reply.status, reply.headers["x-vaettir-state"]) == (503, "offline")


def test_an_error_of_ngrok_is_named(own: stand.Proxy, edge: Edge) -> None:
    """Core nginx cannot show a page instead, but a deploy must not take it for the app's."""
    with edge.stopped(ECHO):
        reply = ask(own.ip, "GET", "/", [("Host", HOST)])
        assert (reply.headers["ngrok-error-code"], reply.headers["x-vaettir-state"]) == ("ERR_NGROK_3200", "offline")
    assert "x-vaettir-state" not in ask(own.ip, "GET", "/", [("Host", HOST)]).headers


def test_our_own_paths_are_nobodys(own: stand.Proxy) -> None:
    assert ask(own.ip, "GET", "/__vaettir/status", [("Host", HOST)]).status == 404
    assert PAGE not in ask(own.ip, "GET", "/__vaettir/page", [("Host", HOST)]).body.decode()


def test_maintenance_and_an_image_without_a_page(
    own: stand.Proxy, agent: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    conf = tmp_path / "nginx.conf"
    conf.write_text(core(agent(maintenance=True)).replace("${OCAPISTAINE_TARGET_URL}", "x"), encoding="utf-8")
    run(["docker", "cp", conf, f"{own.container}:/etc/nginx/nginx.conf"])
    own.exec("nginx", "-q", "-s", "reload")
    # A worker from before may take one more request.
    wait_for("the page", lambda: {ask(own.ip, "GET", "/", [("Host", HOST)]).status for _ in range(20)} == {503}, 10)
    reply = ask(own.ip, "POST", "/", [("Host", HOST)], b"x" * 100_000)
    assert (reply.status, reply.body.decode(), reply.headers["x-vaettir-state"]) == (503, PAGE, "maintenance")
    conf.write_text(conf.read_text(encoding="utf-8").replace("error-offline.html", "missing.html"), encoding="utf-8")
    run(["docker", "cp", conf, f"{own.container}:/etc/nginx/nginx.conf"])
    own.exec("nginx", "-q", "-s", "reload")
    wait_for("the line", lambda: ask(own.ip, "GET", "/", [("Host", HOST)]).body == b"ocapistaine: maintenance\n", 10)


@pytest.mark.parametrize("entry", [{"profile": "streamlit"}, {"profile": "n8n"}, {"maintenance": True}], ids=str)
def test_conf(agent: Callable[..., dict[str, Any]], entry: dict[str, Any], tmp_path: Path) -> None:
    settings = agent(**entry, resolver=["127.0.0.11"])
    conf = core(settings)
    assert "js_" not in conf
    assert "\n\n\n" not in conf
    file = tmp_path / "nginx.conf"
    file.write_text(conf.replace("${OCAPISTAINE_TARGET_URL}", settings["target_url"]), encoding="utf-8")
    assert "${" not in file.read_text(encoding="utf-8")
    tested = run(["docker", "run", "--rm", "-v", f"{file}:/etc/nginx/nginx.conf:ro", images.NGINX, "nginx", "-t"])
    assert [line.rsplit(" ", 1)[1] for line in tested.stderr.splitlines()] == ["ok", "successful"]
    gixy = Path(sys.executable).parent / "gixy"
    found = subprocess.run([gixy, "-f", "json", file], capture_output=True, text=True, check=False)
    assert json.loads(found.stdout) == [], found.stdout


@pytest.fixture(scope="module")
def listing() -> Iterator[str]:
    """An image of ours whose conf only says the values that its entry point fills in."""
    names = _names.target_values("https://a")
    tag = stand.build(stand.settings(), "".join(f"{name}=${{{name}}}\n" for name in names))
    yield tag
    stand.remove_image(tag)


@pytest.mark.parametrize(
    "url",
    [
        "https://ocapistaine.ngrok-free.app",
        "https://Ocapistaine.Ngrok-Free.App:443",
        "https://a.example:8443",
        "http://app:8501",
        "http://app:80",
        "https://app:80",
    ],
)
def test_values_are_those_of_our_own_entry_point(listing: str, url: str) -> None:
    script = "agent-proxy render /tmp && cat /tmp/nginx.conf"
    words = ["docker", "run", "--rm", "-e", f"OCAPISTAINE_TARGET_URL={url}", "--entrypoint", "sh"]
    lines = run([*words, listing, "-c", script]).stdout.splitlines()
    assert dict(line.split("=", 1) for line in lines) == _names.target_values(url)


@pytest.mark.parametrize("fault", ["bad_certificate", "wrong_name"])
def test_tunnel_is_verified(agent: Callable[..., dict[str, Any]], edge: Edge, fault: str, tmp_path: Path) -> None:
    with edge.faulty(ECHO, fault), container(agent(), tmp_path) as proxy:
        assert ask(proxy.ip, "GET", "/", [("Host", HOST)]).headers["x-vaettir-state"] == "offline"
