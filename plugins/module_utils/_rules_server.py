# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What may be wrong with the server and the agent's nginx."""

from __future__ import annotations

import re
from typing import Callable

from . import _names
from ._chain import (
    BROKEN,
    DEPENDS,
    DISK_FULL,
    DISK_LOW,
    MB,
    NGINX,
    SERVER,
    SKEW,
    STOP,
    WARN,
    Chain,
    Match,
    Question,
    Rule,
    answer,
    clock_wrong,
    control_skew,
    foreign,
    no_resolver,
    skew,
    state,
    version,
)

_MAKE_ROOM = (
    "on {server}: delete what is large (`sudo du -xh --max-depth=3 / | sort -h | tail`),"
    " and `docker system prune --force`"
)


def _disk(chain: Chain) -> str:
    free = chain.found.get("disk_free")
    return "" if free is None else f"{free // MB} MB free"


def _clock(chain: Chain) -> str:
    apart = skew(chain)
    apart = control_skew(chain) if apart is None else apart
    return "" if apart is None else f"{abs(apart):.0f} s apart"


def _env(chain: Chain) -> str:
    env = chain.found.get("env")
    return "" if env is None else _names.masked(env.get("target") or "") or "nothing"


def _active_files(chain: Chain) -> str:
    if not chain.container.get("running"):
        return ""
    differs = chain.found.get("differs") or []
    return ", ".join(differs) if differs else f"release {chain.found.get('release') or 'of nobody'}"


def _clock_apart(chain: Chain) -> Match:
    edge = skew(chain)
    return edge is not None and abs(edge) > SKEW and {"error": f"{abs(edge):.0f} s"}


def _only_server_resolves(chain: Chain) -> bool:
    """A tunnel by ssh is a socket, which has no name."""
    resolved = chain.found.get("resolved") or {}
    return (
        not chain.by_ssh
        and resolved.get("by") == "server"
        and bool(resolved.get("addresses"))
        and _connected_container(chain)
    )


def _overridden(chain: Chain) -> str:
    return str((chain.found.get("resolved") or {}).get("overridden") or "")


def _connected_container(chain: Chain) -> bool:
    """One without any network cannot be blamed for what it does not reach."""
    return bool(chain.container.get("running") and chain.container.get("networks"))


def _env_invalid(chain: Chain) -> Match:
    env = chain.found.get("env") or {}
    problem = env.get("target") and _names.target_url_error(chain.words()["key"], str(env["target"]).rstrip("/"))
    return problem and {"error": problem.rstrip(".")}


def _env_target(chain: Chain) -> str:
    """An origin has no path, and neither scheme nor host know capitals."""
    return str((chain.found.get("env") or {}).get("target") or "").rstrip("/").lower()


def _env_differs(chain: Chain) -> Match:
    value = _env_target(chain)
    return bool(value) and value != str(chain.agent.get("target_url")).lower() and {"error": _names.masked(value)}


def _env_not_active(chain: Chain) -> Match:
    value = _env_target(chain)
    used = str(chain.container.get("target") or "")
    return bool(used) and bool(value) and used != value and {"error": _names.masked(used)}


def _twins(chain: Chain) -> Match:
    """Containers with the agent's routers, besides its own and those of a release."""
    name, project = chain.agent.get("name", ""), chain.agent.get("project", "vaettir")
    ours = re.compile(rf"{re.escape(f'{project}-{name}')}-(1|trial|old-.*|undone-.*)|{re.escape(project)}-next-.*")
    own = {str(router["container"]) for router in chain.found.get("routers") or [] if router.get("own")}
    others = sorted(other for other in own if not ours.fullmatch(other))
    return bool(others) and {"error": " ".join(others)}


def _fails_to_start(chain: Chain) -> Match:
    """One that was ended from outside has one of these, too."""
    status, failed = chain.container.get("status"), chain.container.get("exit", 0) not in (0, 137, 143)
    return status in ("created", "exited", "dead") and failed and {"error": status}


def _status(*words: str) -> Callable[[Chain], Match]:
    return lambda chain: chain.container.get("status") in words


