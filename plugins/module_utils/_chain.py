# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A chain from an app to its visitors: the facts, what hops are called, and the comparisons that rules share. Pure."""

from __future__ import annotations

import calendar
import ipaddress
import re
import time
from email.utils import parsedate_to_datetime
from typing import Any, Callable, NamedTuple

from . import _names

APP, AGENT, EDGE, SERVER, NGINX = "app", "ngrok agent", "ngrok edge", "server", "nginx"
SSH_CONNECTION, SSH_SERVER = "ssh connection", "ssh server"  # of a tunnel of one's own
TRAEFIK, TLS, DNS = "Traefik", "TLS", "DNS"
TUNNEL = (APP, AGENT, EDGE, SSH_CONNECTION, SSH_SERVER)  # an agent has one of the two kinds
HOPS = (*TUNNEL, SERVER, NGINX, TRAEFIK, TLS, DNS)  # from the app to the visitor
OK, WARN, BROKEN, UNKNOWN = "ok", "warn", "broken", "unknown"
DEPENDS = "depends"  # a suspicion: broken where the hop does not work, warn where it does
STOP = "stop"  # known beforehand, and a reason not to deploy
_UPGRADED = ("ok", "app_closed", "foreign_origin", "bad_http2", "bad_connect", "upload_refused")
MB = 1 << 20
DISK_FULL, DISK_LOW = 20 * MB, 200 * MB
SKEW = 300  # seconds
_NEWEST = 9999  # the third number of a version without one: tags like 3.6 go with the newest of their line


