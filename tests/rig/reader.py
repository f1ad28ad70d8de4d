# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Somebody who types word for word what a page of the docs says, on a machine that has nothing of Ansible yet."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import yaml

from tests import lint

from . import ca
from .shell import ROOT, STATE, VENV, run

REPOSITORY = "git+https://github.com/locki-io/vaettir"
DOMAIN, ADDRESS = "vaettir.example.org", "203.0.113.10"  # the README's
RIG_DOMAIN = "vaettir.example"
# The certificates of this run's own authority, which no public one would sign.
RIG_VARIABLES: dict[str, Any] = {
    "stack_tls": "files",
    "stack_tls_certificate": f"{STATE}/ca/public.pem",
    "stack_tls_key": f"{STATE}/ca/public.key",
    "stack_tls_ca": f"{STATE}/ca/ca.pem",
    "agent_proxy_ca_certificate": f"{STATE}/ca/ca.pem",
    "agent_proxy_from_outside": False,
}


def sections(page: str) -> dict[str, list[str]]:
    """What a page has to type, by the title of its section."""
    text = (ROOT / page).read_text(encoding="utf-8")
    parts = re.split(r"(?m)^## (.*)$", text)[1:]
    return {
        title: re.findall(r"(?ms)^```bash\n(.*?)^```$", part)
        for title, part in zip(parts[::2], parts[1::2], strict=True)
    }


def repository(folder: Path, version: str) -> Path:
    """The checkout with another version, as a git repository."""
    lint.copy_to(folder)
    settings = folder / "galaxy.yml"
    settings.write_text(re.sub(r"(?m)^version: .*$", f"version: {version}", settings.read_text(encoding="utf-8")))
    git: list[str | Path] = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@example.org"]
    run(["git", "init", "--quiet", folder])
    run([*git, "add", "--all"])
    run([*git, "commit", "--quiet", "--message", version])
    return folder


class Newcomer:
    """Has a home folder, and the machine's settings of pip."""

    def __init__(self, home: Path) -> None:
        self.home, self.stand_ins = home, home / "bin"
        self.stand_ins.mkdir()
        lint.settle_pip(home)
        self.names: dict[str, str] = {}  # of the page: what stands for them here
        kept = {
            key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "MOLECULE_", "VIRTUAL"))
        }
        path = [str(self.stand_ins), *(part for part in kept["PATH"].split(os.pathsep) if Path(part) != VENV / "bin")]
        cache = os.environ.get("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip"))
        self.environment = {**kept, "HOME": str(home), "PATH": os.pathsep.join(path), "PIP_CACHE_DIR": cache}

    def meets(self, address: str, source: str) -> None:
        """The server stands there, its names lead to it, and the collection comes from that source."""
        self.names = {ADDRESS: address, DOMAIN: RIG_DOMAIN, REPOSITORY: source}
        options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
        self._stand_in("ssh", "-i", str(ca.SSH_KEY), *(word for option in options for word in ("-o", option)))
        resolve = f"ocapistaine.{RIG_DOMAIN}:443:{address}"
        self._stand_in("curl", "--cacert", str(STATE / "ca" / "ca.pem"), "--resolve", resolve)
        (group_vars := self.home / "vaettir" / "group_vars").mkdir(parents=True)
        (group_vars / "all.yml").write_text(yaml.safe_dump(RIG_VARIABLES))

    def _stand_in(self, name: str, *options: str) -> None:
        """The same command, told what the world outside would tell it."""
        (path := self.stand_ins / name).write_text(f'#!/bin/sh\nexec /usr/bin/{name} {shlex.join(options)} "$@"\n')
        path.chmod(0o755)

    def types(self, script: str) -> str:
        for theirs, ours in self.names.items():
            script = script.replace(theirs, ours)
        done = subprocess.run(
            ["bash", "-e", "-c", script],
            cwd=self.home,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{script}\n{done.stdout[-6000:]}"
        return done.stdout
