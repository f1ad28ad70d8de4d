# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What the server knows of a chain is told whatever its files are; what is asked, and what is not asked again."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.plugins.action import ActionBase
from ansible_collections.locki.vaettir.plugins.action import agent_diagnosis as control_node
from ansible_collections.locki.vaettir.plugins.module_utils import (
    _diagnosis,
    _docker,
    _facts,
    _files,
    _probe,
    _questions,
    _release,
    _visitor,
)
from ansible_collections.locki.vaettir.plugins.modules import agent_diagnosis
from ansible_collections.locki.vaettir.plugins.plugin_utils import _call

from .docker_command import Docker, container
from .module_run import run_module
from .recorded import load

SECRET = "a-secret-of-the-tunnel"
TARGET = "http://127.0.0.1:1"
ORIGIN = "https://ocapistaine.example.org"
AGENT = {
    "name": "ocapistaine",
    "target_url": TARGET,
    "domain": "ocapistaine.example.org",
    "public_origin": ORIGIN,
    "probe_path": "/_stcore/stream",
    "max_body_size": "201m",
    "tunnel_secret": SECRET,
}
COMPLETE = {name: AGENT.get(name, option.get("default", "")) for name, option in _questions.OPTIONS.items()}
STATE = "/bin/sh /usr/local/bin/agent-proxy state"


def answered(reason: str = "ok", status: int = 101) -> dict[str, Any]:
    return {**_probe.nothing(), "reason": reason, "status": status, "timings": {"handshake": 1.0}}


class Hops:
    """In place of _probe.ask: the answer by the beginning of the URL; what it is asked is kept."""

    def __init__(self, **answers: dict[str, Any]) -> None:
        self.answers, self.asked = answers, list[dict[str, Any]]()

    def __call__(self, url: str, **options: Any) -> dict[str, Any]:
        self.asked.append({"url": url, **options})
        verified = "https" if options.get("verify", True) else "routed"
        return self.answers.get(verified if url.startswith(ORIGIN) else url.split("/")[2], answered())

    def of(self, begin: str) -> list[dict[str, Any]]:
        return [one for one in self.asked if one["url"].startswith(begin)]


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> Hops:
    made = Hops()
    monkeypatch.setattr(_probe, "ask", made)
    return made


@pytest.fixture
def docker(monkeypatch: pytest.MonkeyPatch) -> Docker:
    says = {
        STATE: (0, "release=\ndraining=0\n", ""),
        "getent": (0, "127.0.0.1 STREAM\n", ""),
        "bash": (100, "", ""),
        "nginx -v": (0, "", "nginx version: nginx/1.30.6"),
        "traefik version": (0, "Version:      3.7.15\n", ""),
    }
    env = [f"OCAPISTAINE_TARGET_URL={TARGET}"]
    made = Docker(container("vaettir-ocapistaine-1", "ocapistaine", env=env), container("vaettir-traefik-1"), says=says)
    monkeypatch.setattr(_docker, "docker", made)
    return made


def test_files_that_cannot_be_read_are_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    conf = "proxy-configs/ocapistaine.conf.template"
    (tmp_path / "proxy-configs").mkdir()
    (tmp_path / _files.STATE_DIR).mkdir()
    (tmp_path / conf).write_text("events {}\n", encoding="utf-8")
    _files.Manifest(str(tmp_path)).add(conf, b"events {}\n")
    store = _release.Store(str(tmp_path), "ocapistaine")
    release = store.create({conf: Path(conf).name}, {"image": ""}, 0)
    Path(store.path("current")).write_text(_release.Current(release).text(), encoding="ascii")
    (tmp_path / conf).unlink()
    # Docker makes directories for mounted files that are not there.
    for path in (conf, ".env", "agents/ocapistaine.yml", "traefik/dynamic/own.yml"):
        (tmp_path / path).mkdir(parents=True)
    monkeypatch.setenv("PATH", str(tmp_path))  # no docker
    found = _facts.gather(str(tmp_path), "vaettir", COMPLETE)["found"]
    assert found["error"] == "there is no docker command"
    assert found["env"] == {"target": ""}
    assert (found["gone"], found["edited"], found["fragment_edited"]) == ([conf], [], False)
    assert found["traefik"] == {}
    told = run_module(agent_diagnosis, capsys, root=str(tmp_path), agents=[AGENT])
    assert not told.get("failed"), told
    assert told["agents"] == []  # a server without Docker has no chain
    assert told["stack"]["docker"]["installed"] is False


