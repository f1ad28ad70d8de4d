# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What the role stack judges: a recorded server, and one thing at a time that is wrong with it or its variables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme
import yaml
from ansible_collections.locki.vaettir.plugins.filter import stack

from .recorded import changed, load
from .test_templates import NOT_JINJA

ROLE = Path(__file__).parents[2] / "roles" / "stack"
OPTIONS = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text(encoding="utf-8"))["argument_specs"]["main"][
    "options"
]
FOUND = load("server")["server"]["stack"]
SETTINGS: dict[str, Any] = {
    "server": "one",
    "project": "vaettir",
    "dir": "~/vaettir",
    "manage": True,
    "install": False,
    "packages": {"debian 13": ["docker.io", "docker-compose"]},
    "http_port": 8080,
    "https_port": 8443,
    "tunnel_port": 0,
    "tunnel_image": "vaettir-tunnel-ssh:1",
    "tls": "files",
    "traefik_stays": True,
    "remove_certificates": False,
}
OWNERS = {"project": "vaettir", "services": {"traefik": "traefik:v3"}, "built": [], "named": {}, "error": ""}
ADOPTED: dict[str, Any] = {"manage": False}
THEIRS: dict[str, Any] = {"compose_files": ["compose.yml"], "owners": OWNERS}
WRITTEN = ["docker-compose.yml", "agents.yml", "traefik/certs/key.pem"]
STOPPED = {"traefik.status": "exited", "traefik.health": ""}
DIFFERS = {"traefik.reasons": ["its compose service differs"]}


def error(changes: dict[str, Any], only: tuple[str, ...] = (), **settings: Any) -> str:
    return stack.server_error(changed(FOUND, changes), {**SETTINGS, **settings}, only)


def plan(changes: dict[str, Any], **settings: Any) -> dict[str, Any]:
    return stack.stack_plan(changed(FOUND, {"written": WRITTEN, **changes}), {**SETTINGS, **settings})


def test_its_settings_are_those_that_the_role_lists() -> None:
    role = yaml.safe_load((ROLE / "vars/main.yml").read_text(encoding="utf-8"))
    assert list(role["__stack_settings"]) == list(SETTINGS)
    assert stack.Settings(**SETTINGS)


@pytest.mark.parametrize(
    ("changes", "settings"),
    [
        ({}, {}),
        ({"compose.version": "2.20"}, {}),
        ({"docker.installed": False, "docker.version": ""}, {"install": True}),
        (THEIRS, ADOPTED),
        # A port that is taken is the owner's own Traefik's.
        ({**THEIRS, "taken_ports": [{"port": 8080, "by": "traefik"}]}, ADOPTED),
    ],
)
def test_fit_for_a_deploy(changes: dict[str, Any], settings: dict[str, Any]) -> None:
    assert error(changes, **settings) == ""


@pytest.mark.parametrize(
    ("changes", "settings", "parts"),
    [
        ({"docker.installed": False}, {}, ["Docker Engine is not installed on one: set stack_install_docker to true"]),
        (
            {"docker.installed": False, "distribution.version": "12"},
            {"install": True},
            ["stack_install_docker cannot serve one, which is 'debian 12'", "use debian 13."],
        ),
        (
            {"docker.version": "", "docker.error": "permission denied"},
            {},
            ["does not answer user deploy (permission denied)", "usermod -aG docker deploy"],
        ),
        ({"compose.version": "2.19.0"}, {}, ["Docker Compose on one is 2.19.0, and 2.20 or later"]),
        ({"compose.version": ""}, {}, ["Docker Compose on one is missing"]),
        (
            {"taken_ports": [{"port": 8080, "by": "nginx"}, {"port": 8443, "by": "container x"}]},
            {},
            ["one: stack_http_port 8080 is taken by nginx; stack_https_port 8443 is taken by container x: stop it"],
        ),
        ({"compose_files": ["compose.yml"]}, {}, ["has a compose.yml of its owner", "set stack_manage to false"]),
        ({}, ADOPTED, ["no compose file of its owner's that works (there is none)"]),
        ({**THEIRS, "owners": {**OWNERS, "error": "yaml: x"}}, ADOPTED, ["that works (yaml: x)"]),
        (
            {**THEIRS, "owners": {**OWNERS, "services": {"caddy": "caddy"}}},
            ADOPTED,
            ["compose.yml in /home/deploy/vaettir on one has no service 'traefik' (there are caddy)"],
        ),
        (
            {**THEIRS, "owners": {**OWNERS, "project": "web"}},
            ADOPTED,
            ["the compose project 'web'", "`name: vaettir`", "vaettir-AGENT-1"],
        ),
        ({"other_root": "/srv"}, {}, ["belongs to /srv already", "stack_dir is '~/vaettir'"]),
        ({"curl": False}, {}, ["curl is missing on one", "`sudo apt-get install curl`"]),
    ],
)
def test_server_is_refused(changes: dict[str, Any], settings: dict[str, Any], parts: list[str]) -> None:
    told = error(changes, **settings)
    assert [part for part in parts if part not in told] == [], told
    assert told.endswith(".")


