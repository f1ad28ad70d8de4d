# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The report of a run that stopped: who was lost, who was not reached, and what continues."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible_collections.locki.vaettir.plugins.callback import report
from ansible_collections.locki.vaettir.plugins.plugin_utils import _rollout

from .test_report import BAD, ROW

DEFAULT = ["inventories/demo"]


def server(name: str, *agents: str, **more: Any) -> _rollout.Server:
    return _rollout.Server(name, agents=list(agents), **more)


def outcomes(*servers: _rollout.Server) -> list[tuple[str, str, str]]:
    return [(row["server"], row["agent"], row["outcome"]) for one in servers for row in one.rows()]


def test_each_agent_of_each_server() -> None:
    done = server("a")
    done.note("release", {"agents": [ROW]})
    lost = server("b", "one", "two", lost="connect to host b port 22: No route to host", failed="a task failed")
    bad = server("c", "one", failed="stack_https_port 443 is taken\nby apache: stop it.")
    assert outcomes(done, lost, bad, server("d", "one"), server("e")) == [
        ("demo", "one", "released"),
        ("b", "one", "lost"),
        ("b", "two", "lost"),
        ("c", "one", "failed"),
        ("d", "one", "not reached"),
        ("e", "", "not reached"),
    ]
    assert [row["message"] for row in lost.rows()] == [
        "b was lost (connect to host b port 22: No route to host): nothing unverified stays active there.",
        "",
    ]
    assert bad.rows()[0]["message"] == "stack_https_port 443 is taken by apache: stop it."


def test_what_curl_contradicted() -> None:
    found = server("a")
    found.note("release", {"agents": [ROW]})
    found.note("curl", {"results": [BAD]})
    found.note("release", {"agents": [{**ROW, "release": "20261128T201000Z"}]})
    assert found.rows()[0]["outcome"] == "rolled back"


def test_a_server_that_is_lost_after_its_release() -> None:
    found = server("a", released=[ROW], lost="Connection closed")
    assert outcomes(found) == [("demo", "one", "released"), ("a", "", "lost")]
    assert not _rollout.whole(found.rows())


def test_results_of_other_modules_are_none_of_it() -> None:
    found = server("a")
    found.note("", {"agents": [ROW]})
    found.note("release", {"failed": True, "msg": "x"})
    assert found.released is None


def test_the_command_comes_last_and_only_where_something_is_left() -> None:
    rows = [*server("a", released=[ROW]).rows(), *server("b", "one").rows()]
    assert not _rollout.whole(rows)
    lines = _rollout.lines(rows, "ansible-playbook deploy-agent.yml")
    assert lines[2] == "b       one    not reached  -                    -                 -"
    assert lines[-1].endswith("continues, and leaves alone what is done: ansible-playbook deploy-agent.yml")
    assert _rollout.whole(rows[:1])
    assert "continues" not in " ".join(_rollout.lines(rows[:1], ""))


@pytest.mark.parametrize(
    ("given", "command"),
    [
        ({"extra_vars": ("agent=a,b",)}, "deploy-agent.yml -e agent=a,b"),
        ({"extra_vars": ("agent=a", "agent=b c=d")}, "deploy-agent.yml -e agent=b (and the same c)"),
        ({"extra_vars": ("report_file=x",), "subset": "b,c"}, "deploy-agent.yml -l b,c"),
        ({"inventory": ["my hosts"]}, "-i 'my hosts' deploy-agent.yml"),
        ({"check": True, "diff": True, "subset": ""}, "deploy-agent.yml --check --diff"),
        (
            {"extra_vars": ('{"stack_secret": "hunter2", "agent": "one"}', "secret=hunter3")},
            "deploy-agent.yml -e agent=one (and the same secret, stack_secret)",
        ),
        ({"extra_vars": ("{secret: !unsafe '{{ hunter2'}",)}, "deploy-agent.yml (and the same secret)"),
        ({"extra_vars": ("@vars.yml", "agent=a")}, "deploy-agent.yml -e @vars.yml -e agent=a"),
    ],
)
def test_the_command(given: dict[str, Any], command: str) -> None:
    made = _rollout.again({"inventory": DEFAULT, "args": ("deploy-agent.yml",), **given}, DEFAULT)
    assert made == f"ansible-playbook {command}"
    assert "hunter" not in made


@pytest.mark.parametrize(
    ("agents", "only", "names"),
    [
        ([{"name": "a"}, {"name": "b"}], None, ["a", "b"]),
        ([{"name": "a"}, {"name": "b"}], "b,c", ["b"]),
        ("nonsense", None, []),
        (["nonsense", {}], None, [""]),
    ],
)
def test_names(agents: Any, only: Any, names: list[str]) -> None:
    assert _rollout.names(agents, only) == names


# --- the callback -----------------------------------------------------------------------------------------------------


class Inventory:
    def __init__(self, names: str, chosen: str) -> None:
        self.hosts = {name: SimpleNamespace(name=name) for name in names}
        group = SimpleNamespace(get_hosts=lambda: [host for host in self.hosts.values() if host.name in chosen])
        others = SimpleNamespace(get_hosts=lambda: [host for host in self.hosts.values() if host.name not in chosen])
        self.groups = {report.GROUP: group, report.SKIPPED: others} if chosen else {}

    def get_host(self, name: str) -> Any:
        return self.hosts[name]


