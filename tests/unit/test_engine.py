# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A second container of one service: compose's own definition, cut down and put under the project's name."""

from __future__ import annotations

from typing import Any

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import _containers, _docker, _engine, _release

MODEL: dict[str, Any] = {
    "name": "vaettir",
    "networks": {"default": {"name": "vaettir_default", "ipam": {}}, "db": {"name": "their_db", "external": True}},
    "services": {
        "a": {
            "build": {"context": "/x"},
            "depends_on": {"b": {"condition": "service_started"}},
            "image": "vaettir-a:proxy",
            "networks": {"default": None},
            "profiles": ["proxy"],
        },
        "b": {"image": "b", "environment": {"SECRET": "x"}},
    },
    "volumes": {"a-cache": {"name": "vaettir_a-cache"}},
}
MADE: dict[str, Any] = {
    "Id": "0123456789abcdef",
    "Name": "/vaettir-next-a-1",
    "Config": {
        "Hostname": "0123456789ab",
        "Image": "vaettir-a:proxy",
        "Env": ["A=1"],
        "Labels": {
            "com.docker.compose.project": "vaettir-next",
            "com.docker.compose.project.config_files": "-",
            "com.docker.compose.project.working_dir": "/home/deploy/vaettir",
            "com.docker.compose.config-hash": "other",
            "com.docker.compose.image": "sha256:new",
            "com.docker.compose.service": "a",
            "traefik.enable": "true",
        },
    },
    "HostConfig": {"NetworkMode": "vaettir_default", "Memory": 1},
    "NetworkSettings": {
        "Networks": {
            "vaettir_default": {
                "Aliases": ["vaettir-next-a-1", "a", "0123456789ab"],
                "IPAMConfig": None,
                "MacAddress": "02:42:ac:18:00:03",
                "NetworkID": "1",
            },
            "their_db": {"Aliases": None, "DriverOpts": {"x": "y"}},
        }
    },
}
OLD = {
    "com.docker.compose.project": "vaettir",
    "com.docker.compose.project.config_files": "/home/deploy/vaettir/docker-compose.yml",
    "com.docker.compose.project.working_dir": "/home/deploy/vaettir",
}


def test_alone() -> None:
    cut = _engine.alone(MODEL, "a", "vaettir-next")
    assert cut == {
        "name": "vaettir-next",
        "services": {"a": {"image": "vaettir-a:proxy", "networks": {"default": None}, "pull_policy": "never"}},
        "networks": {
            "default": {"name": "vaettir_default", "external": True},
            "db": {"name": "their_db", "external": True},
        },
        "volumes": {"a-cache": {"name": "vaettir_a-cache", "external": True}},
    }


def test_a_trial_is_confined_as_its_service_is() -> None:
    service = {
        "user": "1000:1001",
        "cap_drop": ["ALL"],
        "read_only": True,
        "tmpfs": ["/run:size=16m"],
        "pids_limit": 512,
        "mem_limit": "1073741824",
        "volumes": [
            {"type": "bind", "source": "/srv/releases/a", "target": "/etc/vaettir/releases"},
            {"type": "volume", "source": "a-assets", "target": "/var/cache/vaettir"},
            {"type": "volume", "target": "/run/vaettir"},
        ],
    }
    assert _engine.confinement(service) == [
        *("--user=1000:1001", "--cap-drop=ALL", "--pids-limit=512", "--memory=1073741824", "--read-only"),
        *("--tmpfs=/run:size=16m", "--tmpfs=/var/cache/vaettir", "--tmpfs=/run/vaettir"),
    ]
    assert _engine.confinement({"image": "of an earlier release"}) == []


def test_volumes_that_no_up_has_made(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, ...]] = []
    monkeypatch.setattr(_docker, "checked", lambda *words: asked.append(words))
    mounts = [{"type": "volume", "source": "a-assets"}, {"type": "volume"}, {"type": "volume", "source": "theirs"}]
    volumes = {"a-assets": {"name": "vaettir_a-assets"}, "theirs": {"name": "x", "external": True}}
    _engine.ensure_volumes({"name": "vaettir", "services": {"a": {"volumes": mounts}}, "volumes": volumes}, "a")
    labels = ("--label=com.docker.compose.project=vaettir", "--label=com.docker.compose.volume=a-assets")
    assert asked == [("volume", "create", *labels, "vaettir_a-assets")]


def test_no_second_one_of_a_fixed_name() -> None:
    services = {"a": {"container_name": "x"}}
    with pytest.raises(_docker.DockerError, match="container_name"):
        _engine.alone({"services": services}, "a", "vaettir-next")


def test_create_body() -> None:
    body = _engine.create_body(MADE, OLD, "hash", "vaettir-a-1")
    assert body["Labels"] == {
        **OLD,
        "com.docker.compose.config-hash": "hash",
        "com.docker.compose.container-number": "1",
        "com.docker.compose.image": "sha256:new",
        "com.docker.compose.service": "a",
        "traefik.enable": "true",
    }
    assert "Hostname" not in body
    assert (body["Image"], body["Env"]) == ("vaettir-a:proxy", ["A=1"])
    assert body["HostConfig"] == MADE["HostConfig"]
    assert body["NetworkingConfig"]["EndpointsConfig"] == {
        "vaettir_default": {"Aliases": ["vaettir-a-1", "a"]},
        "their_db": {"Aliases": ["vaettir-a-1"], "DriverOpts": {"x": "y"}},
    }


