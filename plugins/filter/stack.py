# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What the role stack judges: its variables, a server, and what is to happen there."""

from __future__ import annotations

import re
import ssl
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ansible_collections.locki.vaettir.plugins.module_utils import _arguments, _chain, _names, _release, _tunnel
from ansible_collections.locki.vaettir.plugins.plugin_utils import _local_files

COMPOSE_MINIMUM = (2, 20)  # the first with `include`
ENGINE_DOCS = "docs.docker.com/engine/install"
TLS_FILE = "traefik/dynamic/tls.yml"


@dataclass(frozen=True)
class Settings:
    """The role's variables in their types, as vars/main.yml lists them (__stack_settings)."""

    server: str
    project: str
    dir: str
    manage: bool
    install: bool
    packages: dict[str, list[str]]  # by distribution
    http_port: int
    https_port: int
    tls: str
    traefik_stays: bool  # a deploy never replaces a Traefik that runs, an upgrade does
    remove_certificates: bool
    tunnel_port: int = 0  # none
    tunnel_image: str = ""


def certificate_error(certificate: str, key: str) -> str:
    """Why this is not the key of this certificate; empty where it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # short keys are not what is asked
    # Its owner's alone (0700): the ssl module reads files only, and the key may come out of a vault.
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "certificate"), Path(folder, "key")
        for path, text in zip(paths, (certificate, key), strict=True):
            path.write_text(text, encoding="utf-8", errors="replace")
        try:
            context.load_cert_chain(paths[0], paths[1], password=lambda: "")  # else it would ask the terminal
        except ssl.SSLError as error:
            return (error.reason or "").lower().replace("_", " ") or "no PEM, or one with a password"
    return ""


# Beyond its type: what a variable must mean. Paths of files are opened by stack_files_error.
RULES: dict[str, _arguments.Rule] = {
    "stack_acme_email": _names.email_error,
    "stack_acme_server": _names.acme_server_error,
    "stack_dir": _names.folder_error,
    "stack_discord_invite_url": _names.discord_error,
    "stack_http_port": _names.port_error,
    "stack_https_port": _names.port_error,
    "stack_docker_api_image": _names.image_error,
    "stack_tunnel_base_image": _names.image_error,
    "stack_tunnel_port": _names.port_error,
    "stack_traefik_image": _names.image_error,
    "stack_traefik_memory": _names.size("64m", "1024g"),
    "stack_traefik_pids": _names.number(64, 1_000_000),
    "stack_traefik_read_timeout": _names.number(0, 2_592_000),
}


def stack_errors(variables: dict[str, Any], options: dict[str, Any]) -> list[str]:
    values, errors = _arguments.check(variables, options, RULES)
    if errors:
        return errors
    if values["stack_http_port"] == values["stack_https_port"]:
        errors.append(f"stack_https_port '{values['stack_https_port']}' is stack_http_port as well: choose another.")
    if values["stack_tunnel"] and not values["stack_manage"]:
        errors.append("stack_tunnel is true, but stack_manage is false: set one of them to the other's value.")
    if values["stack_tunnel"] and values["stack_tunnel_port"] in (
        values["stack_http_port"],
        values["stack_https_port"],
    ):
        errors.append(f"stack_tunnel_port '{values['stack_tunnel_port']}' is Traefik's as well: choose another.")
    if values["stack_manage"] and values["stack_tls"] == "acme" and not values["stack_acme_email"]:
        errors.append(
            "stack_acme_email '' is not an e-mail address: set it, since the certificate authority wants one, "
            "or set stack_tls to files and bring your own certificate."
        )
    return errors


def stack_files_error(variables: dict[str, Any], certificate: str | None = None, key: str = "") -> str:
    """Of the files on the control node; the texts of those that may come out of a vault are given, or not yet read."""
    pair = ["stack_tls_certificate", "stack_tls_key"]
    own = pair if variables["stack_tls"] == "files" and _arguments.boolean(variables["stack_manage"]) else []
    authorities = [name for name in ("stack_tls_ca", "stack_acme_ca_certificate") if variables[name]]
    errors = [
        *(_local_files.file_error(name, str(variables[name])) for name in own),
        *(_local_files.authority_error(name, str(variables[name])) for name in authorities),
    ]
    found = next((error for error in errors if error), "")
    wrong = "" if found or not own or certificate is None else certificate_error(certificate, key)
    if not wrong:
        return found
    shown, certified = (_names.masked(variables[name]) for name in reversed(pair))
    return (
        f"stack_tls_key '{shown}' is not the key of stack_tls_certificate '{certified}' ({wrong}): set both to the PEM "
        "files of one certificate, the key without a password."
    )


def _distribution(found: dict[str, Any]) -> str:
    return f"{found['distribution']['id']} {found['distribution']['version']}"


def _engine_errors(found: dict[str, Any], wanted: Settings) -> Iterator[str]:
    docker = found["docker"]
    if not docker["installed"]:
        if not wanted.install:
            yield (
                f"Docker Engine is not installed on {wanted.server}: set stack_install_docker to true (Debian 13, "
                f"Ubuntu 24.04), or install it as {ENGINE_DOCS} tells."
            )
        elif _distribution(found) not in wanted.packages:
            yield (
                f"stack_install_docker cannot serve {wanted.server}, which is '{_distribution(found)}' and packages no "
                "Compose v2 (Debian 12's docker-compose is 1.29): install Docker's own packages as "
                f"{ENGINE_DOCS} tells, or use {' or '.join(wanted.packages)}."
            )
    elif not docker["version"]:
        yield (
            f"Docker's daemon on {wanted.server} does not answer user {found['user']} ({docker['error']}): start it "
            "with `sudo systemctl start docker`, or let the user in with "
            f"`sudo usermod -aG docker {found['user']}`."
        )
    elif _chain.version(found["compose"]["version"])[:2] < COMPOSE_MINIMUM:
        yield (
            f"Docker Compose on {wanted.server} is {found['compose']['version'] or 'missing'}, and "
            f"{'.'.join(map(str, COMPOSE_MINIMUM))} or later is needed: install the package docker-compose-plugin "
            "(Docker's own packages), docker-compose (Debian 13) or docker-compose-v2 (Ubuntu 24.04)."
        )


def _folder_errors(found: dict[str, Any], wanted: Settings) -> Iterator[str]:
    """Of a project folder that is to be ours."""
    names = {wanted.http_port: "stack_http_port", wanted.tunnel_port: "stack_tunnel_port"}
    taken = [
        f"{names.get(one['port'], 'stack_https_port')} {one['port']} is taken by {one['by']}"
        for one in found["taken_ports"]
    ]
    if taken:
        yield f"{wanted.server}: {'; '.join(taken)}: stop it, or choose another port."
    if found["compose_files"]:
        yield (
            f"{found['root']} on {wanted.server} has a {', '.join(found['compose_files'])} of its owner, which is "
            f"never overwritten or shadowed: move its services to {_names.OVERRIDE} there, or set "
            "stack_manage to false, which leaves it and its Traefik as they are (docs/adopt.md)."
        )


def _owners_errors(found: dict[str, Any], wanted: Settings) -> Iterator[str]:
    """Of a project folder that stays its owner's."""
    owners, where = found["owners"], f"{found['root']} on {wanted.server}"
    if not found["compose_files"] or owners["error"]:
        yield (
            f"stack_manage is false, but {where} has no compose file of its owner's that works "
            f"({owners['error'] or 'there is none'}): fix it, or set stack_manage to true."
        )
        return
    if "traefik" not in owners["services"]:
        yield (
            f"stack_manage is false, but {found['compose_files'][0]} in {where} has no service 'traefik' "
            f"(there are {', '.join(owners['services']) or 'none'}): call it so, or set stack_manage to true."
        )
    if owners["project"] != wanted.project:
        yield (
            f"{found['compose_files'][0]} in {where} is the compose project '{owners['project']}': write "
            f"`name: {wanted.project}` at its top, so that its containers are {wanted.project}-AGENT-1."
        )


