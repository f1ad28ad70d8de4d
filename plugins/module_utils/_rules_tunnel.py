# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What may be wrong with the app, the ngrok agent and the ngrok edge."""

from __future__ import annotations

import re
from typing import Callable

from ._chain import (
    AGENT,
    APP,
    BROKEN,
    EDGE,
    WARN,
    Chain,
    Match,
    Question,
    Rule,
    answer,
    clock_wrong,
    foreign,
    no_resolver,
    tunnel_reason,
)

_UNREACHED = ("dns", "refused", "unreachable", "tls_untrusted", "tls_pending", "tls_name", "tls_expired", "tls_failed")
_NO_WEBSOCKET = (
    *("not_a_websocket", "no_route", "bad_key", "no_upgrade"),
    *("redirected", "too_many_requests", "refused_origin"),
)
_UNSOUND = (
    *("bad_accept", "bad_upgrade", "bad_extension", "bad_subprotocol", "bad_frame", "closed", "no_pong"),
    *("not_http", "too_large", "no_answer"),
)
_FAILURES = (1002, 1003, 1007, 1011, 1014)  # close codes of a server that cannot go on (RFC 6455, section 7.4.1)
# ngrok's codes: rule, hop, codes, what is wrong, what fixes it.
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
        "fix the app's errors 500, or remove the circuit breaker from the tunnel's traffic policy",
    ),
    (
        "edge_ip",
        EDGE,
        (3203, 3205),
        "the tunnel's IP policy refuses this server ({code})",
        "allow the server's address in the tunnel's IP policy (dashboard.ngrok.com/ip-policies)",
    ),
)


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
    if not tunnel or chain.no_authority or _no_way(chain):
        return ""
    if tunnel.get("reason") in _UNREACHED or (tunnel.get("reason") == "timeout" and not chain.answered):
        return str(tunnel.get("error", ""))
    issuer = (tunnel.get("certificate") or {}).get("issuer")
    return f"{tunnel.get('address', '')}{', certificate of ' + str(issuer) if issuer else ''}"


def _addresses(chain: Chain) -> str:
    resolved = chain.found.get("resolved") or {}
    told = ", ".join(resolved.get("addresses") or [])
    return told or ("" if chain.only_elsewhere else str(resolved.get("error", "")))


def _coded(codes: tuple[int, ...]) -> Callable[[Chain], Match]:
    return lambda chain: chain.number in codes


def _apps_answer(chain: Chain) -> bool:
    """Something behind the tunnel answered, and not as it should."""
    return chain.answered and not chain.code and not chain.tunnel_good


def _plain_ok(chain: Chain) -> bool:
    return 0 < (chain.found.get("page") or {}).get("status", 0) < 400


def _refused(chain: Chain) -> bool:
    return _apps_answer(chain) and tunnel_reason(chain, "refused_origin")


def _secret_refused(chain: Chain) -> bool:
    return _refused(chain) and bool(chain.agent.get("tunnel_secret")) and not _plain_ok(chain)


def _denied(chain: Chain) -> bool:
    """Not the handshake alone, and there is no secret that could be wrong."""
    page = chain.found.get("page") or {}
    return _refused(chain) and not chain.agent.get("tunnel_secret") and page.get("status") == 403


def _breaks(chain: Chain) -> bool:
    """An app that wants a login closes its WebSocket as well, but with another code."""
    return tunnel_reason(chain, "app_closed") and chain.tunnel.get("close_code") in _FAILURES


def _stream(chain: Chain) -> bool:
    """Streamlit's own path: elsewhere a 403 is also what servers say of a WebSocket that they do not have."""
    return chain.agent.get("profile") == "streamlit" and str(chain.agent.get("probe_path")).endswith("/_stcore/stream")


def _no_streamlit(chain: Chain) -> bool:
    """Streamlit says `ok` at /_stcore/health."""
    if chain.agent.get("profile") != "streamlit" or not _apps_answer(chain) or not chain.tunnel.get("status"):
        return False
    page = chain.found.get("page") or {}
    other = tunnel_reason(chain, *_NO_WEBSOCKET)
    explained = _secret_refused(chain) or _denied(chain) or _edge_login(chain) or _scheme(chain)
    return other and bool(page) and not page.get("streamlit") and not explained


def _scheme(chain: Chain) -> Match:
    location = str((chain.tunnel.get("headers") or {}).get("location", ""))
    sent = tunnel_reason(chain, "redirected") and location.startswith(f"https://{chain.words()['target_host']}")
    unasked = tunnel_reason(chain, "bad_key", "no_answer", "not_http", "closed") and chain.target.endswith(":443")
    return not chain.is_https and (sent or unasked)


