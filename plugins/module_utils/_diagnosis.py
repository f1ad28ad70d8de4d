# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Which hop between an app and its visitors is broken, why, and what mends it. Pure: facts in, findings out.

A question is a line of the report, a rule one way in which its answer is bad. Each hop is held against the one before
it: an nginx that shows the page while its tunnel is offline is as it should be.
"""

from __future__ import annotations

import calendar
import ipaddress
import re
import time
from email.utils import parsedate_to_datetime
from typing import Any, Callable, NamedTuple

from . import _names

APP, AGENT, EDGE, SERVER, NGINX = "app", "ngrok agent", "ngrok edge", "server", "nginx"
TRAEFIK, TLS, DNS = "Traefik", "TLS", "DNS"
HOPS = (APP, AGENT, EDGE, SERVER, NGINX, TRAEFIK, TLS, DNS)  # from the app to the visitor
OK, WARN, BROKEN, UNKNOWN = "ok", "warn", "broken", "unknown"
DEPENDS = "depends"  # a suspicion: broken where the hop does not work, warn where it does

_UPGRADED = ("ok", "foreign_origin", "bad_http2", "bad_connect", "upload_refused")
_UNREACHED = ("dns", "refused", "unreachable", "tls_untrusted", "tls_pending", "tls_name", "tls_expired", "tls_failed")
_NO_WEBSOCKET = (
    *("not_a_websocket", "no_route", "bad_key", "no_upgrade"),
    *("redirected", "too_many_requests", "refused_origin"),
)
_MB = 1 << 20
DISK_FULL, DISK_LOW = 20 * _MB, 200 * _MB
SKEW = 300  # seconds
UPLINK = 1.25e6  # bytes a second, 10 Mbit/s: a visitor's line
BROKEN_TRAEFIK = ((2, 11, 17), (3, 2, 4), (3, 3, 0))  # extended CONNECT advertised and broken
_SIZES = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}

# ngrok's codes: rule, hop, codes, what is wrong, what mends it.
_ON_LAPTOP = "on the laptop: `ngrok http --url={target_url} PORT`"
CODES: tuple[tuple[str, str, tuple[int, ...], str, str], ...] = (
    (
        "app_not_listening",
        APP,
        (8012,),
        "the ngrok agent runs, but nothing listens on the port that it leads to ({code})",
        "on the laptop: start the app, or lead ngrok to its port with `ngrok http --url={target_url} PORT`",
    ),
    (
        "app_speaks_https",
        APP,
        (3004,),
        "the app's answer to the ngrok agent is invalid or incomplete ({code}), as of an app that speaks https itself",
        "on the laptop: `ngrok http --url={target_url} https://localhost:PORT`",
    ),
    (
        "agent_offline",
        AGENT,
        (3200,),
        "no ngrok agent is connected for {target_url} ({code})",
        _ON_LAPTOP + " (with another URL there: set target_url of agent {agent} to it)",
    ),
    (
        "agent_no_backend",
        AGENT,
        (724,),
        "the tunnel {target_url} has no ngrok agent behind it ({code})",
        _ON_LAPTOP,
    ),
    (
        "agent_draining",
        AGENT,
        (742, 743),
        "the ngrok agent of {target_url} is just being replaced ({code})",
        "in a minute again: `{diagnose}`; if it stays so, " + _ON_LAPTOP,
    ),
    (
        "agent_taken",
        AGENT,
        (334, 6030),
        "{target_url} is online from another ngrok agent already ({code})",
        "stop the other ngrok agent (dashboard.ngrok.com/agents), then " + _ON_LAPTOP,
    ),
    (
        "agent_token",
        AGENT,
        (105, 107),
        "ngrok does not accept the agent's token ({code})",
        "on the laptop: `ngrok config add-authtoken TOKEN` with the one of dashboard.ngrok.com, then start ngrok again",
    ),
    (
        "agent_sessions",
        AGENT,
        (108,),
        "the ngrok account has too many agents online ({code})",
        "stop another ngrok agent (dashboard.ngrok.com/agents), then " + _ON_LAPTOP,
    ),
    (
        "agent_old",
        AGENT,
        (120, 121),
        "the ngrok agent is too old ({code})",
        "on the laptop: `ngrok update`, then start ngrok again",
    ),
    (
        "agent_domain",
        AGENT,
        (313, 314, 319, 320),
        "the domain of {target_url} is not the ngrok account's ({code})",
        "set target_url of agent {agent} to a domain of dashboard.ngrok.com/domains",
    ),
    (
        "edge_rate",
        EDGE,
        (734,),
        "the tunnel's requests per minute are used up ({code})",
        "wait a minute; then leave static_cache of agent {agent} true, or upgrade the ngrok plan",
    ),
    (
        "edge_connections",
        EDGE,
        (702, 703),
        "the tunnel's connections per minute are used up ({code})",
        "wait a minute; then `{deploy}`, whose conf keeps connections to the tunnel, or upgrade the ngrok plan",
    ),
    (
        "edge_quota",
        EDGE,
        tuple(range(725, 732)),
        "the tunnel's quota of this month is used up ({code})",
        "upgrade the ngrok plan (dashboard.ngrok.com/billing), or wait for the 1st",
    ),
    (
        "edge_banned",
        EDGE,
        (3208, 338, 8014),
        "ngrok has banned or suspended the tunnel or its account ({code})",
        "write to support@ngrok.com; do not retry in a loop",
    ),
    (
        "edge_upgrade",
        EDGE,
        (3213, 3206),
        "the edge does not take the WebSocket's upgrade ({code})",
        "`{deploy}`, and remove `websocket-tcp-converter` or header rules from the tunnel's traffic policy",
    ),
    (
        "edge_breaker",
        EDGE,
        (3202,),
        "the tunnel's circuit breaker is open ({code})",
        "mend the app's errors 500, or remove the circuit breaker from the tunnel's traffic policy",
    ),
    (
        "edge_ip",
        EDGE,
        (3203, 3205),
        "the tunnel's IP policy refuses this server ({code})",
        "allow the server's address in the tunnel's IP policy (dashboard.ngrok.com/ip-policies)",
    ),
)


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
        self.container: dict[str, Any] = self.found.get("container") or {}
        self.proxy: dict[str, Any] = self.found.get("traefik") or {}
        self.unreachable = str(facts.get("unreachable") or "")
        self.code = str(self.tunnel.get("ngrok_code") or "")
        self.number = int(self.code.rpartition("_")[2] or 0) if self.code else 0

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

    @property
    def tunnel_good(self) -> bool:
        return self.good(self.tunnel)

    @property
    def answered(self) -> bool:
        """Whether the edge, or the service in its place, was reached at all."""
        return bool(self.tunnel) and (self.tunnel.get("status", 0) > 0 or "handshake" in self.tunnel.get("timings", {}))

    @property
    def no_authority(self) -> bool:
        """Before the first deploy the tunnel's own authority is not on the server, so nobody can tell."""
        wanted = self.agent.get("ca_certificate") and not self.found.get("ca_path")
        return bool(wanted) and str(self.tunnel.get("reason", "")) == "tls_untrusted"

    @property
    def nginx_good(self) -> bool:
        state = self.nginx.get("state")
        shown = bool(state) and state != "maintenance" and not self.tunnel_good
        return self.good(self.nginx) or shown or (not self.tunnel_good and self.same(self.nginx, self.tunnel))

    @property
    def behind_tls(self) -> dict[str, Any]:
        """What Traefik answers, whatever its certificate."""
        return self.routed or self.traefik

    @property
    def traefik_good(self) -> bool:
        if not self.agent.get("probe_path") and self.behind_tls.get("reason") == "no_route":
            return False
        return self.good(self.behind_tls) or self.same(self.behind_tls, self.nginx)

    @property
    def tls_reason(self) -> str:
        reason = str(self.traefik.get("reason", ""))
        return reason if reason.startswith("tls_") else ""

    @property
    def public_good(self) -> bool:
        waits = self.public.get("reason") == "timeout" and not self.tunnel_good and self.public.get("address")
        return self.good(self.public) or self.same(self.public, self.behind_tls) or bool(waits)

    def works(self, hop: str) -> bool:
        if hop in (APP, AGENT, EDGE):
            return self.tunnel_good
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
            "container": str(self.container.get("name") or f"{project}-{name}-1"),
            "traefik": str(self.proxy.get("name") or f"{project}-traefik-1"),
            "network": f"{project}_default",
            "port": str(agent.get("public_port", 443)),
            "code": self.code,
            "log": str(self.container.get("log", "")),
            "traefik_log": str(self.proxy.get("log", "")),
            "error": "",
            "up": f"{compose} up -d {name}",
            "up_traefik": f"{compose} up -d traefik",
            "deploy": f"ansible-playbook deploy-agent.yml -e agent={name}",
            "diagnose": f"ansible-playbook diagnose-agent.yml -e agent={name}",
            "upgrade": "ansible-playbook upgrade-traefik.yml",
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


