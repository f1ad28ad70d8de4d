# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The conf of every profile: accepted by nginx without a warning, and by gixy without a finding."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.rig.shell import run

from . import stand

PROFILES = list(stand.PROFILES)
MAINTENANCE = {"maintenance": True}
MANY = {
    "extra_domains": [f"name-{number}.a-rather-long-parent-domain.example" for number in range(40)],
    "extra_origins": [f"https://partner-{number}.example:8443" for number in range(40)],
    "name": "a" * 31,
}


def rendered(agent: dict[str, Any], tag: str) -> str:
    words = [word for key, value in stand.environment(agent).items() for word in ("-e", f"{key}={value}")]
    return run(
        [
            "docker",
            "run",
            "--rm",
            *words,
            "--entrypoint",
            "sh",
            tag,
            "-c",
            "agent-proxy render /tmp && cat /tmp/nginx.conf",
        ]
    ).stdout


@pytest.mark.parametrize(
    "entry",
    [
        *({"profile": profile} for profile in PROFILES),
        MAINTENANCE,
        MANY,
        {"target_url": "http://app:8000", "ngrok": "false"},
    ],
    ids=lambda entry: "-".join(str(value) for value in entry.values())[:24],
)
def test_conf(agent: Callable[..., dict[str, Any]], entry: dict[str, Any], tmp_path: Path) -> None:
    # A resolver of its own network: the one of this test's world is the rig's.
    settings = agent(**{"resolver": ["127.0.0.11"], "ca_certificate": "", **entry})
    tag = stand.build(settings)
    try:
        conf = rendered(settings, tag)
        words = [word for key, value in stand.environment(settings).items() for word in ("-e", f"{key}={value}")]
        steps = "mkdir -p /var/cache/vaettir && agent-proxy render /tmp && nginx -t -c /tmp/nginx.conf"
        done = run(["docker", "run", "--rm", *words, "--entrypoint", "sh", tag, "-c", steps])
    finally:
        stand.remove_image(tag)
    assert done.stderr.splitlines() == [
        "nginx: the configuration file /tmp/nginx.conf syntax is ok",
        "nginx: configuration file /tmp/nginx.conf test is successful",
    ]
    file = tmp_path / "nginx.conf"
    file.write_text(conf, encoding="utf-8")
    (tmp_path / "neighbours.conf").write_text("default yes;\n", encoding="ascii")
    (tmp_path / "tunnel-secret.conf").write_text('proxy_set_header X-Vaettir-Secret "x";\n', encoding="ascii")
    gixy = Path(sys.executable).parent / "gixy"
    found = subprocess.run([gixy, "-f", "json", file], capture_output=True, text=True, check=False)
    assert json.loads(found.stdout) == [], found.stdout


def test_conf_says_nothing_of_templates(agent: Callable[..., dict[str, Any]]) -> None:
    """Whoever edits it sees tidy lines."""
    for profile in PROFILES:
        conf = stand.render("agent.conf.template.j2", agent(profile=profile))
        assert not re.search(r"\{%|\{\{|\{#|[ \t]+$|\n\n\n", conf, re.MULTILINE)
        assert conf.endswith("}\n")


def test_idle_memory(agent: Callable[..., dict[str, Any]]) -> None:
    """Two workers with 4096 connections each: at most 20 MB, what is shared counted once."""
    with stand.proxy(agent()) as proxy:
        time.sleep(0.5)
        pids = [
            line.split()[0] for line in run(["docker", "top", proxy.container, "-o", "pid"]).stdout.splitlines()[1:]
        ]
        sizes = [
            re.search(r"^Pss:\s+(\d+)", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE) for pid in pids
        ]
        assert sum(int(size[1]) for size in sizes if size) <= 20 * 1024
