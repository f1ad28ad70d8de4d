# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A tunnel of one's own: keys, the line that is printed, what is written and rendered."""

from __future__ import annotations

import base64
import plistlib
import re
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible_collections.locki.vaettir.plugins.filter import stack
from ansible_collections.locki.vaettir.plugins.module_utils import (
    _agent,
    _containers,
    _diagnosis,
    _docker,
    _engine,
    _facts,
    _probe,
    _release,
    _rules_tunnel_ssh,
    _server,
    _stack,
    _switch,
    _tunnel,
    _visitor,
)

from . import ssh_faults, test_agents
from .ssh_faults import SSH
from .test_agent_settings import good, settings
from .test_diagnosis import facts
from .test_stack import OPTIONS
from .test_templates import COMPOSE, NOT_JINJA, fragment, render, trusted, variables

ROOT = Path(__file__).parents[2]
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJnmK1PoZKmPq4UFVN8/EO4C8OMqJcNIVQIdjz1M1Jh2"
OWN: dict[str, Any] = {"tunnel": "ssh", "tunnel_key": [KEY]}
RSA = base64.b64encode(b"\0\0\0\x07ssh-rsa" + b"x" * 300).decode()


@pytest.mark.parametrize("key", [KEY, f"{KEY} me@laptop", f"ssh-rsa {RSA}"])
def test_a_public_key_is_taken(key: str) -> None:
    assert _tunnel.key_error("tunnel_key", key) is None


@pytest.mark.parametrize(
    "key",
    [
        f'command="id" {KEY}',
        f"{KEY}\n{KEY}",
        f"{KEY}\n",
        KEY.replace("ssh-ed25519", "ssh-rsa"),
        "ssh-ed25519 AAAA",
        "ssh-dss " + RSA,
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "",
    ],
)
def test_what_is_no_public_key_is_refused_and_never_shown(key: str) -> None:
    error = _tunnel.key_error("tunnel_key", key)
    use = "a public key in one line, as `cat ~/.ssh/id_ed25519.pub` prints it on the laptop"
    assert error == f"tunnel_key '***' is not valid: use {use}."


def test_the_server_gets_no_comment_and_no_option_of_the_inventory() -> None:
    assert _tunnel.authorized_keys([f"{KEY} me@laptop"]) == f"restrict,port-forwarding {KEY}\n"


def test_the_target_is_the_app_as_the_laptop_reaches_it() -> None:
    assert good(OWN)["target_url"] == "http://localhost:8501"
    assert good({**OWN, "profile": "n8n"})["target_url"] == "http://localhost:5678"
    assert good({**OWN, "target_url": "http://127.0.0.1:9000"})["target_url"] == "http://127.0.0.1:9000"


def test_ssh_without_a_key_or_with_a_url_of_ngrok() -> None:
    (error,) = settings({"tunnel": "ssh"})["errors"]
    assert error.startswith("tunnel_key of agent a is empty, but its tunnel is ssh: set it to the laptop's public key")
    (error,) = settings({**OWN, "target_url": "https://a.ngrok-free.app"})["errors"]
    assert "is not the app as the laptop reaches it: use http://localhost:8501, or leave it out." in error


@pytest.mark.parametrize("name", _tunnel.USERS)
def test_an_agent_is_no_user_of_the_ssh_servers_own(name: str) -> None:
    (error,) = settings({**OWN, "name": name})["errors"]
    assert error == f"agent name '{name}' is a user of the SSH server's own: choose another, or leave tunnel_key out."
    dockerfile = (ROOT / "roles/stack/templates/tunnel.Dockerfile.j2").read_text(encoding="utf-8")
    assert f"^({'|'.join(_tunnel.USERS)}):" in dockerfile


def test_keys_need_a_server_to_come_to() -> None:
    entry, found = {"name": "one", **OWN}, {"stack": test_agents.STACK}
    assert "set stack_tunnel to true" in test_agents.error(entry, **found)
    assert test_agents.settings(entry, tunnels=True, **found)["errors"] == {}