# --- What came back ---------------------------------------------------------------------------------------------------


def version(text: object) -> tuple[int, ...]:
    """Of `v3.7.15`, `nginx/1.27.3` or `3.3`; empty where there is none."""
    match = re.search(r"(?<![0-9.])v?([0-9]+)\.([0-9]+)(?:\.([0-9]+))?", str(text or ""))
    return tuple(int(part or 0) for part in match.groups()) if match else ()


def size(text: object) -> int:
    """Bytes of nginx' 200m."""
    match = re.fullmatch(r"([0-9]+)([kmg]?)", str(text).lower())
    return int(match.group(1)) * _SIZES.get(match.group(2), 1) if match else 0


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
    elif not more and probe.get("reason") not in ("ok", *_UPGRADED):
        more = str(probe.get("reason", ""))
    took = f"in {timings['handshake']:.0f} ms" if "handshake" in timings else ""
    pong = f"pong in {timings['ping']:.0f} ms" if "ping" in timings and probe.get("reason") in _UPGRADED else ""
    return ", ".join(part for part in (f"{status} {took}".strip(), more, pong) if part)


def _told(chain: Chain) -> str:
    """The app's own answer, if one came."""
    if chain.number in (8012, 3004) or (chain.answered and not chain.code):
        return answer(chain.tunnel)
    return ""


def _connected(chain: Chain) -> str:
    if not chain.answered:
        return ""
    if chain.code:
        return chain.code
    return "connected" if chain.tunnel.get("status") else ""


def _edge_connection(chain: Chain) -> str:
    tunnel = chain.tunnel
    if not tunnel or chain.no_authority:
        return ""
    if tunnel.get("reason") in _UNREACHED or (tunnel.get("reason") == "timeout" and not chain.answered):
        return str(tunnel.get("error", ""))
    issuer = (tunnel.get("certificate") or {}).get("issuer")
    return f"{tunnel.get('address', '')}{', certificate of ' + str(issuer) if issuer else ''}"


def _disk(chain: Chain) -> str:
    free = chain.found.get("disk_free")
    return "" if free is None else f"{free // _MB} MB free"


def _skew(chain: Chain) -> float | None:
    """Seconds that the server is ahead of the edge."""
    edge = date((chain.tunnel.get("headers") or {}).get("date", ""))
    return None if edge is None or "time" not in chain.found else float(chain.found["time"]) - edge


def _control_skew(chain: Chain) -> float | None:
    both = "time" in chain.found and chain.control.get("time")
    return float(chain.found["time"]) - float(chain.control["time"]) if both else None


def _clock(chain: Chain) -> str:
    skew = _skew(chain)
    skew = _control_skew(chain) if skew is None else skew
    return "" if skew is None else f"{abs(skew):.0f} s apart"


def _env(chain: Chain) -> str:
    env = chain.found.get("env")
    return "" if env is None else _names.masked(env.get("target") or "") or "nothing"


def _container(chain: Chain) -> str:
    if not chain.found or chain.found.get("error"):
        return ""
    parts = (chain.container.get("status") or "none", chain.container.get("health"))
    return ", ".join(str(part) for part in parts if part)


def _in_force(chain: Chain) -> str:
    if not chain.container.get("running"):
        return ""
    differs = chain.found.get("differs") or []
    return ", ".join(differs) if differs else f"release {chain.found.get('release') or 'of nobody'}"


def _foreign(probe: dict[str, Any]) -> str:
    status = (probe.get("foreign") or {}).get("status")
    return str(status) if status else ""


def _traefik_container(chain: Chain) -> str:
    if not chain.found or chain.found.get("error"):
        return ""
    parts = (chain.proxy.get("status") or "none", chain.proxy.get("health"))
    return ", ".join(str(part) for part in parts if part)


def _http2(chain: Chain) -> str:
    found = chain.behind_tls.get("http2") or {}
    told = chain.proxy.get("version", "")
    if not found or found.get("reason") == "no_http2":
        return str(told)
    says = "extended CONNECT " + (
        "works" if found.get("works") else "is broken" if found.get("extended_connect") else "not advertised"
    )
    return f"{told or 'version unknown'}, {says}"


def read_timeout(chain: Chain) -> float | None:
    """Seconds; None where the command line does not tell."""
    flags = chain.proxy.get("flags") or {}
    if not flags or not version(chain.proxy.get("version")):
        return None
    key = f"entrypoints.{_entry_point(chain)}.transport.respondingtimeouts.readtimeout"
    if key in flags:
        return seconds(flags[key])
    if "configfile" in flags:
        return None
    number = version(chain.proxy.get("version"))
    return 60 if number >= (3,) or number >= (2, 11, 2) else 0


def _entry_point(chain: Chain) -> str:
    """The entry point of the public port."""
    flags, port = chain.proxy.get("flags") or {}, str(chain.agent.get("public_port", 443))
    inner = {str(outside): str(inside) for outside, inside in (chain.proxy.get("ports") or {}).items()}.get(port, port)
    for key, value in flags.items():
        match = re.fullmatch(r"entrypoints\.([^.]+)\.address", key)
        if match and re.sub(r"/(tcp|udp)$", "", str(value)).rpartition(":")[2] == inner:
            return match.group(1)
    return "websecure"


def _timeout(chain: Chain) -> str:
    limit = read_timeout(chain)
    return "" if limit is None else "none" if limit == 0 else f"{limit:g} s"


def _networks(chain: Chain) -> str:
    if not chain.container or not chain.proxy:
        return ""
    shared = set(chain.container.get("networks") or []) & set(chain.proxy.get("networks") or [])
    return ", ".join(sorted(shared)) or "none in common"


