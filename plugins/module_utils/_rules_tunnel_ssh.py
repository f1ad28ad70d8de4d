# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What may be wrong with a tunnel of one's own: the laptop's connection, and the SSH server that it comes to."""

from __future__ import annotations

import re
from typing import Any, Callable

from . import _tunnel
from ._chain import (
    APP,
    BROKEN,
    DEPENDS,
    NGINX,
    SSH_CONNECTION,
    SSH_SERVER,
    Chain,
    Match,
    Question,
    Rule,
    answer,
    tunnel_reason,
)

_ENDED = ("closed", "no_answer")  # a connection that sshd ends without a word: there is none on the laptop's side
_NOBODY = ("refused", "unreachable")

# What sshd writes, from its own source: who it is about, and what a sentence may name of it. Only how a line begins is
# sshd's own word: a stranger chooses the name that stands in it.
_WHO = re.compile(
    r"Connection from |(?:Accepted|Failed) publickey for (\S+) from |Connection closed by authenticating user (\S+) |"
    r"(?:Disconnected from|Timeout, client not responding from) user (\S+) "
)
_ACCEPTED = re.compile(r"Accepted publickey for (\S+) from (\S+) port")
_EVENTS = (
    ("wrong_key", re.compile(r"Failed publickey for \S+ from (?P<address>\S+) port \d+ ssh2: \S+ (?P<about>\S+)")),
    ("other_folder", re.compile(r"unix_listener: cannot bind to path (?P<about>\S+): ")),
    ("tcp", re.compile(r"Received request from .* to remote forward to host (?P<about>\S+ port -?\d+), but the")),
    ("shell", re.compile(r"no more sessions")),
    ("asleep", re.compile(r"Timeout, client not responding from user")),
    ("accepted", _ACCEPTED),
)
# Of nobody whom it knows: anybody in the world may knock.
_STRANGERS = (
    ("wrong_user", re.compile(r"Invalid user (?P<about>\S+) from (?P<address>\S+) port")),
    (
        "old_client",
        re.compile(r"Unable to negotiate with (?P<address>\S+) port \d+: (?P<about>no matching [a-z ]+) found"),
    ),
    ("penalty", re.compile(r"drop connection \S+ from \[(?P<address>\S+)\]:\d+ .*penalty: (?P<about>[a-z ]+)")),
    ("unknown_host", re.compile(r"Connection (?:closed|reset) by (?P<address>[0-9a-f.:]+) port \d+ \[preauth\]")),
)


def _ssh(chain: Chain) -> dict[str, Any]:
    return chain.found.get("ssh") or {}


def _server(chain: Chain) -> dict[str, Any]:
    return _ssh(chain).get("server") or {}


def last_event(lines: list[str], agent: str) -> dict[str, str]:
    """The last that sshd says of this agent's laptop: `name`, what it is `about`, and the `address` of a stranger.

    A laptop that was here before is known by its address, so that who knocks from elsewhere is not taken for it.
    """
    known = {found.group(2) for found in map(_ACCEPTED.match, lines) if found and found.group(1) == agent}
    event: dict[str, str] = {}
    user = ""
    for line in lines:
        who = _WHO.match(line)
        user = next((one for one in who.groups() if one), "") if who else user
        for name, pattern in (*(_EVENTS if user == agent else ()), *_STRANGERS):
            found = pattern.match(line)
            told = found.groupdict() if found else {}
            if found and (not known or told.get("address", "") in {"", *known}):
                event = {"name": name, **told}
                break
    return event


def _event(chain: Chain) -> dict[str, str]:
    return last_event(_server(chain).get("lines") or [], str(chain.agent.get("name", "")))


def _connections(chain: Chain) -> int:
    return int((_server(chain).get("connections") or {}).get(str(chain.agent.get("name", "")), 0))


def words(chain: Chain) -> dict[str, str]:
    """What sentences may name besides."""
    agent = chain.agent
    known = all(agent.get(name) for name in ("name", "domain", "target_url", "tunnel_port"))
    container = f"{agent.get('project', 'vaettir')}-tunnel-ssh-1"
    return {
        "app": str(agent.get("target_url", "")).partition("://")[2],
        "laptop": _tunnel.command(agent) if known else "ssh",
        "port": str(agent.get("tunnel_port", "")),
        "ssh_container": str(_server(chain).get("name") or container),
        "fingerprint": str(_ssh(chain).get("fingerprint", "")),
        "error": str(chain.tunnel.get("error", "")),
    }


def _rule(
    name: str, question: str, wrong: str, fix: str, applies: Callable[[Chain], Match], verdict: str = BROKEN
) -> Rule:
    """One whose sentences may name what this part knows."""

    def match(chain: Chain) -> Match:
        found = applies(chain)
        return found and {**words(chain), **(found if isinstance(found, dict) else {})}

    return Rule(name, question, verdict, wrong, fix, match)