def _unreached(chain: Chain) -> Match:
    """By the server, and by its container as well."""
    return (
        not _scheme(chain)
        and tunnel_reason(chain, "refused", "unreachable", "timeout", "no_answer", "not_http", "dns", "tls_failed")
        and not _no_tls(chain)
        and (chain.is_https or not tunnel_reason(chain, "refused"))
        and not chain.tunnel.get("status")
        and not (chain.answered and tunnel_reason(chain, "timeout"))
        and not chain.good(chain.nginx)
        and {"error": chain.tunnel.get("error", "")}
    )


def _no_way(chain: Chain) -> Match:
    """It is the server that does not get there."""
    return chain.only_elsewhere and _unreached(chain)


def _no_tls(chain: Chain) -> bool:
    """OpenSSL's words for what is no TLS at all."""
    told = str(chain.tunnel.get("error", ""))
    return tunnel_reason(chain, "tls_failed") and bool(
        re.search(r"(?i)version.number|record.layer|packet.length|http.request", told)
    )


def _edge_login(chain: Chain) -> Match:
    """An app without a WebSocket may want a login of its own; what the edge wants leads to ngrok."""
    location = str((chain.tunnel.get("headers") or {}).get("location", ""))
    away = re.match(r"https?://([^/:]+)", location)
    own_names = (chain.words()["target_host"], chain.agent.get("domain"))
    elsewhere = tunnel_reason(chain, "redirected") and away and away.group(1) not in own_names
    own = chain.tunnel_good and not (away and away.group(1).endswith(".ngrok.com"))
    return (
        (tunnel_reason(chain, "unauthorized") or elsewhere) and not (chain.code or own) and {"error": location or "401"}
    )


QUESTIONS = (
    Question("app", APP, "{probe_path} through the tunnel", _told),
    Question("app_origin", APP, "a foreign Origin, straight at the tunnel", lambda chain: foreign(chain.tunnel)),
    Question("agent", AGENT, "an ngrok agent for {target_host}", _connected),
    Question(
        "edge_dns",
        EDGE,
        "addresses of {target_host}",
        _addresses,
    ),
    Question("edge_connection", EDGE, "a connection to {target_url}", _edge_connection),
    Question(
        "edge",
        EDGE,
        "an error of ngrok's own",
        lambda chain: chain.code or ("none" if chain.tunnel.get("status") else ""),
    ),
)

