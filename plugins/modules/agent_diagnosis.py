#!/usr/bin/python
# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: agent_diagnosis
short_description: What only the server knows of an agent's chain
version_added: 0.1.0
description:
  - Collects the facts that a diagnosis of an agent rests on, with Docker's command line and Python's standard library.
  - Judges nothing and changes nothing.
author:
  - the locki.vaettir authors (@locki)
extends_documentation_fragment:
  - locki.vaettir.agent
  - locki.vaettir.attributes.info
  - locki.vaettir.attributes
options:
  target_url:
    description: The tunnel's URL, where neither the container nor C(.env) has a valid one.
    type: str
    required: true
  tunnel_secret:
    description: What the tunnel's traffic policy asks for. Empty for nothing.
    type: str
    default: ''
  ca_path:
    description: PEM file of the tunnel's authority, relative to O(root). The system's own where it is not there.
    type: str
    default: ''
  probe_path:
    description: Path of the app's WebSocket. Streamlit's health page has the same base path.
    type: str
    default: ''
  timeout:
    description: Longest time for one question to the tunnel, in seconds.
    type: float
    default: 10
"""

EXAMPLES = r"""
- name: What the server knows
  locki.vaettir.agent_diagnosis:
    root: /home/deploy/vaettir
    name: ocapistaine
    target_url: https://ocapistaine.ngrok-free.app
  register: found
"""

RETURN = r"""
error:
  description: Why Docker could not be asked. Empty when it could.
  type: str
  returned: always
time:
  description: The server's clock, in seconds since 1970.
  type: float
  returned: always
disk_free:
  description: Bytes that are left where the project folder is.
  type: int
  returned: always
inodes_free:
  description: Files that may still be made there. V(1) where the file system has no limit.
  type: int
  returned: always
env:
  description: What C(.env) says of the agent.
  type: dict
  returned: always
  contains:
    target:
      description: The target URL as it is written there. Empty when there is none.
      type: str
target:
  description: The target URL that the chain is asked with, which is the one in force.
  type: str
  returned: always
resolved:
  description: Addresses of the target's host.
  type: dict
  returned: always
  contains:
    by:
      description: Who resolved it, V(container) or V(server).
      type: str
    addresses:
      description: IP addresses.
      type: list
      elements: str
    error:
      description: Why there are none.
      type: str
    overridden:
      description: DNS servers that the container was given in place of the server's. Empty when it has the server's.
      type: str
forwarding:
  description: Whether the kernel passes packets on to containers.
  type: bool
  returned: always
reach:
  description: V(connected), or why the container cannot connect to the target. Empty when it was not asked.
  type: str
  returned: always
page:
  description: A plain GET through the tunnel.
  type: dict
  returned: always
  contains:
    status:
      description: HTTP status. V(0) for no answer.
      type: int
    streamlit:
      description: Whether it is Streamlit's own health page.
      type: bool
container:
  description: The agent's container. Empty when there is none.
  type: dict
  returned: always
release:
  description: ID of the release in force.
  type: str
  returned: always
verified:
  description: Whether a release with this target was verified while its app answered.
  type: bool
  returned: always
differs:
  description: Names of files in force that are not those of the release.
  type: list
  elements: str
  returned: always
fragment_edited:
  description: Whether the agent's compose file was edited since the release.
  type: bool
  returned: always
gone:
  description: Paths of files that were there at the release and are not any more.
  type: list
  elements: str
  returned: always
edited:
  description: Paths of files that were edited since the release.
  type: list
  elements: str
  returned: always
traefik:
  description: Traefik's container. Empty when there is none.
  type: dict
  returned: always
ca_path:
  description: Path of the tunnel's authority. Empty where there is no such file.
  type: str
  returned: always
routers:
  description: Traefik routers of all running containers, by their labels.
  type: list
  elements: dict
  returned: always
