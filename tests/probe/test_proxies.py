# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The probe through nginx and Traefik, the real ones, with an app behind them that others wrote."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.rig import images
from tests.rig.shell import LABEL, RigError, run, wait_for

from .conftest import HOST, Files, free_port, is_open, probe
from .servers import OWN, PATH

NGINX_CONF = """
events {}
http {
    access_log off;
    client_max_body_size 1m;
    server {
        listen 127.0.0.1:%(port)s ssl;
        http2 on;
        ssl_certificate /etc/probe/server.pem;
        ssl_certificate_key /etc/probe/server.key;
        location / {
            proxy_pass http://127.0.0.1:%(app)s;
            proxy_http_version 1.1;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
        }
        location /dropped {
            proxy_pass http://127.0.0.1:%(app)s/ws;
            proxy_http_version 1.1;
        }
        location /dead {
            proxy_pass http://127.0.0.1:1;
        }
        location /offline {
            add_header X-Vaettir-State offline always;
            return 503;
        }
        location /moved {
            return 301 https://elsewhere.example/ws;
        }
        location /secret {
            return 401;
        }
    }
}
"""
TRAEFIK_CONF = """
http:
  routers:
    app:
      rule: Host(`%(host)s`)
      service: app
      tls: {}
  services:
    app:
      loadBalancer:
        servers:
          - url: http://127.0.0.1:%(app)s
"""
TRAEFIK_TLS = """
tls:
  certificates:
    - certFile: /etc/probe/server.pem
      keyFile: /etc/probe/server.key
"""


@contextmanager
def container(folder: Path, port: int, *words: str) -> Iterator[None]:
    """A container in this host's network, with the folder at /etc/probe, until the end of the block."""
    name = f"vaettir-probe-{uuid.uuid4().hex[:8]}"
    run(["docker", "create", "--name", name, "--label", f"{LABEL}=probe", "--network", "host", *words])
    try:
        run(["docker", "cp", f"{folder}/.", f"{name}:/etc/probe"])
        run(["docker", "start", name])
        try:
            wait_for(name, lambda: is_open(port), 30, 0.1)
        except RigError as error:
            log = run(["docker", "logs", name], check=False)
            raise RigError(f"{error}\n{log.stdout}{log.stderr}") from error
        yield
    finally:
        run(["docker", "rm", "-fv", name])


@pytest.fixture(scope="module", autouse=True)
def built() -> None:
    images.build_all([images.NGINX, images.TRAEFIK])


def folder_with(folder: Path, files: Files, **more: str) -> Path:
    (folder / "server.pem").write_text(Path(files.certificate).read_text(encoding="ascii"), encoding="ascii")
    (folder / "server.key").write_text(Path(files.key).read_text(encoding="ascii"), encoding="ascii")
    for name, text in more.items():
        (folder / name.replace("_", ".")).write_text(text, encoding="ascii")
    return folder