def _project_errors(found: dict[str, Any], wanted: Settings) -> Iterator[str]:
    yield from (_folder_errors if wanted.manage else _owners_errors)(found, wanted)
    if found["other_root"]:
        yield (
            f"The compose project {wanted.project} on {wanted.server} belongs to {found['other_root']} already, and "
            f"stack_dir is '{wanted.dir}': set stack_dir to that folder, or take its containers away there with "
            "`docker compose down`."
        )


def _curl_errors(found: dict[str, Any], wanted: Settings) -> Iterator[str]:
    if not found["curl"]:
        yield (
            f"curl is missing on {wanted.server}, and a deploy verifies itself with it: install it with "
            "`sudo apt-get install curl`."
        )


_CHECKS: dict[str, Callable[[dict[str, Any], Settings], Iterator[str]]] = {
    "docker": _engine_errors,
    "project": _project_errors,
    "curl": _curl_errors,
}


def server_error(found: dict[str, Any], settings: dict[str, Any], only: Sequence[str] = ()) -> str:
    """The first is enough: what comes after it may be a consequence."""
    wanted = Settings(**settings)
    errors = (error for name, check in _CHECKS.items() if name in (only or _CHECKS) for error in check(found, wanted))
    return next(errors, "")


def _unfit(traefik: dict[str, Any], wanted: Settings) -> list[str]:
    """Why a Traefik that stays as it runs cannot serve what this deploy brings."""
    reasons = [
        f"it does not listen on port {port}"
        for port in (wanted.http_port, wanted.https_port)
        if port not in traefik["ports"]
    ]
    if _tls(traefik) != wanted.tls:
        reasons.append(f"its certificates come the way of stack_tls={_tls(traefik)}")
    return reasons