def _log(pattern: str) -> Callable[[Chain], Match]:
    return lambda chain: bool(re.search(pattern, str(chain.container.get("errors") or chain.container.get("log", ""))))


def _bad_nginx(chain: Chain) -> bool:
    """The tunnel is fine, what nginx makes of it is not."""
    return bool(chain.nginx) and chain.tunnel_good and not chain.nginx_good


def _nginx_reason(*reasons: str) -> Callable[[Chain], Match]:
    return lambda chain: (
        _bad_nginx(chain) and chain.nginx.get("reason") in reasons and {"error": chain.nginx.get("error", "")}
    )


def _nginx_unable(pattern: str) -> Callable[[Chain], Match]:
    """nginx cannot reach the tunnel, and its log says why."""
    return lambda chain: (
        _bad_nginx(chain)
        and chain.nginx.get("reason") in ("offline", "app_down", "proxy_error")
        and _log(pattern)(chain)
    )


QUESTIONS = (
    Question(
        "reached",
        SERVER,
        "a login",
        lambda chain: chain.unreachable or chain.failed or ("yes" if chain.stack or chain.found else ""),
    ),
    Question(
        "docker",
        SERVER,
        "Docker Engine",
        lambda chain: str(
            (chain.stack.get("docker") or {}).get("version") or (chain.stack.get("docker") or {}).get("error") or ""
        ),
    ),
    Question("disk", SERVER, "room in {root}", _disk),
    Question("clock", SERVER, "its clock and the tunnel's", _clock),
    Question("env", SERVER, "{key} in .env", _env),
    Question(
        "egress",
        SERVER,
        "{target_host} from inside the container",
        lambda chain: str(chain.found.get("reach") or ""),
    ),
    Question("nginx_version", NGINX, "version", lambda chain: str(chain.container.get("nginx") or "")),
    Question("container", NGINX, "container {container}", lambda chain: state(chain, chain.container)),
    Question("files", NGINX, "active conf", _active_files),
    Question("nginx_origin", NGINX, "a foreign Origin", lambda chain: foreign(chain.nginx)),
    Question("nginx", NGINX, "{probe_path} at the container", lambda chain: answer(chain.nginx)),
)