def test_the_first_error_is_the_one_that_is_told() -> None:
    everything = {"docker.version": "", "compose.version": "", "curl": False, "other_root": "/srv"}
    assert "does not answer" in error(everything)
    assert "curl" in error(everything, only=("curl",))
    assert error({"curl": False}, only=("docker",)) == ""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("tls")
    leaf = trustme.CA().issue_cert("a.example")
    leaf.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    leaf.private_key_pem.write_to_path(folder / "key.pem")
    return {"stack_tls_certificate": str(folder / "cert.pem"), "stack_tls_key": str(folder / "key.pem")}


def errors(variables: dict[str, Any]) -> list[str]:
    values = {**{name: option["default"] for name, option in OPTIONS.items()}, **NOT_JINJA, **variables}
    paths = [Path(str(values[name])) for name in ("stack_tls_certificate", "stack_tls_key")]
    texts = [path.read_text(encoding="ascii") if path.is_file() else "" for path in paths]
    told = stack.stack_errors(values, OPTIONS)
    found = stack.stack_files_error(values) or stack.stack_files_error(values, *texts) if not told else ""
    return [*told, *([found] if found else [])]


def test_good_variables(files: dict[str, str]) -> None:
    assert errors({"stack_tls": "files", **files, "stack_http_port": "8080", "stack_discord_invite_url": ""}) == []
    assert errors({"stack_acme_email": "a@b.example"}) == []
    assert errors({"stack_manage": "false"}) == []  # whose Traefik asks for no address of ours


GOOD = {"stack_acme_email": "a@b.example"}


@pytest.mark.parametrize(
    ("variables", "part"),
    [
        ({"stack_http_port": "abc"}, "stack_http_port 'abc' is not valid: use a whole number."),
        ({"stack_https_port": None}, "stack_https_port is empty"),
        ({"stack_manage": "perhaps"}, "stack_manage 'perhaps' is not valid: use true or false."),
        ({"stack_dir": "vaettir"}, "stack_dir 'vaettir' is not a path on the server"),
        ({"stack_http_port": 0}, "stack_http_port '0' is not valid: use a TCP port"),
        ({"stack_https_port": "80"}, "stack_https_port '80' is stack_http_port as well"),
        ({"stack_discord_invite_url": "https://x.example"}, "'https://x.example' is not a Discord invite"),
        ({"stack_acme_email": ""}, "stack_acme_email '' is not an e-mail address"),
        ({"stack_acme_email": "a@b\n- evil"}, r"stack_acme_email '***@b\n- evil' is not"),
        ({"stack_tls": "files"}, "stack_tls_certificate '' is not a file on the control node"),
        ({"stack_tls_ca": "/nowhere/ca.pem"}, "stack_tls_ca '/nowhere/ca.pem' is not a file"),
        ({"stack_tls_ca": "/proc/self/environ"}, "stack_tls_ca '/proc/self/environ' is not a file"),
        ({"stack_tls_ca": "/etc/passwd"}, "stack_tls_ca '/etc/passwd' holds no certificate: set it to the path"),
        ({"stack_traefik_image": "traefik:v3\n    privileged: true"}, "stack_traefik_image '"),
        ({"stack_acme_server": "javascript:alert(1)"}, "stack_acme_server 'javascript:alert(1)' is not valid"),
        ({"stack_acme_server": -1}, "stack_acme_server '-1' is not valid"),
        ({"stack_traefik_read_timeout": float("inf")}, "stack_traefik_read_timeout 'inf' is not valid"),
        ({"stack_acme_ca_certificate": "/nowhere"}, "stack_acme_ca_certificate '/nowhere' is not a file"),
    ],
)
def test_variable_is_refused(variables: dict[str, Any], part: str) -> None:
    (told,) = errors({**GOOD, **variables})
    assert part in told
    assert told.endswith(".")


