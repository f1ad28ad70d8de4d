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


CASES = [
    name("upper-case", "Ocapistaine"),
    name("too-long", "a" * 32),
    name("leading-digit", "1agent"),
    name("trailing-dash", "agent-"),
    name("underscore", "my_agent"),
    name("dot", "my.agent"),
    name("space", "my agent"),
    name("path", "../evil"),
    name("newline", "agent\nx", r"'agent\nx'"),
    name("trailing-newline", "agent\n", r"'agent\n'"),
    name("template", "${IFS}"),
    name("not-ascii", "ocapistaïne", r"'ocapista\xefne'"),
    name("number", 7),
    name("reserved", "traefik", "'traefik' is reserved", "choose another"),
    name("reserved-project", "vaettir", "'vaettir' is reserved"),
    Case("agent-unknown", {"agent": "nosuch"}, ("agent 'nosuch'", "vaettir_agents", "ocapistaine")),
    Case("agent-empty", {"agent": ""}, ("agent ''", "vaettir_agents")),
    Case("agent-list", {"agent": ["ocapistaine"]}, ("agent is a list", "use text")),
    Case("remove-reserved", {"agent": "traefik"}, ("'traefik' is reserved",), playbook=stand.REMOVE),
    Case("remove-path", {"agent": "../.env"}, ("agent name '../.env'",), playbook=stand.REMOVE),
    Case("remove-nothing-named", {}, ("agent is not set", "-e agent="), playbook=stand.REMOVE),
    url("space", "https://a b.example"),
    url("quote", "https://a'b.example", "https://a'b.example"),
    url("double-quote", 'https://a"b.example'),
    url("newline", "https://a.example\nX: y", r"https://a.example\nX: y"),
    url("trailing-newline", "https://a.example\n", r"https://a.example\n"),
    url("semicolon", "https://a.example;return 200"),
    url("brace", "https://a.example{}"),
    url("dollar", "https://$host"),
    url("backtick", "https://`id`.example"),
    url("password", f"https://user:{SECRET}@a.example", "https://***@a.example", SECRET),
    url("password-with-slash", f"https://user:{SECRET}/x@a.example", "***@a.example", SECRET),
    url("password-with-at", f"https://user:a@{SECRET}@a.example", "***@a.example", SECRET),
    url("password-without-scheme", f"user:{SECRET}@a.example", "***@a.example", SECRET),
    url("token-in-query", f"https://a.example/?token={SECRET}", "https://a.example/?***", SECRET),
    url("path", "https://a.example/app"),
    url("query", "https://a.example?x=1", "https://a.example?***"),
    url("scheme", "ftp://a.example"),
    url("no-scheme", "a.example"),
    url("no-host", "https://"),
    url("port-0", "https://a.example:0"),
    url("port-70000", "https://a.example:70000"),
    setting("target_url", ["https://a.example"], "is a list", "use text"),
    Case("domain-missing", {"vaettir_domain": ""}, ("domain of agent ocapistaine is missing", "set vaettir_domain")),
    Case(
        "domain-parent-invalid",
        {"vaettir_domain": "under_score.example"},
        ("parent_domain of agent ocapistaine 'under_score.example'",),
    ),
    setting("domain", "Upper.Example"),
    setting("domain", "localhost"),
    setting("domain", "a.example`) || Host(`b.example"),
    setting("domain", "https://a.example"),
    setting("domain", "a.example:8443"),
    setting("domain", "a..example"),
    setting("domain", f"{'a.' * 130}example", "domain of agent ocapistaine 'a.a."),
    setting("extra_origins", ["*"], "'*'", "https://app.example.org"),
    Case(
        "setting-extra-domain",
        one(extra_domains=["b b.example"]),
        ("extra_domains of agent ocapistaine 'b b.example'",),
    ),
    setting("profile", "django", "'django'", "streamlit, gradio"),
    setting("origin_mode", "any", "'any'", "rewrite, preserve"),
    setting("public_port", 70000),
    setting("public_port", "https", "'https'", "a whole number"),
    setting("read_timeout", "1h", "'1h'", "a whole number"),
    setting("read_timeout", 0, "'0'", "from 1 to"),
    setting("max_body_size", "200 MB"),
    setting("max_body_size", "1m; return 200 x"),
    setting("worker_shutdown_timeout", "soon"),
    setting("cache_size", "256m evil"),
    setting("probe_path", "no-slash"),
    setting("stream_path", "no-slash?a=b", "'no-slash?***'"),
    setting("probe_path", "/a\"; return 200 'x"),
    setting("resolver", ["127.0.0.11; evil"], "'127.0.0.11; evil'"),
    setting("trusted_proxies", ["any"], "'any'", "172.16.0.0/12"),
    setting("base_image", "nginx latest\nRUN evil", r"'nginx latest\nRUN evil'"),
    setting("ca_certificate", "/nowhere/ca.pem", "'/nowhere/ca.pem'", "PEM file"),
    setting("maintenance", "perhaps", "'perhaps'", "true or false"),
    Case("role-variable", {"agent_proxy_read_timeout": "long"}, ("read_timeout of agent ocapistaine 'long'",)),
    Case("setting-unknown", one(colour="red"), ("agent ocapistaine", "unknown settings colour", "target_url")),
    Case("agents-string", {"vaettir_agents": "ocapistaine"}, ("vaettir_agents is text, not a list",)),
    Case(
        "agents-dict",
        {"vaettir_agents": {"name": "a", "tunnel_secret": SECRET}},
        ("vaettir_agents is a dictionary, not a list",),
    ),
    Case("agents-number", {"vaettir_agents": 1}, ("vaettir_agents is a number, not a list",)),
    Case(
        "entry-string",
        agents(f"name: a, tunnel_secret: {SECRET}"),
        ("entry 1 of vaettir_agents is text, not a dictionary",),
    ),
    Case("entry-null", agents({"name": "a"}, None), ("entry 2 of vaettir_agents is null, not a dictionary",)),
    Case("entry-without-name", agents({"profile": "n8n"}), ("entry 1 of vaettir_agents has no name",)),
    Case("entry-with-empty-name", agents({"name": ""}), ("entry 1 of vaettir_agents has no name",)),
    Case("entry-name-list", agents({"name": ["a"]}), ("agent name is a list",)),
    Case("entries-same-name", agents({"name": "a"}, {"name": "a"}), ("agent 'a' stands twice in vaettir_agents",)),
    Case(
        "entries-same-domain",
        agents({"name": "a"}, {"name": "b", "domain": "a.vaettir.localhost"}),
        ("domain 'a.vaettir.localhost' of agent a is agent b's too",),
    ),
    Case(
        "entries-same-domain-one-deployed",
        {**agents({"name": "a", "extra_domains": ["x.example"]}, {"name": "b", "domain": "x.example"}), "agent": "b"},
        ("domain 'x.example' of agent a is agent b's too",),
    ),
    Case(
        "agents-same-domain-by-variable",
        {**agents({"name": "a"}, {"name": "b"}), "agent_proxy_domain": "x.example"},
        ("domain 'x.example' of agent a is agent b's too",),
    ),
    # Of 0.1.0
    *(
        Case(f"gone-{name}", {f"agent_proxy_{name}": value}, (f"agent_proxy_{name} is gone", fix))
        for name, value, fix in (
            ("name", "ocapistaine", "put the agent into agent_proxy_agents"),
            ("agent", {"name": "ocapistaine"}, "put the agent into agent_proxy_agents"),
            ("lock_timeout", 60, "leave it out"),
            ("break_lock", True, "leave it out"),
        )
    ),
    *(
        Case(f"gone-setting-{name}", one(**{name: value}), (f"{name} of agent ocapistaine is gone", "leave it out"))
        for name, value in (("lock_timeout", 60), ("break_lock", True))
    ),
    variable("stack_discord_invite_url", "https://example.org/x", "'https://example.org/x'", "https://discord.gg/CODE"),
    variable("stack_discord_invite_url", 'https://discord.gg/"><script>'),
    variable("stack_discord_invite_url", f"https://user:{SECRET}@discord.gg/x", "'https://***@discord.gg/x'"),
    variable("stack_tls", "selfsigned", "'selfsigned'", "acme, files"),
    variable("stack_tls", "acme", "stack_acme_email ''", "e-mail address"),
    variable("stack_acme_email", "nobody", "'nobody'", stack_tls="acme"),
    variable("stack_acme_email", "a@b\n- evil", r"'***@b\n- evil'", stack_tls="acme"),
    variable("stack_acme_email", "a@b:", "'***@b:'", "e-mail address", stack_tls="acme"),
    variable("stack_acme_server", "javascript:alert(1)", "'javascript:alert(1)'", "use the directory URL"),
    variable("stack_acme_server", -1, "'-1'", "use the directory URL"),
    variable("stack_traefik_image", "traefik:v3\nprivileged: true", r"'traefik:v3\nprivileged: true'"),
    variable("stack_traefik_read_timeout", math.inf, "'inf'", "a whole number"),
    variable("stack_dir", "/srv/../etc"),
    variable("stack_tls_ca", "/proc/self/environ", "'/proc/self/environ'", "PEM file"),
    variable("vaettir_hosts", {"tunnel_secret": SECRET}, "is a dictionary", "use a group"),
    variable("release", ["x"], "is a list", "use text"),
    setting("read_timeout", math.inf, "'inf'", "a whole number"),
    setting("extra_domains", ["x.example", "x.example"], "'x.example' is there already", "keep it once"),
    setting("worker_shutdown_timeout", "1M", "'1M'", "from 1s to 30d"),
    setting("base_image", 1.30, "'1.3'", "use text"),
    setting("ca_certificate", "/proc/self/environ", "'/proc/self/environ'", "PEM file"),
    Case("agents-blank-forgotten", one(**{f"tunnel_secret:{SECRET}": None}), ("unknown settings tunnel_secret***",)),
    variable("stack_tls_certificate", "", "''", "PEM file"),
    variable("stack_tls_certificate", "/nowhere/cert.pem"),
    variable("stack_tls_key", "/nowhere/key.pem"),
    variable("stack_tls_key", "/etc"),
    variable("stack_tls_ca", "/nowhere/ca.pem"),
    variable("stack_tls_ca", "/nowhere/own.pem", stack_tls="acme", stack_acme_email="a@b.example"),
    variable("stack_acme_ca_certificate", "/nowhere/ca.pem", "PEM file"),
    variable(
        "stack_tls_key", stand.GOOD["stack_tls_key"].replace("public.", "edge."), "is not the key of", "PEM files"
    ),
    variable("stack_tls_key", stand.GOOD["stack_tls_ca"], "is not the key of", "without a password"),
    variable("stack_http_port", "abc", "'abc'", "a whole number"),
    variable("stack_http_port", 0),
    variable("stack_https_port", 70000),
    variable("stack_https_port", 8080, "'8080'", "stack_http_port"),
    variable("stack_https_port", None, "is empty"),
    variable("stack_install_docker", "perhaps", "'perhaps'", "true or false"),
    variable("stack_traefik_log_level", "LOUD", "'LOUD'", "DEBUG"),
    variable("stack_insist", "everything", "'everything'", "disk_full, "),
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
            {"name": "one", "base_image": "nginx:1.27.2"},
            {"name": "two", "base_image": "nginx:1.26"},
            {"name": "three"},
        ),
        "older than 1.27.3 (1.27.2)",
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