def _denied(chain: Chain) -> bool:
    return "ermission denied" in str(chain.tunnel.get("error", ""))


def _server_works(chain: Chain) -> bool:
    outside = str(chain.control.get("ssh", "connected"))
    return bool(_server(chain).get("running") and _ssh(chain).get("keys")) and outside == "connected"


def _gone(chain: Chain) -> bool:
    """Nobody brings the app, and the server is none of the reasons."""
    return _server_works(chain) and tunnel_reason(chain, *_NOBODY) and not _denied(chain)


def _after(*events: str) -> Callable[[Chain], Match]:
    def applies(chain: Chain) -> Match:
        event = _event(chain)
        return _gone(chain) and event.get("name") in events and event

    return applies


def _unreached(chain: Chain) -> bool:
    return bool(_server(chain).get("running")) and chain.control.get("ssh", "connected") != "connected"


def _told(chain: Chain) -> str:
    count = _connections(chain)
    if not _server(chain).get("running"):
        return ""
    return f"{count} connected" if count else "none"


def _server_told(chain: Chain) -> str:
    server = _server(chain)
    told = ", ".join(str(server[key]) for key in ("status", "health") if server.get(key))
    return told or ("there is none" if _ssh(chain) else "")


QUESTIONS = (
    Question("ssh_app", APP, "{probe_path} through the tunnel", lambda chain: answer(chain.tunnel)),
    Question("ssh_connection", SSH_CONNECTION, "a laptop of {agent}", _told),
    Question("ssh_server", SSH_SERVER, "its container", _server_told),
    Question("ssh_keys", SSH_SERVER, "keys of {agent}", lambda chain: str(_ssh(chain).get("keys", ""))),
    Question(
        "ssh_port", SSH_SERVER, "its port, from the control node", lambda chain: str(chain.control.get("ssh", ""))
    ),
    Question("ssh_folder", NGINX, "the laptop's folder in {container}", lambda chain: _ssh(chain).get("folder", "")),
)

