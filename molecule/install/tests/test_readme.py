# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Word for word what the README tells a newcomer to type, in a shell, for this scenario's server."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml

from tests.rig import reader
from tests.rig.shell import ROOT, VENV, run

README = reader.sections("README.md")
STEPS = [step for title in ("Put your app online", "If it does not work") for step in README[title]]
VERSION = yaml.safe_load((ROOT / "galaxy.yml").read_text(encoding="utf-8"))["version"]
OLDER = "0.0.1"


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, str]:
    """What `ansible-galaxy collection install` can be given, by version and kind."""
    made = {}
    for version in (OLDER, VERSION):
        folder = tmp_path_factory.mktemp("source")
        checkout = reader.repository(folder / "checkout", version)
        run(["git", "clone", "--quiet", "--bare", checkout, folder / "bare.git"])
        run([VENV / "bin" / "ansible-galaxy", "collection", "build", checkout, "--output-path", folder])
        made[f"git {version}"] = f"git+file://{folder / 'bare.git'}"
        made[f"archive {version}"] = str(folder / f"locki-vaettir-{version}.tar.gz")
    return made


def test_step_by_step(servers, edge, sources, tmp_path):
    assert [step.split()[0] for step in STEPS] == [
        "ngrok",
        "ssh",
        "mkdir",
        "cat",
        "ansible-playbook",
        "curl",
        "ansible-playbook",
    ]
    assert len(STEPS[3].splitlines()) <= 2 + 12
    name, address = next(iter(servers.items()))
    newcomer = reader.Newcomer(tmp_path)
    newcomer.meets(address, sources[f"git {VERSION}"])
    # ngrok's edge is played by the rig, and its agent with it.
    url, port = shlex.split(STEPS[0])[2:]
    edge.put(url.removeprefix("--url=https://"), f"http://127.0.0.1:{port}")

    script = "".join(f"echo '=== {number}'\n{step}\n" for number, step in enumerate(STEPS[1:], 2))
    said = dict(re.findall(r"(?ms)^=== (\d)$\n(.*?)(?=^=== \d$|\Z)", newcomer.types(script)))
    assert said["2"].strip() == name
    assert "was installed successfully" in said["3"]
    assert re.search(r"ocapistaine +started +https://ocapistaine\.vaettir\.example", said["5"]), said["5"][-3000:]
    assert "HTTP/2 200" in said["6"]  # after curl's progress, which has no terminal here
    assert "ocapistaine" in said["7"]
    assert "failed=0" in said["7"]
    assert re.findall(r"\[(?:DEPRECATION )?WARNING\].*", "".join(said.values())) == []


@pytest.mark.parametrize("kind", ["archive", "git"])
def test_each_way_of_installing_updates_an_older_one(kind, sources, tmp_path):
    newcomer, galaxy = reader.Newcomer(tmp_path), f"{VENV}/bin/ansible-galaxy collection"
    (install,) = re.findall(rf"(?m)^ansible-galaxy collection (install .*){re.escape(reader.REPOSITORY)}$", STEPS[2])
    for version in (OLDER, VERSION):
        newcomer.types(f"{galaxy} {install} {sources[f'{kind} {version}']}")
        assert re.search(rf"locki\.vaettir +{re.escape(version)}\b", newcomer.types(f"{galaxy} list"))
