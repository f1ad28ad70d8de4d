# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Word for word what the README tells a newcomer to type, in a shell, for this scenario's server."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from tests import lint
from tests.rig import ca
from tests.rig.shell import ROOT, STATE, VENV, run

README = (ROOT / "README.md").read_text(encoding="utf-8")
SECTIONS = ("Put your app online", "If it does not work")
REPOSITORY = "git+https://github.com/locki-io/vaettir"
VERSION = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]
OLDER = "0.0.1"


def blocks(title: str) -> list[str]:
    """A section's commands."""
    section = README.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    return re.findall(r"(?ms)^```bash\n(.*?)^```$", section)


def copy(folder: Path, version: str) -> Path:
    """The checkout with another version, as a git repository."""
    lint.copy_to(folder)
    settings = folder / "galaxy.yml"
    settings.write_text(re.sub(r"(?m)^version: .*$", f"version: {version}", settings.read_text(encoding="utf-8")))
    git = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@example.org"]
    run(["git", "init", "--quiet", folder])
    run([*git, "add", "--all"])
    run([*git, "commit", "--quiet", "--message", version])
    return folder


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, str]:
    """What `ansible-galaxy collection install` can be given, by version and kind."""
    made = {}
    for version in (OLDER, VERSION):
        folder = tmp_path_factory.mktemp("source")
        checkout = copy(folder / "checkout", version)
        run(["git", "clone", "--quiet", "--bare", checkout, folder / "bare.git"])
        run([VENV / "bin" / "ansible-galaxy", "collection", "build", checkout, "--output-path", folder])
        made[f"git {version}"] = f"git+file://{folder / 'bare.git'}"
        made[f"archive {version}"] = str(folder / f"locki-vaettir-{version}.tar.gz")
    return made


@pytest.fixture
def home(tmp_path) -> dict[str, str]:
    """The environment of somebody who has nothing of Ansible yet, but the machine's settings of pip."""
    for name in (".config/pip", ".pip"):
        if (Path.home() / name).is_dir():
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).symlink_to(Path.home() / name)
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "MOLECULE_", "VIRTUAL"))}
    path = os.pathsep.join(part for part in kept["PATH"].split(os.pathsep) if Path(part) != VENV / "bin")
    cache = os.environ.get("PIP_CACHE_DIR", str(Path.home() / ".cache" / "pip"))
    return {**kept, "HOME": str(tmp_path), "PATH": path, "PIP_CACHE_DIR": cache}


def stand_in(folder: Path, name: str, *options: str) -> None:
    """The same command, told what the world outside would tell it."""
    folder.mkdir(exist_ok=True)
    (path := folder / name).write_text(f'#!/bin/sh\nexec /usr/bin/{name} {shlex.join(options)} "$@"\n')
    path.chmod(0o755)


def typed(script: str, environment: dict[str, str], folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:]
    return done.stdout


def test_step_by_step(home, servers, edge, sources, tmp_path):
    address = next(iter(servers.values()))
    names = {"203.0.113.10": address, "vaettir.example.org": "vaettir.example", REPOSITORY: sources[f"git {VERSION}"]}
    steps = [block for title in SECTIONS for block in blocks(title)]
    assert [step.split()[0] for step in steps] == [
        "ngrok",
        "ssh",
        "mkdir",
        "cat",
        "ansible-playbook",
        "curl",
        "ansible-playbook",
    ]
    assert f"ansible=={lint.pin('ansible')}" in steps[2]
    assert len(steps[3].splitlines()) <= 2 + 12

    # ngrok's edge is played by the rig, and its agent with it.
    url, port = shlex.split(steps[0])[2:]
    edge.put(url.removeprefix("--url=https://"), f"http://127.0.0.1:{port}")

    options = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"]
    stand_in(tmp_path / "bin", "ssh", "-i", str(ca.SSH_KEY), *(word for option in options for word in ("-o", option)))
    resolve = f"ocapistaine.vaettir.example:443:{address}"
    stand_in(tmp_path / "bin", "curl", "--cacert", str(STATE / "ca" / "ca.pem"), "--resolve", resolve)
    home["PATH"] = f"{tmp_path / 'bin'}{os.pathsep}{home['PATH']}"
    # The certificates of this run's own authority, which no public one would sign.
    (group_vars := tmp_path / "vaettir" / "group_vars").mkdir(parents=True)
    rig = {
        "stack_tls": "files",
        "stack_tls_certificate": f"{STATE}/ca/public.pem",
        "stack_tls_key": f"{STATE}/ca/public.key",
        "stack_tls_ca": f"{STATE}/ca/ca.pem",
        "agent_proxy_ca_certificate": f"{STATE}/ca/ca.pem",
        "agent_proxy_from_outside": False,
    }
    (group_vars / "all.yml").write_text(yaml.safe_dump(rig))

    script = ""
    for number, step in enumerate(steps[1:], 2):
        for name, ours in names.items():
            step = step.replace(name, ours)
        script += f"echo '=== {number}'\n{step}\n"
    said = dict(re.findall(r"(?ms)^=== (\d)$\n(.*?)(?=^=== \d$|\Z)", typed(script, home, tmp_path)))
    assert said["2"].strip() == next(iter(servers))
    assert "was installed successfully" in said["3"]
    assert re.search(r"ocapistaine +started +https://ocapistaine\.vaettir\.example", said["5"]), said["5"][-3000:]
    assert "HTTP/2 200" in said["6"]  # after curl's progress, which has no terminal here
    assert "ocapistaine" in said["7"]
    assert "failed=0" in said["7"]


@pytest.mark.parametrize("kind", ["archive", "git"])
def test_each_way_of_installing_updates_an_older_one(kind, home, sources, tmp_path):
    galaxy = f"{VENV}/bin/ansible-galaxy collection"
    (install,) = re.findall(rf"(?m)^ansible-galaxy collection (install .*){re.escape(REPOSITORY)}$", README)
    for version in (OLDER, VERSION):
        typed(f"{galaxy} {install} {sources[f'{kind} {version}']}", home, tmp_path)
        assert re.search(rf"locki\.vaettir +{re.escape(version)}\b", typed(f"{galaxy} list", home, tmp_path))