def test_a_writer_hears_of_them(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        _files.read_bytes(str(tmp_path))
    assert _files.readable(str(tmp_path)) is None


def test_every_hop_is_asked_once(tmp_path: Path, docker: Docker, hops: Hops) -> None:
    made = _facts.gather(str(tmp_path), "vaettir", COMPLETE, "/authority.pem")
    found, probes = made["found"], made["probes"]
    assert (found["target"], found["reach"], found["resolved"]["by"]) == (TARGET, "connected", "container")
    assert (found["container"]["nginx"], found["container"]["target"]) == ("1.30.6", TARGET)
    assert (found["traefik"]["version"], found["traefik"]["name"]) == ("3.7.15", "vaettir-traefik-1")
    assert {name for name, answer in probes.items() if answer} == {"tunnel", "nginx", "traefik"}
    (tunnel,) = hops.of(TARGET)
    assert tunnel["headers"]["X-Vaettir-Secret"] == SECRET
    (nginx,) = hops.of("http://ocapistaine.example.org/")
    assert (nginx["address"], nginx["upload"]) == ("172.19.0.5", _questions.UPLOAD)
    (traefik,) = hops.of(ORIGIN)
    assert (traefik["address"], traefik["http2"], traefik["ca_path"]) == ("127.0.0.1", True, "/authority.pem")
    assert SECRET not in json.dumps(made)
    assert len(docker.asked) <= 10  # each is a process on the server


def test_what_is_known_is_not_asked_again(tmp_path: Path, docker: Docker, hops: Hops) -> None:
    known = {"nginx": answered("offline", 503), "traefik": answered("tls_pending", 0), "declared": {}}
    trial = container("vaettir-ocapistaine-trial", "ocapistaine", env=["OCAPISTAINE_TARGET_URL=http://127.0.0.2:1"])
    docker.containers[trial["Id"]] = trial
    made = _facts.gather(str(tmp_path), "vaettir", COMPLETE, container=trial, probes=known)
    assert made["found"]["container"]["name"] == "vaettir-ocapistaine-trial"
    assert made["found"]["target"] == "http://127.0.0.2:1"
    assert made["probes"]["nginx"] == known["nginx"]
    assert made["probes"]["routed"]["reason"] == "ok"
    assert [one.get("verify", True) for one in hops.of(ORIGIN)] == [False]
    assert hops.of("http://ocapistaine.example.org/") == hops.of(TARGET) == []


@pytest.mark.parametrize(("reason", "declared"), [("ok", False), ("refused", True)])
@pytest.mark.usefixtures("docker")
def test_the_declared_tunnel_is_asked_where_the_active_one_is_silent(
    tmp_path: Path, hops: Hops, reason: str, declared: bool
) -> None:
    hops.answers["127.0.0.1:1"] = answered(reason)
    agent = {**COMPLETE, "target_url": "http://127.0.0.3:1"}
    probes = _facts.gather(str(tmp_path), "vaettir", agent)["probes"]
    assert bool(probes["declared"]) is bool(hops.of("http://127.0.0.3:1")) is declared


@pytest.mark.usefixtures("docker")
def test_a_certificate_that_is_not_accepted_is_looked_behind(tmp_path: Path, hops: Hops) -> None:
    hops.answers["https"] = answered("tls_expired", 0)
    probes = _facts.gather(str(tmp_path), "vaettir", COMPLETE)["probes"]
    assert (probes["traefik"]["reason"], probes["routed"]["reason"]) == ("tls_expired", "ok")


@pytest.mark.parametrize(
    ("said", "reach"),
    [
        ((100, "", ""), "connected"),
        ((101, "", "bash: connect: No route to host\nbash: /dev/tcp/1/2: No route to host"), "No route to host"),
        ((224, "", ""), "no connection within 5 s"),
        ((127, "", "OCI runtime exec failed"), ""),  # no bash
        ((1, "", "Error response from daemon: container is not running"), ""),
    ],
)
@pytest.mark.usefixtures("hops")
def test_reach(tmp_path: Path, docker: Docker, said: tuple[int, str, str], reach: str) -> None:
    docker.says["bash"] = said
    assert _facts.gather(str(tmp_path), "vaettir", COMPLETE)["found"]["reach"] == reach


@pytest.mark.parametrize(
    ("answers", "told"),
    [
        ([], ""),
        ([{"told": "refused"}, {"told": "refused"}], "refused"),
        ([{"told": "refused"}, {"status": 200}], ""),
        ([{"late": True}], ""),
    ],
)
def test_a_container_whose_visitors_meet_nobody(answers: list[dict[str, Any]], told: str) -> None:
    assert _facts.no_way([_visitor.seen("page", **one) for one in answers]) == told


@pytest.mark.usefixtures("docker")
def test_one_agents_failure_is_none_of_the_others(
    tmp_path: Path, hops: Hops, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(url: str, **options: Any) -> dict[str, Any]:
        if "broken" in url:
            raise ValueError("ca_path /x cannot be used: gone.")
        return hops(url, **options)

    monkeypatch.setattr(_probe, "ask", ask)
    broken = {**AGENT, "name": "broken", "public_origin": "https://broken.example.org"}
    told = run_module(agent_diagnosis, capsys, root=str(tmp_path), agents=[broken, AGENT])
    assert told["agents"][0] == {"name": "broken", "failed": "ca_path /x cannot be used: gone."}
    assert told["agents"][1]["found"]["release"] == ""
    assert SECRET not in json.dumps(told)


def test_questions() -> None:
    settings = {**COMPLETE, "ca_certificate": "/on/the/control/node.pem", "drain": "window"}
    del settings["ca_file"]
    asked = _questions.asked(settings)
    assert set(asked) == set(_questions.OPTIONS)
    assert asked["ca_file"] == "proxy-configs/ocapistaine.ca.pem"
    told = _questions.described(asked, "server1", "vaettir", "acme")
    assert (told["tunnel_secret"], told["server"]) == (True, "server1")
    assert SECRET not in json.dumps(told)
    assert set(load("healthy")["agent"]) <= set(told)
    stream = {**COMPLETE, "probe_path": "", "stream_path": "/events"}
    assert (_questions.path(stream), _questions.foreign_origin(stream)) == ("/events", "")
    assert (_questions.upgrade(stream), _questions.upgrade(COMPLETE)) == (False, True)
    assert _questions.tunnel_headers(COMPLETE, "https://a.example:8443")["X-Forwarded-Host"] == "a.example:8443"
    assert _questions.forms(stream, False) == ["*/*", "text/event-stream"]
    assert _questions.forms(COMPLETE, True) == ["application/json", "text/html"]


@pytest.mark.parametrize(
    ("size", "bytes_"), [("201m", 2 << 20), ("2M", 2 << 20), ("1g", 2 << 20), ("1m", 0), ("500k", 0), ("2000", 0)]
)
def test_upload(size: str, bytes_: int) -> None:
    assert _questions.upload({**COMPLETE, "max_body_size": size}) == bytes_
    assert _questions.upload({**COMPLETE, "max_body_size": size, "maintenance": True}) == 0


# --- The control node -------------------------------------------------------------------------------------------------


@pytest.fixture
def diagnose(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The action plugin, with what its call of the module brings."""

    def run(called: _call.Called, **more: Any) -> dict[str, Any]:
        settings = {**COMPLETE, "ca_certificate": "", "from_outside": True}
        args = {"root": "~/vaettir", "agents": [settings], "names": ["ocapistaine"], "address": "127.0.0.1", **more}
        monkeypatch.setattr(ActionBase, "run", lambda *_words: {})
        monkeypatch.setattr(_call, "call", lambda *_words: called)
        plugin = object.__new__(control_node.ActionModule)
        plugin._task = SimpleNamespace(args=args)
        made: dict[str, Any] = plugin.run(task_vars={"inventory_hostname": "server1"})
        return made

    return run


def healthy() -> dict[str, Any]:
    recorded = load("healthy")
    entry = {"name": "ocapistaine", "found": recorded["found"], "probes": recorded["probes"]}
    return {"stack": {**recorded["stack"], "agents": ["ocapistaine", "other"]}, "agents": [entry]}


def test_a_chain_that_works(diagnose: Any, hops: Hops) -> None:
    made = diagnose(_call.Called(healthy()))
    (one,) = made["diagnoses"]
    assert (one["agent"], one["server"]) == ("ocapistaine", "server1")
    assert made["others"] == ["other"]
    # as a visitor, and the tunnel
    assert {question["url"] for question in hops.asked} == {f"{ORIGIN}/_stcore/stream", f"{TARGET}/_stcore/stream"}
    assert SECRET not in json.dumps(made)


def test_the_tunnel_is_asked_from_here_for_a_server_that_does_not_get_there(
    diagnose: Any, hops: Hops, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[dict[str, Any]] = []

    def diagnosis(facts: dict[str, Any]) -> dict[str, str]:
        seen.append(facts)
        return {"hop": "", "rule": ""}

    monkeypatch.setattr(_diagnosis, "diagnosis", diagnosis)
    result = healthy()
    result["agents"][0]["probes"]["tunnel"] = {**answered("refused", 0), "timings": {}}
    settings = {
        **COMPLETE,
        "ca_certificate": "",
        "from_outside": True,
        "target_url": result["agents"][0]["found"]["target"],
    }
    diagnose(_call.Called(result), agents=[settings])
    assert len(hops.of("https://ocapistaine.ngrok-free.app/")) == 1
    assert seen[0]["probes"]["elsewhere"] == answered()
    result["agents"][0]["found"]["target"] = "https://other.ngrok-free.app"  # nobody asked that one
    diagnose(_call.Called(result), agents=[settings])
    assert seen[1]["probes"]["elsewhere"] == {}


def test_nothing_is_asked_from_outside_where_it_is_not_wanted(diagnose: Any, hops: Hops) -> None:
    settings = {**COMPLETE, "ca_certificate": "", "from_outside": False}
    diagnose(_call.Called(healthy()), agents=[settings])
    assert hops.asked == []


@pytest.mark.parametrize("settles", [True, False])
def test_who_answers_otherwise_from_outside_is_asked_again(
    diagnose: Any, monkeypatch: pytest.MonkeyPatch, settles: bool
) -> None:
    """The two were asked at moments of their own."""
    answers = [answered("no_route", 404), answered() if settles else answered("no_route", 404)]
    waits = []

    def ask(url: str, **options: Any) -> dict[str, Any]:
        waits.append(options["timeout"])
        return answers.pop(0) if url.startswith(ORIGIN) else answered()

    monkeypatch.setattr(_probe, "ask", ask)
    monkeypatch.setattr(_visitor, "visit", lambda *_words: [])
    monkeypatch.setattr(control_node, "addresses", lambda _host: ["127.0.0.1"])
    (one,) = diagnose(_call.Called(healthy()))["diagnoses"]
    assert answers == []
    assert max(waits[2:]) <= _visitor.PATIENT + 1  # the second round is short, and each of its answers counts
    assert (one["broken"], one["rule"] == "public_other") == ((False, False) if settles else (True, True))


@pytest.mark.usefixtures("hops")
@pytest.mark.parametrize(
    ("called", "rule"),
    [
        (_call.Called(unreachable="Connection refused"), "server_unreachable"),
        (_call.Called(failed="no Python"), "server_failed"),
        (_call.Called({"stack": {"docker": {"installed": False}}, "agents": []}), "docker_missing"),
        (_call.Called({**healthy(), "agents": [{"name": "ocapistaine", "failed": "boom"}]}), "server_failed"),
    ],
)
def test_a_server_that_cannot_be_asked(diagnose: Any, called: _call.Called, rule: str) -> None:
    (one,) = diagnose(called)["diagnoses"]
    assert (one["broken"], one["hop"], one["rule"]) == (True, "server", rule)


@pytest.mark.usefixtures("hops")
def test_settings_that_are_not_valid(diagnose: Any) -> None:
    wrong = {"names": ["wrong", "ocapistaine"], "errors": {"wrong": "set it."}}
    wrong_one, other = diagnose(_call.Called(healthy()), **wrong)["diagnoses"]
    assert (wrong_one["rule"], other["agent"]) == ("settings", "ocapistaine")
    (only,) = diagnose(_call.Called(healthy()), **wrong, only=["ocapistaine"])["diagnoses"]
    assert only["agent"] == "ocapistaine"
    assert diagnose(_call.Called(unreachable="gone"), **wrong)["diagnoses"][0]["rule"] == "server_unreachable"