_RUN = "on the laptop: `{laptop}`"
RULES: tuple[Rule, ...] = (
    _rule(
        "ssh_app_not_listening",
        "ssh_app",
        "the laptop is connected, but nothing listens at {app} there",
        "on the laptop: start the app; if it has another port, set target_url of agent {agent} to it, and `{deploy}`",
        lambda chain: tunnel_reason(chain, *_ENDED) and not chain.tunnel.get("status"),
    ),
    _rule(
        "ssh_app_silent",
        "ssh_app",
        "the tunnel takes connections and nothing comes back: the laptop sleeps, or its app hangs",
        "wake the laptop up, or start the app again; a laptop that is gone is noticed within 30 s: `{diagnose}`",
        lambda chain: tunnel_reason(chain, "timeout") and not chain.tunnel.get("status"),
    ),
    _rule(
        "ssh_app_other",
        "ssh_app",
        "what answers at {app} on the laptop is no Streamlit app",
        "on the laptop: start the app at {app}; or set profile of agent {agent} to what is there, and `{deploy}`",
        lambda chain: (
            chain.agent.get("profile") == "streamlit"
            and not chain.tunnel_good
            and 0 < chain.tunnel.get("status", 0) < 500
            and not (chain.found.get("page") or {}).get("streamlit")
        ),
    ),
    _rule(
        "ssh_app_error",
        "ssh_app",
        "the app itself answers {status}",
        "on the laptop: read what the app prints, and fix it",
        lambda chain: chain.tunnel.get("status", 0) >= 500 and {"status": str(chain.tunnel["status"])},
    ),
    _rule(
        "ssh_app_origin",
        "ssh_app",
        "the app refuses the Origin of the agent's pages",
        "set origin_mode of agent {agent} to the other one of rewrite and preserve, and `{deploy}`",
        lambda chain: tunnel_reason(chain, "refused_origin"),
    ),
    _rule(
        "ssh_app_websocket",
        "ssh_app",
        "the app has no sound WebSocket at {probe_path} ({error})",
        "set probe_path of agent {agent} to '' (it has none) or to its WebSocket's path, and `{deploy}`",
        lambda chain: chain.tunnel.get("status", 0) > 0 and not chain.tunnel_good,
    ),
    # --- the laptop's connection
    _rule(
        "ssh_wrong_key",
        "ssh_connection",
        "the laptop's key is none of tunnel_key ({about})",
        "add its public key to tunnel_key of agent {agent}, and `{deploy}`; or on the laptop: `{laptop} -i KEY`",
        _after("wrong_key"),
    ),
    _rule(
        "ssh_other_folder",
        "ssh_connection",
        "the laptop wants to bring its app to {about}, which is not this agent's",
        _RUN,
        _after("other_folder"),
    ),
    _rule(
        "ssh_tcp",
        "ssh_connection",
        "the laptop asks for a TCP port ({about}), and the tunnel is a socket",
        _RUN,
        _after("tcp"),
    ),
    _rule(
        "ssh_shell",
        "ssh_connection",
        "the laptop asks for a shell, which nobody gets here",
        _RUN,
        _after("shell"),
    ),
    _rule(
        "ssh_wrong_user",
        "ssh_connection",
        "no laptop is connected; {address} came as user {about}, and no agent is called so",
        _RUN,
        _after("wrong_user"),
    ),
    _rule(
        "ssh_unknown_host",
        "ssh_connection",
        "no laptop is connected; {address} left before a login, as an ssh does that does not know the server's key",
        "on the laptop: `ssh-keygen -R [{domain}]:{port}`, then `{laptop}`, and accept {fingerprint}",
        _after("unknown_host"),
    ),
    _rule(
        "ssh_old_client",
        "ssh_connection",
        "no laptop is connected; the ssh at {address} is too old, or set to old algorithms ({about})",
        "on the laptop: install OpenSSH 8.5 or later, then `{laptop}`",
        _after("old_client"),
    ),
    _rule(
        "ssh_penalty",
        "ssh_connection",
        "no laptop is connected; the SSH server keeps {address} out for up to a minute ({about})",
        "fix the key or the user on the laptop, wait a minute, then there: `{laptop}`",
        _after("penalty"),
    ),
    _rule(
        "ssh_no_forward",
        "ssh_connection",
        "a laptop is connected, but brings no app",
        _RUN,
        lambda chain: _gone(chain) and _connections(chain) > 0,
    ),
    _rule(
        "ssh_asleep",
        "ssh_connection",
        "the laptop did not answer any more, and was disconnected: it sleeps, or lost its network",
        "wake it up, or " + _RUN,
        _after("asleep"),
    ),
    _rule(
        "ssh_offline",
        "ssh_connection",
        "no laptop is connected",
        _RUN,
        _gone,
    ),
    # --- the server
    _rule(
        "ssh_server_missing",
        "ssh_server",
        "there is no container {ssh_container}",
        "`{deploy}`, with stack_tunnel true",
        lambda chain: bool(_ssh(chain)) and not _server(chain),
    ),
    _rule(
        "ssh_server_stopped",
        "ssh_server",
        "its container is {status} ({log})",
        "on {server}: `docker start {ssh_container}`",
        lambda chain: (
            bool(_server(chain))
            and not _server(chain).get("running")
            and {k: _server(chain)[k] for k in ("status", "log")}
        ),
    ),
    _rule(
        "ssh_folder",
        "ssh_server",
        "the agent's folder below tunnel/sockets is not as the SSH server made it ({error})",
        "on {server}: `docker restart {ssh_container}`",
        lambda chain: bool(_server(chain).get("running")) and _denied(chain),
    ),
    _rule(
        "ssh_not_mounted",
        "ssh_folder",
        "the container {container} does not have the agent's folder, so its nginx cannot reach the laptop",
        "`{deploy}`",
        lambda chain: _ssh(chain).get("folder") == _tunnel.NOT_THERE,
    ),
    _rule(
        "ssh_folder_removed",
        "ssh_folder",
        "the container {container} still has the agent's previous folder, and there is a new one by now",
        "on {server}: `docker restart {container}`",
        lambda chain: _ssh(chain).get("folder") == _tunnel.REMOVED,
    ),
    _rule(
        "ssh_keys_gone",
        "ssh_keys",
        "{root}/tunnel/keys/{agent} is gone or empty, so no laptop may come",
        "`{deploy}`",
        lambda chain: _ssh(chain).get("keys") == 0,
    ),
    _rule(
        "ssh_port_changed",
        "ssh_port",
        "nobody gets through to port {port} of {domain} ({outside}), and the SSH server listens on {published}",
        f"on {{server}}: `cd {{root}} && {_tunnel.REPLACE}`; or lead port {{port}} to it, if that is a router's",
        lambda chain: (
            _unreached(chain)
            and words(chain)["port"] not in _server(chain)["ports"]
            and {"outside": chain.control["ssh"], "published": " and ".join(_server(chain)["ports"]) or "no port"}
        ),
        DEPENDS,
    ),
    _rule(
        "ssh_port_closed",
        "ssh_port",
        "nobody gets through to port {port} of {domain} ({outside})",
        "open TCP port {port} in the provider's firewall, and on {server}:"
        " `sudo iptables -I DOCKER-USER -p tcp --dport 2222 -j ACCEPT`",
        lambda chain: _unreached(chain) and {"outside": chain.control["ssh"]},
        DEPENDS,
    ),
)
