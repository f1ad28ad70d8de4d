# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Pure functions of the modules, on texts as real programs write them."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.locki.vaettir.plugins.module_utils import _curl, _docker, _http, _stack, _websocket
from ansible_collections.locki.vaettir.plugins.modules import websocket_curl

from .module_run import run_module


def test_os_release() -> None:
    debian = 'PRETTY_NAME="Debian GNU/Linux 13 (trixie)"\nVERSION_ID="13"\nID=debian\nHOME_URL="https://x/"\n'
    ubuntu = 'NAME="Ubuntu"\nVERSION_ID="24.04"\nID=ubuntu\nID_LIKE=debian\n'
    assert _stack.parse_os_release(debian) == {"id": "debian", "version": "13"}
    assert _stack.parse_os_release(ubuntu) == {"id": "ubuntu", "version": "24.04"}
    assert _stack.parse_os_release("") == {"id": "", "version": ""}


def test_listeners() -> None:
    text = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        "   0: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1001 1 0 100\n"
        "   1: 0100007F:01BB 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 1002 1 0 100\n"
        "   2: 0100007F:20FB 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 1003 1 0 100\n"
        "short line\n"
    )
    assert _stack.parse_listeners(text) == {80: "1001", 8443: "1003"}
    six = "  sl\n 0: 00000000000000000000000000000000:01BB 0:0 0A 0:0 0:0 0 0 0 7\n"
    assert _stack.parse_listeners(six) == {443: "7"}
    assert _stack.parse_listeners("") == {}


def test_the_owners_compose_file(monkeypatch: pytest.MonkeyPatch) -> None:
    def answers(status: int, output: str, error: str = "") -> None:
        monkeypatch.setattr(_docker, "docker", lambda *_words, **_more: (status, output, error))

    services = {
        "traefik": {"image": "traefik:v3.3", "container_name": "traefik"},
        "ocapistaine": {"build": {"context": "."}},
    }
    answers(0, json.dumps({"name": "vaettir", "services": services}))
    assert _stack.owners_compose("/srv") == {
        "project": "vaettir",
        "services": {"traefik": "traefik:v3.3", "ocapistaine": "vaettir-ocapistaine"},
        "built": ["ocapistaine"],
        "named": {"traefik": "traefik"},
        "error": "",
    }
    answers(0, '{"name": "vaettir", "services": null}')
    assert _stack.owners_compose("/srv")["services"] == {}
    answers(15, "", "warning\nyaml: line 3: did not find expected key\n")
    assert _stack.owners_compose("/srv")["error"] == "yaml: line 3: did not find expected key"
    answers(15, "", "error while interpolating services.a.image: required variable TAG is missing a value: set it\n")
    assert _stack.owners_compose("/srv") == {
        "project": "",
        "services": {},
        "built": [],
        "named": {},
        "error": "services.a.image: required variable TAG is missing a value: set it",
    }