def _tls(traefik: dict[str, Any]) -> str:
    return "acme" if any("certresolver=" in flag for flag in traefik["command"]) else "files"


def _stays(traefik: dict[str, Any], wanted: Settings) -> str:
    unfit = _unfit(traefik, wanted)
    return (
        f"{wanted.server}: Traefik's definition changed ({'; '.join(traefik['reasons'])}), and it stays as it runs, "
        f"since a new one drops every open WebSocket of the server: `{_names.playbook('upgrade_traefik')}` replaces it."
        + (f" Until then this deploy cannot be verified, because {', and '.join(unfit)}." if unfit else "")
    )


def _upgrade(found: dict[str, Any], wanted: Settings) -> tuple[str, str]:
    """What an upgrade does, in one word and in a sentence."""
    traefik = found["traefik"]
    if not wanted.manage:
        return "", "Traefik is the owner's, nothing to do."
    if traefik["reasons"]:
        return "replace", f"Traefik is to be replaced: {'; '.join(traefik['reasons'])}."
    if traefik["status"] == "running":
        return "", "Traefik is as it should be, nothing to do."
    if _names.COMPOSE_FILE not in found["written"]:
        return "", "there is no Traefik; the first deploy starts it."
    return "start", "Traefik does not run, and is to be started."


def _ssh_server(ssh: dict[str, Any], wanted: Settings) -> str:
    """What a deploy does with the SSH server of tunnels of one's own."""
    if wanted.tunnel_port:
        return "start" if ssh["status"] != "running" else ""
    return "remove" if ssh["there"] and not ssh["agents"] else ""


def _ssh_server_stays(ssh: dict[str, Any], root: str, wanted: Settings) -> str:
    """A running one stays as it runs: every laptop would have to connect again, and every WebSocket through it end."""
    if not wanted.tunnel_port and ssh["status"] and ssh["agents"]:
        return (
            f"{wanted.server}: the SSH server stays, since laptops of {', '.join(ssh['agents'])} may still come to it. "
            "It goes with the first deploy after these are deployed without tunnel_key, or removed."
        )
    new = (ssh["image"], ssh["ports"]) != (wanted.tunnel_image, [wanted.tunnel_port])
    if wanted.tunnel_port and ssh["status"] == "running" and new:
        return (
            f"{wanted.server}: the definition of the SSH server changed, and it stays as it runs, since every laptop "
            f"would have to connect again. To replace it, on the server: `cd {root} && {_tunnel.REPLACE}`."
        )
    return ""


@dataclass(frozen=True)
class Plan:
    """What is to happen on one server."""

    install: list[str]  # packages that bring Docker
    start: bool  # Traefik, or wait until it is healthy
    stays: str  # why Traefik stays as it runs, although its definition changed
    tunnel: str  # of the SSH server: start, remove, or nothing
    tunnel_stays: str  # why it stays as it runs
    absent: list[str]  # files that a deploy removes
    upgrade: str  # of Traefik: replace, start, or nothing
    upgrade_why: str
    remove_traefik: bool  # with the whole stack
    remove_files: list[str]