def _own_routers(chain: Chain) -> list[dict[str, Any]]:
    return [router for router in chain.found.get("routers") or [] if router.get("own")]


def hosts(rule: object) -> list[str]:
    """Names of a Traefik rule."""
    found = re.findall(r"Host\(([^)]*)\)", str(rule))
    return [name.lower() for part in found for name in re.findall(r"[`\"']([^`\"']+)[`\"']", part)]


def _routers(chain: Chain) -> str:
    if not chain.container or "routers" not in chain.found:
        return ""
    return ", ".join(sorted({str(router["name"]) for router in _own_routers(chain)})) or "none"


def _told_certificate(chain: Chain) -> str:
    found = chain.certificate
    if not found:
        return ""
    names = ", ".join((found.get("names") or [])[:3]) or "no name"
    return f"{names}, by {found.get('issuer') or 'nobody'}, until {str(found.get('not_after', '?'))[:10]}"


def _addresses(chain: Chain) -> str:
    if "addresses" not in chain.control:
        return ""
    return ", ".join(chain.control["addresses"]) or "none"


QUESTIONS = (
    Question("app", APP, "{probe_path} through the tunnel", _told),
    Question("app_origin", APP, "a foreign Origin, straight at the tunnel", lambda chain: _foreign(chain.tunnel)),
    Question("agent", AGENT, "an ngrok agent for {target_host}", _connected),
    Question(
        "edge_dns",
        EDGE,
        "addresses of {target_host}",
        lambda chain: (
            ", ".join((chain.found.get("resolved") or {}).get("addresses") or [])
            or str((chain.found.get("resolved") or {}).get("error", ""))
        ),
    ),
    Question("edge_connection", EDGE, "a connection to {target_url}", _edge_connection),
    Question(
        "edge",
        EDGE,
        "an error of ngrok's own",
        lambda chain: chain.code or ("none" if chain.tunnel.get("status") else ""),
    ),
    Question(
        "reached",
        SERVER,
        "a login",
        lambda chain: chain.unreachable or ("yes" if chain.stack or chain.found else ""),
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
    Question("container", NGINX, "container {container}", _container),
    Question("files", NGINX, "conf in force", _in_force),
    Question("nginx_origin", NGINX, "a foreign Origin", lambda chain: _foreign(chain.nginx)),
    Question("nginx", NGINX, "{probe_path} at the container", lambda chain: answer(chain.nginx)),
    Question("traefik_container", TRAEFIK, "container {traefik}", _traefik_container),
    Question("traefik_version", TRAEFIK, "version, WebSockets over HTTP/2", _http2),
    Question("timeout", TRAEFIK, "readTimeout for uploads", _timeout),
    Question("network", TRAEFIK, "network with {container}", _networks),
    Question("router", TRAEFIK, "routers for {domain}", _routers),
    Question("traefik", TRAEFIK, "{probe_path} on 127.0.0.1", lambda chain: answer(chain.behind_tls)),
    Question("tls", TLS, "certificate for {domain}", _told_certificate),
    Question("dns", DNS, "addresses of {domain}", _addresses),
    Question("public", DNS, "{public_origin} from the control node", lambda chain: answer(chain.public)),
)


# --- When a rule applies ----------------------------------------------------------------------------------------------


def _coded(codes: tuple[int, ...]) -> Callable[[Chain], Match]:
    return lambda chain: chain.number in codes


def _reason(chain: Chain, *reasons: str) -> bool:
    return chain.tunnel.get("reason") in reasons


def _apps_answer(chain: Chain) -> bool:
    """Something behind the tunnel answered, and not as it should."""
    return chain.answered and not chain.code and not chain.tunnel_good


def _plain_ok(chain: Chain) -> bool:
    return 0 < (chain.found.get("page") or {}).get("status", 0) < 400


def _refused(chain: Chain) -> bool:
    return _apps_answer(chain) and _reason(chain, "refused_origin")


def _secret_refused(chain: Chain) -> bool:
    return _refused(chain) and bool(chain.agent.get("tunnel_secret")) and not _plain_ok(chain)


def _stream(chain: Chain) -> bool:
    """Streamlit's own path: elsewhere a 403 is also what servers say of a WebSocket that they do not have."""
    return chain.agent.get("profile") == "streamlit" and str(chain.agent.get("probe_path")).endswith("/_stcore/stream")


def _no_streamlit(chain: Chain) -> bool:
    """Streamlit says `ok` at /_stcore/health."""
    if chain.agent.get("profile") != "streamlit" or not _apps_answer(chain) or not chain.tunnel.get("status"):
        return False
    page = chain.found.get("page") or {}
    other = _reason(chain, *_NO_WEBSOCKET)
    explained = _secret_refused(chain) or _edge_login(chain) or _scheme(chain)
    return other and bool(page) and not page.get("streamlit") and not explained


def _scheme(chain: Chain) -> Match:
    location = str((chain.tunnel.get("headers") or {}).get("location", ""))
    sent = _reason(chain, "redirected") and location.startswith(f"https://{chain.words()['target_host']}")
    return not chain.is_https and (sent or (_reason(chain, "bad_key") and chain.target.endswith(":443")))


def _no_tls(chain: Chain) -> bool:
    """OpenSSL's words for what is no TLS at all."""
    told = str(chain.tunnel.get("error", ""))
    return _reason(chain, "tls_failed") and bool(
        re.search(r"(?i)version.number|record.layer|packet.length|http.request", told)
    )


def _edge_login(chain: Chain) -> Match:
    location = str((chain.tunnel.get("headers") or {}).get("location", ""))
    away = re.match(r"https?://([^/:]+)", location)
    elsewhere = _reason(chain, "redirected") and away and away.group(1) != chain.words()["target_host"]
    return (_reason(chain, "unauthorized") or elsewhere) and not chain.code and {"error": location or "401"}


def _clock_wrong(chain: Chain) -> Match:
    control, edge = _control_skew(chain), _skew(chain)
    wrong = control is not None and abs(control) > SKEW and (edge is None or abs(edge) > SKEW)
    alone = control is None and edge is not None and abs(edge) > SKEW
    return (wrong or alone) and {"error": f"{abs(edge if edge is not None else control or 0):.0f} s"}


def _clock_apart(chain: Chain) -> Match:
    edge = _skew(chain)
    return edge is not None and abs(edge) > SKEW and {"error": f"{abs(edge):.0f} s"}


def _no_resolver(chain: Chain) -> bool:
    resolved = chain.found.get("resolved") or {}
    return not resolved.get("addresses") and "emporary failure" in str(resolved.get("error", ""))


def _only_server_resolves(chain: Chain) -> bool:
    resolved = chain.found.get("resolved") or {}
    return resolved.get("by") == "server" and bool(resolved.get("addresses")) and _connected_container(chain)


def _connected_container(chain: Chain) -> bool:
    """One without any network cannot be blamed for what it does not reach."""
    return bool(chain.container.get("running") and chain.container.get("networks"))


def _env_invalid(chain: Chain) -> Match:
    env = chain.found.get("env") or {}
    problem = env.get("target") and _names.target_url_error(chain.words()["key"], str(env["target"]).rstrip("/"))
    return problem and {"error": problem.rstrip(".")}


def _env_differs(chain: Chain) -> Match:
    value = str((chain.found.get("env") or {}).get("target") or "").rstrip("/")
    return value and value != chain.agent.get("target_url") and {"error": _names.masked(value)}


def _not_in_force(chain: Chain) -> Match:
    value = str((chain.found.get("env") or {}).get("target") or "").rstrip("/").lower()
    used = str(chain.container.get("target") or "")
    return bool(used) and bool(value) and used != value and {"error": used}


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


def _engine(chain: Chain) -> Match:
    engine = version((chain.stack.get("docker") or {}).get("version"))
    number = version(chain.proxy.get("version"))
    fits = number >= (3, 6, 1) or (2, 11, 31) <= number < (3,)
    return bool(engine >= (29,) and number and not fits) and {
        "error": f"{chain.proxy.get('version')} with Docker Engine {(chain.stack.get('docker') or {}).get('version')}"
    }


def _bad_connect(chain: Chain) -> bool:
    return (chain.behind_tls.get("http2") or {}).get("reason") in ("bad_connect", "bad_http2")


def _broken_set(chain: Chain) -> Match:
    works = (chain.behind_tls.get("http2") or {}).get("works")
    return version(chain.proxy.get("version")) in BROKEN_TRAEFIK and not works and {"error": chain.proxy["version"]}


def _retry(chain: Chain) -> Match:
    number = version(chain.proxy.get("version"))
    routers = [router for router in _own_routers(chain) if router.get("retry")]
    return bool(routers and number) and number < (3, 7, 8)


def _slow_upload(chain: Chain) -> Match:
    limit, most = read_timeout(chain), size(chain.agent.get("max_body_size"))
    if not limit or most / limit <= UPLINK:
        return False
    return {
        "error": f"{limit:g} s",
        "size": str(chain.agent["max_body_size"]),
        "speed": f"{most * 8 / limit / 1e6:.0f}",
    }


def _no_network(chain: Chain) -> Match:
    ours, theirs = set(chain.container.get("networks") or []), set(chain.proxy.get("networks") or [])
    return bool(chain.container.get("running") and chain.proxy.get("running")) and not ours & theirs


def _wrong_network(chain: Chain) -> Match:
    flags = chain.proxy.get("flags") or {}
    label = (chain.container.get("labels") or {}).get("traefik.docker.network")
    chosen = label or flags.get("providers.docker.network")
    ours, theirs = set(chain.container.get("networks") or []), set(chain.proxy.get("networks") or [])
    return (
        bool(chosen and chain.container.get("running"))
        and not (chosen in ours and chosen in theirs)
        and {"error": chosen}
    )


def _not_enabled(chain: Chain) -> Match:
    enabled = str((chain.container.get("labels") or {}).get("traefik.enable", "")).lower()
    default = str((chain.proxy.get("flags") or {}).get("providers.docker.exposedbydefault", "true")).lower()
    return bool(chain.container) and (enabled == "false" or (default == "false" and enabled != "true"))


def _no_router(chain: Chain) -> Match:
    own = _own_routers(chain)
    if not chain.container.get("running") or any(chain.agent.get("domain") in hosts(router["rule"]) for router in own):
        return False
    others = sorted({host for router in own for host in hosts(router["rule"])})
    return {"error": f"only for {', '.join(others)}" if others else "none at all"}


def _two_routers(chain: Chain) -> Match:
    domain = chain.agent.get("domain")
    other = [
        router
        for router in chain.found.get("routers") or []
        if not router.get("own") and domain in hosts(router["rule"]) and "Path" not in str(router["rule"])
    ]
    return bool(other) and {
        "error": ", ".join(sorted({f"{router['name']} of {router['container']}" for router in other}))
    }


def _same_router(chain: Chain) -> Match:
    own = {str(router["name"]): router["rule"] for router in _own_routers(chain)}
    other = [
        router
        for router in chain.found.get("routers") or []
        if not router.get("own") and own.get(str(router["name"]), router["rule"]) != router["rule"]
    ]
    return bool(other) and {"error": f"{other[0]['name']} of {other[0]['container']}"}


def _own_values(chain: Chain, key: str) -> list[str]:
    domain = chain.agent.get("domain")
    return [str(router[key]) for router in _own_routers(chain) if router.get(key) and domain in hosts(router["rule"])]


def _wrong_entry_point(chain: Chain) -> Match:
    flags = chain.proxy.get("flags") or {}
    known = {key.split(".")[1] for key in flags if key.startswith("entrypoints.")}
    used = {name for value in _own_values(chain, "entrypoints") for name in value.replace(" ", "").split(",")}
    wanted = _entry_point(chain)
    bad = bool(known) and bool(used) and wanted not in used
    return bad and {"error": ", ".join(sorted(used)), "wanted": wanted}


def _wrong_resolver(chain: Chain) -> Match:
    flags = chain.proxy.get("flags") or {}
    known = {key.split(".")[1] for key in flags if key.startswith("certificatesresolvers.")}
    default = flags.get(f"entrypoints.{_entry_point(chain)}.http.tls.certresolver")
    used = {*_own_values(chain, "certresolver"), *([str(default)] if default else [])}
    unknown = sorted(name for name in used if name.lower() not in known)
    return (
        bool(flags)
        and "configfile" not in flags
        and bool(unknown)
        and {
            "error": ", ".join(unknown),
            "wanted": ", ".join(sorted(known)) or "none",
        }
    )


def _wrong_port(chain: Chain) -> Match:
    used = [value for value in _own_values(chain, "port") if value != "80"]
    return bool(used) and {"error": used[0]}


def _traefik_reason(*reasons: str) -> Callable[[Chain], Match]:
    return lambda chain: (
        bool(chain.behind_tls)
        and not chain.traefik_good
        and chain.behind_tls.get("reason") in reasons
        and {"error": chain.behind_tls.get("error", "")}
    )


def _tls(*reasons: str) -> Callable[[Chain], Match]:
    return lambda chain: chain.tls_reason in reasons and {"error": chain.traefik.get("error", "")}


def _staging(chain: Chain) -> Match:
    issuer = str(chain.certificate.get("issuer", ""))
    return bool(chain.tls_reason and re.search(r"\(STAGING\)|Fake LE|Pebble", issuer)) and {"error": issuer}


def _moment(text: object) -> float | None:
    try:
        return calendar.timegm(time.strptime(str(text), "%Y-%m-%dT%H:%M:%SZ"))
    except ValueError:
        return None


def _ends_soon(chain: Chain) -> Match:
    """In its last sixth: whoever renews it should have done so."""
    begin, end = _moment(chain.certificate.get("not_before")), _moment(chain.certificate.get("not_after"))
    now = chain.control.get("time") or chain.found.get("time")
    if not begin or not end or not now or chain.tls_reason:
        return False
    return end - float(now) < (end - begin) / 6 and {"error": str(chain.certificate["not_after"])[:10]}


def _elsewhere(chain: Chain) -> bool:
    """A server behind NAT is known to the control node by another address than to visitors."""
    addresses, own = chain.control.get("addresses") or [], chain.control.get("server_addresses") or []
    comparable = [address for address in own if _private(address) == _private(addresses[0])] if addresses else []
    return bool(comparable) and not set(addresses) & set(own)


def _private(address: str) -> bool:
    return ipaddress.ip_address(address.partition("%")[0]).is_private


def _other_certificate(chain: Chain) -> bool:
    theirs, keys = chain.public.get("certificate") or {}, ("issuer", "not_before", "not_after")
    return bool(theirs and chain.certificate) and any(theirs.get(key) != chain.certificate.get(key) for key in keys)


def _between(chain: Chain) -> str:
    """Who stands between the visitors and this server; empty for nobody."""
    server = str((chain.public.get("headers") or {}).get("server", ""))
    known = re.search(r"cloudflare|akamai|cloudfront|fastly|varnish|sucuri|bunny", server, re.IGNORECASE)
    return server if known else ""


def _dns_elsewhere(chain: Chain) -> Match:
    other = _elsewhere(chain) and not _between(chain)
    return (
        other
        and (not chain.public_good or _other_certificate(chain))
        and {
            "error": ", ".join(chain.control["addresses"]),
            "wanted": ", ".join(chain.control["server_addresses"]),
        }
    )


def _behind_proxy(chain: Chain) -> Match:
    return bool(chain.public) and bool(_between(chain)) and {"error": _between(chain)}


def _public(*reasons: str) -> Callable[[Chain], Match]:
    return lambda chain: (
        bool(chain.public) and chain.public.get("reason") in reasons and {"error": chain.public.get("error", "")}
    )


RULES: tuple[Rule, ...] = (
    # --- app
    *(Rule(name, "app", BROKEN, wrong, fix, _coded(codes)) for name, hop, codes, wrong, fix in CODES if hop == APP),
    Rule(
        "app_refused",
        "app",
        BROKEN,
        "nothing listens at {target_url}",
        "start what is to answer there, or set target_url of agent {agent}",
        lambda chain: _reason(chain, "refused") and not chain.is_https,
    ),
    Rule(
        "app_hangs",
        "app",
        BROKEN,
        "the app takes the request and does not answer",
        "on the laptop: start the app anew, and read what it prints",
        lambda chain: chain.answered and not chain.code and _reason(chain, "timeout"),
    ),
    Rule(
        "app_error",
        "app",
        BROKEN,
        "the app itself answers {error}",
        "on the laptop: read what the app prints, and mend it",
        lambda chain: (
            _apps_answer(chain) and chain.tunnel.get("status", 0) >= 500 and {"error": str(chain.tunnel["status"])}
        ),
    ),
    Rule(
        "app_other",
        "app",
        BROKEN,
        "what answers behind the tunnel is no Streamlit app any more, or has another base path",
        "on the laptop: start the app, remove server.baseUrlPath, and lead ngrok to its port",
        lambda chain: _no_streamlit(chain) and chain.found.get("verified"),
    ),
    Rule(
        "app_origin_preserve",
        "app",
        BROKEN,
        "the app refuses its own public origin, which origin_mode `preserve` passes on",
        "start the app with --server.corsAllowedOrigins={public_origin}, or set origin_mode of {agent} to rewrite",
        lambda chain: (
            _refused(chain)
            and chain.agent.get("probe_path")
            and chain.agent.get("origin_mode") == "preserve"
            and not _secret_refused(chain)
        ),
    ),
    Rule(
        "app_origin_rewrite",
        "app",
        BROKEN,
        "the app refuses the tunnel's own origin",
        "set origin_mode of agent {agent} to preserve, and server.corsAllowedOrigins of the app to {public_origin}",
        lambda chain: _refused(chain) and _stream(chain) and not _no_streamlit(chain) and not _secret_refused(chain),
    ),
    Rule(
        "app_no_websocket",
        "app",
        BROKEN,
        "the app has no WebSocket at {probe_path} ({error})",
        "set probe_path of agent {agent} to its WebSocket's path, or to '' if it has none, or set its profile",
        lambda chain: (
            _apps_answer(chain)
            and not (_no_streamlit(chain) or _scheme(chain) or _edge_login(chain) or _secret_refused(chain))
            and _reason(chain, *_NO_WEBSOCKET)
            and {"error": chain.tunnel.get("error", "")}
        ),
    ),
    Rule(
        "app_bad_websocket",
        "app",
        BROKEN,
        "the app's WebSocket is not sound ({error})",
        "on the laptop: start the app anew, and read what it prints",
        lambda chain: (
            _apps_answer(chain)
            and chain.agent.get("probe_path")
            and _reason(
                chain,
                *("bad_accept", "bad_upgrade", "bad_extension", "bad_subprotocol", "bad_frame", "closed", "no_pong"),
                *("not_http", "too_large", "no_answer"),
            )
            and {"error": chain.tunnel.get("error", "")}
        ),
    ),
    Rule(
        "app_open",
        "app_origin",
        WARN,
        "the app takes WebSockets from any website (enableCORS=false): the proxy refuses them, its own URL does not",
        "remove `enableCORS = false` from the app's .streamlit/config.toml, and start it anew",
        lambda chain: (
            chain.agent.get("profile") == "streamlit" and (chain.tunnel.get("foreign") or {}).get("status") == 101
        ),
    ),
    # --- ngrok agent
    *(Rule(name, "agent", BROKEN, wrong, fix, _coded(codes)) for name, hop, codes, wrong, fix in CODES if hop == AGENT),
    # --- ngrok edge
    Rule(
        "target_no_address",
        "edge_dns",
        BROKEN,
        "{target_host} has no address ({error})",
        "set target_url of agent {agent} to the URL that ngrok prints, and `{deploy}`",
        lambda chain: (
            bool(chain.found.get("resolved"))
            and not chain.found["resolved"].get("addresses")
            and not _no_resolver(chain)
            and {"error": chain.found["resolved"].get("error", "")}
        ),
    ),
    Rule(
        "edge_scheme_http",
        "edge_connection",
        BROKEN,
        "{target_url} begins with http://, and it answers https only",
        "set target_url of agent {agent} to https://{target_host}, and `{deploy}`",
        _scheme,
    ),
    Rule(
        "edge_scheme_https",
        "edge_connection",
        BROKEN,
        "{target_url} begins with https://, and what is there speaks no TLS ({error})",
        "set target_url of agent {agent} to http://…, and `{deploy}`",
        lambda chain: _no_tls(chain) and {"error": chain.tunnel.get("error", "")},
    ),
    Rule(
        "edge_certificate_name",
        "edge_connection",
        BROKEN,
        "the certificate of {target_url} is for another name ({error})",
        "set target_url of agent {agent} to the URL that ngrok prints, and `{deploy}`",
        lambda chain: _reason(chain, "tls_name") and {"error": chain.tunnel.get("error", "")},
    ),
    Rule(
        "edge_certificate",
        "edge_connection",
        BROKEN,
        "the certificate of {target_url} is not trusted ({error})",
        "set ca_certificate of agent {agent} to its authority's PEM file, and `{deploy}`",
        lambda chain: (
            _reason(chain, "tls_untrusted", "tls_pending")
            and not _clock_wrong(chain)
            and not chain.no_authority
            and {"error": chain.tunnel.get("error", "")}
        ),
    ),
    Rule(
        "edge_expired",
        "edge_connection",
        BROKEN,
        "the certificate of {target_url} is not valid now ({error})",
        "renew the certificate of {target_host}; at ngrok: dashboard.ngrok.com/domains",
        lambda chain: (
            _reason(chain, "tls_expired") and not _clock_wrong(chain) and {"error": chain.tunnel.get("error", "")}
        ),
    ),
    Rule(
        "edge_unreached",
        "edge_connection",
        BROKEN,
        "no connection from {server} to {target_url} ({error})",
        "on {server}: `sudo ufw allow out 443/tcp`, or set target_url of agent {agent} to the URL that ngrok prints",
        lambda chain: (
            _reason(chain, "refused", "unreachable", "timeout", "no_answer", "not_http", "dns", "tls_failed")
            and not _no_tls(chain)
            and (chain.is_https or not _reason(chain, "refused"))
            and not chain.tunnel.get("status")
            and not (chain.answered and _reason(chain, "timeout"))
            and {"error": chain.tunnel.get("error", "")}
        ),
    ),
    *(Rule(name, "edge", BROKEN, wrong, fix, _coded(codes)) for name, hop, codes, wrong, fix in CODES if hop == EDGE),
    Rule(
        "edge_interstitial",
        "edge",
        BROKEN,
        "ngrok shows its warning page although it was asked not to ({code})",
        "remove the warning page from the tunnel's traffic policy, or upgrade the ngrok plan",
        _coded((6024,)),
    ),
    Rule(
        "edge_refuses",
        "edge",
        BROKEN,
        "ngrok refuses to pass requests on ({code})",
        "read ngrok.com/docs/errors/ of {code}, and look at dashboard.ngrok.com",
        lambda chain: bool(chain.code) and not any(chain.number in codes for _id, _hop, codes, _wrong, _fix in CODES),
    ),
    Rule(
        "edge_secret",
        "edge",
        BROKEN,
        "the tunnel refuses with 403 even what carries tunnel_secret",
        "write the tunnel_secret of agent {agent} into the policy.yml of the laptop, and start ngrok anew",
        _secret_refused,
    ),
    Rule(
        "edge_login",
        "edge",
        BROKEN,
        "{target_url} wants a login first ({error})",
        "remove the authentication (OAuth, basic auth) from the tunnel's traffic policy",
        _edge_login,
    ),
    Rule(
        "edge_somebody_else",
        "edge",
        BROKEN,
        "what answers at {target_url} is no Streamlit app: it is somebody else's tunnel, or another app",
        "set target_url of agent {agent} to the URL that ngrok prints, and profile to the app's, and `{deploy}`",
        lambda chain: _no_streamlit(chain) and not chain.found.get("verified"),
    ),
    # --- server
    Rule(
        "server_unreachable",
        "reached",
        BROKEN,
        "{server} cannot be logged in to ({error})",
        "`ssh {server}` until it works: start the server, or mend ansible_host and ansible_user",
        lambda chain: bool(chain.unreachable) and {"error": chain.unreachable},
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
        "docker_silent",
        "docker",
        BROKEN,
        "Docker's daemon does not answer ({error})",
        "on {server}: `sudo systemctl start docker`, or `sudo usermod -aG docker $USER` and a new login",
        lambda chain: (
            bool(chain.stack.get("docker"))
            and not chain.stack["docker"].get("version")
            and {"error": chain.stack["docker"].get("error", "")}
        ),
    ),
    Rule(
        "disk_full",
        "disk",
        BROKEN,
        "the disk of {root} is full",
        "on {server}: `docker system prune --all --force`, then `df -h {root}`",
        lambda chain: (
            chain.found.get("disk_free") is not None
            and (chain.found["disk_free"] < DISK_FULL or chain.found.get("inodes_free", 1) == 0)
        ),
    ),
    Rule(
        "disk_low",
        "disk",
        WARN,
        "the disk of {root} is nearly full",
        "on {server}: `docker system prune --all --force`",
        lambda chain: chain.found.get("disk_free") is not None and chain.found["disk_free"] < DISK_LOW,
    ),
    Rule(
        "clock_wrong",
        "clock",
        BROKEN,
        "the server's clock is wrong by {error}, so that certificates count as expired or not yet valid",
        "on {server}: `sudo timedatectl set-ntp true`",
        _clock_wrong,
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
        _not_in_force,
    ),
    Rule(
        "env_differs",
        "env",
        WARN,
        "{key} in .env is {error}, and the inventory says {declared}",
        "set target_url of agent {agent} in the inventory, and `{deploy}`",
        _env_differs,
    ),
    Rule(
        "server_dns",
        "egress",
        BROKEN,
        "no DNS server answers {server}, so that {target_host} cannot be resolved",
        "on {server}: `sudo systemctl restart systemd-resolved`, or write `nameserver 1.1.1.1` into /etc/resolv.conf",
        _no_resolver,
    ),
    Rule(
        "container_dns",
        "egress",
        DEPENDS,
        "the server resolves {target_host}, its container does not",
        "on {server}: `sudo systemctl restart docker`, or set resolver of agent {agent}, and `{deploy}`",
        _only_server_resolves,
    ),
    Rule(
        "container_egress",
        "egress",
        DEPENDS,
        "the server reaches {target_host}, its container does not ({error})",
        "on {server}: `sudo iptables -I DOCKER-USER -p tcp --dport {target_port} -j ACCEPT`, and net.ipv4.ip_forward=1",
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
        "nginx is older than 1.27.3 ({error}), and cannot follow the tunnel's address",
        "set base_image of agent {agent} to nginx:1.30.6, and `{deploy}`",
        lambda chain: (
            (() < version(chain.container.get("nginx")) < (1, 27, 3) or _log(r'invalid parameter "resolve"')(chain))
            and {"error": chain.container.get("nginx") or "by its log"}
        ),
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
        "`{deploy}`; it says more with `docker logs {container}` on {server}",
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
        "what is in force is not the release: {error}",
        "`{deploy}`",
        lambda chain: bool(chain.found.get("differs")) and {"error": ", ".join(chain.found["differs"])},
    ),
    Rule(
        "files_edited",
        "files",
        WARN,
        "edited in {root} and not in force: {error}",
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
        "`{deploy}`; a conf by hand needs `proxy_set_header Origin {target_url};` for the agent's own origin",
        _nginx_reason("refused_origin"),
    ),
    Rule(
        "nginx_upgrade",
        "nginx",
        BROKEN,
        "nginx loses the handshake's Upgrade or Connection ({error})",
        "`{deploy}`; a conf by hand needs proxy_http_version 1.1 and the headers Upgrade and Connection",
        _nginx_reason("not_a_websocket", "bad_key", "no_upgrade", "no_route", "redirected"),
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
        "set max_body_size of agent {agent}, and `{deploy}`; a conf by hand needs `client_max_body_size 200m;`",
        lambda chain: bool((chain.nginx.get("upload") or {}).get("refused")),
    ),
    # --- Traefik
    Rule(
        "traefik_missing",
        "traefik_container",
        BROKEN,
        "there is no Traefik",
        "`{deploy}`, or on {server}: `{up_traefik}`",
        lambda chain: bool(chain.found) and not chain.found.get("error") and not chain.proxy.get("status"),
    ),
    Rule(
        "traefik_paused",
        "traefik_container",
        BROKEN,
        "{traefik} is paused",
        "on {server}: `docker unpause {traefik}`",
        lambda chain: chain.proxy.get("status") == "paused",
    ),
    Rule(
        "traefik_stopped",
        "traefik_container",
        BROKEN,
        "{traefik} does not run ({error}): {traefik_log}",
        "on {server}: `{up_traefik}`",
        lambda chain: (
            bool(chain.proxy.get("status")) and not chain.proxy.get("running") and {"error": chain.proxy["status"]}
        ),
    ),
    Rule(
        "traefik_unhealthy",
        "traefik_container",
        DEPENDS,
        "{traefik} is unhealthy: {traefik_log}",
        "on {server}: `docker restart {traefik}`",
        lambda chain: chain.proxy.get("health") == "unhealthy",
    ),
    Rule(
        "traefik_engine",
        "traefik_version",
        DEPENDS,
        "Traefik is too old for the Docker Engine ({error}): it sees no container",
        "set stack_traefik_image to traefik:v3.7.15, and `{upgrade}`",
        _engine,
    ),
    Rule(
        "traefik_broken_version",
        "traefik_version",
        BROKEN,
        "Traefik {error} advertises WebSockets over HTTP/2 and breaks them: curl works, browsers do not",
        "set stack_traefik_image to traefik:v3.7.15, and `{upgrade}`",
        _broken_set,
    ),
    Rule(
        "traefik_http2",
        "traefik_version",
        BROKEN,
        "Traefik advertises WebSockets over HTTP/2 and breaks them: curl works, browsers do not",
        "remove http2xconnect=1 from GODEBUG in {traefik}'s environment, then `{upgrade}`",
        _bad_connect,
    ),
    Rule(
        "traefik_retry",
        "traefik_version",
        WARN,
        "Traefik before 3.7.8 may panic on WebSockets behind its retry middleware",
        "set stack_traefik_image to traefik:v3.7.15, and `{upgrade}`",
        _retry,
    ),
    Rule(
        "traefik_read_timeout",
        "timeout",
        WARN,
        "Traefik cuts an upload off after {error}: one of {size} would have to come at {speed} Mbit/s",
        "set stack_traefik_read_timeout to 0, and `{upgrade}`",
        _slow_upload,
    ),
    Rule(
        "network_none",
        "network",
        DEPENDS,
        "{container} and Traefik have no network in common",
        "on {server}: `docker network connect {network} {container}`, and `{deploy}` to keep it so",
        _no_network,
    ),
    Rule(
        "network_wrong",
        "network",
        DEPENDS,
        "Traefik is to go over the network {error}, which the two do not have in common",
        "remove the label traefik.docker.network, or `docker network connect {error} {container}` on {server}",
        _wrong_network,
    ),
    Rule(
        "router_disabled",
        "router",
        DEPENDS,
        "{container} has no label traefik.enable=true",
        "`{deploy}`; in a compose file of your own write the label, then `{up}`",
        _not_enabled,
    ),
    Rule(
        "router_none",
        "router",
        DEPENDS,
        "{container} has no router for {domain} ({error})",
        "set domain of agent {agent}, and `{deploy}`; in a compose file of your own mend the label, then `{up}`",
        _no_router,
    ),
    Rule(
        "router_same",
        "router",
        DEPENDS,
        "two containers define one router differently, so Traefik drops it: {error}",
        "rename the router in the other container's labels, and `docker compose up -d` there",
        _same_router,
    ),
    Rule(
        "router_twice",
        "router",
        BROKEN,
        "another router has the name {domain}, too ({error}): who answers is chance",
        "take {domain} out of the other container's labels, and `docker compose up -d` there",
        _two_routers,
    ),
    Rule(
        "router_entry_point",
        "router",
        DEPENDS,
        "the router listens on the entry point {error}, and port {port} is {wanted}",
        "`{deploy}`; in a compose file of your own set the label entrypoints to {wanted}, then `{up}`",
        _wrong_entry_point,
    ),
    Rule(
        "router_resolver",
        "router",
        BROKEN,
        "Traefik knows no certificate resolver {error} (there is {wanted})",
        "`{deploy}`; in a compose file of your own set the label tls.certresolver to one that there is, then `{up}`",
        _wrong_resolver,
    ),
    Rule(
        "router_port",
        "router",
        DEPENDS,
        "Traefik is to go to port {error} of {container}, and nginx listens on 80",
        "`{deploy}`; in a compose file of your own set the label loadbalancer.server.port to 80, then `{up}`",
        _wrong_port,
    ),
    Rule(
        "traefik_closed",
        "traefik",
        BROKEN,
        "Traefik does not listen on port {port} ({error})",
        "set stack_https_port, and `{upgrade}`; in a compose file of your own publish the port, then `{up_traefik}`",
        _traefik_reason("refused", "unreachable", "timeout", "tls_failed", "dns"),
    ),
    Rule(
        "traefik_no_route",
        "traefik",
        BROKEN,
        "Traefik has no route to {container}: {traefik_log}",
        "on {server}: `docker restart {traefik}`; if it stays so, `{deploy}`",
        _traefik_reason("no_route", "stopped"),
    ),
    Rule(
        "traefik_gateway",
        "traefik",
        BROKEN,
        "Traefik does not reach {container} ({error})",
        "on {server}: `docker restart {traefik}`; if it stays so, `{deploy}`",
        _traefik_reason("proxy_error", "no_answer"),
    ),
    Rule(
        "traefik_upload",
        "traefik",
        BROKEN,
        "Traefik refuses an upload of 2 MB (413)",
        "remove the buffering middleware with maxRequestBodyBytes from the router's labels",
        lambda chain: bool((chain.behind_tls.get("upload") or {}).get("refused")),
    ),
    Rule(
        "traefik_other",
        "traefik",
        BROKEN,
        "Traefik does not pass on what nginx answers ({error})",
        "remove middlewares of your own from the router's labels; if it stays so, `docker logs {traefik}` on {server}",
        lambda chain: (
            bool(chain.behind_tls and chain.nginx)
            and not chain.traefik_good
            and {"error": chain.behind_tls.get("error", "")}
        ),
    ),
    # --- TLS
    Rule(
        "tls_staging",
        "tls",
        BROKEN,
        "the certificate comes from a staging authority ({error}), which no browser trusts",
        "remove stack_acme_server from the inventory and {root}/traefik/acme/acme.json from {server}, and `{upgrade}`",
        _staging,
    ),
    Rule(
        "tls_pending",
        "tls",
        BROKEN,
        "Traefik has no certificate for {domain} yet: {traefik_log}",
        "point {domain} at {server} and open port {port}; then on {server}: `docker restart {traefik}`",
        lambda chain: _tls("tls_pending")(chain) and chain.agent.get("tls") == "acme",
    ),
    Rule(
        "tls_default",
        "tls",
        BROKEN,
        "Traefik has no certificate for {domain}, and shows its own",
        "set stack_tls_certificate and stack_tls_key to files for {domain}, and `{deploy}`",
        _tls("tls_pending"),
    ),
    Rule(
        "tls_expired",
        "tls",
        BROKEN,
        "the certificate of {domain} is not valid now ({error})",
        "renew the file of stack_tls_certificate and `{deploy}`; with acme on {server}: `docker restart {traefik}`",
        lambda chain: not _clock_wrong(chain) and _tls("tls_expired")(chain),
    ),
    Rule(
        "tls_name",
        "tls",
        BROKEN,
        "the certificate is not for {domain} ({error})",
        "set stack_tls_certificate and stack_tls_key to files for {domain}, and `{deploy}`",
        _tls("tls_name"),
    ),
    Rule(
        "tls_untrusted",
        "tls",
        BROKEN,
        "the certificate of {domain} is from an authority that nobody knows ({error})",
        "set stack_tls_certificate to a file with its whole chain, or stack_tls_ca to your authority, and `{deploy}`",
        _tls("tls_untrusted"),
    ),
    Rule(
        "tls_soon",
        "tls",
        WARN,
        "the certificate of {domain} ends on {error}, and nobody has renewed it",
        "renew the file of stack_tls_certificate and `{deploy}`; with acme on {server}: read `docker logs {traefik}`",
        _ends_soon,
    ),
    # --- DNS
    Rule(
        "dns_none",
        "dns",
        BROKEN,
        "{domain} has no address",
        "in the DNS of its zone: {domain} A {wanted}",
        lambda chain: (
            "addresses" in chain.control
            and not chain.control["addresses"]
            and {"wanted": (chain.control.get("server_addresses") or ["ADDRESS-OF-THE-SERVER"])[0]}
        ),
    ),
    Rule(
        "dns_elsewhere",
        "dns",
        BROKEN,
        "{domain} points at {error}, and {server} is {wanted}",
        "in the DNS of its zone: {domain} A {wanted}",
        _dns_elsewhere,
    ),
    Rule(
        "public_closed",
        "public",
        BROKEN,
        "port {port} of {domain} is closed to the control node ({error}), and Traefik listens",
        "on {server}: `sudo ufw allow {port}/tcp`, and open it in the provider's firewall",
        lambda chain: (
            not chain.tls_reason and not chain.public_good and _public("refused", "timeout", "unreachable")(chain)
        ),
    ),
    Rule(
        "public_proxy_broken",
        "public",
        BROKEN,
        "another proxy ({error}) stands before {server}, and does not pass the WebSocket on",
        "point {domain} at {server} itself (Cloudflare: `DNS only`), or let that proxy pass WebSockets",
        lambda chain: not chain.public_good and _behind_proxy(chain),
    ),
    Rule(
        "public_proxy",
        "public",
        WARN,
        "another proxy ({error}) stands before {server}, with limits of its own on uploads and silent WebSockets",
        "point {domain} at {server} itself (Cloudflare: `DNS only`)",
        _behind_proxy,
    ),
    Rule(
        "public_other_tls",
        "public",
        BROKEN,
        "who answers for {domain} has another certificate ({error}) than {server}: another server, or a proxy",
        "in the DNS of its zone point {domain} at {server} itself",
        lambda chain: (
            not chain.public_good
            and _other_certificate(chain)
            and {"error": str((chain.public.get("certificate") or {}).get("issuer", ""))}
        ),
    ),
    Rule(
        "public_untrusted",
        "public",
        WARN,
        "{server} trusts the certificate of {domain}, the control node does not ({error})",
        "set stack_tls_ca to your own authority, or renew the control node's ca-certificates",
        lambda chain: (
            not chain.tls_reason
            and bool(chain.behind_tls.get("status"))
            and _public("tls_untrusted", "tls_name", "tls_expired", "tls_pending", "tls_failed")(chain)
        ),
    ),
    Rule(
        "public_other",
        "public",
        BROKEN,
        "from outside {domain} answers otherwise than on {server} itself ({error})",
        "look for a proxy, a firewall or another server between: `curl -sv {public_origin} -o /dev/null`",
        lambda chain: (
            bool(chain.public and chain.behind_tls)
            and not chain.tls_reason
            and not chain.public_good
            and chain.public.get("reason") != "dns"
            and {"error": chain.public.get("error", "")}
        ),
    ),
)


# --- Findings ---------------------------------------------------------------------------------------------------------


class _Words(dict):
    def __missing__(self, key: str) -> str:
        return ""


def _filled(text: str, words: dict[str, str]) -> str:
    """What servers sent stays on one line."""
    made = " ".join(text.format_map(_Words({key: str(value) for key, value in words.items()})).split())
    return re.sub(r"(: ?| \(\))$", "", made)


def _verdict(rule: Rule, hop: str, chain: Chain) -> str:
    if rule.verdict != DEPENDS:
        return rule.verdict
    return WARN if chain.works(hop) else BROKEN


def finding(question: Question, chain: Chain) -> dict[str, str]:
    words = chain.words()
    made = {
        "hop": question.hop,
        "asked": _filled(question.asked, words),
        "found": " ".join(question.found(chain).split()),
    }
    for rule in RULES:
        match = rule.question == question.id and rule.applies(chain)
        if match:
            words.update(match if isinstance(match, dict) else {})
            told = {"rule": rule.id, "why": _filled(rule.wrong, words), "fix": _filled(rule.fix, words)}
            return {**made, "verdict": _verdict(rule, question.hop, chain), **told}
    return {**made, "verdict": OK if made["found"] else UNKNOWN, "rule": "", "why": "", "fix": ""}


def findings(facts: dict[str, Any]) -> list[dict[str, str]]:
    """One for each question, from the app to the visitor."""
    chain = Chain(facts)
    return [finding(question, chain) for question in QUESTIONS]


def first(found: list[dict[str, str]]) -> dict[str, str]:
    """The first broken one, else the first that is to be warned of, else nothing."""
    for verdict in (BROKEN, WARN):
        for one in found:
            if one["verdict"] == verdict:
                return one
    return {}


def sentence(facts: dict[str, Any], found: list[dict[str, str]]) -> str:
    words, one = Chain(facts).words(), first(found)
    who = f"{words['agent']} on {words['server']}"
    if not one:
        return f"{who}: every hop that could be asked works."
    begin = f"broken at the {one['hop']}" if one["verdict"] == BROKEN else f"works, but at the {one['hop']}"
    begin = re.sub(r"at the (Traefik|TLS|DNS|nginx)$", r"at \1", begin)
    return f"{who}: {begin}: {one['why']}. To mend it: {one['fix']}."


def diagnosis(facts: dict[str, Any]) -> dict[str, Any]:
    found = findings(facts)
    one, agent = first(found), facts.get("agent") or {}
    broken = one.get("verdict") == BROKEN
    return {
        "agent": agent.get("name", ""),
        "server": agent.get("server", ""),
        "broken": broken,
        "hop": one.get("hop", "") if broken else "",
        "rule": one.get("rule", ""),
        "why": one.get("why", ""),
        "fix": one.get("fix", ""),
        "sentence": sentence(facts, found),
        "findings": found,
    }


_COLUMNS = ("hop", "asked", "found", "verdict")
_WIDTH = 60  # of a cell


def lines(made: dict[str, Any]) -> list[str]:
    """The findings in columns, and the sentence; what could not be asked is a dash."""
    shown = [
        [one[key] if len(one[key]) <= _WIDTH else one[key][: _WIDTH - 1] + "…" for key in _COLUMNS]
        for one in made["findings"]
    ]
    cells = [[name.upper() for name in _COLUMNS], *([cell or "-" for cell in row] for row in shown)]
    widths = [max(len(row[index]) for row in cells) for index in range(len(_COLUMNS))]
    told = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip() for row in cells]
    return [*(told if shown else []), "", made["sentence"], ""]