class Chain:
    """The facts, with the comparisons that rules share. What was not asked is an empty dictionary."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.agent: dict[str, Any] = facts.get("agent") or {}
        self.stack: dict[str, Any] = facts.get("stack") or {}
        self.found: dict[str, Any] = facts.get("found") or {}
        self.control: dict[str, Any] = facts.get("control") or {}
        probes = facts.get("probes") or {}
        self.tunnel, self.nginx, self.traefik, self.routed, self.public = (
            dict(probes.get(name) or {}) for name in ("tunnel", "nginx", "traefik", "routed", "public")
        )
        self.elsewhere: dict[str, Any] = probes.get("elsewhere") or {}  # the tunnel, from the control node
        self._mislead(dict(probes.get("declared") or {}))
        self.container: dict[str, Any] = self.found.get("container") or {}
        self.proxy: dict[str, Any] = self.found.get("traefik") or {}
        self.public = {} if _no_ipv6(self) else self.public
        self.unreachable, self.failed = (str(facts.get(name) or "") for name in ("unreachable", "failed"))
        self.code = str(self.tunnel.get("ngrok_code") or "")
        self.number = int(self.code.rpartition("_")[2] or 0) if self.code else 0

    def _mislead(self, declared: dict[str, Any]) -> None:
        """Where only the inventory's target answers, and not the active one, the tunnel is not what is broken."""
        self.misled = not self.tunnel_good and self.good(declared)
        if self.misled:
            self.tunnel, self.found = declared, {**self.found, "target": "", "resolved": {}, "page": {}, "reach": ""}

    def good(self, probe: dict[str, Any]) -> bool:
        """An app's own answer. Without a WebSocket to ask for, any but an error is one."""
        if not probe or probe.get("state") or probe.get("ngrok_code"):
            return False
        if self.agent.get("probe_path"):
            return probe.get("reason") in _UPGRADED
        return 0 < probe.get("status", 0) < 500

    def same(self, probe: dict[str, Any], before: dict[str, Any]) -> bool:
        """Whether a hop passes on what it got: the page included."""
        keys = ("status", "state", "ngrok_code")
        return bool(probe and before) and all(probe.get(key) == before.get(key) for key in keys)

    def passes(self, probe: dict[str, Any], before: dict[str, Any]) -> bool:
        """Whether a hop is as good as the one before it. Without a WebSocket its own refusal looks like an app's."""
        if self.good(before):
            return self.good(probe) and (bool(self.agent.get("probe_path")) or self.same(probe, before))
        return self.good(probe) or self.same(probe, before)

    @property
    def tunnel_good(self) -> bool:
        return self.good(self.tunnel)

    @property
    def answered(self) -> bool:
        """Whether the edge, or the service that stands there, was reached at all."""
        return bool(self.tunnel) and (self.tunnel.get("status", 0) > 0 or "handshake" in self.tunnel.get("timings", {}))

    @property
    def only_elsewhere(self) -> bool:
        """Whether somebody else reaches the edge, which this server does not."""
        return not self.answered and bool(self.elsewhere.get("status") or self.elsewhere.get("certificate"))

    @property
    def no_authority(self) -> bool:
        """Before the first deploy the tunnel's own authority is not on the server, so nobody can tell."""
        wanted = self.agent.get("ca_certificate") and not self.found.get("ca_path")
        return bool(wanted) and str(self.tunnel.get("reason", "")) == "tls_untrusted"

    @property
    def by_ssh(self) -> bool:
        """As the server has it; as the inventory has it, where nobody could look."""
        return "ssh" in self.found if self.found else self.agent.get("tunnel") == "ssh"

    @property
    def nginx_good(self) -> bool:
        state = self.nginx.get("state")
        shown = bool(state) and state != "maintenance" and not self.tunnel_good
        return shown or self.passes(self.nginx, self.tunnel)

    @property
    def behind_tls(self) -> dict[str, Any]:
        """What Traefik answers, whatever its certificate. Nobody knows where its TLS breaks off."""
        own = self.proxy.get("running") and str(self.agent.get("public_port", 443)) in (self.proxy.get("ports") or {})
        return {} if own and self.traefik.get("reason") == "tls_failed" else self.routed or self.traefik

    @property
    def traefik_good(self) -> bool:
        if not self.agent.get("probe_path") and self.behind_tls.get("reason") == "no_route":
            return False
        return self.passes(self.behind_tls, self.nginx)

    @property
    def tls_reason(self) -> str:
        reason = str(self.traefik.get("reason", ""))
        return reason if reason.startswith("tls_") else ""

    @property
    def public_good(self) -> bool:
        waits = self.public.get("reason") == "timeout" and not self.tunnel_good and self.public.get("address")
        return self.passes(self.public, self.behind_tls) or bool(waits)

    @property
    def _arrives(self) -> bool:
        """Whether a visitor gets the app's own answer from this server."""
        ends = (self.behind_tls, {} if any(points_elsewhere(self)) else self.public)
        told = self.agent.get("probe_path")
        return any(self.good(end) and (bool(told) or self.same(end, self.tunnel)) for end in ends)

    def works(self, hop: str) -> bool:
        if hop in TUNNEL:
            return self.tunnel_good
        if hop in (SERVER, NGINX, TRAEFIK) and self._arrives:
            return True
        if hop in (SERVER, NGINX):
            return self.nginx_good
        if hop == TRAEFIK:
            return self.traefik_good
        return self.public_good if hop == DNS else not self.tls_reason

    @property
    def target(self) -> str:
        return str(self.found.get("target") or self.agent.get("target_url") or "")

    @property
    def is_https(self) -> bool:
        return self.target.startswith("https://")

    @property
    def certificate(self) -> dict[str, Any]:
        return self.traefik.get("certificate") or {}

    def words(self) -> dict[str, str]:
        """What sentences may name."""
        agent, name = self.agent, str(self.agent.get("name", ""))
        project = agent.get("project", "vaettir")
        compose = f"cd {self.stack.get('root', '~/vaettir')} && docker compose --profile production --profile proxy"
        container = str(self.container.get("name") or f"{project}-{name}-1")
        deploy = _names.playbook("deploy_agent", name)
        return {
            "agent": name,
            "server": str(agent.get("server", "")),
            "profile": str(agent.get("profile", "")),
            "domain": str(agent.get("domain", "")),
            "public_origin": str(agent.get("public_origin", "")),
            "probe_path": str(agent.get("probe_path") or "/"),
            "target_url": self.target,
            "declared": str(agent.get("target_url", "")),
            "target_port": (re.findall(r":([0-9]+)$", self.target) or ["443" if self.is_https else "80"])[0],
            "target_host": re.sub(r"^https?://|:[0-9]+$", "", self.target),
            "key": _names.target_url_key(name) if name else "",
            "root": str(self.stack.get("root", "~/vaettir")),
            "container": container,
            "traefik": str(self.proxy.get("name") or f"{project}-traefik-1"),
            "network": f"{project}_default",
            "port": str(agent.get("public_port", 443)),
            "code": self.code,
            "log": str(self.container.get("log", "")),
            "traefik_log": str(self.proxy.get("log", "")),
            "error": "",
            "up": f"{compose} up -d {name}",
            "up_traefik": f"{compose} up -d traefik",
            "deploy": deploy,
            # Next to one with other labels Traefik would drop the router that both define.
            "redo": f"on {agent.get('server', '')}: `docker rm -f {container}`, then `{deploy}`",
            "tunnel": "ssh" if self.by_ssh else "ngrok",
            "diagnose": _names.playbook("diagnose_agent", name),
            "upgrade": _names.playbook("upgrade_traefik"),
        }


Match = Any  # a dictionary with words for the sentences, or whether the rule applies


class Question(NamedTuple):
    id: str
    hop: str
    asked: str
    found: Callable[[Chain], str]  # empty: nobody could ask


class Rule(NamedTuple):
    id: str
    question: str
    verdict: str
    wrong: str
    fix: str
    applies: Callable[[Chain], Match]
    beforehand: str = ""  # STOP or WARN for what can be known before anything is touched


def version(text: object) -> tuple[int, ...]:
    """Of `v3.7.15`, `nginx/1.27.3` or `3.3`; empty where there is none."""
    match = re.search(r"(?<![0-9.])v?([0-9]+)\.([0-9]+)(?:\.([0-9]+))?", str(text or ""))
    return tuple(int(part or _NEWEST) for part in match.groups()) if match else ()