def _plan(found: dict[str, Any], wanted: Settings) -> Plan:
    traefik, ssh, written = found["traefik"], found["tunnel_ssh"], found["written"]
    runs = traefik["status"] == "running"
    stays = runs and wanted.traefik_stays and bool(traefik["reasons"])
    upgrade, why = _upgrade(found, wanted)
    missing = wanted.install and not found["docker"]["installed"]
    # A Traefik that stays as it runs goes on serving its certificate.
    serves_files = stays and _tls(traefik) == "files"
    return Plan(
        install=list(wanted.packages.get(_distribution(found), [])) if missing else [],  # not a lazy one of Ansible
        start=wanted.manage and not (runs and traefik["health"] == "healthy"),
        stays=_stays(traefik, wanted) if wanted.manage and stays else "",
        tunnel=_ssh_server(ssh, wanted) if wanted.manage else "",
        tunnel_stays=_ssh_server_stays(ssh, found["root"], wanted) if wanted.manage else "",
        absent=[TLS_FILE] if wanted.tls == "acme" and not serves_files else [],
        upgrade=upgrade,
        upgrade_why=f"{wanted.server}: {why}",
        remove_traefik=traefik["status"] != "" and _names.COMPOSE_FILE in written,
        remove_files=[path for path in written if wanted.remove_certificates or not path.startswith("traefik/certs/")],
    )


def stack_plan(found: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    return asdict(_plan(found, Settings(**settings)))


def agent_handshakes(agents: list[dict[str, Any]], deployed: list[str]) -> list[dict[str, Any]]:
    """One with each deployed agent."""
    return [
        {
            "label": agent["name"],
            "url": agent["public_origin"] + (agent["probe_path"] or "/"),
            "origin": agent["public_origin"],
            "upgrade": bool(agent["probe_path"]),
            "expected": [],
        }
        for agent in agents
        if agent["name"] in deployed
    ]


# What is given to a playbook with -e, by each as far as it reads it.
_PLAYBOOK_OPTIONS: dict[str, Any] = {
    **{name: {"type": "raw"} for name in ("vaettir_hosts", "vaettir_serial")},
    **{name: {"type": "str"} for name in ("agent", "app_url", "release", "report_file", "status_file", "textfile")},
    "confirm": {"type": "bool"},
}


def _serial_error(variable: str, serial: Any) -> str | None:
    use = "numbers of servers or percentages, as in [1, '25%', '100%']"
    steps = serial if isinstance(serial, list) else [serial]
    for step in steps:
        text = "" if isinstance(step, bool) else str(step)
        if not re.fullmatch(r"[1-9][0-9]{0,3}|([1-9][0-9]?|100)%", text, re.ASCII):
            return _names.refusal(variable, step, use)
    return None if steps else f"{variable} is empty: use {use}."


def host_pattern(pattern: Any) -> str:
    """Of a play, which must begin to say that a value is none."""
    return pattern if isinstance(pattern, str) and pattern.isprintable() and pattern.strip() else "localhost"


def _hosts_error(variable: str, pattern: Any) -> str | None:
    if pattern == host_pattern(pattern):
        return None
    return _names.refusal(variable, pattern, "a group or a pattern of hosts, like vaettir")


def _agents_named_error(variable: str, only: str) -> str | None:
    names = _names.listed(only)
    if not names or not only.isprintable():
        return _names.refusal(variable, only, "names of vaettir_agents, separated by commas, like ocapistaine")
    return next((error for error in map(_names.agent_name_error, names) if error), None)


_printable_path = _names.fitting(r"^[^\x00-\x1f\x7f]{1,1000}$", "the path of a file")
_PLAYBOOK_RULES: dict[str, _arguments.Rule] = {
    "agent": _agents_named_error,
    "app_url": _names.target_url_error,
    "release": _names.fitting(_release.ID_REGEX, "a name like 20261123T013000Z"),
    "report_file": _printable_path,
    "status_file": _printable_path,
    "textfile": _printable_path,
    "vaettir_hosts": _hosts_error,
    "vaettir_serial": _serial_error,
}


def run_error(variables: dict[str, Any], servers: list[str]) -> str:
    """What is wrong with the variables of a run, or with the servers that it is for."""
    _values, errors = _arguments.check(variables, _PLAYBOOK_OPTIONS, _PLAYBOOK_RULES)
    if not errors and not servers:
        return (
            f"No host of the inventory matches '{_names.masked(variables['vaettir_hosts'])}': put your servers into "
            "the group vaettir, or set vaettir_hosts."
        )
    return errors[0] if errors else ""


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "agent_handshakes": agent_handshakes,
            "host_pattern": host_pattern,
            "run_error": run_error,
            "server_error": server_error,
            "stack_errors": stack_errors,
            "stack_files_error": stack_files_error,
            "stack_plan": stack_plan,
        }
