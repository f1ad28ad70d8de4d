# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A server as it was recorded before a deploy, and one thing at a time that is known to break."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.locki.vaettir.plugins.module_utils import _chain, _diagnosis
from ansible_collections.locki.vaettir.plugins.module_utils._foreseen import findings, foreseen

from .recorded import changed, load

ROOT = Path(__file__).parents[2]
RECORDED = load("server")
DOMAIN = RECORDED["agent"]["domain"]
COMMAND = RECORDED["server"]["wanted"]["command"]
BEFOREHAND = {rule.id: rule.beforehand for rule in _diagnosis.RULES if rule.beforehand}
RIVAL = {"name": "r", "rule": f"Host(`{DOMAIN}`)", "container": "rival", "agent": "", "enable": "true"}
ROUTERS = RECORDED["server"]["stack"]["routers"]
UPGRADE = "set stack_traefik_image to traefik:v3.7.15, and `ansible-playbook locki.vaettir.upgrade_traefik`"
NGINX_OLD = (f"nginx:1.26@sha256:{'0' * 64}", "nginx:1.26", "nginx:1.27.3-alpine", "x.example/nginx:1.9.5")
NGINX_GOOD = ("nginx:1.27", "nginx:1.27.4", "nginx:stable-alpine3.20", "nginx", "nginx:1", "me/nginx-and-more:1.0.0")
TRAEFIK_BROKEN = ("v2.11.17", "3.2.4", "v3.3.0", "v3.3.0@sha256:0123")
TRAEFIK_GOOD = (
    *("traefik", "traefik:latest", "traefik:v3", "traefik:v3.6", "traefik:v2.11"),
    *("x.example:5000/traefik:v3.7.15", "10.0.0.5:3000/traefik", "me/my-traefik:v3.3.0"),
)
ELSEWHERE = {"server.resolved": {DOMAIN: ["198.51.100.1"]}, "server.addresses": ["203.0.113.7"]}


def facts(changes: dict[str, Any]) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    made = changed(RECORDED, changes)
    return made["server"], [made["agent"]]


def rules(changes: dict[str, Any]) -> list[str]:
    return [one["rule"] for one in findings(*facts(changes))]


def slow(command: list[str]) -> list[str]:
    return [word.replace("readtimeout=0", "readtimeout=60") for word in command]


FOUND: list[tuple[str, dict[str, Any]]] = [
    ("disk_full", {"server.stack.disk_free": 0}),
    ("disk_full", {"server.stack.inodes_free": 0}),
    ("disk_low", {"server.stack.disk_free": 100 << 20}),
    ("clock_wrong", {"server.stack.time": RECORDED["server"]["stack"]["time"] + 3600}),
    ("clock_wrong", {"server.stack.time": RECORDED["server"]["stack"]["time"] - 3600}),
    *(("nginx_old", {"agent.base_image": image}) for image in NGINX_OLD),
    *(("traefik_broken_version", {"server.wanted.image": f"traefik:{tag}"}) for tag in TRAEFIK_BROKEN),
    ("traefik_broken_version", {"server.stack.traefik.version": "v3.3.0"}),
    ("traefik_http2", {"server.stack.traefik.godebug": "gctrace=1,http2xconnect=1"}),
    ("traefik_engine", {"server.wanted.image": "traefik:v3.6.0", "server.stack.docker.min_api": "1.44"}),
    ("traefik_engine", {"server.wanted.image": "traefik:v3.5", "server.stack.docker.min_api": "1.44"}),
    ("traefik_engine", {"server.stack.traefik.version": "v2.11.30", "server.stack.docker.min_api": "1.44"}),
    (
        "traefik_engine",
        {"server.wanted.image": "traefik:v3.6.0", "server.stack.docker": {"version": "29.0.1", "min_api": ""}},
    ),
    ("traefik_read_timeout", {"server.wanted.command": slow(COMMAND)}),
    ("traefik_read_timeout", {"server.stack.traefik.command": slow(COMMAND)}),
    ("router_twice", {"server.stack.routers": [*ROUTERS, RIVAL]}),
    ("router_twice", {"server.stack.routers": [{**RIVAL, "agent": "another", "container": "vaettir-another-1"}]}),
    (
        "router_twice",
        {"server.stack.routers": [{**RIVAL, "rule": "Host(`x.example`)"}], "agent.domains": [DOMAIN, "x.example"]},
    ),
    ("dns_none", {"server.resolved": {DOMAIN: []}}),
    ("dns_elsewhere", ELSEWHERE),
]


@pytest.mark.parametrize(("rule", "changes"), FOUND)
def test_it_is_foreseen(rule: str, changes: dict[str, Any]) -> None:
    assert rules(changes) == [rule]
    made = foreseen(*facts(changes), [])
    told = f"{made['error']} {made['warnings']}"
    assert bool(made["error"]) == (BEFOREHAND[rule] == _chain.STOP), told
    assert not {"{", "}"} & set(told)
    assert not told.count("-e agent=`"), told


