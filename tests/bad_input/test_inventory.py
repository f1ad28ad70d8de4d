# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What a person may get wrong in the inventory or on the command line: refused before anything happens."""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.rig import playbook, snapshot

from . import stand

SECRET = "hunter2-very-secret"


@dataclass(frozen=True)
class Case:
    id: str
    extra: dict[str, Any]
    parts: tuple[str, ...]
    secret: str = ""
    playbook: str = stand.DEPLOY
    options: tuple[str, ...] = field(default=())


def agents(*entries: Any) -> dict[str, Any]:
    return {"vaettir_agents": list(entries)}


def one(**settings: Any) -> dict[str, Any]:
    return agents({"name": "ocapistaine", **settings})


def url(word: str, value: Any, shown: str | None = None, secret: str = "") -> Case:
    parts = ("target_url of agent ocapistaine", repr(value)[1:-1] if shown is None else shown, "https://HOST")
    return Case(f"url-{word}", one(target_url=value), parts, secret)


def name(word: str, value: Any, *parts: str) -> Case:
    return Case(f"name-{word}", agents({"name": value}), ("agent name", *(parts or (f"'{value}'",))))


def setting(key: str, value: Any, *parts: str) -> Case:
    shown = (f"{key} of agent ocapistaine", *(parts or (f"'{value}'",)))
    return Case(f"setting-{key}-{value!r}"[:60], one(**{key: value}), shown)


def variable(key: str, value: Any, *parts: str, **more: Any) -> Case:
    return Case(f"{key}-{value!r}"[:60], {key: value, **more}, (key, *(parts or (f"'{value}'",))))


def known(word: str, extra: dict[str, Any], *parts: str) -> Case:
    return Case(f"known-{word}", extra, (*parts, "to fix it: ", "to go on all the same, add "))


# One of each way from a value to its sentence; every rule's own values are judged by the unit tests.
CASES = [
    name("newline", "agent\nx", r"'agent\nx'"),
    name("template", "${IFS}"),
    name("number", 7),
    name("reserved", "traefik", "'traefik' is reserved", "choose another"),
    Case("agent-unknown", {"agent": "nosuch"}, ("agent 'nosuch'", "vaettir_agents", "ocapistaine")),
    Case("agent-list", {"agent": ["ocapistaine"]}, ("agent is a list", "use text")),
    Case("remove-reserved", {"agent": "traefik"}, ("'traefik' is reserved",), playbook=stand.REMOVE),
    Case("remove-nothing-named", {}, ("agent is not set", "-e agent="), playbook=stand.REMOVE),
    url("newline", "https://a.example\nX: y", r"https://a.example\nX: y"),
    url("dollar", "https://$host"),
    url("password", f"https://user:{SECRET}@a.example", "https://***@a.example", SECRET),
    url("token-in-query", f"https://a.example/?token={SECRET}", "https://a.example/?***", SECRET),
    setting("target_url", ["https://a.example"], "is a list", "use text"),
    Case("domain-missing", {"vaettir_domain": ""}, ("domain of agent ocapistaine is missing", "set vaettir_domain")),
    setting("domain", "a.example`) || Host(`b.example"),
    Case(
        "setting-extra-domain",
        one(extra_domains=["b b.example"]),
        ("extra_domains of agent ocapistaine 'b b.example'",),
    ),
    setting("read_timeout", math.inf, "'inf'", "a whole number"),
    setting("base_image", "nginx latest\nRUN evil", r"'nginx latest\nRUN evil'"),
    setting("base_image", 1.30, "'1.3'", "use text"),
    setting("maintenance", "perhaps", "'perhaps'", "true or false"),
    Case("role-variable", {"agent_proxy_read_timeout": "long"}, ("read_timeout of agent ocapistaine 'long'",)),
    Case("setting-unknown", one(colour="red"), ("agent ocapistaine", "unknown settings colour", "target_url")),
    Case("agents-blank-forgotten", one(**{f"tunnel_secret:{SECRET}": None}), ("unknown settings tunnel_secret***",)),
    Case(
        "agents-dict",
        {"vaettir_agents": {"name": "a", "tunnel_secret": SECRET}},
        ("vaettir_agents is a dictionary, not a list",),
    ),
    Case(
        "entry-string",
        agents(f"name: a, tunnel_secret: {SECRET}"),
        ("entry 1 of vaettir_agents is text, not a dictionary",),
    ),
    Case("entry-null", agents({"name": "a"}, None), ("entry 2 of vaettir_agents is null, not a dictionary",)),
    Case("entry-name-list", agents({"name": ["a"]}), ("agent name is a list",)),
    Case(
        "entries-same-domain-one-deployed",
        {**agents({"name": "a", "extra_domains": ["x.example"]}, {"name": "b", "domain": "x.example"}), "agent": "b"},
        ("domain 'x.example' of agent a is agent b's too",),
    ),
    # Of 0.1.0
    Case(
        "gone-agent",
        {"agent_proxy_agent": {"name": "ocapistaine"}},
        ("agent_proxy_agent is gone", "put the agent into agent_proxy_agents"),
    ),
    Case("gone-break_lock", one(break_lock=True), ("break_lock of agent ocapistaine is gone", "leave it out")),
    variable("stack_discord_invite_url", f"https://user:{SECRET}@discord.gg/x", "'https://***@discord.gg/x'"),
    variable("stack_acme_email", "a@b\n- evil", r"'***@b\n- evil'", stack_tls="acme"),
    variable("stack_traefik_image", "traefik:v3\nprivileged: true", r"'traefik:v3\nprivileged: true'"),
    variable("stack_traefik_read_timeout", math.inf, "'inf'", "a whole number"),
    variable("stack_dir", "/srv/../etc"),
    variable("stack_tls_ca", "/proc/self/environ", "'/proc/self/environ'", "PEM file"),
    variable("stack_tls_certificate", "/nowhere/cert.pem"),
    variable(
        "stack_tls_key", stand.GOOD["stack_tls_key"].replace("public.", "edge."), "is not the key of", "PEM files"
    ),
    variable("stack_https_port", 8080, "'8080'", "stack_http_port"),
    variable("stack_https_port", None, "is empty"),
    variable("vaettir_hosts", {"tunnel_secret": SECRET}, "is a dictionary", "use a group"),
    variable("release", ["x"], "is a list", "use text"),
    Case("serial", {"vaettir_serial": "abc"}, ("vaettir_serial 'abc'", "numbers of servers")),
    # localhost has no part in it then
    Case("serial-limit", {"vaettir_serial": "abc"}, ("vaettir_serial 'abc'",), options=("--limit", stand.SERVER)),
    # What the diagnosis would find afterwards
    known(
        "traefik", {"stack_traefik_image": "traefik:v3.3.0"}, "Traefik v3.3.0", "stack_insist=traefik_broken_version`"
    ),
    known(
        "nginx-of-two",
        agents(
            {"name": "one", "base_image": "nginx:1.27.3"},
            {"name": "two", "base_image": "nginx:1.26"},
            {"name": "three"},
        ),
        "older than 1.27.4 (1.27.3)",
        "base_image of agent one to nginx:",
        "base_image of agent two to nginx:",
        "stack_insist=nginx_old`",
    ),
]


