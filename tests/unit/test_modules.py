# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Pure functions of the modules, on texts as real programs write them."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _docker
from ansible_collections.locki.vaettir.plugins.modules import agent_info, stack_info, websocket_curl

from .module_run import run_module


def test_os_release() -> None:
    debian = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nVERSION_ID="13"\nID=debian\nHOME_URL="https://x/"\n'
    ubuntu = 'NAME="Ubuntu"\nVERSION_ID="24.04"\nID=ubuntu\nID_LIKE=debian\n'
    assert stack_info.parse_os_release(debian) == {"id": "debian", "version": "13"}
    assert stack_info.parse_os_release(ubuntu) == {"id": "ubuntu", "version": "24.04"}
    assert stack_info.parse_os_release("") == {"id": "", "version": ""}


def test_listeners() -> None:
    text = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1001 1 0 100\n"
        "   1: 0100007F:01BB 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 1002 1 0 100\n"
        "   2: 0100007F:20FB 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1003 1 0 100\n"
        "short line\n"
    )
    assert stack_info.parse_listeners(text) == {80: "1001", 8443: "1003"}
    six = "  sl\n 0: 00000000000000000000000000000000:01BB 0:0 0A 0:0 0:0 0 0 0 7\n"
    assert stack_info.parse_listeners(six) == {443: "7"}
    assert stack_info.parse_listeners("") == {}


def test_the_owners_compose_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(status: int, output: str, error: str = "") -> None:
        monkeypatch.setattr(_docker, "docker", lambda *_words, **_more: (status, output, error))

    services = {
        "traefik": {"image": "traefik:v3.3", "container_name": "traefik"},
        "ocapistaine": {"build": {"context": "."}},
    }
    answers(0, json.dumps({"name": "vaettir", "services": services}))
    assert stack_info.owners_compose("/srv") == {
        "project": "vaettir",
        "services": {"traefik": "traefik:v3.3", "ocapistaine": "vaettir-ocapistaine"},
        "built": ["ocapistaine"],
        "named": {"traefik": "traefik"},
        "error": "",
    }
    answers(0, '{"name": "vaettir", "services": null}')
    assert stack_info.owners_compose("/srv")["services"] == {}
    answers(15, "", "warning\nyaml: line 3: did not find expected key\n")
    assert stack_info.owners_compose("/srv")["error"] == "yaml: line 3: did not find expected key"
    answers(15, "", "error while interpolating services.a.image: required variable TAG is missing a value: set it\n")
    assert stack_info.owners_compose("/srv") == {
        "project": "",
        "services": {},
        "built": [],
        "named": {},
        "error": "services.a.image: required variable TAG is missing a value: set it",
    }


def test_differing() -> None:
    wanted, found = {"a": "1", "b": "2", "c": "3"}, {"a": "1", "b": "9", "d": "4"}
    assert agent_info.differing(wanted, found) == ["b differs", "c differs", "d goes"]
    assert agent_info.differing(wanted, wanted) == []


@pytest.mark.parametrize(
    ("layers", "below", "built"),
    [
        (["1", "2", "3"], ["1", "2"], True),
        (["1", "3"], ["1", "2"], False),
        (["1"], ["1", "2"], False),
        (["1"], ["1"], True),
    ],
)
def test_built_on(layers: list[str], below: list[str], built: bool) -> None:
    assert agent_info.built_on({"RootFS": {"Layers": layers}}, {"RootFS": {"Layers": below}}) is built


def test_accept_is_the_one_of_the_standard() -> None:
    assert websocket_curl.accept_for("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, 1.3


def test_head() -> None:
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept:  x=\r\nX: a:b\r\n"
    assert websocket_curl.parse_head(head) == (101, {"upgrade": "websocket", "sec-websocket-accept": "x=", "x": "a:b"})
    assert websocket_curl.parse_head(b"HTTP/1.1 404\n")[0] == 404


@pytest.mark.parametrize(
    "head", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1\r\n", b"HTTP/1.1 abc x\r\n", b"HTTP/1.1 \xb2 x\r\n", b"\xff\xfe"]
)
def test_no_head(head: bytes) -> None:
    assert websocket_curl.parse_head(head) == (0, {})


PAGE, STOPPED, NGINX = {"x-vaettir-state": "app"}, {"x-vaettir-state": "stopped"}, {"server": "nginx"}


@pytest.mark.parametrize(
    ("status", "accepted", "headers", "curl_exit", "word"),
    [
        (101, True, NGINX, 0, "ok"),
        (101, False, NGINX, 0, "bad_accept"),
        (503, False, PAGE, 0, "offline"),
        (503, False, STOPPED, 0, "stopped"),
        (503, False, NGINX, 0, "proxy_error"),
        (403, False, NGINX, 0, "refused_origin"),
        (404, False, {}, 0, "no_route"),
        (404, False, NGINX, 0, "not_a_websocket"),
        (200, False, NGINX, 0, "not_a_websocket"),
        (502, False, {}, 0, "proxy_error"),
        (0, False, {}, 6, "dns"),
        (0, False, {}, 7, "refused"),
        (0, False, {}, 28, "timeout"),
        (0, False, {}, 60, "tls_untrusted"),
        (0, False, {}, 52, "no_answer"),
    ],
)
def test_reason(status: int, accepted: bool, headers: dict[str, str], curl_exit: int, word: str) -> None:
    assert websocket_curl.reason(status, accepted, headers, curl_exit) == word


def test_command_names_the_address_and_every_header() -> None:
    params = {
        "url": "https://a.example:8443/x",
        "address": "127.0.0.1",
        "origin": "https://a.example:8443",
        "ca_path": "/ca",
        "verify": True,
        "timeout": 5,
    }
    words = websocket_curl.command(params, "key")
    assert words[words.index("--resolve") + 1] == "a.example:8443:127.0.0.1"
    assert "Origin: https://a.example:8443" in words
    assert "Sec-WebSocket-Key: key" in words
    assert "--insecure" not in words
    assert words[-1] == params["url"]


def test_logs_may_have_any_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "docker"
    command.write_text("#!/bin/sh\nprintf 'caf\\351\\n'\nprintf '\\377 error' >&2\n", encoding="ascii")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert _docker.docker("logs", "x") == (0, "caf\ufffd\n", "\ufffd error")


def test_curl_without_its_authority_is_no_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        told = run_module(websocket_curl, capsys, url=url, ca_path=str(tmp_path / "ca.pem"))
    assert told["failed"]
    assert told["msg"].startswith(f"ca_path {tmp_path}/ca.pem cannot be used: ")
