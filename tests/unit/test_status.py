# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The status of a server's agents: one row each, whatever of it is there."""

from __future__ import annotations

import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase
from ansible_collections.locki.vaettir.plugins.action import agent_info as control_node
from ansible_collections.locki.vaettir.plugins.filter import status_table
from ansible_collections.locki.vaettir.plugins.module_utils import _docker, _probe, _release
from ansible_collections.locki.vaettir.plugins.modules import agent_info
from ansible_collections.locki.vaettir.plugins.plugin_utils import _call

from .docker_command import Docker, container
from .module_run import run_module

STATE = "/bin/sh /usr/local/bin/agent-proxy state"


def declared(*names: str) -> list[dict[str, str]]:
    origins = {name: f"https://{name}.example.org" for name in names}
    return [{"name": name, "url": f"{origin}/ws", "origin": origin} for name, origin in origins.items()]


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Docker:
    """Agents that run, that do not, that are the owner's, and that nobody declared."""
    (tmp_path / "agents").mkdir()
    for name in ("runs", "stopped", "strange", "offline"):
        (tmp_path / f"agents/{name}.yml").touch()
    made = Docker(
        container("vaettir-runs-1", "runs"),
        container("vaettir-stopped-1", "stopped", running=False),
        container("vaettir-owners-1"),
        says={STATE: (0, "draining=2\nmemory=23400000\n", "")},
    )
    monkeypatch.setattr(_docker, "docker", made)
    monkeypatch.setattr(_probe, "ask", lambda *_words, **_more: {**_probe.nothing(), "reason": "ok"})
    return made


def test_rows(docker: Docker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = _release.Store(str(tmp_path), "runs")
    release = store.create({}, {"image": "", "by": "me@laptop"}, time.time() - 90)
    store.note(release, verified="2026-11-23T01:30:09Z")
    Path(store.path("current")).write_text(_release.Current(release).text(), encoding="ascii")
    agents = declared("runs", "stopped", "owners", "new")
    rows = {row["agent"]: row for row in run_module(agent_info, capsys, root=str(tmp_path), agents=agents)["rows"]}
    assert list(rows) == ["runs", "stopped", "owners", "new", "strange"]
    assert 90 <= rows["runs"].pop("age") < 120
    assert rows["runs"].pop("released").endswith("Z")
    assert rows["runs"] == {
        "agent": "runs",
        "release": release,
        "by": "me@laptop",
        "verified": "2026-11-23T01:30:09Z",
        "busy": False,
        "image": "sha256:vaettir-runs-1",
        "container": "healthy",
        "draining": 2,
        "memory": 23400000,
        "tunnel": "ok",
    }
    words = {name: (row["container"], row["tunnel"]) for name, row in rows.items()}
    assert words["stopped"] == ("it is exited", "ok")
    assert words["owners"] == ("healthy", "ok")
    assert words["new"] == ("there is no container", "not deployed")
    assert words["strange"] == ("there is no container", "not declared")
    assert len(docker.asked) == 2 + 2  # the list, all containers, and each that runs
    only = run_module(agent_info, capsys, root=str(tmp_path), agents=agents, only=["strange"])["rows"]
    assert [row["agent"] for row in only] == ["strange"]


@pytest.mark.parametrize(
    ("reason", "state", "word"),
    [
        ("ok", "", "ok"),
        ("app_closed", "", "ok"),
        ("not_a_websocket", "", "ok"),
        ("unauthorized", "", "ok"),
        ("refused_origin", "", "ok"),
        ("offline", "offline", "offline"),
        ("app_down", "app", "offline (app)"),
        ("maintenance", "maintenance", "offline (maintenance)"),
        ("stopped", "stopped", "stopped"),
        ("no_route", "", "no_route"),
        ("tls_pending", "", "tls_untrusted"),
        ("unreachable", "", "refused"),
    ],
)
def test_the_tunnel_in_a_word(reason: str, state: str, word: str) -> None:
    assert agent_info.tunnel({"reason": reason, "state": state}) == word


@pytest.mark.usefixtures("docker")
def test_a_question_that_cannot_be_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(*_words: Any, **_more: Any) -> Any:
        raise ValueError("ca_path /x cannot be used: gone.")

    monkeypatch.setattr(_probe, "ask", ask)
    told = run_module(agent_info, capsys, root=str(tmp_path), agents=declared("runs"))
    assert told["msg"] == "ca_path /x cannot be used: gone."
    monkeypatch.setattr(_docker, "docker", lambda *_words, **_more: (1, "", "permission denied"))
    assert run_module(agent_info, capsys, root=str(tmp_path))["msg"] == "Docker: permission denied"


@pytest.mark.parametrize(
    ("called", "only", "words", "problem"),
    [
        (_call.Called(unreachable="Connection refused"), [], ["unreachable"], "unreachable"),
        (_call.Called(failed="Docker: no"), ["runs"], ["Docker: no"], "Docker: no"),
        (_call.Called({"rows": []}), [], ["no agents"], ""),
        (_call.Called({"rows": []}), ["nobody"], [], ""),
        (_call.Called({"rows": [{"agent": "runs", "container": "healthy"}]}), [], ["healthy"], ""),
    ],
)
def test_a_server_is_a_row(
    monkeypatch: pytest.MonkeyPatch, called: _call.Called, only: list[str], words: list[str], problem: str
) -> None:
    asked: list[Any] = []

    def call(*words: Any) -> _call.Called:
        asked.append(words[2])
        return called

    monkeypatch.setattr(ActionBase, "run", lambda *_words: {})
    monkeypatch.setattr(_call, "call", call)
    settings = {"name": "runs", "public_origin": "https://a.example", "probe_path": "", "tunnel_secret": "a-secret"}
    plugin = object.__new__(control_node.ActionModule)
    plugin._task = SimpleNamespace(args={"root": "~/vaettir", "agents": [settings], "only": only})
    made = plugin.run(task_vars={"inventory_hostname": "server1"})
    assert made["problem"] == problem
    assert [(row["server"], row["container"]) for row in made["rows"]] == [("server1", word) for word in words]
    told = {"name": "runs", "url": "https://a.example/", "origin": "https://a.example", "upgrade": False}
    assert asked[0]["agents"] == [told]
    assert set(status_table.COLUMNS) <= {"server", "container", "memory", *control_node.NOBODY}
