# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Traefik's static configuration, wherever it stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.locki.vaettir.plugins.module_utils import _traefik

FILE = """
# by hand
---
entryPoints:
  web:
    address: ":80"   # plain
    http:
      redirections: {}
  websecure:
    address: ':443'
    http:
      middlewares:
      - one@file
      - "two@file"
      tls:
        certResolver: letsencrypt
        domains:
          - main: example.org
            sans: [a.example.org]
    transport:
      respondingTimeouts:
        readTimeout: 60s
  udp: {}
providers:
  docker:
    exposedByDefault: false
    network: web
  file:
    directory: /etc/traefik/dynamic
certificatesResolvers:
  letsencrypt:
    acme:
      tlsChallenge: {}
      email: you@example.org
  "other":
    acme:
      httpChallenge:
        entryPoint: web
ping:
api:
  insecure: true
"""


def flat(tree: Any, path: str = "") -> dict[str, str]:
    """The leaves that are words, as another parser finds them."""
    if not isinstance(tree, dict):
        if isinstance(tree, list):
            return {} if any(isinstance(one, dict) for one in tree) else {path: ",".join(map(str, tree))}
        return {path: "true" if tree is None else str(tree).lower() if isinstance(tree, bool) else str(tree)}
    leaves = {}
    for name, value in tree.items():
        leaves.update(flat(value, f"{path}.{name.lower()}" if path else name.lower()))
    return leaves


def container(*words: str, mounts: dict[str, Path] | None = None, **environment: str) -> dict[str, Any]:
    return {
        "Config": {
            "Entrypoint": None,
            "Cmd": list(words),
            "Env": [f"{key}={value}" for key, value in environment.items()],
        },
        "Mounts": [{"Destination": place, "Source": str(path)} for place, path in (mounts or {}).items()],
    }


def test_a_plain_file_says_what_another_parser_reads_in_it() -> None:
    found = _traefik.plain_yaml(FILE)
    wanted = flat(yaml.safe_load(FILE))
    assert {name: found.get(name) for name in wanted} == wanted
    assert found["certificatesresolvers.letsencrypt.acme.tlschallenge"] == "true"


def test_a_byte_order_mark_is_no_part_of_a_name() -> None:
    assert _traefik.plain_yaml("\ufefflog:\n  level: INFO\n")["log.level"] == "INFO"


@pytest.mark.parametrize("text", ["a: &x 1\nb: *x\n", "a: {b: c}\n", "a: |\n  text\n", "no yaml\n", "- a\n- b\n"])
def test_what_is_not_plain_is_not_guessed(text: str) -> None:
    with pytest.raises(ValueError, match="not plain"):
        _traefik.plain_yaml(text)


def test_a_file_is_read_before_all_others(tmp_path: Path) -> None:
    path = tmp_path / "traefik.yml"
    path.write_text("log:\n  level: DEBUG\n", encoding="utf-8")
    for mounts in ({"/etc/traefik": tmp_path}, {"/etc/traefik/traefik.yml": path}):
        assert _traefik.settings(container("--ping", mounts=mounts))["log.level"] == "DEBUG"
    named = container("--configFile=/conf/traefik.yml", mounts={"/conf": tmp_path})
    assert _traefik.settings(named)["log.level"] == "DEBUG"


def test_a_file_that_nobody_can_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "traefik.yml").mkdir()
    found = _traefik.settings(container("--ping", mounts={"/etc/traefik": tmp_path}))
    assert found == {"configfile": "/etc/traefik/traefik.yml"}
    assert _traefik.settings(container("--configfile=/conf/traefik.yml", "--ping")) == {
        "configfile": "/conf/traefik.yml"
    }


def test_flags_and_then_the_environment() -> None:
    assert _traefik.settings(container("traefik", "--ping", "--Log.Level=INFO", TRAEFIK_API="true")) == {
        "ping": "true",
        "log.level": "INFO",
    }
    assert _traefik.settings(container("traefik", TRAEFIK_LOG_LEVEL="INFO", PATH="/bin")) == {"log.level": "INFO"}


def test_a_traefik_is_told_from_what_only_bears_its_name() -> None:
    images = ["traefik/whoami:v1.10", "thomseddon/traefik-forward-auth", "me/my-traefik", "traefik.example/web:1"]
    others = [{"Config": {"Image": image}} for image in images]
    assert _traefik.chosen(others) is None
    for image in ("traefik", "registry:5000/traefik:v3", "docker.io/library/traefik:v3.7.15@sha256:0123"):
        assert _traefik.chosen([*others, {"Config": {"Image": image}}]) == {"Config": {"Image": image}}