def test_key_of_another_certificate_is_refused(files: dict[str, str]) -> None:
    (told,) = errors({"stack_tls": "files", **files, "stack_tls_key": files["stack_tls_certificate"]})
    assert "is not the key of stack_tls_certificate" in told
    assert "the key without a password." in told


def test_every_mistake_is_told_at_once() -> None:
    assert len(errors({"stack_dir": "x", "stack_http_port": 0, "stack_https_port": 70000})) == 3


def test_a_healthy_server_has_nothing_to_do() -> None:
    made = plan({})
    assert (made["install"], made["start"], made["stays"], made["absent"]) == ([], False, "", [])
    assert (made["upgrade"], made["upgrade_why"]) == ("", "one: Traefik is as it should be, nothing to do.")


def test_packages_where_docker_is_missing() -> None:
    missing = {"docker.installed": False}
    assert plan(missing, install=True)["install"] == ["docker.io", "docker-compose"]
    assert plan(missing)["install"] == plan({}, install=True)["install"] == []


@pytest.mark.parametrize("changes", [STOPPED, {"traefik.health": "starting"}])
def test_traefik_is_started_or_waited_for(changes: dict[str, Any]) -> None:
    assert plan(changes)["start"] is True
    assert plan(changes, manage=False)["start"] is False


def test_traefik_stays_as_it_runs() -> None:
    assert plan(DIFFERS)["stays"] == (
        "one: Traefik's definition changed (its compose service differs), and it stays as it runs, since a new one "
        "drops every open WebSocket of the server: `ansible-playbook locki.vaettir.upgrade_traefik` "
        "replaces it."
    )
    assert plan({**DIFFERS, **STOPPED})["stays"] == ""
    assert plan(DIFFERS, traefik_stays=False)["stays"] == ""


def test_what_a_traefik_that_stays_cannot_serve() -> None:
    told = plan(DIFFERS, https_port=443, tls="acme")["stays"]
    assert "because it does not listen on port 443, and its certificates come the way of stack_tls=files." in told


def test_a_traefik_that_stays_keeps_its_certificate() -> None:
    assert plan({}, tls="acme")["absent"] == ["traefik/dynamic/tls.yml"]
    assert plan(DIFFERS, tls="acme")["absent"] == []
    assert plan(DIFFERS, tls="acme", traefik_stays=False)["absent"] == ["traefik/dynamic/tls.yml"]


@pytest.mark.parametrize(
    ("changes", "settings", "word", "part"),
    [
        (DIFFERS, {}, "replace", "is to be replaced: its compose service differs."),
        (STOPPED, {}, "start", "does not run, and is to be started."),
        ({**STOPPED, "written": []}, {}, "", "the first deploy starts it."),
        (STOPPED, ADOPTED, "", "Traefik is the owner's, nothing to do."),
    ],
)
def test_upgrade(changes: dict[str, Any], settings: dict[str, Any], word: str, part: str) -> None:
    made = plan(changes, **settings)
    assert made["upgrade"] == word
    assert part in made["upgrade_why"]


def test_removal_leaves_the_certificates_unless_told() -> None:
    assert plan({})["remove_files"] == WRITTEN[:2]
    assert plan({}, remove_certificates=True)["remove_files"] == WRITTEN
    assert plan({})["remove_traefik"] is True
    assert plan({"written": []})["remove_traefik"] is plan({"traefik.status": ""})["remove_traefik"] is False


AGENTS = [
    {"name": "a", "public_origin": "https://a.example", "probe_path": "/ws", "tunnel_secret": "s3cret"},
    {"name": "b", "public_origin": "https://b.example:8443", "probe_path": ""},
    {"name": "c", "public_origin": "https://c.example", "probe_path": ""},
]


