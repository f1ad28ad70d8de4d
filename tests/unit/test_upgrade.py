# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Traefik is started by a deploy, and replaced by an upgrade that undoes itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _curl, _docker, _names, _upgrade
from ansible_collections.locki.vaettir.plugins.modules import traefik

from .docker_command import Said, container
from .module_run import run_module

READER, TRAEFIK = "vaettir-docker-api-1", "vaettir-traefik-1"
OLD, NEW = "services: {old: {}}\n", "services: {new: {}}\n"
BUSY = "Error response from daemon: OCI runtime create failed: runc did not answer"
AGENTS = [{"label": name, "url": f"https://{name}.example/"} for name in ("a", "b")]
GOOD = {"a": "ok", "b": "no_route"}  # what visitors get before the upgrade


class Server:
    """Docker and the agents' answers; `compose` is what each `up` says, in turn."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.capsys = root, capsys
        self.runs = {TRAEFIK: "Traefik's first start", READER: "the reader's first start"}
        self.compose: list[Said] = []
        self.answers = [GOOD, GOOD]  # to the handshakes, before and after
        self.acts: list[str] = []
        self.has_image, self.health = True, "healthy"
        (root / ".locki").mkdir()
        (root / ".locki" / "traefik.yml").write_text(OLD, encoding="ascii")
        (root / "docker-compose.yml").write_text(NEW, encoding="ascii")
        monkeypatch.setattr(_docker, "docker", self.docker)
        monkeypatch.setattr(_curl, "try_all", self.try_all)

    def docker(self, *words: str, **_more: Any) -> Said:
        if words[:3] == ("inspect", "--type", "image"):
            return (0, '[{"Id": "an image"}]', "") if self.has_image else (1, "", "no such image")
        if words[0] == "inspect":
            found = container(words[3])
            found["State"].update(StartedAt=self.runs.get(words[3], ""), Health={"Status": self.health})
            return (0, json.dumps([found]), "") if words[3] in self.runs else (1, "", "no such container")
        if words[0] == "logs":
            return 0, "", "\x1b[31mit cannot bind port 443\x1b[0m\n"
        self.acts.append(" ".join(words))
        if words[0] != "compose":
            return 0, "", ""
        said = self.compose.pop(0) if self.compose else (0, "", "")
        if said[0] == 0 and ("--no-recreate" not in words or f"vaettir-{words[-1]}-1" not in self.runs):
            self.runs[f"vaettir-{words[-1]}-1"] = f"start {len(self.acts)}"
        return said

    def try_all(self, wanted: list[dict[str, Any]], _patience: float) -> list[dict[str, Any]]:
        given = self.answers.pop(0)
        return [{"reason": given[one["label"]], "error": f"got {given[one['label']]}"} for one in wanted]

    def text(self, path: str) -> str:
        return (self.root / path).read_text(encoding="ascii")

    def __call__(self, state: str = "started", check: bool = False) -> Any:
        more = {"image": "traefik:v3.7.15", "handshakes": AGENTS} if state == "upgraded" else {}
        return run_module(traefik, self.capsys, check, root=str(self.root), state=state, **more)


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Server:
    return Server(tmp_path, monkeypatch, capsys)


def test_a_stopped_one_is_started_and_remembered(server: Server) -> None:
    server.runs = {}
    assert server()["changed"]
    (act,) = server.acts
    assert act.endswith(" traefik")
    assert "--no-recreate" not in act
    assert server.text(".locki/traefik.yml") == NEW


@pytest.mark.parametrize("health", ["healthy", "starting"])
def test_a_running_one_stays(server: Server, health: str) -> None:
    server.health = health
    server()
    waits = [] if health == "healthy" else ["traefik"]
    assert [act.rsplit(" ", 1)[-1] for act in server.acts] == ["docker-api", *waits]
    assert all("--no-recreate" in act for act in server.acts[1:])
    assert server.text(".locki/traefik.yml") == OLD, "it runs as it was made"


@pytest.mark.parametrize(
    ("state", "runs", "changed"), [("started", True, False), ("started", False, True), ("upgraded", True, True)]
)
def test_check_mode_touches_nothing(server: Server, state: str, runs: bool, changed: bool) -> None:
    server.runs = server.runs if runs else {}
    assert server(state, check=True)["changed"] is changed
    assert server.acts == []


def test_a_busy_runtime_gets_a_second_try(server: Server) -> None:
    server.compose = [(1, "", BUSY)]
    assert server("upgraded")["changed"]
    assert len(server.acts) == 2


def test_an_upgrade(server: Server) -> None:
    server.has_image = False
    folder = server.root / "traefik" / "acme"
    folder.mkdir(parents=True)
    (folder / "acme.json").touch()
    assert server("upgraded")["changed"]
    assert [act.split()[0] for act in server.acts] == ["pull", "cp", "compose"]
    assert server.acts[1].endswith("~")
    assert "--force-recreate" in server.acts[2]
    assert server.text(".locki/traefik.yml") == NEW


@pytest.mark.parametrize(
    ("compose", "after", "why"),
    [
        ([(1, "", "container vaettir-traefik-1 is unhealthy")], GOOD, "traefik did not start: container vaettir-tr"),
        ([], {**GOOD, "a": "no_route"}, "not every agent answers through the new Traefik: a: got no_route."),
    ],
)
def test_what_fails_is_undone(server: Server, compose: list[Said], after: dict[str, str], why: str) -> None:
    server.compose, server.answers = compose, [GOOD, after]
    told = server("upgraded")
    assert told["msg"].startswith(why)
    assert told["msg"].endswith("The previous Traefik serves. Last words of the new one: it cannot bind port 443")
    assert "--file .locki/traefik.yml --project-directory ." in server.acts[-1]
    assert server.text("docker-compose.yml") == OLD


def test_what_was_broken_before_may_stay_so(server: Server) -> None:
    server.answers = [GOOD, {"a": "offline", "b": "no_route"}]
    assert server("upgraded")["changed"]


def test_no_way_back(server: Server) -> None:
    server.compose = [(1, "", "the new one fails"), (1, "", "the previous one fails, too")]
    told = server("upgraded")["msg"]
    assert "There is no way back to the previous one (traefik did not start: the previous one fails, too)" in told
    assert server.text("docker-compose.yml") == NEW


def test_the_owners_services_are_read_for_the_way_back(server: Server) -> None:
    (server.root / _names.OVERRIDE).touch()
    server.compose = [(1, "", "the new one fails")]
    server("upgraded")
    assert f"--file {_upgrade.PREVIOUS} --file {_names.OVERRIDE}" in server.acts[-1]


@pytest.mark.parametrize(
    ("users", "container", "gone"),
    [
        (f"{READER} {TRAEFIK}", True, [READER, TRAEFIK, "vaettir_docker-api", "vaettir_default"]),
        (f"{READER} {TRAEFIK}", False, [READER, "vaettir_docker-api"]),
        (f"{READER} {TRAEFIK} wiki", True, [READER, TRAEFIK, "vaettir_docker-api"]),
    ],
)
@pytest.mark.parametrize("check", [False, True])
def test_a_removal(
    server: Server, monkeypatch: pytest.MonkeyPatch, users: str, container: bool, gone: list[str], check: bool
) -> None:
    listed = {
        ("ps", "network=vaettir_default"): users,
        ("ps", "label=com.docker.compose.project=vaettir"): f"{TRAEFIK} {READER} vaettir-one-1",
        ("volume", ""): "vaettir_docker-api other_docker-api",
        ("network", "label=com.docker.compose.project=vaettir"): "vaettir_default",
    }
    acts = []

    def docker(*words: str, **_more: Any) -> Said:
        if "rm" in words:
            acts.append(words[-1])
        chosen = words[words.index("--filter") + 1] if "--filter" in words else ""
        return 0, listed.get((words[0], chosen), ""), ""

    monkeypatch.setattr(_docker, "docker", docker)
    told = run_module(traefik, server.capsys, check, root=str(server.root), state="absent", container=container)
    assert (told["changed"], told["removed"]) == (True, gone)
    assert acts == ([] if check else gone)
