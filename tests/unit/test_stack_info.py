# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What a server has, by what its containers and files say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _docker, _stack

from .docker_command import Docker, container


def publishes(name: str, port: int) -> dict[str, Any]:
    made = container(name)
    made["NetworkSettings"]["Ports"] = {"443/tcp": [{"HostPort": str(port)}], "80/tcp": None}
    return made


def test_whose_the_projects_containers_are() -> None:
    agent, owners, elsewhere = container("vaettir-a-1", "a"), container("vaettir-db-1"), container("vaettir-x-1", "x")
    elsewhere["Config"]["Labels"][f"{_docker.COMPOSE}project.working_dir"] = "/srv/other"
    there = [agent, owners, container("vaettir-traefik-1")]
    assert _stack.project_state("/srv", "vaettir", there) == {"other_root": "", "owners_services": ["db"]}
    assert _stack.project_state("/srv", "vaettir", [*there, elsewhere])["other_root"] == "/srv/other"
    assert _stack.project_state("/srv/other", "vaettir", [elsewhere])["other_root"] == ""
    assert _stack.project_state("/srv", "another", there) == {"other_root": "", "owners_services": []}


def test_taken_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_stack, "listeners", lambda: {80: "1", 443: "2", 8443: "3"})
    monkeypatch.setattr(_stack, "program_of", lambda inode: "nginx" if inode == "1" else "")
    there = [publishes("other-web-1", 443)]
    taken = _stack.taken_ports([80, 443, 8080, 8443], [8443], there)
    assert taken == [{"port": 80, "by": "nginx"}, {"port": 443, "by": "container other-web-1"}]
    assert _stack.taken_ports([443], [], []) == [{"port": 443, "by": "another program"}]


def test_traefik(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = Docker(publishes("vaettir-traefik-1", 8443))
    monkeypatch.setattr(_docker, "docker", made)
    found = _stack.collect(str(tmp_path), [], "vaettir", "")
    assert (found["traefik"]["status"], found["traefik"]["ports"]) == ("running", [8443])
    assert found["traefik"]["reasons"] == []
    monkeypatch.setattr(_stack, "compose_hashes", lambda *_words: {"traefik": "another"})
    reasons = _stack.collect(str(tmp_path), [], "vaettir", "services: {}")["traefik"]["reasons"]
    assert reasons == ["its compose service differs"]


def test_an_older_docker_api_is_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A start of the new one has failed, so the next deploy tries again."""
    monkeypatch.setattr(_docker, "docker", Docker(publishes("vaettir-docker-api-1", 1)))
    assert _stack.collect(str(tmp_path), [], "vaettir", "")["docker_api"]
    for wanted, there in (("another", False), ("", True)):
        monkeypatch.setattr(_stack, "compose_hashes", lambda *_words, wanted=wanted: {"docker-api": wanted})
        assert _stack.collect(str(tmp_path), [], "vaettir", "services: {}")["docker_api"] is there


def test_a_server_without_docker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = _stack.collect(str(tmp_path), [1], "vaettir", "services: {}")
    assert found["docker"] == {"installed": False, "version": "", "min_api": "", "error": "there is no docker command"}
    assert (found["traefik"]["status"], found["compose"], found["routers"]) == ("", {"version": ""}, [])


@pytest.mark.parametrize("name", ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"])
def test_every_name_of_a_compose_file_is_looked_for(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("services: {}\n", encoding="ascii")
    assert _stack.of_folder(str(tmp_path))["compose_files"] == [name]


def test_agents_that_are_deployed(tmp_path: Path) -> None:
    (tmp_path / "agents").mkdir()
    for name in ("second.yml", "ocapistaine.yml", "offline.yml", "second.yml~"):
        (tmp_path / "agents" / name).touch()
    assert _stack.agents(str(tmp_path)) == ["ocapistaine", "second"]