def test_a_hostname_of_the_services_own_stays() -> None:
    made = {**MADE, "Config": {**MADE["Config"], "Hostname": "proxy"}}
    assert _engine.create_body(made, OLD, "hash", "vaettir-a-1")["Hostname"] == "proxy"


@pytest.mark.parametrize("known", [True, False])
def test_networks_are_joined_one_by_one(monkeypatch: pytest.MonkeyPatch, known: bool) -> None:
    calls: list[tuple[str, str, Any]] = []

    def request(method: str, path: str, body: Any = None) -> Any:
        calls.append((method, path, body))
        return {"Id": "new"}

    monkeypatch.setattr(_engine, "request", request)
    body = _engine.create_body(MADE, OLD, "hash", "vaettir-a-1")
    if not known:
        body["HostConfig"] = {"NetworkMode": "0" * 64}
    assert _engine.create("vaettir-a-1", body) == "new"
    (_post, created, first), (_also, joined, second) = calls
    assert created == "/containers/create?name=vaettir-a-1"
    assert list(first["NetworkingConfig"]["EndpointsConfig"]) == ["vaettir_default"]
    assert joined == "/networks/their_db/connect"
    assert second == {"Container": "new", "EndpointConfig": {"Aliases": ["vaettir-a-1"], "DriverOpts": {"x": "y"}}}


@pytest.mark.parametrize(
    ("log", "reason"),
    [
        ("", "it says nothing"),
        ("one\n  two\n\n", "two"),
        ("agent-proxy: X is not valid.\nlater\n", "X is not valid."),
        (
            "nginx: [emerg] unknown directive\nnginx: configuration file test failed\n",
            "nginx: [emerg] unknown directive",
        ),
    ],
)
def test_reason(log: str, reason: str) -> None:
    assert _containers.reason(log) == reason


def test_last_line() -> None:
    text = "docker: Error response from daemon: network x not found.\nSee 'docker run --help'.\n"
    assert _docker.last_line(text) == "docker: Error response from daemon: network x not found."
    assert _docker.last_line("\n") == ""
    text = "Error response from daemon: OCI runtime create failed: x\nError: failed to start containers: 0123abcd\n"
    assert _docker.last_line(text) == "Error response from daemon: OCI runtime create failed: x"


LOST = "failed to create task for container: OCI runtime create failed: runc create failed: read init-p: unknown"


@pytest.mark.parametrize(
    ("answers", "calls", "error"),
    [
        ([""], 1, ""),
        ([LOST, ""], 2, ""),
        ([LOST, LOST], 2, LOST),
        (["no such network"], 1, "no such network"),
        ([LOST, "no such network"], 2, "no such network"),
    ],
)
@pytest.mark.parametrize("makes", [False, True])
def test_a_start_gets_a_second_try(
    monkeypatch: pytest.MonkeyPatch, answers: list[str], calls: int, error: str, makes: bool
) -> None:
    said, starts = list(answers), []

    def act(*words: str) -> None:
        starts.append(words)
        if said[0]:
            raise _docker.DockerError(said.pop(0))

    monkeypatch.setattr(_engine, "request", act)
    if error:
        with pytest.raises(_docker.DockerError, match=error):
            _engine.start("x", act if makes else None)
    else:
        _engine.start("x", act if makes else None)
    assert len(starts) == calls
    assert [words for words in starts if words] == [("POST", "/containers/x/start")] * (calls - makes)


NO_SHELL = (
    "OCI runtime exec failed: exec failed: unable to start container process: "
    'exec: "/bin/sh": stat /bin/sh: no such file or directory: unknown\n'
)


def test_an_image_without_a_shell_has_no_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an owner's may be; what the runtime lost is another matter, and nothing to build an image for."""
    monkeypatch.setattr(_docker, "docker", lambda *_words, **_more: (126, NO_SHELL, ""))
    assert _containers.state("x") == _release.State()
    monkeypatch.setattr(_docker, "docker", lambda *_words, **_more: (126, f"OCI runtime exec failed: {LOST}\n", ""))
    with pytest.raises(_docker.DockerError, match="OCI runtime exec failed"):
        _containers.state("x")


@pytest.mark.parametrize(
    ("answers", "calls"),
    [
        ([(0, "x", "")], 1),
        ([(1, "", "no such container")], 1),
        ([(126, "OCI runtime exec failed: read init-p\n", ""), (0, "x", "")], 2),
        ([(1, "", "Error response from daemon: OCI runtime exec failed: read init-p"), (0, "", "")], 2),
        ([(126, "OCI runtime exec failed: read init-p\n", "")] * 2, 2),
        ([(126, NO_SHELL, "")], 1),
    ],
)
def test_a_command_gets_a_second_try(
    monkeypatch: pytest.MonkeyPatch, answers: list[tuple[int, str, str]], calls: int
) -> None:
    left = list(answers)
    monkeypatch.setattr(_docker, "docker", lambda *_words, **_more: left.pop(0))
    assert _containers.execute("x", "true") == answers[-1]
    assert len(answers) - len(left) == calls