def test_every_rule_that_is_known_beforehand_is_tried() -> None:
    assert BEFOREHAND.keys() == {name for name, _changes in FOUND}


def test_a_person_may_insist_on_every_rule_that_stops() -> None:
    specs = yaml.safe_load((ROOT / "roles/stack/meta/argument_specs.yml").read_text(encoding="utf-8"))
    choices = specs["argument_specs"]["main"]["options"]["stack_insist"]["choices"]
    assert sorted(choices) == sorted(name for name, word in BEFOREHAND.items() if word == _chain.STOP)


HEALTHY: dict[str, dict[str, Any]] = {
    "as recorded": {},
    "its own name": {**ELSEWHERE, "server.addresses": ["198.51.100.1"]},
    "behind NAT": {"server.resolved": {DOMAIN: ["9.9.9.9"]}, "server.addresses": ["192.168.1.7"]},
    "an engine that lets old ones in": {
        "server.wanted.image": "traefik:v3.6.0",
        "server.stack.docker": {"version": "29.0.1", "min_api": "1.24"},
    },
    "an engine that is not there yet": {
        "server.wanted.image": "traefik:v3.6.0",
        "server.stack.docker": {"installed": False, "version": "", "min_api": ""},
    },
    "extended CONNECT switched off": {
        "server.stack.traefik.version": "v3.3.0",
        "server.stack.traefik.godebug": "http2xconnect=0",
    },
    "a broken one that does not run": {
        "server.stack.traefik.version": "v3.3.0",
        "server.stack.traefik.status": "exited",
    },
    "an upgrade of a broken one": {"server.stack.traefik.version": "v3.3.0", "server.stays": False},
    "the owner's image": {"server.wanted": {}, "agent.base_image": "nginx:1.26"},
    "a container that Traefik ignores": {"server.stack.routers": [{**RIVAL, "enable": ""}]},
    "another path of the name": {"server.stack.routers": [{**RIVAL, "rule": f"{RIVAL['rule']} && PathPrefix(`/api`)"}]},
    "its own container by name": {"server.stack.routers": [{**RIVAL, "container": "vaettir-ocapistaine-1"}]},
    **{image: {"server.wanted.image": image, "server.stack.docker.min_api": "1.44"} for image in TRAEFIK_GOOD},
    **{image: {"agent.base_image": image} for image in NGINX_GOOD},
}


@pytest.mark.parametrize("name", HEALTHY)
def test_no_false_alarm(name: str) -> None:
    assert rules(HEALTHY[name]) == []


def test_agents_of_one_run_may_swap_their_names() -> None:
    other = {**RECORDED["agent"], "name": "other", "domains": ["x.example"]}
    router = {**RIVAL, "agent": "other", "container": "vaettir-other-1"}
    server, agents = facts({"server.stack.routers": [*ROUTERS, router]})
    assert [one["rule"] for one in findings(server, agents)] == ["router_twice"]
    assert findings(server, [*agents, other]) == []


def test_the_sentence_names_what_mends_it_and_how_to_insist() -> None:
    changes = {"server.wanted.image": "traefik:v3.3.0", "server.stack.docker.min_api": "1.44"}
    made = foreseen(facts(changes)[0], [], "disk_low")
    assert made["warnings"] == []
    assert made["error"] == (
        "server1: Traefik is too old for the Docker Engine (v3.3.0 with Docker Engine 26.1.5+dfsg1): "
        f"it sees no container; to fix it: {UPGRADE}; "
        "Traefik v3.3.0 advertises WebSockets over HTTP/2 and breaks them: curl works, browsers do not; "
        f"to fix it: {UPGRADE}; "
        "to go on all the same, add `-e stack_insist=disk_low,traefik_engine,traefik_broken_version`."
    )


@pytest.mark.parametrize("insist", ["nginx_old", ["nginx_old"], "disk_low,nginx_old"])
def test_who_insists_is_warned(insist: Any) -> None:
    server, agents = facts({"agent.base_image": "nginx:1.26"})
    made = foreseen(server, agents, insist)
    assert made["error"] == ""
    assert made["warnings"] == [
        (
            "server1: nginx is older than 1.27.4 (1.26), and does not know all that the conf says (nginx_old, "
            "insisted). To fix it: set base_image of agent ocapistaine to nginx:1.30.6, "
            "and `ansible-playbook locki.vaettir.deploy_agent -e agent=ocapistaine`."
        )
    ]


def test_what_is_wrong_with_the_server_is_told_once_and_not_of_each_agent() -> None:
    server, agents = facts({"server.wanted.image": "traefik:v3.3.0"})
    for deployed in ([], agents, agents * 2):
        assert len(foreseen(server, deployed, ["traefik_broken_version"])["warnings"]) == 1


def test_what_is_left_empty_stops_nothing() -> None:
    server, agents = facts({"server.wanted": {"image": "traefik:v3.7.15"}})
    assert foreseen(server, agents, None) == {"error": "", "warnings": []}