def seconds(text: object) -> float | None:
    """Of Traefik's 60, 60s or 1m30s; None for what is none."""
    found = str(text).strip()
    if re.fullmatch(r"[0-9]+", found):
        return float(found)
    parts = re.findall(r"([0-9.]+)(ms|s|m|h)", found)
    if not parts or "".join(number + unit for number, unit in parts) != found:
        return None
    return sum(float(number) * {"ms": 0.001, "s": 1, "m": 60, "h": 3600}[unit] for number, unit in parts)


def date(text: str) -> float | None:
    """Seconds since 1970 of an HTTP date (RFC 9110, section 5.6.7)."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def moment(text: object) -> float | None:
    """Seconds since 1970 of an ISO time in UTC, to the second."""
    try:
        return calendar.timegm(time.strptime(str(text)[:19], "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return None


def tunnel_reason(chain: Chain, *reasons: str) -> bool:
    """Whether the tunnel's answer was one of these."""
    return chain.tunnel.get("reason") in reasons


def state(chain: Chain, container: dict[str, Any]) -> str:
    """Docker's words for it; empty where nobody could ask."""
    parts = (container.get("status") or "none", container.get("health"))
    return "" if not chain.found or chain.found.get("error") else ", ".join(str(part) for part in parts if part)


def answer(probe: dict[str, Any]) -> str:
    """A probe's result in a few words."""
    if not probe:
        return ""
    status, timings = probe.get("status", 0), probe.get("timings") or {}
    if not status:
        return str(probe.get("error") or probe.get("reason", ""))
    more = probe.get("ngrok_code") or ""
    if probe.get("state"):
        more = f"the page ({probe['state']}{', ' + more if more else ''})"
    elif not more and probe.get("reason") not in _UPGRADED:
        more = str(probe.get("reason", ""))
    took = f"in {timings['handshake']:.0f} ms" if "handshake" in timings else ""
    pong = f"pong in {timings['ping']:.0f} ms" if "ping" in timings and probe.get("reason") in _UPGRADED else ""
    return ", ".join(part for part in (f"{status} {took}".strip(), more, pong) if part)


def skew(chain: Chain) -> float | None:
    """Seconds that the server is ahead of the edge."""
    edge = date((chain.tunnel.get("headers") or {}).get("date", ""))
    return None if edge is None or "time" not in chain.found else float(chain.found["time"]) - edge


def control_skew(chain: Chain) -> float | None:
    both = "time" in chain.found and chain.control.get("time")
    return float(chain.found["time"]) - float(chain.control["time"]) if both else None


def foreign(probe: dict[str, Any]) -> str:
    status = (probe.get("foreign") or {}).get("status")
    return str(status) if status else ""


def clock_wrong(chain: Chain) -> Match:
    control, edge = control_skew(chain), skew(chain)
    wrong = control is not None and abs(control) > SKEW and (edge is None or abs(edge) > SKEW)
    alone = control is None and edge is not None and abs(edge) > SKEW
    apart, server = f"{abs(edge if edge is not None else control or 0):.0f} s", chain.words()["server"]
    fix = "`sudo timedatectl set-ntp true`"
    if edge is None:  # nobody else to ask, so either may be wrong
        clocks = f"the clocks of {server} and of the control node are {apart} apart"
        return wrong and {"clocks": clocks, "fix": f"{fix} on {server} and on the control node"}
    return (wrong or alone) and {"clocks": f"the server's clock is wrong by {apart}", "fix": f"on {server}: {fix}"}


def points_elsewhere(chain: Chain) -> tuple[list[str], list[str]]:
    """The domain's addresses and the server's of one family, where they differ."""
    addresses, server = chain.control.get("addresses") or [], chain.control.get("server_addresses") or []
    for kind in ("A", "AAAA"):
        theirs = [address for address in addresses if record(address) == kind]
        # A server behind NAT is known to the control node by another address than to visitors.
        own = [one for one in server if theirs and record(one) == kind and _private(one) == _private(theirs[0])]
        if own and not set(theirs) & set(own):
            return theirs, own
    return [], []


def record(address: str) -> str:
    """How a DNS zone calls it."""
    return "AAAA" if ":" in address else "A"


def _private(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_private


def _no_ipv6(chain: Chain) -> bool:
    """A control node that has no IPv6 cannot ask a domain that has nothing else."""
    told = re.search(r"Network is unreachable|Cannot assign|not supported", str(chain.public.get("error", "")))
    addresses = chain.control.get("addresses") or ["A"]
    return bool(told) and chain.public.get("reason") == "unreachable" and {*map(record, addresses)} == {"AAAA"}


def no_resolver(chain: Chain) -> bool:
    resolved = chain.found.get("resolved") or {}
    return not resolved.get("addresses") and "emporary failure" in str(resolved.get("error", ""))