"""

import contextlib
import glob
import os
import re
import socket
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.locki.vaettir.plugins.module_utils import (
    _agent,
    _certificate,
    _docker,
    _dotenv,
    _files,
    _http,
    _module,
    _names,
    _release,
    _traefik,
)

_TAIL = 200  # lines of a log
_WHEN = re.compile(r"^[0-9T:.+Z-]+ ")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_TRAEFIK_WORRIES = re.compile(r"\b(ERR|WRN|ERROR|error)\b|level=(error|warning)")
_NGINX_WORRIES = re.compile(r"\[(error|crit|alert|emerg)\]|^agent-proxy: ", re.MULTILINE)


def log(container: dict[str, Any]) -> list[str]:
    """Of its last start: what it said before is over."""
    words = ("--tail", str(_TAIL), "--since", container["State"]["StartedAt"])
    _status, output, error = _docker.docker("logs", *words, container["Id"], timeout=20)
    return [_COLOURS.sub("", line).strip() for line in (output + error).splitlines() if line.strip()]


def networks(container: dict[str, Any]) -> list[str]:
    return sorted(container["NetworkSettings"]["Networks"] or {})


def alive(container: dict[str, Any] | None) -> bool:
    """Docker counts a paused one as running, too."""
    return bool(container and _docker.running(container) and not container["State"].get("Paused"))


def last_words(container: dict[str, Any], told: str) -> str:
    """What a container that was ended from outside said before has nothing to do with it."""
    ended = container["State"]["Status"] == "exited" and container["State"].get("ExitCode") in (0, 137, 143)
    return "" if ended else told[:300]


def state(container: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": container["Name"].lstrip("/"),
        "status": container["State"]["Status"],
        "running": alive(container),
        "restarts": container.get("RestartCount", 0),
        "started": container["State"]["StartedAt"],
        "health": _docker.health(container),
        "networks": networks(container),
    }


def in_order(addresses: list[str]) -> list[str]:
    """Each once, IPv4 first: nginx asks for no other unless it is told to."""
    return sorted(dict.fromkeys(addresses), key=lambda address: ":" in address)


def health_path(probe_path: str) -> str:
    """Beside Streamlit's WebSocket; at the root for what has another one."""
    stream, health = "/_stcore/stream", "/_stcore/health"
    return probe_path[: -len(stream)] + health if probe_path.endswith(stream) else health