def test_the_line() -> None:
    assert _tunnel.command(good({**OWN, "tunnel_port": 22022})) == (
        "ssh -NT -p 22022 -o ServerAliveInterval=7 -o ServerAliveCountMax=2 -o ExitOnForwardFailure=yes"
        " -R /tunnel/a/app:localhost:8501 a@a.example.org"
    )
    assert "/tunnel/a/app:host:80 " in _tunnel.command(good({**OWN, "target_url": "http://host"}))


def test_the_note_has_the_fingerprint_once_there_is_a_key(tmp_path: Path) -> None:
    assert "key is" not in _tunnel.note(str(tmp_path), good(OWN))
    (tmp_path / "tunnel/host").mkdir(parents=True)
    (tmp_path / _tunnel.HOST_KEY).write_text(f"{KEY} tunnel\n")
    assert _tunnel.note(str(tmp_path), good(OWN)).endswith(
        f"(the server's key is {_tunnel.fingerprint(str(tmp_path))})"
    )
    assert _tunnel.fingerprint(str(tmp_path)).startswith("SHA256:")


def conf(**entry: Any) -> str:
    return render("agent_proxy/templates/agent.conf.template.j2", **variables(good(entry)))


@pytest.mark.usefixtures("plugin_loader")
def test_the_proxy_has_its_own_folder_alone() -> None:
    assert f"server {_tunnel.UPSTREAM} max_fails=0;" in conf(**OWN)
    assert "unix:" not in conf(tunnel_key=[KEY])
    mounted = "./tunnel/sockets/my-agent:/run/tunnel:ro"
    assert mounted in fragment(**OWN)["services"]["my-agent"]["volumes"]
    assert mounted in fragment(tunnel_key=[KEY])["services"]["my-agent"]["volumes"]  # a move is a reload
    assert mounted not in fragment()["services"]["my-agent"]["volumes"]


@pytest.mark.usefixtures("plugin_loader")
def test_an_agent_that_stays_at_ngrok_is_as_it_was() -> None:
    """With the door open as well: a move back and forth is a reload, so one conf is enough to tell."""
    assert conf(tunnel_key=[KEY]) == conf()
    assert not {"tunnel-ssh", _tunnel.INSIDE, "unix:"} & set(conf().split())
    with_door, without = fragment(tunnel_key=[KEY]), fragment()
    with_door["services"]["my-agent"]["volumes"].remove(f"./tunnel/sockets/my-agent:{_tunnel.INSIDE}:ro")
    assert with_door == without


@pytest.mark.usefixtures("plugin_loader")
def test_a_release_by_ssh_needs_no_second_reload() -> None:
    """The entry point teaches nginx a name that the active conf does not have."""
    entrypoint = (ROOT / "roles/agent_proxy/templates/entrypoint.sh.j2").read_text(encoding="utf-8")
    assert 'server="server $TARGET_HOST:$TARGET_PORT resolve"' in entrypoint
    assert "server ${TARGET_HOST}:${TARGET_PORT} resolve" in conf(**OWN)


def compose(**values: Any) -> str:
    role = yaml.safe_load((ROOT / "roles/stack/vars/main.yml").read_text(encoding="utf-8"))
    defaults = {name: option["default"] for name, option in OPTIONS.items()}
    return str(render(COMPOSE, **trusted(role), **{**defaults, **NOT_JINJA, **values}))


@pytest.mark.usefixtures("plugin_loader")
def test_a_server_without_it_is_as_it_was() -> None:
    """To the byte, so that nothing is written and no container is another one."""
    on, off = compose(stack_tunnel=True), compose(stack_tunnel=False)
    begin, end = on.index("  # Where the laptops"), on.index("volumes:\n  docker-api:")
    assert on[:begin] + on[end:] == off