@pytest.fixture(scope="module")
def nginx(server: Callable[..., int], files: Files, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    port = free_port()
    conf = NGINX_CONF % {"port": port, "app": server("aiohttp", False)}
    folder = folder_with(tmp_path_factory.mktemp("nginx"), files, nginx_conf=conf)
    with container(folder, port, images.NGINX, "nginx", "-c", "/etc/probe/nginx.conf", "-g", "daemon off;"):
        yield port


def traefik(folder: Path, app: int, *options: str, certificate: bool = True) -> Any:
    port = free_port()
    text = TRAEFIK_CONF % {"host": HOST, "app": app} + (TRAEFIK_TLS if certificate else "")
    (folder / "dynamic.yml").write_text(text, encoding="ascii")
    words = [f"--entrypoints.web.address=127.0.0.1:{port}", "--providers.file.filename=/etc/probe/dynamic.yml"]
    return container(folder, port, *options, images.TRAEFIK, "traefik", *words, "--log.level=ERROR"), port


@pytest.fixture(scope="module", params=["", "http2xconnect=1"], ids=["sound", "xconnect"])
def traefik_port(
    request: pytest.FixtureRequest,
    server: Callable[..., int],
    files: Files,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[int, bool]]:
    folder = folder_with(tmp_path_factory.mktemp("traefik"), files)
    options = ("-e", f"GODEBUG={request.param}") if request.param else ()
    running, port = traefik(folder, server("aiohttp", False), *options)
    with running:
        ready(port, files)
        yield port, bool(request.param)


def ready(port: int, files: Files) -> None:
    """Traefik listens before it has read its routes."""
    wait_for("its routes", lambda: ask(port, files)["status"] not in (0, 404), 20)


def ask(port: int, files: Files, path: str = PATH, host: str = HOST, **given: Any) -> dict[str, Any]:
    return probe(f"https://{host}:{port}{path}", **{"ca_path": files.ca, "origin": OWN, **given})


def test_nginx_with_every_question(nginx: int, files: Files) -> None:
    found = ask(nginx, files, foreign_origin="https://foreign.example", http2=True, upload=1 << 20)
    assert (found["reason"], found["error"]) == ("ok", "")
    assert found["headers"]["server"].startswith("nginx")
    assert found["foreign"]["status"] == 403
    assert found["http2"]["extended_connect"] is False
    assert found["http2"]["settings"]["SETTINGS_MAX_CONCURRENT_STREAMS"] == 128
    assert found["upload"]["refused"] is False
    assert found["timings"]["total"] < 5000


def test_nginx_refuses_an_upload_over_its_limit(nginx: int, files: Files) -> None:
    found = ask(nginx, files, upload=(1 << 20) + 1)
    assert found["reason"] == "upload_refused"
    assert found["upload"] == {
        "refused": True,
        "status": 413,
        "error": "an upload of 1048577 bytes is refused with 413",
    }


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/dropped", 400, "bad_key"),
        ("/dead", 502, "proxy_error"),
        ("/offline", 503, "offline"),
        ("/moved", 301, "redirected"),
        ("/secret", 401, "unauthorized"),
    ],
)
def test_nginx_refuses(nginx: int, files: Files, path: str, status: int, reason: str) -> None:
    found = ask(nginx, files, path)
    assert (found["status"], found["reason"]) == (status, reason)
    if path == "/moved":
        assert found["headers"]["location"] == "https://elsewhere.example/ws"


def test_plain_http_to_a_tls_port(nginx: int) -> None:
    found = probe(f"http://{HOST}:{nginx}{PATH}")
    assert (found["status"], found["reason"]) == (400, "bad_key")
    assert "TLS port" in found["error"]


def test_traefik(traefik_port: tuple[int, bool], files: Files) -> None:
    port, broken = traefik_port
    found = ask(port, files, foreign_origin="https://foreign.example", http2=True, upload=2 << 20)
    assert found["upgraded"] is True
    assert found["foreign"]["refused"] is True
    assert found["upload"]["refused"] is False
    assert found["http2"]["extended_connect"] is broken
    if broken:
        assert found["reason"] == found["http2"]["reason"] == "bad_connect"
        assert found["http2"]["works"] is False
        assert found["http2"]["status"] >= 500
    else:
        assert (found["reason"], found["http2"]["reason"]) == ("ok", "ok")


def test_traefik_without_a_route(traefik_port: tuple[int, bool], files: Files) -> None:
    found = ask(traefik_port[0], files, host="nobody.probe.example", http2=True)
    assert (found["status"], found["reason"]) == (404, "no_route")
    assert found["http2"]["reason"] == ("bad_connect" if traefik_port[1] else "ok")


def test_traefik_without_a_certificate(server: Callable[..., int], files: Files, tmp_path: Path) -> None:
    running, port = traefik(tmp_path, server("aiohttp", False), certificate=False)
    with running:
        wait_for("its default certificate", lambda: ask(port, files)["reason"] != "tls_failed", 20)
        found = ask(port, files)
        assert found["reason"] == "tls_pending"
        assert found["certificate"]["issuer"] == "TRAEFIK DEFAULT CERT"
        assert "TRAEFIK DEFAULT CERT" in found["error"]
        wait_for("its routes", lambda: ask(port, files, verify=False)["reason"] == "ok", 20)
