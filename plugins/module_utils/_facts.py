# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What only the server knows of an agent's chain: facts for _diagnosis, and what each hop answers. Changes nothing."""

from __future__ import annotations

import contextlib
import glob
import os
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from typing import Any, Callable

from . import (
    _bisect,
    _certificate,
    _containers,
    _docker,
    _dotenv,
    _files,
    _http,
    _names,
    _probe,
    _questions,
    _release,
    _traefik,
    _tunnel,
    _visitor,
)
from ._at_once import AtOnce, at_once

_TAIL = 200  # lines of a log
_LAPTOPS = 2000  # of the SSH server's, which strangers write as well
_SHORT = 5  # seconds for a command in a container
LIMIT = 16.5  # seconds until what hangs is left behind
_NO_PAGE = {"status": 0, "streamlit": False}
_WHEN = re.compile(r"^[0-9T:.+Z-]+ ")
_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_TRAEFIK_WORRIES = re.compile(r"\b(ERR|WRN|ERROR|error)\b|level=(error|warning)")
_NGINX_WORRIES = re.compile(r"\[(error|crit|alert|emerg)\]|^agent-proxy: ", re.MULTILINE)
_NOT_ACCEPTED = ("tls_untrusted", "tls_pending", "tls_name", "tls_expired")
_ANSWERED = 100  # is added to the exit status of what was asked: docker and a shell without a command end with others
_CONNECT = (
    "command -v timeout > /dev/null || exit 1; "
    f"timeout 5 bash -c 'exec 3<>/dev/tcp/'$0'/'$1; exit $(($? + {_ANSWERED}))"
)


def log(container: dict[str, Any], tail: int = _TAIL) -> list[str]:
    """Of its last start: what it said before is over."""
    words = ("--tail", str(tail), "--since", container["State"]["StartedAt"])
    _status, output, error = _docker.docker("logs", *words, container["Id"], timeout=8)
    return [_COLOURS.sub("", line).strip() for line in (output + error).splitlines() if line.strip()]


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
        "status": _docker.status(container),
        "running": alive(container),
        "restarts": container.get("RestartCount", 0),
        "started": container["State"]["StartedAt"],
        "health": _docker.health(container),
        "networks": sorted(container["NetworkSettings"]["Networks"] or {}),
    }


def in_order(addresses: list[str]) -> list[str]:
    """Each once, IPv4 first: nginx asks for no other unless it is told to."""
    return sorted(dict.fromkeys(addresses), key=lambda address: ":" in address)


def health_path(probe_path: str) -> str:
    """Next to Streamlit's WebSocket; at the root for what has another one."""
    stream, health = "/_stcore/stream", "/_stcore/health"
    return probe_path[: -len(stream)] + health if probe_path.endswith(stream) else health


def no_way(visit: list[dict[str, Any]]) -> str:
    """Why a container's visitor met nobody, where a busy Docker gave no time to ask for that alone."""
    met = [one for one in visit if one["status"] or one["late"]]
    return "" if met or not visit else str(visit[0]["told"])