class Diagnosis:
    def __init__(self, params: dict[str, Any]) -> None:
        self.params = params
        self.root, self.name = params["root"], params["name"]
        self.store = _release.Store(self.root, self.name)
        self.key = _names.target_url_key(self.name)
        self.there: list[dict[str, Any]] = []
        self.agent: dict[str, Any] | None = None
        self.in_force = _release.State()

    def collect(self) -> dict[str, Any]:
        error = ""
        try:
            self.there = _docker.containers()
            self.agent = _agent.Agent(self.params["project"], self.name).current()
        except _docker.DockerError as failure:
            error = str(failure)
        if self.agent and alive(self.agent):
            with contextlib.suppress(_docker.DockerError):  # what cannot be asked is not known
                self.in_force = _agent.state(self.agent["Id"])
        env = ""
        with contextlib.suppress(OSError):  # what cannot be read is not known
            env = _dotenv.read(self.store.environment()).get(self.key, "")
        target = self.target(env)
        addresses = self.resolve(target)
        return {
            "error": error,
            "time": time.time(),
            **_files.room(self.root),
            "env": {"target": env},
            "target": target,
            "resolved": addresses,
            "forwarding": (_files.readable("/proc/sys/net/ipv4/ip_forward") or b"1").strip() != b"0",
            "reach": self.reach(target, addresses),
            "page": self.page(target, addresses),
            "container": self.container(),
            **self.files(target),
            "traefik": self.traefik(),
            "routers": self.routers(),
            "ca_path": self.ca_path(),
        }

    def routers(self) -> list[dict[str, Any]]:
        own = _agent.Agent(self.params["project"], self.name).container_name
        found = [one for container in self.there for one in _traefik.routers(container)]
        return _traefik.owned(found, self.name, own)

    # --- The tunnel ---------------------------------------------------------------------------------------------------

    def used(self) -> str:
        """The target that the container goes to: the release's, unless its environment is newer."""
        if not self.agent:
            return ""
        own = _docker.environment(self.agent).get(self.key, "")
        release = self.store.current().release
        if release in self.store.ids() and self.in_force.files.get(_release.VALUES):
            values = self.store.read(release).get(_release.VALUES, b"")
            if _files.digest(values) == self.in_force.files[_release.VALUES]:
                own = _dotenv.read(values.decode("utf-8", "replace")).get("TARGET_URL", own)
        return own.rstrip("/").lower()

    def target(self, env: str) -> str:
        candidates = (self.used(), env.rstrip("/"), self.params["target_url"])
        return next((url for url in candidates if not _names.target_url_error("", url)), self.params["target_url"])

    def resolve(self, target: str) -> dict[str, Any]:
        """As the container sees it; its DNS is not the server's."""
        url = _http.parse_url(target)
        if self.agent and alive(self.agent):
            output = _agent.execute(self.agent["Id"], "getent", "ahosts", url.host, timeout=15)[1]
            found = in_order([line.split()[0] for line in output.splitlines() if line.split()])
            if found:
                return {"by": "container", "addresses": found, "error": "", "overridden": ""}
        asked = {"by": "server", "addresses": [], "error": "", "overridden": self.overridden()}
        try:
            answers = socket.getaddrinfo(url.host, url.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            return {**asked, "error": getattr(error, "strerror", None) or str(error)}
        return {**asked, "addresses": in_order([str(one[4][0]) for one in answers])}

    def overridden(self) -> str:
        """DNS servers that the container has been given in place of the server's own, as Docker notes them."""
        if not self.agent or not alive(self.agent):
            return ""
        conf = _agent.execute(self.agent["Id"], "cat", "/etc/resolv.conf", timeout=15)[1]
        servers = re.search(r"(?m)^# ExtServers: \[(.*)\]", conf)
        return servers.group(1) if servers and re.search(r"(?m)^# Overrides: .*nameservers", conf) else ""

    def reach(self, target: str, resolved: dict[str, Any]) -> str:
        """From inside the container; bash is what its image has for that."""
        url = _http.parse_url(target)
        if not self.agent or not alive(self.agent) or not resolved["addresses"]:
            return ""
        identifier = self.agent["Id"]
        if _agent.execute(identifier, "bash", "-c", "command -v timeout", timeout=15)[0]:
            return ""
        failure = ""
        for address in resolved["addresses"][:3]:
            words = ("timeout", "5", "bash", "-c", f"exec 3<>/dev/tcp/{address}/{url.port}")
            status, _output, error = _agent.execute(identifier, *words, timeout=15)
            if status == 0:
                return "connected"
            told = _docker.last_line(error).rpartition(": ")[2]
            failure = "no connection within 5 s" if status == 124 else told or f"exit {status}"
        return failure

    def page(self, target: str, resolved: dict[str, Any]) -> dict[str, Any]:
        """Streamlit's health page: what answers it with `ok` is one."""
        if not resolved["addresses"]:
            return {"status": 0, "streamlit": False}
        url = _http.parse_url(target + health_path(self.params["probe_path"]))
        headers = [("ngrok-skip-browser-warning", "true"), ("User-Agent", "locki.vaettir"), ("Connection", "close")]
        if self.params["tunnel_secret"]:
            headers.append(("X-Vaettir-Secret", self.params["tunnel_secret"]))
        data = b""
        end = time.monotonic() + float(self.params["timeout"])
        try:
            with socket.create_connection(
                (resolved["addresses"][0], url.port), timeout=end - time.monotonic()
            ) as plain:
                context = _certificate.trusting(self.ca_path()) if url.secure else None
                sock = context.wrap_socket(plain, server_hostname=url.host) if context else plain
                with sock:
                    sock.sendall(_http.request("GET", url, headers))
                    while len(data) < _http.HEAD_LIMIT and time.monotonic() < end:
                        came = sock.recv(4096)
                        data += came
                        if not came:
                            break
        except (OSError, ValueError):
            pass
        head = _http.head_end(data)
        status, fields = _http.parse_head(data[:head]) if head > 0 else (0, {})
        coded = "ngrok-error-code" in fields
        return {"status": status, "streamlit": status == 200 and not coded and data[head:].strip().endswith(b"ok")}

    def ca_path(self) -> str:
        """As it was released, whatever has become of the live one."""
        live = os.path.join(self.root, self.params["ca_path"])
        released = self.store.path(self.store.current().release, os.path.basename(live))
        return next((path for path in (released, live) if os.path.isfile(path)), "")

    # --- Containers ---------------------------------------------------------------------------------------------------

    def container(self) -> dict[str, Any]:
        if not self.agent:
            return {}
        lines = [line for line in log(self.agent) if not line.startswith("{")]  # its visitors
        worries = [line for line in lines if _NGINX_WORRIES.search(line)]
        answers = alive(self.agent)
        told = _agent.execute(self.agent["Id"], "nginx", "-v", timeout=15)[2] if answers else ""
        number = told if "nginx/" in told else _docker.environment(self.agent).get("NGINX_VERSION", "")
        labels = {key: value for key, value in _docker.labels(self.agent).items() if key.startswith("traefik.")}
        return {
            **state(self.agent),
            "log": self.agent["State"].get("Error") or last_words(self.agent, _agent.reason("\n".join(lines))),
            "exit": self.agent["State"].get("ExitCode", 0),
            "errors": "\n".join(worries[-5:])[:2000],
            "nginx": number.rpartition("/")[2].strip(),
            "target": self.used(),
            "labels": labels,
            "address": _docker.address(self.agent) if answers else "",
        }

    def files(self, target: str) -> dict[str, Any]:
        """What runs against the release, and the live files against it."""
        release = self.store.current().release
        found: dict[str, Any] = {
            "release": release,
            "differs": [],
            "edited": [],
            "gone": [],
            "fragment_edited": False,
            "verified": False,
        }
        for identifier in self.store.ids():
            try:
                facts, values = self.store.facts(identifier), self.store.read(identifier).get(_release.VALUES, b"")
            except (_release.ReleaseError, ValueError, OSError):
                continue
            used = _dotenv.read(values.decode("utf-8", "replace")).get("TARGET_URL", "").rstrip("/").lower()
            proven = bool(facts.get("verified")) and facts.get("online", True)
            found["verified"] = found["verified"] or (proven and used == target.lower())
        if self.store.lock():  # a run that releases just now
            return found
        told = {name: digest for name, digest in self.in_force.files.items() if ":" not in name}
        if release not in self.store.ids():
            return {**found, "gone": [f"releases/{self.name}"] if told else []}
        kept = {name: _files.digest(content) for name, content in self.store.read(release).items()}
        if told:
            found["differs"] = sorted(name for name, digest in told.items() if kept.get(name, digest) != digest)
        fragment = _files.readable(os.path.join(self.root, "agents", f"{self.name}.yml"))
        found["fragment_edited"] = fragment not in (None, self.store.read(release).get("compose.yml", fragment))
        for name in (f"{self.name}.conf.template", f"{self.name}.ca.pem"):
            path = os.path.join(self.root, "proxy-configs", name)
            live = _files.readable(path)
            if name in kept and not os.path.isfile(path):  # Docker makes a directory for a missing one
                found["gone"].append(f"proxy-configs/{name}")
            elif name in kept and live is not None and _files.digest(live) != kept[name]:
                found["edited"].append(f"proxy-configs/{name}")
        return found

    def traefik(self) -> dict[str, Any]:
        project, name = self.params["project"], f"{self.params['project']}-traefik-1"
        labels = (f"label={_docker.COMPOSE}project={project}", f"label={_docker.COMPOSE}service=traefik")
        own = _docker.docker("ps", "--all", "--quiet", *(f"--filter={label}" for label in labels), timeout=20)[1]
        container = _docker.inspect("container", *own.split()[:1], name) or _traefik.chosen(self.there)
        if not container:
            return {}
        answers = alive(container)
        told = _agent.execute(container["Id"], "traefik", "version", timeout=15)[1] if answers else ""
        number = re.search(r"(?m)^Version:\s*(\S+)", told)
        lines = [_WHEN.sub("", line) for line in log(container) if _TRAEFIK_WORRIES.search(line)]
        about = [line for line in lines if "acme" in line.lower() or self.name in line]
        bindings = container["NetworkSettings"]["Ports"] or {}
        return {
            **state(container),
            "version": number.group(1) if number else _traefik.version(container),
            "godebug": _docker.environment(container).get("GODEBUG", ""),
            "flags": _traefik.settings(container),
            "ports": {
                one["HostPort"]: inside.partition("/")[0] for inside, ones in bindings.items() for one in ones or []
            },
            "log": last_words(container, (about or [line for line in lines if "WRN" not in line] or [""])[-1]),
            "errors": list(dict.fromkeys(line[:500] for line in reversed(lines) if "WRN" not in line))[:20][::-1],
            "files": self.owners_files(),
        }

    def owners_files(self) -> list[str]:
        """Those with routers in the folder that Traefik watches."""
        manifest, found = _files.Manifest(self.root), []
        for path in sorted(glob.glob(os.path.join(self.root, "traefik/dynamic/*.y*ml"))):
            name = os.path.relpath(path, self.root)
            if manifest.exists and not manifest.owns(name) and b"routers" in (_files.readable(path) or b""):
                found.append(name)
        return found


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            **_module.AGENT,
            "target_url": {"type": "str", "required": True},
            "tunnel_secret": {"type": "str", "default": "", "no_log": True},
            "ca_path": {"type": "str", "default": ""},
            "probe_path": {"type": "str", "default": ""},
            "timeout": {"type": "float", "default": 10},
        },
        supports_check_mode=True,
    )
    _module.finish(module, Diagnosis(module.params).collect)


if __name__ == "__main__":
    main()