RULES: tuple[Rule, ...] = (
    # --- app
    *(Rule(name, "app", BROKEN, wrong, fix, _coded(codes)) for name, hop, codes, wrong, fix in CODES if hop == APP),
    Rule(
        "app_refused",
        "app",
        BROKEN,
        "nothing listens at {target_url}",
        "start what is to answer there, or set target_url of agent {agent} to where it listens, and `{deploy}`",
        lambda chain: tunnel_reason(chain, "refused") and not chain.is_https,
    ),
    Rule(
        "app_hangs",
        "app",
        BROKEN,
        "the app takes the request and does not answer",
        "on the laptop: start the app again, and read what it prints",
        lambda chain: chain.answered and not chain.code and tunnel_reason(chain, "timeout"),
    ),
    Rule(
        "app_error",
        "app",
        BROKEN,
        "the app itself answers {error}",
        "on the laptop: read what the app prints, and fix it",
        lambda chain: (
            _apps_answer(chain) and chain.tunnel.get("status", 0) >= 500 and {"error": str(chain.tunnel["status"])}
        ),
    ),
    Rule(
        "app_other",
        "app",
        BROKEN,
        "what answers behind the tunnel is no Streamlit app any more, or has another base path",
        "on the laptop: `ngrok http --url={target_url} PORT`; the app must be started without server.baseUrlPath",
        lambda chain: _no_streamlit(chain) and chain.found.get("verified"),
    ),
    Rule(
        "app_origin_preserve",
        "app",
        BROKEN,
        "the app refuses its own public origin, which origin_mode `preserve` passes on",
        "set origin_mode of agent {agent} to rewrite, and `{deploy}`; or let the app take {public_origin}",
        lambda chain: (
            _refused(chain)
            and chain.agent.get("probe_path")
            and chain.agent.get("origin_mode") == "preserve"
            and not (_secret_refused(chain) or _denied(chain))
        ),
    ),
    Rule(
        "app_origin_rewrite",
        "app",
        BROKEN,
        "the app refuses the tunnel's own origin",
        "set origin_mode of agent {agent} to preserve, and `{deploy}`; the app must take {public_origin} then",
        lambda chain: (
            _refused(chain)
            and _stream(chain)
            and not _no_streamlit(chain)
            and not (_secret_refused(chain) or _denied(chain))
        ),
    ),
    Rule(
        "app_no_websocket",
        "app",
        BROKEN,
        "the app has no WebSocket at {probe_path}: it answers {error}",
        "set probe_path of agent {agent} to '' (it has none) or to its WebSocket's path, and `{deploy}`",
        lambda chain: (
            _apps_answer(chain)
            and not (
                _no_streamlit(chain) or _scheme(chain) or _edge_login(chain) or _secret_refused(chain) or _denied(chain)
            )
            and tunnel_reason(chain, *_NO_WEBSOCKET)
            and {"error": str(chain.tunnel.get("status", ""))}
        ),
    ),
    Rule(
        "app_bad_websocket",
        "app",
        BROKEN,
        "the app's WebSocket is not sound ({error})",
        "on the laptop: start the app again, and read what it prints",
        lambda chain: (
            (
                _breaks(chain)
                or (
                    _apps_answer(chain)
                    and not _scheme(chain)
                    and chain.agent.get("probe_path")
                    and tunnel_reason(chain, *_UNSOUND)
                )
            )
            and {"error": chain.tunnel.get("error", "")}
        ),
    ),
    Rule(
        "app_open",
        "app_origin",
        WARN,
        "the app takes WebSockets from any website (enableCORS=false): the proxy refuses them, its own URL does not",
        "remove `enableCORS = false` from the app's .streamlit/config.toml, and start it again",
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
            and not no_resolver(chain)
            and not chain.only_elsewhere
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
        "set target_url of agent {agent} to http://{target_host}:{target_port}, and `{deploy}`",
        lambda chain: _no_tls(chain) and {"error": chain.tunnel.get("error", "")},
    ),
    Rule(
        "edge_certificate_name",
        "edge_connection",
        BROKEN,
        "the certificate of {target_url} is for another name ({error})",
        "set target_url of agent {agent} to the URL that ngrok prints, and `{deploy}`",
        lambda chain: tunnel_reason(chain, "tls_name") and {"error": chain.tunnel.get("error", "")},
    ),
    Rule(
        "edge_certificate",
        "edge_connection",
        BROKEN,
        "the certificate of {target_url} is not trusted ({error})",
        "set ca_certificate of agent {agent} to its authority's PEM file, and `{deploy}`",
        lambda chain: (
            tunnel_reason(chain, "tls_untrusted", "tls_pending")
            and not clock_wrong(chain)
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
            tunnel_reason(chain, "tls_expired") and not clock_wrong(chain) and {"error": chain.tunnel.get("error", "")}
        ),
    ),
    Rule(
        "edge_unreached",
        "edge_connection",
        BROKEN,
        "no connection from {server} to {target_url} ({error})",
        "wait for ngrok (status.ngrok.com), or set target_url of agent {agent} to its URL, and `{deploy}`",
        lambda chain: not chain.only_elsewhere and _unreached(chain),
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
        "edge_no_secret",
        "edge",
        BROKEN,
        "the tunnel refuses everything with 403, as a traffic policy does that wants a secret",
        "set tunnel_secret of agent {agent} to the secret of its policy.yml, and `{deploy}`; or remove the policy",
        _denied,
    ),
    Rule(
        "edge_secret",
        "edge",
        BROKEN,
        "the tunnel refuses with 403 even what carries tunnel_secret",
        "write the tunnel_secret of agent {agent} into the policy.yml of the laptop, and start ngrok again",
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
    Rule(
        "edge_unforeseen",
        "edge",
        BROKEN,
        "{target_url} answers what nobody could read ({error})",
        "on {server}: `curl -sv {target_url} -o /dev/null` tells more",
        lambda chain: tunnel_reason(chain, "unforeseen") and {"error": chain.tunnel.get("error", "")},
    ),
    # --- the server's way to the edge, which the control node does reach
    Rule(
        "server_no_way_out",
        "egress",
        BROKEN,
        "{server} gets no connection to {target_url}, and the control node does ({error})",
        "on {server}: `sudo iptables -I OUTPUT -p tcp --dport {target_port} -j ACCEPT` and"
        " `sudo iptables -I DOCKER-USER -p tcp --dport {target_port} -j ACCEPT`, and in the provider's firewall",
        _no_way,
    ),
    Rule(
        "server_other_dns",
        "egress",
        BROKEN,
        "{server} finds no address of {target_host}, and the control node does ({error})",
        "on {server}: `echo nameserver 1.1.1.1 | sudo tee /etc/resolv.conf`, then `sudo systemctl restart docker`",
        lambda chain: (
            chain.only_elsewhere
            and not (chain.found.get("resolved") or {}).get("addresses")
            and not no_resolver(chain)
            and {"error": (chain.found.get("resolved") or {}).get("error", "")}
        ),
    ),
)