def result(name: str, action: str, task: dict[str, Any] | None = None, **found: Any) -> Any:
    host = SimpleNamespace(get_name=lambda: name)
    return SimpleNamespace(host=host, task=SimpleNamespace(action=action, vars=task or {}), result=found)


class Run:
    """Of two servers, a and b, and localhost."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, chosen: str, **extra: Any) -> None:
        self.said = ""
        variables = {"vaettir_agents": [{"name": "one"}, {"name": "two"}], "agent": "two"}
        manager = SimpleNamespace(
            _inventory=Inventory("ab", chosen), extra_vars=extra, get_vars=lambda **_where: dict(variables)
        )
        monkeypatch.setattr("ansible.context.CLIARGS", {"args": ("deploy-agent.yml",), "extra_vars": ("agent=two",)})
        self.callback = report.CallbackModule()
        self.callback._display = SimpleNamespace(display=self.say)
        self.callback.v2_playbook_on_play_start(SimpleNamespace(get_variable_manager=lambda: manager))

    def say(self, text: str) -> None:
        self.said += text

    def ends(self) -> str:
        self.callback.v2_playbook_on_stats(None)
        return self.said


def test_a_rollout_that_lost_a_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    run = Run(monkeypatch, "ab", report_file=str(tmp_path / "report.json"))
    run.callback.v2_runner_on_unreachable(result("a", report.RELEASE, msg="Connection closed"))
    said = run.ends()
    assert "a       two    lost         -    -        -" in said
    assert "b       two    not reached  -    -        -" in said
    assert said.endswith("leaves alone what is done: ansible-playbook deploy-agent.yml -e agent=two")
    made = json.loads((tmp_path / "report.json").read_text())
    assert [row["outcome"] for row in made["agents"]] == ["lost", "not reached"]
    assert made["again"] == "ansible-playbook deploy-agent.yml -e agent=two"


def test_a_server_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, "ab")
    run.callback.v2_runner_on_failed(result("a", "ansible.builtin.assert", msg="a: no Docker."))
    run.callback.v2_runner_on_failed(result("b", "ansible.builtin.assert", msg="b: no curl."), ignore_errors=True)
    said = run.ends()
    assert "a       two    failed" in said
    assert "b       two    not reached" in said
    assert "a: no Docker." in said


def test_a_server_before_which_the_rollout_stops(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, "ab")
    run.callback.v2_runner_on_unreachable(result("a", report.RELEASE, msg="Connection closed"))
    stops = result("b", "ansible.builtin.assert", {report.NOT_REACHED: True}, msg="The rollout stops before b")
    run.callback.v2_runner_on_failed(stops)
    assert "b       two    not reached" in run.ends()


def test_a_run_that_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, "a")
    run.callback.v2_runner_on_ok(result("a", report.RELEASE, agents=[ROW]))
    run.callback.v2_runner_on_ok(result("a", report.CURL, results=[]))
    assert run.ends().splitlines()[-2:] == ["Skipped, since no agent of theirs was named: b.", ROW["message"]]


@pytest.mark.parametrize("said", ["ok", "failed"])
def test_a_run_that_released_nothing_has_no_report(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    run = Run(monkeypatch, "")
    if said == "failed":
        run.callback.v2_runner_on_failed(result("a", "ansible.builtin.assert", msg="agent 'x' is not declared"))
    assert run.ends() == ""


def diagnosed(agent: str, broken: bool) -> dict[str, Any]:
    findings = [{"hop": "app", "asked": "a page", "found": "500", "verdict": "broken" if broken else "ok"}]
    return {"sentence": f"{agent}'s sentence.", "broken": broken, "findings": findings}


def test_the_sentences_of_a_diagnosis_come_last(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, "")
    run.callback.v2_runner_on_ok(result("b", report.DIAGNOSIS, diagnoses=[diagnosed("three", False)]))
    run.callback.v2_runner_on_ok(
        result("a", report.DIAGNOSIS, diagnoses=[diagnosed("one", True), diagnosed("two", False)])
    )
    with pytest.raises(SystemExit) as end:
        run.ends()
    assert end.value.code == 2
    lines = run.said.strip().splitlines()
    assert [line.split() for line in lines[:3]] == [
        ["HOP", "ASKED", "FOUND", "VERDICT"],
        ["app", "a", "page", "500", "broken"],
        [],
    ]
    assert lines[3:] == ["one's sentence.", "two's sentence.", "three's sentence."]


def test_a_healthy_diagnosis_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, "")
    run.callback.v2_runner_on_ok(result("a", report.DIAGNOSIS, diagnoses=[diagnosed("one", False)]))
    assert run.ends() == "\none's sentence."


def test_a_status_ends_with_the_server_that_cannot_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    run = Run(monkeypatch, "")
    run.callback.v2_runner_on_ok(result("a", report.STATUS, problem=""))
    assert run.ends() == ""
    run.callback.v2_runner_on_ok(result("b", report.STATUS, problem="unreachable"))
    with pytest.raises(SystemExit):
        run.ends()
    assert run.said.strip() == "b cannot be asked (unreachable): fix that and ask again."