RUNS = {
    "tunnel_ssh.there": True,
    "tunnel_ssh.status": "running",
    "tunnel_ssh.image": "vaettir-tunnel-ssh:1",
    "tunnel_ssh.ports": [2222],
}


@pytest.mark.parametrize(
    ("changes", "port", "tunnel", "stays"),
    [
        ({}, 0, "", ""),
        ({}, 2222, "start", ""),
        ({**RUNS, "tunnel_ssh.status": "exited"}, 2222, "start", ""),
        (RUNS, 2222, "", ""),
        (RUNS, 2223, "", "definition of the SSH server changed"),
        ({**RUNS, "tunnel_ssh.image": "vaettir-tunnel-ssh:0"}, 2222, "", "definition of the SSH server changed"),
        (RUNS, 0, "remove", ""),
        ({"tunnel_ssh.there": True}, 0, "remove", ""),  # somebody took the container away
        ({**RUNS, "tunnel_ssh.agents": ["a", "b"]}, 0, "", "stays, since laptops of a, b may still come"),
    ],
)
def test_the_ssh_server(changes: dict[str, Any], port: int, tunnel: str, stays: str) -> None:
    made = plan(changes, tunnel_port=port)
    assert (made["tunnel"], bool(made["tunnel_stays"])) == (tunnel, bool(stays)), made
    assert stays in made["tunnel_stays"]
    assert plan(changes, tunnel_port=port, manage=False)["tunnel"] == ""


def test_handshakes_with_those_that_are_deployed() -> None:
    before = stack.agent_handshakes(AGENTS, ["b", "a"])
    common: dict[str, Any] = {"expected": []}
    assert before == [
        {"label": "a", "url": "https://a.example/ws", "origin": "https://a.example", "upgrade": True, **common},
        {
            "label": "b",
            "url": "https://b.example:8443/",
            "origin": "https://b.example:8443",
            "upgrade": False,
            **common,
        },
    ]


def test_authority_brings_no_key(files: dict[str, str], tmp_path: Path) -> None:
    both = tmp_path / "both.pem"
    both.write_text("".join(Path(path).read_text(encoding="ascii") for path in files.values()), encoding="ascii")
    assert errors({**GOOD, "stack_tls_ca": files["stack_tls_certificate"]}) == []
    (told,) = errors({**GOOD, "stack_tls_ca": str(both)})
    assert "holds a private key: set it to the path of a PEM file with certificates only." in told


@pytest.mark.parametrize(
    "given",
    [
        *({"vaettir_serial": serial} for serial in (1, "1", "25%", [1, "25%", "100%"])),
        {"agent": "one, two", "release": "20261123T013000Z", "confirm": "true", "report_file": "/tmp/a b.json"},
    ],
)
def test_playbook(given: dict[str, Any]) -> None:
    assert stack.run_error({"vaettir_hosts": "vaettir", **given}, ["one"]) == ""


@pytest.mark.parametrize(
    ("given", "part"),
    [
        ({"vaettir_serial": "abc"}, "vaettir_serial 'abc' is not valid: use numbers of servers"),
        ({"vaettir_serial": [1, 0]}, "vaettir_serial '0' is not valid"),
        ({"vaettir_serial": []}, "vaettir_serial is empty"),
        ({"vaettir_hosts": {"tunnel_secret": "s3cret"}}, "vaettir_hosts is a dictionary: use a group"),
        ({"agent": ""}, "agent '' is not valid: use names of vaettir_agents"),
        ({"agent": "../x"}, "agent name '../x' is not valid"),
        ({"release": "latest"}, "release 'latest' is not valid: use a name like 20261123T013000Z."),
        ({"textfile": "a\nb"}, r"textfile 'a\nb' is not valid: use the path of a file."),
        ({"confirm": "perhaps"}, "confirm 'perhaps' is not valid: use true or false."),
    ],
)
def test_no_playbook(given: dict[str, Any], part: str) -> None:
    assert part in stack.run_error({"vaettir_hosts": "vaettir", **given}, ["one"])


def test_no_server() -> None:
    told = stack.run_error({"vaettir_hosts": "vaettir"}, [])
    assert told.startswith("No host of the inventory matches 'vaettir': put your servers into the group vaettir")