RULES: tuple[Rule, ...] = (
    # --- server
    Rule(
        "server_unreachable",
        "reached",
        BROKEN,
        "{server} cannot be logged in to ({error})",
        "`ssh {server}` until it works: start the server, or fix ansible_host and ansible_user",
        lambda chain: bool(chain.unreachable) and {"error": chain.unreachable},
    ),
    Rule(
        "root_unreadable",
        "reached",
        BROKEN,
        "the login user may not read the project folder ({error})",
        "on {server}: `sudo chown -R $USER: {root}`",
        lambda chain: "ermission denied" in chain.failed and {"error": chain.failed},
    ),
    Rule(
        "server_failed",
        "reached",
        BROKEN,
        "{server} can be logged in to and not be asked ({error})",
        "on {server}: fix what it says (Python 3, {root}), then again: `{diagnose}`",
        lambda chain: bool(chain.failed) and {"error": chain.failed},
    ),
    Rule(
        "docker_missing",
        "docker",
        BROKEN,
        "there is no Docker Engine",
        "set stack_install_docker to true, and `{deploy}`",
        lambda chain: bool(chain.stack.get("docker")) and not chain.stack["docker"].get("installed", True),
    ),
    Rule(
        "docker_forbidden",
        "docker",
        BROKEN,
        "the login user may not use Docker",
        "on {server}: `sudo usermod -aG docker $USER`, and a new login (Ansible keeps one for a minute)",
        lambda chain: "permission denied" in str((chain.stack.get("docker") or {}).get("error", "")),
    ),
    Rule(
        "docker_silent",
        "docker",
        BROKEN,
        "Docker's daemon does not answer ({error})",
        "on {server}: `sudo systemctl start docker`; it says more with `sudo journalctl -u docker`",
        lambda chain: (
            bool(chain.stack.get("docker"))
            and not chain.stack["docker"].get("version")
            and {"error": chain.stack["docker"].get("error", "")}
        ),
    ),
    Rule(
        "root_read_only",
        "disk",
        BROKEN,
        "the file system of {root} is read-only",
        "on {server}: `sudo mount -o remount,rw $(findmnt -no TARGET -T {root})`; if that fails, see `sudo dmesg`",
        lambda chain: bool(chain.found.get("read_only")),
    ),
    Rule(
        "root_foreign",
        "disk",
        BROKEN,
        "the login user may not write into {root}",
        "on {server}: `sudo chown -R $USER: {root}`",
        lambda chain: not chain.found.get("writable", True),
    ),
    Rule(
        "disk_full",
        "disk",
        BROKEN,
        "the disk of {root} is full",
        _MAKE_ROOM,
        lambda chain: (
            chain.found.get("disk_free") is not None
            and (chain.found["disk_free"] < DISK_FULL or chain.found.get("inodes_free", 1) == 0)
        ),
        STOP,
    ),
    Rule(
        "disk_low",
        "disk",
        WARN,
        "the disk of {root} is nearly full",
        _MAKE_ROOM,
        lambda chain: DISK_FULL <= chain.found.get("disk_free", DISK_LOW) < DISK_LOW,
        STOP,
    ),
    Rule(
        "clock_wrong",
        "clock",
        BROKEN,
        "{clocks}, so that certificates count as expired or not yet valid",
        "{fix}",
        clock_wrong,
        STOP,
    ),
    Rule(
        "clock_apart",
        "clock",
        WARN,
        "the clocks of the server and of the tunnel's end are {error} apart",
        "`sudo timedatectl set-ntp true` on {server} and on the laptop",
        _clock_apart,
    ),
    Rule(
        "env_missing",
        "env",
        DEPENDS,
        "{key} is missing in {root}/.env",
        "`{deploy}`, or write {key}={declared} into {root}/.env and `{up}`",
        lambda chain: "env" in chain.found and not chain.found["env"].get("target"),
    ),
    Rule(
        "env_invalid",
        "env",
        DEPENDS,
        "{error}",
        "`{deploy}`, or write {key}={declared} into {root}/.env and `{up}`",
        _env_invalid,
    ),
    Rule(
        "env_not_in_force",
        "env",
        DEPENDS,
        "the container goes to {error}, which is not what .env says",
        "`{deploy}`, or on {server}: `{up}`",
        _env_not_active,
    ),
    Rule(
        "env_elsewhere",
        "env",
        BROKEN,
        "{key} in .env is {error}, where no app answers, and {declared} does",
        "`{deploy}`",
        lambda chain: chain.misled and _env_differs(chain),
    ),
    Rule(
        "env_differs",
        "env",
        WARN,
        "{key} in .env is {error}, and the inventory says {declared}",
        "`{deploy}`, which puts the inventory's into .env, or set target_url of agent {agent} to {error}",
        _env_differs,
    ),
    Rule(
        "server_dns",
        "egress",
        BROKEN,
        "no DNS server tells {server} the address of {target_host} ({error})",
        "on {server}: `echo nameserver 1.1.1.1 | sudo tee /etc/resolv.conf`, and `docker restart {container}`",
        lambda chain: no_resolver(chain) and {"error": chain.found["resolved"].get("error", "")},
    ),
    Rule(
        "forwarding",
        "egress",
        BROKEN,
        "the kernel passes no packets on to containers (net.ipv4.ip_forward is 0)",
        "on {server}: `sudo sysctl -w net.ipv4.ip_forward=1`, and take the 0 out of /etc/sysctl.conf and /etc/sysctl.d",
        lambda chain: chain.found.get("forwarding") is False,
    ),
    Rule(
        "container_dns_own",
        "egress",
        DEPENDS,
        "the server resolves {target_host}, its container does not: Docker gives it another DNS server ({error})",
        "on {server}: remove `dns` from /etc/docker/daemon.json, then `sudo systemctl restart docker`",
        lambda chain: _only_server_resolves(chain) and _overridden(chain) and {"error": _overridden(chain)},
    ),
    Rule(
        "container_dns",
        "egress",
        DEPENDS,
        "the server resolves {target_host}, its container does not",
        "on {server}: `sudo iptables -I DOCKER-USER -p udp --dport 53 -j ACCEPT`, or `sudo systemctl restart docker`",
        _only_server_resolves,
    ),
    Rule(
        "container_egress",
        "egress",
        DEPENDS,
        "the server reaches {target_host}, its container does not ({error})",
        "on {server}: `sudo iptables -I DOCKER-USER -p tcp --dport {target_port} -j ACCEPT`",
        lambda chain: (
            chain.tunnel.get("status", 0) > 0
            and _connected_container(chain)
            and chain.found.get("reach", "connected") not in ("", "connected")
            and {"error": chain.found["reach"]}
        ),
    ),
    # --- nginx
    Rule(
        "nginx_old",
        "nginx_version",
        DEPENDS,
        "nginx is older than 1.27.4 ({error}), and does not know all that the conf says",
        "set base_image of agent {agent} to nginx:1.30.6, and `{deploy}`",
        lambda chain: (
            (
                () < version(chain.container.get("nginx")) < (1, 27, 4)
                or _log(r'invalid parameter "resolve"|unknown directive "keepalive_min_timeout"')(chain)
            )
            and {"error": chain.container.get("nginx") or "by its log"}
        ),
        STOP,
    ),
    Rule(
        "container_twin",
        "container",
        BROKEN,
        "{error} takes the agent's visitors as well, and is not of the project",
        "on {server}: `docker rm --force {error}`, and `{up}`",
        _twins,
    ),
    Rule(
        "container_missing",
        "container",
        BROKEN,
        "there is no container {container}",
        "`{deploy}`, or on {server}: `{up}`",
        lambda chain: bool(chain.found) and not chain.found.get("error") and not chain.container.get("status"),
    ),
    Rule(
        "container_dies",
        "container",
        BROKEN,
        "{container} dies over and over: {log}",
        "`{deploy}`; it says more with `docker logs {container}` on {server}",
        _status("restarting"),
    ),
    Rule(
        "container_paused",
        "container",
        BROKEN,
        "{container} is paused",
        "on {server}: `docker unpause {container}`",
        _status("paused"),
    ),
    Rule(
        "container_fails",
        "container",
        BROKEN,
        "{container} does not start ({error}): {log}",
        "`{deploy}`; it says more with `docker logs {container}` on {server}",
        _fails_to_start,
    ),
    Rule(
        "container_stopped",
        "container",
        BROKEN,
        "{container} does not run ({error}): {log}",
        "on {server}: `{up}`",
        lambda chain: (
            bool(chain.container.get("status"))
            and not chain.container.get("running")
            and {"error": chain.container["status"]}
        ),
    ),
    Rule(
        "container_unhealthy",
        "container",
        DEPENDS,
        "{container} is unhealthy, so Traefik sends nobody there: {log}",
        "on {server}: `docker restart {container}`; if it stays so, `{deploy}`",
        lambda chain: chain.container.get("health") == "unhealthy",
    ),
    Rule(
        "container_starting",
        "container",
        DEPENDS,
        "{container} is just starting",
        "in half a minute again: `{diagnose}`",
        lambda chain: chain.container.get("health") == "starting",
    ),
    Rule(
        "files_differ",
        "files",
        DEPENDS,
        "what the container runs is not its release: {error}",
        "`{deploy}`",
        lambda chain: bool(chain.found.get("differs")) and {"error": ", ".join(chain.found["differs"])},
    ),
    Rule(
        "files_gone",
        "files",
        WARN,
        "deleted from {root}: {error}",
        "`{deploy}`",
        lambda chain: bool(chain.found.get("gone")) and {"error": ", ".join(chain.found["gone"])},
    ),
    Rule(
        "files_edited",
        "files",
        WARN,
        "edited in {root} and not active: {error}",
        "put the change into the inventory and `{deploy}`, which keeps the edited file as NAME.TIMESTAMP~",
        lambda chain: bool(chain.found.get("edited")) and {"error": ", ".join(chain.found["edited"])},
    ),
    Rule(
        "nginx_open",
        "nginx_origin",
        WARN,
        "the agent's nginx passes a foreign Origin on: any website may open the WebSocket with its visitors' cookies",
        "`{deploy}`",
        lambda chain: (chain.nginx.get("foreign") or {}).get("status") == 101,
    ),
    Rule(
        "maintenance",
        "nginx",
        BROKEN,
        "the agent is closed for maintenance",
        "`{deploy}` (without -e maintenance=true)",
        lambda chain: chain.nginx.get("state") == "maintenance",
    ),
    Rule(
        "nginx_silent",
        "nginx",
        BROKEN,
        "nginx in {container} does not answer ({error})",
        "`{deploy}`; it says more with `docker logs {container}` on {server}",
        lambda chain: (
            bool(chain.nginx)
            and not chain.nginx.get("status")
            and not (chain.nginx.get("reason") == "timeout" and not chain.tunnel_good)
            and {"error": chain.nginx.get("error", "")}
        ),
    ),
    Rule(
        "nginx_interstitial",
        "nginx",
        BROKEN,
        "visitors get ngrok's warning page, because nginx does not send ngrok-skip-browser-warning",
        "set ngrok of agent {agent} to 'true', and `{deploy}`",
        _nginx_reason("interstitial", "tunnel_refused"),
    ),
    Rule(
        "nginx_untrusted",
        "nginx",
        BROKEN,
        "nginx does not trust the tunnel's certificate, the server does",
        "set ca_certificate of agent {agent} to its authority's PEM file, and `{deploy}`",
        _nginx_unable(r"SSL certificate (verify error|does not match)|certificate verify failed"),
    ),
    Rule(
        "nginx_unresolved",
        "nginx",
        BROKEN,
        "nginx does not resolve {target_host}",
        "set resolver of agent {agent} to [127.0.0.11], and `{deploy}`",
        _nginx_unable(r"could not be resolved|no resolver defined|host not found"),
    ),
    Rule(
        "nginx_unable",
        "nginx",
        BROKEN,
        "nginx does not reach the tunnel, the server does ({error})",
        "`{deploy}`; it says more with `docker logs {container}` on {server}",
        _nginx_reason("offline", "app_down", "rate_limit", "quota", "proxy_error", "timeout", "stopped"),
    ),
    Rule(
        "nginx_origin_line",
        "nginx",
        BROKEN,
        "the app takes the tunnel's Origin, and nginx does not send it (403)",
        "`{deploy}`; a hand-made conf needs `proxy_set_header Origin {target_url};` for the agent's own origin",
        _nginx_reason("refused_origin"),
    ),
    Rule(
        "nginx_upgrade",
        "nginx",
        BROKEN,
        "nginx loses the handshake's Upgrade or Connection ({error})",
        "`{deploy}`; a hand-made conf needs proxy_http_version 1.1 and the headers Upgrade and Connection",
        lambda chain: (
            bool(chain.agent.get("probe_path"))
            and _nginx_reason("not_a_websocket", "bad_key", "no_upgrade", "no_route", "redirected")(chain)
        ),
    ),
    Rule(
        "nginx_page",
        "nginx",
        BROKEN,
        "visitors get neither the app nor its page ({error})",
        "look at agent_proxy_page, and `{deploy}`",
        lambda chain: chain.nginx.get("reason") == "bad_page" and {"error": chain.nginx.get("error", "")},
    ),
    Rule(
        "nginx_other",
        "nginx",
        BROKEN,
        "nginx does not pass on what the tunnel answers ({error})",
        "`{deploy}`; it says more with `docker logs {container}` on {server}",
        lambda chain: _bad_nginx(chain) and {"error": chain.nginx.get("error", "")},
    ),
    Rule(
        "nginx_upload",
        "nginx",
        BROKEN,
        "nginx refuses an upload of 2 MB (413)",
        "set max_body_size of agent {agent}, and `{deploy}`; a hand-made conf needs `client_max_body_size 200m;`",
        lambda chain: bool((chain.nginx.get("upload") or {}).get("refused")),
    ),
)