def answer(known: dict[str, Any], name: str, wanted: bool, ask: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The answer that there is already, or else that of the question; nothing where it is not to be asked."""
    return dict(known[name]) if name in known else ask() if wanted else {}


class Server:
    """What the chains of all agents share; each is asked for once, and by whoever needs it first."""

    def __init__(self, project: str) -> None:
        self.project, self.error = project, ""
        self.containers: list[dict[str, Any]] = []
        try:
            self.containers = _docker.containers("--all")
        except _docker.DockerError as failure:
            self.error = str(failure)
        self.running = [container for container in self.containers if container["State"]["Running"]]
        self._lock = threading.Lock()
        self._tunnel: dict[str, Any] | None = None
        self._proxy: dict[str, Any] | None = None

    def traefik(self) -> dict[str, Any] | None:
        """The project's, or another one that runs here."""
        for container in self.containers:
            labels = _docker.labels(container)
            ours = labels.get(f"{_docker.COMPOSE}project") == self.project
            if ours and labels.get(f"{_docker.COMPOSE}service") == "traefik":
                return container
        return _docker.called(self.containers, f"{self.project}-traefik-1") or _traefik.chosen(self.running)

    def proxy(self) -> dict[str, Any]:
        """What Traefik says of itself; `lines` are what worries it."""
        with self._lock:
            if self._proxy is None:
                container = self.traefik()
                self._proxy = self._asked(container) if container else {}
            return self._proxy

    def _asked(self, container: dict[str, Any]) -> dict[str, Any]:
        with ThreadPoolExecutor() as pool:
            said = pool.submit(log, container)
            asked = ("traefik", "version")
            told = _containers.execute(container["Id"], *asked, timeout=_SHORT)[1] if alive(container) else ""
        number = re.search(r"(?m)^Version:\s*(\S+)", told)
        bindings = container["NetworkSettings"]["Ports"] or {}
        return {
            **state(container),
            "version": number.group(1) if number else _traefik.version(container),
            "godebug": _docker.environment(container).get("GODEBUG", ""),
            "flags": _traefik.settings(container),
            "ports": {
                one["HostPort"]: inside.partition("/")[0] for inside, ones in bindings.items() for one in ones or []
            },
            "lines": [_WHEN.sub("", line) for line in said.result() if _TRAEFIK_WORRIES.search(line)],
            "container": container,
        }

    def tunnel(self) -> dict[str, Any]:
        """What the SSH server of tunnels of one's own says; empty where there is none."""
        with self._lock:
            if self._tunnel is None:
                container = _docker.called(self.containers, f"{self.project}-tunnel-ssh-1")
                self._tunnel = self._ssh(container) if container else {}
            return self._tunnel

    def _ssh(self, container: dict[str, Any]) -> dict[str, Any]:
        words = (container["Id"], "sh", "/usr/local/bin/tunnel-ssh", "state")
        told = _containers.execute(*words, timeout=_SHORT)[1] if alive(container) else ""
        pairs = [line.split() for line in told.splitlines()]
        bindings = container["NetworkSettings"]["Ports"] or {}
        lines = log(container, _LAPTOPS)
        return {
            **state(container),
            "log": last_words(container, (lines or [""])[-1]),
            "ports": sorted({one["HostPort"] for ones in bindings.values() for one in ones or []}),
            "connections": {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()},
            "lines": lines,
        }

    def traefik_facts(self, root: str, name: str) -> dict[str, Any]:
        """As an agent's diagnosis wants them. Empty when there is no Traefik."""
        found = dict(self.proxy())
        if not found:
            return {}
        container, lines = found.pop("container"), found.pop("lines")
        about = [line for line in lines if "acme" in line.lower() or name in line]
        grave = [line for line in lines if "WRN" not in line]
        return {
            **found,
            "log": last_words(container, (about or grave or [""])[-1]),
            "errors": list(dict.fromkeys(line[:500] for line in reversed(grave)))[:20][::-1],
            "files": owners_files(root),
        }


def owners_files(root: str) -> list[str]:
    """Those with routers in the folder that Traefik watches."""
    manifest, found = _files.Manifest(root), []
    for path in sorted(glob.glob(os.path.join(root, "traefik/dynamic/*.y*ml"))):
        name = os.path.relpath(path, root)
        if manifest.exists and not manifest.owns(name) and b"routers" in (_files.readable(path) or b""):
            found.append(name)
    return found


class Chain:
    """One agent on this server; `trial` is the container to look at instead of its current one."""

    def __init__(
        self, server: Server, root: str, agent: dict[str, Any], ca_path: str = "", trial: dict[str, Any] | None = None
    ) -> None:
        self.server, self.root, self.agent, self.traefik_ca, self.trial = server, root, agent, ca_path, trial
        self.name = agent["name"]
        self.store = _release.Store(root, self.name)
        self.declared_by_ssh = agent.get("tunnel") == _tunnel.SSH
        self.by_ssh = self.declared_by_ssh if trial else self.used_by_ssh()
        self.container_name = _containers.Containers(server.project, self.name).container_name
        self.container = trial or _docker.called(server.containers, self.container_name)
        self.state = _release.State()
        self.visiting = False  # whether it is asked what a visitor does
        self.seconds = LIMIT

    def gather(self, known: dict[str, Any], more: dict[str, int]) -> dict[str, Any]:
        """Everything at once, but for what rests on another answer; `known` are answers that there are already."""
        group, words = AtOnce(self.seconds), state(self.container) if self.container else {}
        proxy = group.begin("Traefik's own word", partial(self.server.traefik_facts, self.root, self.name), {})
        container = group.begin("the container's own word", self.container_facts, words)
        nginx = group.begin("nginx", partial(self.ask_nginx, known), {"nginx": {}})
        traefik = group.begin("Traefik", partial(self.ask_traefik, known), {"traefik": {}, "routed": {}})
        ssh = group.begin("the SSH server's own word", self.ssh, {}) if self.by_ssh else None
        env, target, resolved = group.begin("the tunnel's address", self.aim, self.aimed())()
        addresses = resolved["addresses"]
        tunnel = group.begin("the tunnel", partial(self.ask_tunnel, known, target, addresses), {"tunnel": {}})
        visits = group.begin("visitors on the server", partial(self.visits, target, resolved, more, group), {})
        reach = group.begin("the container's way", partial(self.reach, target, addresses), "")
        page = group.begin("the app's health page", partial(self.page, target, addresses), dict(_NO_PAGE))
        found = {
            "error": self.server.error,
            "time": time.time(),
            **_files.room(self.root),
            "env": {"target": env},
            "target": target,
            "resolved": resolved,
            "forwarding": (_files.readable("/proc/sys/net/ipv4/ip_forward") or b"1").strip() != b"0",
            **self.files(target),
            "routers": self.routers(),
            "ca_path": self.ca_path(),
            "page": page(),
            "container": {**container(), "target": self.used()} if self.container else {},
            "traefik": proxy(),
            **({"ssh": ssh()} if ssh else {}),
        }
        probes, visited = {**tunnel(), **nginx(), **traefik()}, visits()
        found["reach"] = reach() or no_way(visited.get("container", []))
        return {"found": found, "probes": probes, "visits": visited, "late": group.late}

    def aim(self) -> tuple[str, str, dict[str, Any]]:
        """The target of .env, the active one, and its addresses."""
        self.look()
        env = self.env()
        target = self.target(env)
        return env, target, self.resolve(target)

    def aimed(self) -> tuple[str, str, dict[str, Any]]:
        """Where neither the container nor DNS answers in time."""
        env = self.env()
        nobody = {"by": "server", "addresses": [], "error": "Temporary failure in name resolution", "overridden": ""}
        return env, self.target(env), self.socket() if self.by_ssh else nobody

    def socket(self) -> dict[str, Any]:
        """What the laptop brings, which needs no name."""
        place = _tunnel.socket(self.root, self.name)
        return {"by": "server", "addresses": [place], "error": "", "overridden": ""}

    def look(self) -> None:
        """What the container says of itself."""
        if self.container and alive(self.container):
            with contextlib.suppress(_docker.DockerError):  # what cannot be asked is not known
                self.state = _containers.state(self.container["Id"])

    def visits(
        self, target: str, resolved: dict[str, Any], more: dict[str, int], group: AtOnce
    ) -> dict[str, list[dict[str, Any]]]:
        """What a visitor gets at each place of this server; `more` questions only, where there are some."""
        if not self.visiting or self.server.error:
            return {}
        seconds = min(_visitor.SECONDS, group.left - 2 * _visitor.GRACE)
        silence = max(0.0, min(_visitor.SILENCE, seconds - _visitor.BESIDES))
        plan = _visitor.plan(self.agent, silence=silence, seconds=seconds)
        places, own = self.places(target, resolved), _visitor.own_names(self.agent)
        if not more:
            return _bisect.tour(places, plan, own)
        again = _bisect.again(plan, more)
        work = {place.name: partial(_visitor.visit, place, again, own) for place in places}
        return at_once(work, again.seconds + _visitor.GRACE)

    def places(self, target: str, resolved: dict[str, Any]) -> list[_visitor.Place]:
        """From Traefik, whatever its certificate, to the server's own way to the tunnel."""
        agent, addresses = self.agent, tuple(resolved["addresses"][:1])
        public = str(agent["public_origin"])
        found = [_visitor.Place("traefik", public, ("127.0.0.1",), public, verify=False)]
        address = _docker.address(self.container) if self.container and alive(self.container) else ""
        if address:
            found.append(_visitor.Place("nginx", f"http://{agent['domain']}", (address,), public))
        origin = _questions.tunnel_origin(agent, target)
        headers = _questions.tunnel_headers(agent, origin)
        tunnel = _visitor.Place("tunnel", target, addresses, origin, headers, self.ca_path())
        if addresses and address and resolved["by"] == "container":
            found.append(replace(tunnel, name="container", inside=self.container["Id"] if self.container else ""))
        return [*found, tunnel] if addresses else found

    # --- The questions ------------------------------------------------------------------------------------------------

    def ask_tunnel(self, known: dict[str, Any], target: str, addresses: list[str]) -> dict[str, Any]:
        """And the inventory's tunnel, where another one is active and does not answer."""
        first = {"address": addresses[0], "foreign_origin": _questions.foreign_origin(self.agent)} if addresses else {}
        tunnel = answer(known, "tunnel", bool(first), lambda: self.tunnel(target, self.by_ssh, **first))
        declared = str(self.agent["target_url"])
        silent = target != declared and tunnel.get("reason") != "ok"
        return {
            "tunnel": tunnel,
            "declared": answer(known, "declared", silent, lambda: self.tunnel(declared, self.declared_by_ssh)),
        }

    def tunnel(self, target: str, by_ssh: bool, **more: Any) -> dict[str, Any]:
        upgrade = _questions.upgrade(self.agent)
        if by_ssh:
            more.setdefault("address", _tunnel.socket(self.root, self.name))
        origin = _questions.tunnel_origin(self.agent, target) if upgrade else self.agent["public_origin"]
        return _probe.ask(
            f"{target}{_questions.path(self.agent)}",
            origin=origin,
            upgrade=upgrade,
            headers=_questions.tunnel_headers(self.agent, origin),
            ca_path=self.ca_path(),
            timeout=_questions.TIMEOUT,
            **more,
        )

    def ask_nginx(self, known: dict[str, Any]) -> dict[str, Any]:
        address = _docker.address(self.container) if self.container and alive(self.container) else ""

        def ask() -> dict[str, Any]:
            return _probe.ask(
                _questions.container_url(self.agent),
                address=address,
                origin=self.agent["public_origin"],
                upgrade=_questions.upgrade(self.agent),
                foreign_origin=_questions.foreign_origin(self.agent),
                upload=_questions.upload(self.agent),
                timeout=_questions.CHAIN_TIMEOUT,
            )

        return {"nginx": answer(known, "nginx", bool(address), ask)}

    def ask_traefik(self, known: dict[str, Any]) -> dict[str, Any]:
        """And again whatever its certificate, where that is not accepted."""

        def ask(**more: Any) -> dict[str, Any]:
            return _probe.ask(
                _questions.public_url(self.agent),
                address="127.0.0.1",
                origin=self.agent["public_origin"],
                upgrade=_questions.upgrade(self.agent),
                http2=_questions.upgrade(self.agent),
                timeout=_questions.CHAIN_TIMEOUT,
                **more,
            )

        verified = {"upload": _questions.upload(self.agent), "ca_path": self.traefik_ca}
        traefik = answer(known, "traefik", not self.server.error, lambda: ask(**verified))
        refused = traefik.get("reason") in _NOT_ACCEPTED
        return {"traefik": traefik, "routed": answer(known, "routed", refused, lambda: ask(verify=False))}

    # --- The tunnel ---------------------------------------------------------------------------------------------------

    def ssh(self) -> dict[str, Any]:
        """The SSH server and this agent's part in it."""
        keys = _files.readable(os.path.join(self.root, _names.keys_file(self.name)))
        return {
            "server": self.server.tunnel(),
            "keys": len((keys or b"").splitlines()),
            "fingerprint": _tunnel.fingerprint(self.root),
            "folder": self.folder(self.container) if self.container else _tunnel.THERE,
        }

    def folder(self, container: dict[str, Any]) -> str:
        """The laptop's, as the agent's container has it: one that was removed and made again is another one."""
        if _tunnel.INSIDE not in [one["Destination"] for one in container.get("Mounts") or []]:
            return _tunnel.NOT_THERE
        told = _containers.execute(container["Id"], "stat", "-c", "%i", _tunnel.INSIDE, timeout=_SHORT)[1].strip()
        try:
            now = os.stat(os.path.dirname(_tunnel.socket(self.root, self.name))).st_ino
        except OSError:
            return _tunnel.REMOVED
        return _tunnel.REMOVED if told.isdigit() and int(told) != now else _tunnel.THERE

    def used_by_ssh(self) -> bool:
        """As the active release has it; after a rollback that is not the inventory's."""
        release = (self.store.pending() or self.store.current()).release
        if release not in self.store.ids():
            return self.declared_by_ssh
        conf = os.path.basename(_names.conf_file(self.name))
        return _tunnel.UPSTREAM.encode() in self.store.read(release).get(conf, b"")

    def env(self) -> str:
        """The target in .env."""
        with contextlib.suppress(OSError):  # what cannot be read is not known
            return _dotenv.read(self.store.environment()).get(_names.target_url_key(self.name), "")
        return ""

    def used(self) -> str:
        """The target that the container goes to: the release's, unless its environment is newer."""
        if not self.container:
            return ""
        own = _docker.environment(self.container).get(_names.target_url_key(self.name), "")
        switched_to = self.store.pending()
        for current in (self.store.current(), *([switched_to] if switched_to else [])):
            if current.release in self.store.ids() and self.state.files.get(_release.VALUES):
                values = self.store.read(current.release).get(_release.VALUES, b"")
                if _files.digest(values) == self.state.files[_release.VALUES]:
                    own = _dotenv.read(values.decode("utf-8", "replace")).get("TARGET_URL", own)
        return own.rstrip("/").lower()

    def target(self, env: str) -> str:
        declared = str(self.agent["target_url"])
        candidates = (self.used(), env.rstrip("/"), declared)
        return next((url for url in candidates if not _names.target_url_error("", url)), declared)

    def resolve(self, target: str) -> dict[str, Any]:
        """As the container sees it; its DNS is not the server's."""
        if self.by_ssh:
            return self.socket()
        url = _http.parse_url(target)
        if self.container and alive(self.container):
            output = _containers.execute(self.container["Id"], "getent", "ahosts", url.host, timeout=_SHORT)[1]
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
        """DNS servers that the container was given instead of the server's own, as Docker notes them."""
        if not self.container or not alive(self.container):
            return ""
        conf = _containers.execute(self.container["Id"], "cat", "/etc/resolv.conf", timeout=_SHORT)[1]
        servers = re.search(r"(?m)^# ExtServers: \[(.*)\]", conf)
        return servers.group(1) if servers and re.search(r"(?m)^# Overrides: .*nameservers", conf) else ""

    def reach(self, target: str, addresses: list[str]) -> str:
        """From inside the container; bash is what its image has for that. Empty where it has none."""
        if self.by_ssh or not self.container or not alive(self.container):
            return ""
        port, failure = str(_http.parse_url(target).port), ""
        for address in addresses[:3]:
            words = ("bash", "-c", _CONNECT, address, port)
            status, _output, error = _containers.execute(self.container["Id"], *words, timeout=_SHORT + 3)
            status -= _ANSWERED
            if status == 0:
                return "connected"
            if status not in (1, 124):
                return ""
            told = _docker.last_line(error).rpartition(": ")[2]
            failure = "no connection within 5 s" if status == 124 else told or f"exit {status}"
        return failure

    def page(self, target: str, addresses: list[str]) -> dict[str, Any]:
        """Streamlit's health page: what answers it with `ok` is one."""
        if not addresses:
            return dict(_NO_PAGE)
        url = _http.parse_url(target + health_path(self.agent["probe_path"]))
        headers = _questions.tunnel_headers(self.agent, self.agent["public_origin"])
        more = {**headers, "User-Agent": "locki.vaettir", "Connection": "close"}
        data = b""
        with contextlib.suppress(OSError, ValueError):
            data = self.get(url, addresses[0], list(more.items()))
        head = _http.head_end(data)
        status, fields = _http.parse_head(data[:head]) if head > 0 else (0, {})
        coded = "ngrok-error-code" in fields
        return {"status": status, "streamlit": status == 200 and not coded and data[head:].strip().endswith(b"ok")}

    def get(self, url: _http.Url, address: str, headers: list[tuple[str, str]]) -> bytes:
        """The first bytes of an answer, or all of a short one."""
        data, end = b"", time.monotonic() + _questions.TIMEOUT
        with _probe.connection(address, url.port, _questions.TIMEOUT) as plain:
            context = _certificate.trusting(self.ca_path()) if url.secure else None
            with context.wrap_socket(plain, server_hostname=url.host) if context else plain as sock:
                sock.sendall(_http.request("GET", url, headers))
                while len(data) < _http.HEAD_LIMIT and time.monotonic() < end:
                    came = sock.recv(4096)
                    data += came
                    if not came:
                        break
        return data

    def ca_path(self) -> str:
        """As it was released, whatever became of the live one; that of a trial is released only after it."""
        if not self.agent["ca_file"]:
            return ""
        live = os.path.join(self.root, self.agent["ca_file"])
        released = self.store.path(self.store.current().release, os.path.basename(live))
        return next((path for path in ((live,) if self.trial else (released, live)) if os.path.isfile(path)), "")

    # --- The server ---------------------------------------------------------------------------------------------------

    def container_facts(self) -> dict[str, Any]:
        if not self.container:
            return {}
        lines = [line for line in log(self.container) if not line.startswith("{")]  # its visitors
        worries = [line for line in lines if _NGINX_WORRIES.search(line)]
        answers = alive(self.container)
        told = _containers.execute(self.container["Id"], "nginx", "-v", timeout=_SHORT)[2] if answers else ""
        number = told if "nginx/" in told else _docker.environment(self.container).get("NGINX_VERSION", "")
        said = _containers.reason("\n".join(lines))
        labels = {key: value for key, value in _docker.labels(self.container).items() if key.startswith("traefik.")}
        return {
            **state(self.container),
            "log": self.container["State"].get("Error") or last_words(self.container, said),
            "exit": self.container["State"].get("ExitCode", 0),
            "errors": "\n".join(worries[-5:])[:2000],
            "nginx": number.rpartition("/")[2].strip(),
            "labels": labels,
        }

    def routers(self) -> list[dict[str, Any]]:
        found = [one for container in self.server.running for one in _traefik.routers(container)]
        return _traefik.owned(found, self.name, self.container_name)

    def verified(self, target: str) -> bool:
        """Whether a release with this target was verified while its app answered."""
        for identifier in self.store.ids():
            try:
                facts, values = self.store.facts(identifier), self.store.read(identifier).get(_release.VALUES, b"")
            except (_release.ReleaseError, ValueError, OSError):
                continue
            used = _dotenv.read(values.decode("utf-8", "replace")).get("TARGET_URL", "").rstrip("/").lower()
            if facts.get("verified") and facts.get("online", True) and used == target.lower():
                return True
        return False

    def files(self, target: str) -> dict[str, Any]:
        """What runs against the release, and the live files against it. While a run releases, nobody knows."""
        release = self.store.current().release
        nothing = {"differs": [], "edited": [], "gone": [], "fragment_edited": False}
        found = {"release": release, "verified": self.verified(target), **nothing}
        if self.store.busy():
            return found
        told = {name: digest for name, digest in self.state.files.items() if ":" not in name}
        if release not in self.store.ids():
            return {**found, "gone": [f"releases/{self.name}"] if told else []}
        released = self.store.read(release)
        digests = {name: _files.digest(content) for name, content in released.items()}
        fragment = _files.readable(os.path.join(self.root, _names.fragment_file(self.name)))
        live = {
            path: self.live(path, digests[os.path.basename(path)])
            for path in (_names.conf_file(self.name), _names.ca_file(self.name))
            if os.path.basename(path) in digests
        }
        return {
            **found,
            "differs": sorted(name for name, digest in told.items() if digests.get(name, digest) != digest),
            "fragment_edited": fragment not in (None, released.get("compose.yml", fragment)),
            "gone": [path for path, what in live.items() if what == "gone"],
            "edited": [path for path, what in live.items() if what == "edited"],
        }

    def live(self, path: str, digest: str) -> str:
        """What became of a live file since the release."""
        place = os.path.join(self.root, path)
        if not os.path.isfile(place):  # Docker makes a directory for a missing one
            return "gone"
        content = _files.readable(place)
        return "edited" if content is not None and _files.digest(content) != digest else ""


def gather(
    root: str,
    project: str,
    agent: dict[str, Any],
    ca_path: str = "",
    container: dict[str, Any] | None = None,
    probes: dict[str, Any] | None = None,
    server: Server | None = None,
    **more: Any,
) -> dict[str, Any]:
    """`found`, `probes`, `visits` and what was `late` of an agent's chain, for _diagnosis.

    `agent` are its settings (_questions.OPTIONS), `ca_path` is the authority of Traefik's certificate. `container` is
    looked at instead of the agent's current one, `probes` are answers that are not asked for again, `server` is what
    the chains of several agents share. `more`: Chain.visiting and Chain.seconds, and the questions to be asked again.
    """
    chain = Chain(server or Server(project), root, agent, ca_path, container)
    chain.visiting, chain.seconds = more.get("visiting", False), more.get("seconds", LIMIT)
    return chain.gather(probes or {}, more.get("again") or {})