def test_accept_is_the_one_of_the_standard() -> None:
    assert _websocket.accept_for("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="  # RFC 6455, 1.3


def test_head() -> None:
    head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nSec-WebSocket-Accept:  x=\r\nX: a:b\r\n"
    assert _http.parse_head(head) == (101, {"upgrade": "websocket", "sec-websocket-accept": "x=", "x": "a:b"})
    assert _http.parse_head(b"HTTP/1.1 404\n")[0] == 404


@pytest.mark.parametrize(
    "head", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1\r\n", b"HTTP/1.1 abc x\r\n", b"HTTP/1.1 \xb2 x\r\n", b"\xff\xfe"]
)
def test_no_head(head: bytes) -> None:
    assert _http.parse_head(head) == (0, {})


KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455, section 1.3
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
    answer = {**headers, "sec-websocket-accept": _websocket.accept_for(KEY)} if accepted else headers
    told, sentence = _curl.judge(status, answer, KEY, "", curl_exit)
    assert told == word
    assert bool(sentence) is (status > 0 and word != "ok")


def test_command_names_the_address_and_every_header() -> None:
    params = {
        "url": "https://a.example:8443/x",
        "address": "127.0.0.1",
        "origin": "https://a.example:8443",
        "ca_path": "/ca",
        "timeout": 5,
        "upgrade": True,
    }
    words = _curl.command(params, "key")
    assert words[words.index("--resolve") + 1] == "a.example:8443:127.0.0.1"
    assert "Origin: https://a.example:8443" in words
    assert "Sec-WebSocket-Key: key" in words
    assert words[-1] == params["url"]
    assert not [word for word in _curl.command({**params, "upgrade": False}, "key") if "WebSocket" in word]


def test_logs_may_have_any_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "docker"
    command.write_text("#!/bin/sh\nprintf 'caf\\351\\n'\nprintf '\\377 error' >&2\n", encoding="ascii")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert _docker.docker("logs", "x") == (0, "caf\ufffd\n", "\ufffd error")


def test_curl_without_its_authority_is_no_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
        told = run_module(websocket_curl, capsys, handshakes=[{"url": url}], ca_path=str(tmp_path / "ca.pem"))
    assert told["failed"]
    assert told["msg"].startswith(f"ca_path {tmp_path}/ca.pem cannot be used: ")


# --- Several handshakes in one call -----------------------------------------------------------------------------------


class Curl:
    """Stands in for curl: each URL has its answers, the last of which stays."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: list[str]) -> None:
        self.answers = answers
        self.asked: list[tuple[str, str]] = []
        self.running = self.most = 0
        self.lock = threading.Lock()
        monkeypatch.setattr(_curl, "handshake", self.handshake)

    def handshake(self, params: dict[str, Any]) -> dict[str, Any]:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
            self.asked.append((params["url"], params["address"]))
            answers = self.answers[params["url"].partition("//")[2][0]]
            reason = answers.pop(0) if len(answers) > 1 else answers[0]
        time.sleep(0.02)
        with self.lock:
            self.running -= 1
        return {"reason": reason, "status": 0, "state": "", "error": reason, "command": "curl", "curl_exit": 0}


def test_each_handshake_is_tried_until_it_is_as_expected(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_curl, "_PAUSE", 0.01)
    curl = Curl(monkeypatch, a=["ok"], b=["no_route", "no_route", "ok"], c=["offline"], d=["proxy_error"])
    told = run_module(
        websocket_curl,
        capsys,
        handshakes=[
            {"url": "https://a/", "label": "one", "expected": ["ok"]},
            {"url": "https://b/", "label": "two", "expected": ["ok"]},
            {"url": "https://c/", "label": "three"},
            {"url": "https://d/", "expected": ["ok", "offline"]},
        ],
        address="127.0.0.1",
        patience=0.5,
    )
    assert told["changed"] is False
    assert "failed" not in told
    assert [(each["label"], each["url"], each["reason"], each["met"]) for each in told["results"]] == [
        ("one", "https://a/", "ok", True),
        ("two", "https://b/", "ok", True),
        ("three", "https://c/", "offline", True),
        ("", "https://d/", "proxy_error", False),
    ]
    urls = [url for url, _address in curl.asked]
    assert [urls.count(f"https://{name}/") for name in "abc"] == [1, 3, 1]
    assert urls.count("https://d/") > 4
    assert {address for _url, address in curl.asked} == {"127.0.0.1"}


def test_without_patience_each_handshake_is_tried_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    curl = Curl(monkeypatch, a=["refused"])
    handshakes = [{"url": f"https://a{number}/", "expected": ["ok"]} for number in range(20)]
    told = run_module(websocket_curl, capsys, handshakes=handshakes)
    assert [each["url"] for each in told["results"]] == [each["url"] for each in handshakes]
    assert not any(each["met"] for each in told["results"])
    assert len(curl.asked) == 20
    assert 1 < curl.most <= 8


def test_patience_ends_with_a_last_round(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    curl = Curl(monkeypatch, a=["refused"])
    start = time.monotonic()
    run_module(websocket_curl, capsys, handshakes=[{"url": "https://a/", "expected": ["ok"]}], patience=0.7)
    assert 0.7 <= time.monotonic() - start < 2
    assert len(curl.asked) == 3  # at once, after the pause, at the end


def test_no_handshakes_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_module(websocket_curl, capsys, handshakes=[])["results"] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "missing required arguments: handshakes"),
        ({"handshakes": [], "patience": -1}, "patience must be a number of seconds from 0, not -1."),
        ({"handshakes": [], "patience": "nan"}, "patience must be a number of seconds from 0"),
        ({"handshakes": [{"url": "https://a/", "expected": ["fine"]}]}, "value of expected must be one or more of"),
        ({"handshakes": [{"label": "a"}]}, "missing required arguments: url"),
        *(
            ({"handshakes": [{"url": url}]}, f"url '{url}' cannot be tried: use one like https://")
            for url in (
                "a.example",
                "--version",
                "ftp://a/",
                "https://",
                "https://a:70000/",
                "https://a:0/",
                "http://[a/",
            )
        ),
        ({"handshakes": [{"url": "https://u:p@a:x/"}]}, "url 'https://***@a:x/' cannot be tried"),
    ],
)
def test_arguments_of_curl(capsys: pytest.CaptureFixture[str], arguments: dict[str, Any], words: str) -> None:
    told = run_module(websocket_curl, capsys, **arguments)
    assert told["failed"]
    assert words in told["msg"]


def test_everything_that_curl_returns_is_documented() -> None:
    documented = yaml.safe_load(websocket_curl.RETURN)
    params = {"url": "http://127.0.0.1:9/", "address": "", "origin": "", "ca_path": "", "timeout": 5, "upgrade": True}
    found = _curl.handshake(params)
    asked = {**params, "label": "", "expected": []}
    assert set(documented["results"]["contains"]) == set(_curl.result(asked, found))
    suboptions = yaml.safe_load(websocket_curl.DOCUMENTATION)["options"]["handshakes"]["suboptions"]
    assert suboptions["expected"]["choices"] == list(dict.fromkeys(_websocket.REASONS.values()))