@pytest.fixture(scope="module")
def runs(server: str, request: pytest.FixtureRequest) -> dict[str, playbook.Run]:
    """All selected cases, several at once: none of them may reach anything they could disturb one another by."""
    functions = [item for item in request.session.items if isinstance(item, pytest.Function)]
    values = [value for item in functions if hasattr(item, "callspec") for value in item.callspec.params.values()]
    cases = [value for value in values if isinstance(value, Case)]
    before = snapshot.take(server)

    def one_run(number: int) -> playbook.Run:
        case = cases[number]
        extra = {"stack_dir": f"{stand.FOLDER}-{number}", **case.extra}
        return playbook.run(case.playbook, *case.options, extra=extra)

    with ThreadPoolExecutor(max(2, os.cpu_count() or 2)) as pool:
        found = dict(zip([case.id for case in cases], pool.map(one_run, range(len(cases))), strict=True))
    assert stand.difference(before) == []
    return found


@pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
def test_refused_before_anything_changes(case: Case, runs: dict[str, playbook.Run]) -> None:
    stand.refused(runs[case.id], *case.parts, secret=case.secret or SECRET)


def test_every_case_has_a_name_of_its_own() -> None:
    assert len({case.id for case in CASES}) == len(CASES)


@pytest.mark.usefixtures("server")
def test_no_server(tmp_path: Path) -> None:
    inventory = tmp_path / "hosts.json"
    stand.write_inventory(inventory, groups=["elsewhere"])
    done = run_with(inventory)
    stand.refused(done, "vaettir_hosts", "'vaettir'", "group vaettir")


def run_with(inventory: Path) -> playbook.Run:
    known = os.environ["MOLECULE_INVENTORY_FILE"]
    os.environ["MOLECULE_INVENTORY_FILE"] = str(inventory)
    try:
        return playbook.run(stand.DEPLOY)
    finally:
        os.environ["MOLECULE_INVENTORY_FILE"] = known