@pytest.mark.usefixtures("plugin_loader")
def test_the_ssh_server_may_do_what_it_needs_and_nothing_else() -> None:
    found = yaml.safe_load(compose(stack_tunnel=True, stack_tunnel_port=22022))
    service = found["services"]["tunnel-ssh"]
    assert service["image"].startswith("vaettir-tunnel-ssh:")
    assert (service["ports"], service["networks"], service["read_only"]) == (["22022:2222"], ["tunnel-ssh"], True)
    assert service["cap_drop"] == ["ALL"]
    assert not {"SYS_ADMIN", "NET_ADMIN", "SYS_PTRACE", "NET_RAW"} & set(service["cap_add"])
    assert service["ipc"] == "none"  # no /dev/shm


def test_compose_is_not_asked_for_a_service_that_a_server_may_not_have(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would tell the hash of none then, and nobody would know that Traefik's definition changed."""
    asked: list[str] = []

    def docker(*words: str, **_more: Any) -> tuple[int, str, str]:
        asked.extend(words)
        return 0, "traefik 1\n", ""

    monkeypatch.setattr(_docker, "docker", docker)
    assert _stack.compose_hashes("/srv", "services: {}") == {"traefik": "1"}
    assert asked[-1] == "docker-api,traefik"


def test_the_stack_refuses_what_does_not_go_together() -> None:
    values = {**{name: option["default"] for name, option in OPTIONS.items()}, **NOT_JINJA, "stack_tunnel": True}
    values.update(stack_acme_email="a@b.example")
    assert stack.stack_errors(values, OPTIONS) == []
    (error,) = stack.stack_errors({**values, "stack_tunnel_port": 443}, OPTIONS)
    assert error == "stack_tunnel_port '443' is Traefik's as well: choose another."
    (error,) = stack.stack_errors({**values, "stack_manage": False}, OPTIONS)
    assert "stack_manage" in error


def test_a_removed_agent_takes_its_keys_along() -> None:
    assert "tunnel/keys/one" in _server.agent_files("one")


def test_keys_are_no_part_of_a_release() -> None:
    """A rollback must not bring back a key that was taken out."""
    assert "tunnel/keys/one" not in _server.released_as("one", True)


def test_a_healthy_one_is_asked_the_questions_of_its_kind() -> None:
    made = _diagnosis.diagnosis(facts(SSH))
    hops = {one["hop"] for one in made["findings"]}
    assert not made["rule"], made["sentence"]
    assert {"ssh connection", "ssh server"} <= hops
    assert not {"ngrok agent", "ngrok edge"} & hops
    assert not {"ssh connection", "ssh server"} & {one["hop"] for one in _diagnosis.diagnosis(facts({}))["findings"]}


def test_a_socket_of_this_machine_is_asked(tmp_path: Path) -> None:
    found = _probe.ask("http://localhost:8501/", address=str(tmp_path / "app"), upgrade=False, timeout=2)
    assert found["reason"] == "unreachable"
    assert found["error"] == f"no way to {tmp_path / 'app'}: No such file or directory"


def test_both_ends_ask_as_often() -> None:
    sshd = (ROOT / "roles/stack/files/tunnel/sshd_config").read_text(encoding="utf-8")
    assert f"ClientAliveInterval {_tunnel.ALIVE}\nClientAliveCountMax 2\n" in sshd
    assert _tunnel.ALIVE * 3 < 30


def test_the_docs_have_the_line_that_is_printed() -> None:
    page = (ROOT / "docs/tunnel.md").read_text(encoding="utf-8")
    agent = {
        "name": "ocapistaine",
        "target_url": "http://localhost:8501",
        "tunnel_port": 2222,
        "domain": "ocapistaine.example.org",
    }
    line = _tunnel.command(agent)
    assert line in page.replace("\\\n  ", "")
    asleep = line.replace("ssh -NT ", "/usr/bin/ssh -NT -o BatchMode=yes ")
    assert f"\nExecStart={asleep}\n" in page
    plist = re.search(r"(?s)```xml\n(.*?)```", page)
    assert plist
    assert " ".join(plistlib.loads(plist[1].encode())["ProgramArguments"]) == asleep


@pytest.mark.parametrize(("conf_text", "by_ssh"), [(f"server {_tunnel.UPSTREAM};", True), ("server a:443;", False)])
def test_the_active_release_says_which_way_it_goes(tmp_path: Path, conf_text: str, by_ssh: bool) -> None:
    """After a rollback that is not the inventory's."""
    live = tmp_path / "proxy-configs/one.conf.template"
    live.parent.mkdir()
    live.write_text(conf_text, encoding="utf-8")
    store = _release.Store(str(tmp_path), "one")
    made = store.create({"proxy-configs/one.conf.template": "one.conf.template"}, {"by": "me", "image": "x"}, 0)
    server: Any = SimpleNamespace(project="vaettir", containers=[])
    for tunnel in ("ssh", "ngrok"):
        agent = {"name": "one", "tunnel": tunnel}
        assert _facts.Chain(server, str(tmp_path), agent).by_ssh is (tunnel == "ssh")
    store.adopt_current(_release.Current(made, []))
    for tunnel in ("ssh", "ngrok"):
        assert _facts.Chain(server, str(tmp_path), {"name": "one", "tunnel": tunnel}).by_ssh is by_ssh


# --- a visitor, and whom he blames


def visit(ok: bool = True, told: str = "answer 200") -> list[dict[str, Any]]:
    return [_visitor.seen(_visitor.PAGE, ok=ok, told=told, status=200) for _time in "ab"]


@pytest.mark.parametrize(
    ("bad", "changes", "rule", "hop"),
    [
        ((), {}, "", ""),
        (("tunnel", "nginx", "traefik", "public"), {}, "visitor", "app"),
        (("laptop", "tunnel", "nginx", "traefik", "public"), {}, "visitor", "app"),
        (("-laptop", "tunnel", "nginx", "traefik", "public"), {}, "visitor", "ssh connection"),
        (("nginx", "traefik", "public"), {}, "visitor", "nginx"),
        (("traefik", "public"), {}, "visitor", "Traefik"),
        (("public",), {}, "visitor", "DNS"),
        (("-laptop", "tunnel", "nginx", "traefik", "public"), ssh_faults.gone(), "ssh_offline", "ssh connection"),
        (("tunnel", "nginx", "traefik", "public"), ssh_faults.gone("wrong_key"), "ssh_wrong_key", "ssh connection"),
        (("nginx", "traefik", "public"), ssh_faults.NOT_MOUNTED, "ssh_not_mounted", "nginx"),
    ],
)
def test_the_first_place_that_fails_is_blamed(
    bad: tuple[str, ...], changes: dict[str, Any], rule: str, hop: str
) -> None:
    asked = [*(["laptop"] if {"laptop", "-laptop"} & {*bad} else []), "tunnel", "nginx", "traefik", "public"]
    visits = {name: visit(False, "answer 500") if name in bad else visit() for name in asked}
    made = _diagnosis.diagnosis({**facts({**SSH, **changes}), "visits": visits})
    assert (made["rule"], made["hop"]) == (rule, hop), made["sentence"]
    assert not {"ngrok agent", "ngrok edge"} & {one["hop"] for one in made["findings"]}
    assert "ngrok" not in made["sentence"]
    if hop == "ssh connection":
        assert "`ssh -NT " in made["fix"]


def test_where_the_laptop_is_held_against_the_server_both_are_asked_again() -> None:
    assert _diagnosis.is_between_askers({"hop": "ssh connection", "rule": "visitor"})
    assert not _diagnosis.is_between_askers({"hop": "ssh connection", "rule": "ssh_offline"})


def test_a_stranger_who_knows_the_agents_name_is_not_taken_for_its_laptop() -> None:
    accepted, wrong = ssh_faults.LINES["accepted"], ssh_faults.LINES["wrong_key"]
    stranger = wrong.replace("198.51.100.9", "203.0.113.66")
    told = {line: _rules_tunnel_ssh.last_event([accepted, line], "ocapistaine")["name"] for line in (wrong, stranger)}
    assert told == {wrong: "wrong_key", stranger: "accepted"}


def test_a_port_that_only_the_control_node_does_not_reach_breaks_nothing() -> None:
    made = _diagnosis.diagnosis(facts({**SSH, "control.ssh": "timed out"}))
    assert (made["rule"], made["broken"]) == ("ssh_port_closed", False)


def test_what_the_ssh_server_did_not_say_in_time_is_no_fault() -> None:
    made = _diagnosis.diagnosis(facts({**SSH, "found.ssh": {}}))
    assert not made["rule"], made["sentence"]
    assert {one["verdict"] for one in made["findings"] if one["hop"] == "ssh server"} == {"unknown", "ok"}


@contextmanager
def brought(place: str) -> Iterator[list[str]]:
    """A laptop's app at a socket, and the heads of its requests."""
    asked: list[str] = []

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            asked.append(b"".join(iter(self.rfile.readline, b"\r\n")).decode())
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nhello")

    Path(place).parent.mkdir(parents=True)
    with socketserver.ThreadingUnixStreamServer(place, Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield asked
        server.shutdown()


def test_the_server_visits_what_the_laptop_brings(tmp_path: Path) -> None:
    """By the socket, for which nobody needs a name; as a diagnosis does, and a verification."""
    root, server = str(tmp_path), SimpleNamespace(project="vaettir", containers=[], error="", root=str(tmp_path))
    agent = {**good({**OWN, "profile": "generic"}), "ca_file": ""}
    chain: Any = _facts.Chain(server, root, agent)  # type: ignore[arg-type]
    target, resolved = chain.aimed()[1:]
    assert resolved == chain.resolve(target)
    place = next(one for one in chain.places(target, resolved) if one.name == "tunnel")
    managed: Any = SimpleNamespace(settings=agent, server=server, name=agent["name"])
    assert _agent.Managed._place(managed, "tunnel", {"origin": agent["public_origin"]}) == place
    with brought(_tunnel.socket(root, agent["name"])) as asked:
        found = _visitor.visit(place, _visitor.plan(agent, rounds=1), _visitor.own_names(agent))
    assert [one["told"] for one in found if not one["ok"]] == []
    assert found
    assert all("Host: localhost:8000\r\n" in one for one in asked)


def test_a_trial_has_what_the_laptop_brings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A release that must be online is one in its trial as well."""
    asked: list[str] = []
    mounts = [
        {"type": "bind", "source": "/srv/tunnel/sockets/one", "target": _tunnel.INSIDE},
        {"type": "bind", "source": "/srv/secrets/one", "target": "/etc/vaettir/secret"},
    ]

    def checked(*words: str, **_more: Any) -> str:
        asked.extend(words)
        return ""

    monkeypatch.setattr(_engine, "model", lambda _root: {"services": {"one": {"volumes": mounts}}})
    monkeypatch.setattr(_engine, "start", lambda _name, make: make())
    monkeypatch.setattr(_docker, "checked", checked)
    monkeypatch.setattr(_containers, "remove", lambda _name: None)
    healthy = {"State": {"Health": {"Status": "healthy"}}}
    monkeypatch.setattr(_containers, "wait_until", lambda *_words: healthy)
    containers = _containers.Containers("vaettir", "one")
    switch = _switch.Switch(str(tmp_path), _release.Store(str(tmp_path), "one"), containers, {})
    image = {"Config": {"Labels": {_docker.AGENT_LABEL: "one"}}}
    assert switch.start_trial("1", "image", image) == healthy
    volumes = [word for word in asked if "/srv/" in word]
    assert volumes == [f"--volume=/srv/tunnel/sockets/one:{_tunnel.INSIDE}:ro"]
