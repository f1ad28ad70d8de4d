# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A chain that works, as it was recorded, and one fault at a time in it: the diagnosis names its rule and its hop."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.locki.vaettir.plugins.module_utils import (
    _chain,
    _diagnosis,
    _facts,
    _rules_traefik,
    _rules_tunnel,
    _visitor,
)
from hypothesis import given
from hypothesis import strategies as st

from . import ssh_faults
from .recorded import changed, load

HEALTHY = load("healthy")
TUNNEL, NGINX, TRAEFIK, PUBLIC = (f"probes.{name}" for name in ("tunnel", "nginx", "traefik", "public"))
GONE = {"status": 0, "state": "", "ngrok_code": "", "timings": {}, "headers": {}, "certificate": {}}
ROUTER = {"name": "other", "container": "other-1", "own": False, "entrypoints": "", "certresolver": "", "port": ""}
HOST = "Host(`ocapistaine.vaettir.example.org`)"


def nobody(reason: str, **more: Any) -> dict[str, Any]:
    """A probe that got no answer."""
    return {**GONE, "reason": reason, "error": f"no connection ({reason})", **more}


def says(status: int, reason: str, **more: Any) -> dict[str, Any]:
    """A probe that got another answer than it wanted."""
    answer = {
        "status": status,
        "reason": reason,
        "error": f"answer {status} instead of 101",
        "timings": {"handshake": 5},
    }
    return {**GONE, **answer, **more}


def coded(number: int, status: int = 404) -> dict[str, Any]:
    return says(status, "offline", ngrok_code=f"ERR_NGROK_{number}")


def page(state: str = "offline") -> dict[str, Any]:
    return says(503, state, state=state)


def passed_on(answer: dict[str, Any]) -> dict[str, Any]:
    """The same answer at every hop after the tunnel."""
    return {TUNNEL: answer, NGINX: answer, TRAEFIK: {**HEALTHY["probes"]["traefik"], **answer}, PUBLIC: answer}


def shown(answer: dict[str, Any], state: str = "offline") -> dict[str, Any]:
    """The tunnel's answer, and the page from there on."""
    made = page(state)
    return {TUNNEL: answer, NGINX: made, TRAEFIK: {**HEALTHY["probes"]["traefik"], **made}, PUBLIC: made}


def after_nginx(answer: dict[str, Any]) -> dict[str, Any]:
    return {NGINX: answer, TRAEFIK: {**HEALTHY["probes"]["traefik"], **answer}, PUBLIC: answer}


def after_traefik(answer: dict[str, Any]) -> dict[str, Any]:
    return {TRAEFIK: {**HEALTHY["probes"]["traefik"], **answer}, PUBLIC: answer}


def tls(reason: str, issuer: str = "R12") -> dict[str, Any]:
    certificate = {**HEALTHY["probes"]["traefik"]["certificate"], "issuer": issuer}
    untrusted = nobody(reason, certificate=certificate)
    return {TRAEFIK: untrusted, PUBLIC: untrusted, "probes.routed": HEALTHY["probes"]["traefik"]}


def log(line: str) -> dict[str, Any]:
    return {"found.container.log": line, "found.container.errors": line}


def stopped(status: str, line: str = "") -> dict[str, Any]:
    container = {"status": status, "running": False, "health": "", "nginx": ""}
    return {
        **{f"found.container.{key}": value for key, value in container.items()},
        **log(line),
        NGINX: {},
        "found.reach": "",
    }


def facts(changes: dict[str, Any]) -> dict[str, Any]:
    return changed(HEALTHY, changes)


NO_ROUTE = after_traefik(says(404, "no_route"))
STOPPED = after_traefik(page("stopped"))
GATEWAY = after_traefik(says(502, "proxy_error"))
FLAGS = HEALTHY["found"]["traefik"]["flags"]
NO_NAME = {"by": "server", "addresses": [], "error": "Name or service not known", "overridden": ""}
ELSEWHERE = {  # what .env says is in force, and only the inventory's target works
    "found.env.target": "https://b.ngrok-free.app",
    "found.container.target": "https://b.ngrok-free.app",
    "found.target": "https://b.ngrok-free.app",
    "probes.declared": HEALTHY["probes"]["tunnel"],
}
OWN = next(router for router in HEALTHY["found"]["routers"] if router["own"])
NO_CLIENT = 'ERR Unable to obtain ACME certificate for domains error="cannot get ACME client get directory at'
EXITED = {
    "found.traefik.status": "exited",
    "found.traefik.running": False,
    "found.traefik.health": "",
    **after_traefik(nobody("refused")),
}
# What Traefik says.
API = 'ERR Provider error, retrying error="client version 1.24 is too old. Minimum supported API version is 1.44"'
SOCKET = 'ERR Provider error, retrying error="failed to connect to the docker API at unix:///var/run/docker.sock"'
UNREAD = (
    'error="collecting file configs: /etc/traefik/dynamic/own.yml: yaml: line 1: did not find expected node content"'
)
FILE = f"ERR Error while building configuration (for the first time) {UNREAD} providerName=file"
PAIR = 'error="failed to load X509 key pair: tls: private key does not match public key" tlsStoreName=default'
KEY = f"ERR Error while creating certificate store {PAIR}"
MUTE = nobody("dns") | {"error": "one.example has no address: Temporary failure in name resolution"}
H2 = {"reason": "bad_connect", "extended_connect": True, "works": False, "status": 500, "error": "", "settings": {}}
PLAIN = {"agent.probe_path": "", "agent.profile": "generic", **passed_on(says(200, "not_a_websocket"))}
CLOUDFLARE = {"headers": {"server": "cloudflare"}, "certificate": {"issuer": "WE1", "not_before": "", "not_after": ""}}
EXPIRED = "2020-01-01T00:00:00Z"
CONTROL = HEALTHY["control"]["time"]

# rule, changes
BROKEN: list[tuple[str, dict[str, Any]]] = [
    ("app_not_listening", shown(coded(8012, 502), "app")),
    ("app_speaks_https", shown(coded(3004, 502), "app")),
    ("app_refused", {**shown(nobody("refused"), "app"), "found.target": "http://app:8501"}),
    ("app_hangs", shown(nobody("timeout", timings={"connect": 1, "tls": 2, "handshake": 10000}))),
    ("app_error", passed_on(says(500, "proxy_error"))),
    ("app_other", {**passed_on(says(404, "no_route")), "found.page": {"status": 404, "streamlit": False}}),
    ("app_origin_preserve", {**passed_on(says(403, "refused_origin")), "agent.origin_mode": "preserve"}),
    ("app_origin_rewrite", passed_on(says(403, "refused_origin"))),
    ("app_no_websocket", passed_on(says(404, "no_route"))),
    ("app_no_websocket", {**passed_on(says(400, "bad_key")), "agent.profile": "generic"}),
    ("app_no_websocket", {**passed_on(says(403, "refused_origin")), "agent.probe_path": "/nope"}),
    ("app_bad_websocket", passed_on(says(101, "no_pong"))),
    ("app_bad_websocket", passed_on(says(101, "app_closed", close_code=1011))),
    ("agent_offline", shown(coded(3200))),
    ("agent_no_backend", shown(coded(724, 503))),
    ("agent_draining", shown(coded(742, 503))),
    ("agent_draining", shown(coded(743, 503))),
    ("agent_taken", shown(coded(334), "refused")),
    ("agent_token", shown(coded(105), "refused")),
    ("agent_sessions", shown(coded(108), "refused")),
    ("agent_old", shown(coded(120), "refused")),
    ("agent_domain", shown(coded(320), "refused")),
    (
        "target_no_address",
        {**shown({}), "found.resolved": {"by": "server", "addresses": [], "error": "Name or service not known"}},
    ),
    (
        "edge_scheme_http",
        {
            **passed_on(
                says(307, "redirected", headers={"location": "https://ocapistaine.ngrok-free.app/_stcore/stream"})
            ),
            "found.target": "http://ocapistaine.ngrok-free.app",
        },
    ),
    (
        "edge_scheme_http",
        {**passed_on(nobody("no_answer", timings={"handshake": 5})), "found.target": "http://a.ngrok-free.app:443"},
    ),
    ("edge_scheme_https", shown(nobody("tls_failed", error="[SSL: WRONG_VERSION_NUMBER] wrong version number"))),
    ("edge_certificate_name", shown(nobody("tls_name"))),
    ("edge_certificate", shown(nobody("tls_untrusted"))),
    ("edge_expired", shown(nobody("tls_expired"))),
    ("edge_unreached", shown(nobody("timeout"))),
    ("edge_unreached", shown(nobody("tls_failed", error="the TLS handshake broke off: Connection reset by peer"))),
    ("edge_unreached", {**shown(nobody("timeout")), PUBLIC: nobody("timeout", address="203.0.113.7")}),
    ("edge_unreached", shown(nobody("refused"))),
    ("server_no_way_out", {**shown(nobody("timeout")), "probes.elsewhere": says(403, "refused_origin")}),
    ("server_no_way_out", {**shown(nobody("refused")), "probes.elsewhere": coded(3200)}),
    (
        "server_other_dns",
        {
            **shown({}),
            "found.resolved": {"by": "server", "addresses": [], "error": "Name or service not known"},
            "probes.elsewhere": HEALTHY["probes"]["tunnel"],
        },
    ),
    ("edge_rate", shown(coded(734, 403), "limit")),
    ("edge_connections", shown(coded(702, 429), "limit")),
    ("edge_connections", shown(coded(703, 429), "limit")),
    *(("edge_quota", shown(coded(number, 402), "quota")) for number in range(725, 732)),
    *(("edge_banned", shown(coded(number, 403), "refused")) for number in (3208, 338, 8014)),
    *(("edge_upgrade", shown(coded(number, 403), "refused")) for number in (3213, 3206)),
    ("edge_unforeseen", shown(nobody("unforeseen"))),
    (
        "app_no_websocket",  # no login at the edge
        passed_on(says(302, "redirected", headers={"location": "https://ocapistaine.vaettir.example.org/login"})),
    ),
    ("edge_breaker", shown(coded(3202, 503))),
    *(("edge_ip", shown(coded(number, 403), "refused")) for number in (3203, 3205)),
    ("edge_interstitial", shown(coded(6024, 200), "refused")),
    ("edge_refuses", shown(coded(9999, 403), "refused")),
    (
        "edge_no_secret",
        {**passed_on(says(403, "refused_origin")), "found.page": {"status": 403, "streamlit": False}},
    ),
    (
        "edge_secret",
        {
            **passed_on(says(403, "refused_origin")),
            "agent.tunnel_secret": True,
            "found.page": {"status": 403, "streamlit": False},
        },
    ),
    ("edge_login", passed_on(says(302, "redirected", headers={"location": "https://idp.ngrok.com/oauth2"}))),
    (
        "edge_login",
        {**passed_on(says(401, "unauthorized")), "found.page": {"status": 401, "streamlit": False}},
    ),
    (
        "edge_somebody_else",
        {
            **passed_on(says(404, "no_route")),
            "found.page": {"status": 404, "streamlit": False},
            "found.verified": False,
        },
    ),
    (
        "server_unreachable",
        {"unreachable": "Connection timed out", "stack": {}, "found": {}, "probes": {}, "control": {}},
    ),
    ("root_unreadable", {"failed": "/srv/.locki/manifest.json: Permission denied", "found": {}, "probes": {}}),
    ("server_failed", {"failed": "No module named 'json'", "found": {}, "probes": {}}),
    ("docker_missing", {"stack.docker": {"installed": False, "version": "", "error": ""}, "found": {}, "probes": {}}),
    (
        "docker_silent",
        {"stack.docker": {"installed": True, "version": "", "error": "denied"}, "found": {}, "probes": {}},
    ),
    (
        "docker_forbidden",
        {
            "stack.docker": {"installed": True, "version": "", "error": "permission denied while trying to connect"},
            "found": {},
            "probes": {},
        },
    ),
    ("root_read_only", {"found.read_only": True, "found.writable": False}),
    ("root_foreign", {"found.writable": False}),
    ("disk_full", {"found.disk_free": 0}),
    ("disk_full", {"found.inodes_free": 0}),
    ("clock_wrong", {"found.time": HEALTHY["found"]["time"] + 3600}),
    ("clock_wrong", {**shown(nobody("tls_expired")), "found.time": HEALTHY["found"]["time"] + 3600}),
    ("env_missing", {"found.env": {"target": ""}, **after_nginx(nobody("refused"))}),
    (
        "env_missing",  # declared, and never deployed
        {
            **stopped(""),
            **after_traefik(page("stopped")),
            "agent.ca_certificate": "ca.pem",
            "found.ca_path": "",
            "found.container": {},
            "found.env": {"target": ""},
            TUNNEL: nobody("tls_untrusted"),
        },
    ),
    ("env_invalid", {"found.env": {"target": "https://a.ngrok-free.app/app"}, **after_nginx(nobody("refused"))}),
    ("env_invalid", {"found.env": {"target": "wss://a.ngrok-free.app"}, **after_nginx(nobody("refused"))}),
    ("env_not_in_force", {"found.container.target": "https://old.ngrok-free.app", **after_nginx(page())}),
    ("env_elsewhere", {**ELSEWHERE, **shown(coded(3200))}),
    ("env_elsewhere", {**ELSEWHERE, **shown({}), "found.resolved": NO_NAME}),  # nor has it an address
    ("forwarding", {"found.forwarding": False, "found.resolved.by": "server", **after_nginx(page())}),
    (
        "container_dns_own",
        {"found.resolved.by": "server", "found.resolved.overridden": "192.0.2.53", **after_nginx(page())},
    ),
    (
        "server_dns",
        {
            **shown({}),
            "found.resolved": {"by": "server", "addresses": [], "error": "Temporary failure in name resolution"},
        },
    ),
    ("container_dns", {"found.resolved.by": "server", **after_nginx(page())}),
    ("container_egress", {"found.reach": "Network is unreachable", **after_nginx(page())}),
    ("nginx_old", {"found.container.nginx": "1.26.3", **after_nginx(page())}),
    ("nginx_old", {**stopped("restarting", '[emerg] invalid parameter "resolve" in nginx.conf:27'), **STOPPED}),
    ("nginx_old", {**stopped("restarting", '[emerg] unknown directive "keepalive_min_timeout" in x:9'), **STOPPED}),
    ("container_missing", {"found.container": {}, NGINX: {}, **STOPPED}),
    ("container_twin", {"found.routers": [OWN, {**OWN, "container": "other-ocapistaine-1"}], **GATEWAY}),
    ("container_fails", {**stopped("created", "no such file"), "found.container.exit": 127, **STOPPED}),
    ("container_dies", {**stopped("restarting", "OCAPISTAINE_TARGET_URL is empty"), **STOPPED}),
    ("container_paused", {**stopped("paused"), **STOPPED}),
    ("container_stopped", {**stopped("exited"), **STOPPED}),
    ("container_unhealthy", {"found.container.health": "unhealthy", NGINX: nobody("timeout"), **STOPPED}),
    ("container_starting", {"found.container.health": "starting", NGINX: nobody("refused"), **STOPPED}),
    ("files_differ", {"found.differs": ["ocapistaine.conf.template"], **after_nginx(says(403, "refused_origin"))}),
    ("maintenance", after_nginx(page("maintenance"))),
    ("nginx_silent", after_nginx(nobody("refused"))),
    ("nginx_untrusted", {**log("[error] upstream SSL certificate verify error: (20)"), **after_nginx(page())}),
    (
        "nginx_unresolved",
        {**log("[error] ocapistaine.ngrok-free.app could not be resolved (110)"), **after_nginx(page())},
    ),
    ("nginx_unable", after_nginx(page())),
    ("nginx_interstitial", after_nginx(says(503, "tunnel_refused", state="refused"))),
    ("nginx_interstitial", after_nginx(says(200, "interstitial", ngrok_code="ERR_NGROK_6024"))),
    ("nginx_origin_line", after_nginx(says(403, "refused_origin"))),
    ("nginx_upgrade", after_nginx(says(400, "bad_key"))),
    ("nginx_upgrade", after_nginx(says(200, "not_a_websocket"))),
    ("nginx_page", after_nginx(says(503, "bad_page"))),
    ("nginx_other", after_nginx(says(101, "bad_accept"))),
    ("nginx_unable", after_nginx(says(502, "proxy_error"))),
    ("nginx_other", {**PLAIN, **after_nginx(says(403, "not_a_websocket"))}),
    ("nginx_upload", {"probes.nginx.upload": {"refused": True, "status": 413}}),
    ("traefik_missing", {"found.traefik": {}, **after_traefik(nobody("refused"))}),
    (
        "traefik_paused",
        {"found.traefik.status": "paused", "found.traefik.running": False, **after_traefik(nobody("timeout"))},
    ),
    (
        "traefik_stopped",
        EXITED,
    ),
    ("traefik_unhealthy", {"found.traefik.health": "unhealthy", **after_traefik(nobody("timeout"))}),
    ("traefik_engine", {"found.traefik.version": "3.6.0", "stack.docker.version": "29.0.1", **NO_ROUTE}),
    ("traefik_engine", {"found.traefik.version": "v2.11.30", "stack.docker.version": "29.0.1", **NO_ROUTE}),
    *(("traefik_broken_version", {"found.traefik.version": version}) for version in ("2.11.17", "3.2.4", "v3.3.0")),
    ("traefik_http2", {"probes.traefik.http2": H2}),
    ("network_none", {"found.container.networks": ["other"], **GATEWAY}),
    (
        "network_none",
        {
            "found.container.networks": [],
            "found.resolved.by": "server",
            "found.reach": "Network is unreachable",
            **after_traefik(says(504, "proxy_error")),
            NGINX: {},
        },
    ),
    (
        "network_wrong",
        {"found.container.labels": {"traefik.docker.network": "proxy", "traefik.enable": "true"}, **GATEWAY},
    ),
    ("router_disabled", {"found.container.labels": {}, **NO_ROUTE}),
    ("router_none", {"found.routers": [{**OWN, "rule": "Host(`ocapistain.vaettir.example.org`)"}], **NO_ROUTE}),
    ("router_none", {"found.routers": [], **STOPPED}),
    ("router_same", {"found.routers": [OWN, {**ROUTER, "name": OWN["name"], "rule": "Host(`a.example`)"}], **NO_ROUTE}),
    ("router_twice", {"found.routers": [OWN, {**ROUTER, "rule": HOST}]}),
    ("router_entry_point", {"found.routers": [{**OWN, "entrypoints": "web"}], **NO_ROUTE}),
    ("router_entry_point", {"found.routers": [{**OWN, "entrypoints": "https"}], **NO_ROUTE}),
    ("router_resolver", {"found.routers": [{**OWN, "certresolver": "letsencrypt"}], **tls("tls_pending")}),
    ("router_port", {"found.routers": [{**OWN, "port": "8080"}], **GATEWAY}),
    (
        "traefik_port_taken",
        {**EXITED, "stack.taken_ports": [{"port": 443, "by": "container other-web"}]},
    ),
    ("traefik_port_taken", {**EXITED, "stack.taken_ports": [{"port": 443, "by": "another program"}]}),
    ("traefik_changed", {**EXITED, "found.traefik.status": "restarting", "stack.traefik": {"reasons": ["differs"]}}),
    (
        "traefik_stopped",
        {"found.traefik.restarts": 3, "found.traefik.health": "starting", **after_traefik(nobody("refused"))},
    ),
    ("traefik_engine", {"found.traefik.errors": [API], **STOPPED}),
    ("traefik_socket", {"found.traefik.errors": [SOCKET], **STOPPED}),
    ("traefik_file_broken", {"found.traefik.errors": [FILE], **NO_ROUTE}),
    (
        "router_refused",
        {"found.traefik.errors": [f"ERR EntryPoint doesn't exist routerName={OWN['name']}@docker"], **STOPPED},
    ),
    (
        "traefik_middleware",
        {"found.routers": [{**OWN, "middlewares": [OWN["name"], "own"]}], **after_traefik(says(401, "unauthorized"))},
    ),
    (
        "traefik_middleware",
        {"found.routers": [{**OWN, "middlewares": ["own"]}], "probes.traefik.upload": {"refused": True, "status": 413}},
    ),
    (
        "traefik_middleware",
        {
            "found.traefik.flags": {**FLAGS, "entrypoints.websecure.http.middlewares": "own@file"},
            **after_traefik(says(401, "unauthorized")),
        },
    ),
    (
        "traefik_own_file",
        {
            "found.routers": [{**OWN, "middlewares": [OWN["name"]]}],  # the agent's own
            "found.traefik.files": ["traefik/dynamic/own.yml"],
            **after_traefik(says(418, "not_a_websocket")),
        },
    ),
    ("traefik_closed", after_traefik(nobody("refused"))),
    ("traefik_no_route", NO_ROUTE),
    ("traefik_no_route", STOPPED),
    ("traefik_gateway", GATEWAY),
    ("traefik_upload", {"probes.traefik.upload": {"refused": True, "status": 413}}),
    ("traefik_other", after_traefik(says(401, "unauthorized"))),
    *(("traefik_other", after_traefik(says(101, reason))) for reason in ("no_pong", "closed", "bad_accept")),
    *(("traefik_other", {**PLAIN, **after_traefik(says(status, "not_a_websocket"))}) for status in (401, 403)),
    ("tls_staging", tls("tls_untrusted", "(STAGING) Riddling Rhubarb R12")),
    ("tls_pending", tls("tls_pending", "TRAEFIK DEFAULT CERT")),
    ("tls_authority", {"found.traefik.log": f"{NO_CLIENT} connection refused", **tls("tls_pending")}),
    ("tls_authority_untrusted", {"found.traefik.log": f"{NO_CLIENT} tls: x509: unknown", **tls("tls_pending")}),
    ("tls_default", {"agent.tls": "files", **tls("tls_pending", "TRAEFIK DEFAULT CERT")}),
    ("tls_unread", {"found.traefik.errors": [FILE], **tls("tls_pending", "TRAEFIK DEFAULT CERT")}),
    ("tls_staging_file", {"agent.tls": "files", **tls("tls_untrusted", "(STAGING) Riddling Rhubarb R12")}),
    ("tls_key", {"agent.tls": "files", "found.traefik.errors": [KEY], **tls("tls_pending", "TRAEFIK DEFAULT CERT")}),
    ("tls_key", {"agent.tls": "files", "found.traefik.errors": [KEY], **after_traefik(nobody("tls_failed"))}),
    ("tls_broken_off", after_traefik(nobody("tls_failed"))),
    ("traefik_closed", {"found.traefik.ports": {}, **after_traefik(nobody("tls_failed"))}),
    ("tls_expired", tls("tls_expired")),
    ("tls_name", tls("tls_name")),
    ("tls_untrusted", tls("tls_untrusted", "somebody")),
    ("dns_none", {"control.addresses": [], PUBLIC: nobody("dns")}),
    ("dns_elsewhere", {"control.addresses": ["198.51.100.1"], PUBLIC: nobody("refused")}),
    ("dns_elsewhere", {"control.addresses": ["198.51.100.1"], PUBLIC: says(404, "no_route")}),
    ("public_closed", {PUBLIC: nobody("timeout")}),
    ("public_closed", {PUBLIC: nobody("refused")}),
    ("public_proxy_broken", {PUBLIC: says(400, "bad_key", **CLOUDFLARE), "control.addresses": ["198.51.100.1"]}),
    ("public_other_tls", {PUBLIC: says(404, "no_route", certificate={"issuer": "somebody"})}),
    ("public_other", {PUBLIC: says(502, "proxy_error")}),
    ("public_other", {PUBLIC: says(101, "no_pong")}),
    ("public_other", {**PLAIN, PUBLIC: says(403, "not_a_websocket")}),
]
WARN: list[tuple[str, dict[str, Any]]] = [
    ("app_open", {"probes.tunnel.foreign": {"status": 101, "refused": False}}),
    ("disk_low", {"found.disk_free": 100 << 20}),
    ("clock_apart", {"found.time": HEALTHY["found"]["time"] + 900, "control.time": CONTROL + 900}),
    ("env_missing", {"found.env": {"target": ""}}),
    (
        "env_differs",
        {"found.env.target": "https://b.ngrok-free.app", "found.container.target": "https://b.ngrok-free.app"},
    ),
    ("nginx_old", {"found.container.nginx": "1.26.3"}),
    ("files_differ", {"found.differs": ["offline.js"]}),
    ("files_gone", {"found.gone": ["proxy-configs/ocapistaine.conf.template"]}),
    ("files_edited", {"found.edited": ["proxy-configs/ocapistaine.conf.template"]}),
    ("nginx_open", {"probes.nginx.foreign": {"status": 101, "refused": False}}),
    ("traefik_missing", {"found.traefik": {}}),  # of another name
    ("container_dns", {"found.resolved.by": "server", NGINX: {}}),  # nobody could ask nginx
    ("traefik_engine", {"found.traefik.version": "3.6.0", "stack.docker.version": "29.0.1"}),
    ("traefik_retry", {"found.traefik.version": "3.7.7", "found.routers": [{**OWN, "retry": True}]}),
    (
        "traefik_read_timeout",
        {"found.traefik.flags": {**FLAGS, "entrypoints.websecure.transport.respondingtimeouts.readtimeout": "60s"}},
    ),
    (
        "traefik_read_timeout",
        {"found.traefik.flags": {key: value for key, value in FLAGS.items() if "readtimeout" not in key}},
    ),
    ("tls_soon", {"probes.traefik.certificate.not_after": "2026-11-24T00:00:00Z"}),
    ("public_proxy", {"probes.public.headers.server": "cloudflare", "control.addresses": ["198.51.100.1"]}),
    ("public_untrusted", {PUBLIC: nobody("tls_untrusted")}),
    ("router_resolver_spare", {"found.routers": [{**OWN, "certresolver": "letsencrypt"}]}),
    ("dns_before", {"control.addresses": ["198.51.100.1"], "probes.public.certificate": {"issuer": "somebody"}}),
    ("dns_mute", {"control.addresses": [], PUBLIC: MUTE}),
]
BROKEN += ssh_faults.BROKEN
RULES = {rule.id: rule for rule in _diagnosis.RULES}
HOPS = {question.id: question.hop for question in _diagnosis.QUESTIONS}


@pytest.mark.parametrize(("rule", "changes"), [*BROKEN, *WARN])
def test_the_fault_is_named(rule: str, changes: dict[str, Any]) -> None:
    made = _diagnosis.diagnosis(facts(changes))
    assert made["rule"] == rule, made["sentence"]
    broken = (rule, changes) in BROKEN
    assert made["broken"] == broken
    assert made["hop"] == (HOPS[RULES[rule].question] if broken else "")
    assert made["fix"]
    assert not {"{", "}"} & set(made["sentence"]), made["sentence"]


def test_hops_that_nobody_asks_about() -> None:
    """An offline tunnel is good enough for a release, a page that is none is not."""
    made = facts({**passed_on(coded(3200)), NGINX: says(503, "bad_page")})
    assert _diagnosis.diagnosis(made)["hop"] == _chain.AGENT
    assert _diagnosis.diagnosis(made, without=_chain.TUNNEL)["rule"] == "nginx_page"


def test_every_rule_is_tried() -> None:
    assert [rule.id for rule in _diagnosis.RULES if rule.id not in {name for name, _changes in [*BROKEN, *WARN]}] == []


def test_every_rule_has_a_name_and_a_question_of_its_own() -> None:
    assert len(RULES) == len(_diagnosis.RULES)
    assert {rule.question for rule in _diagnosis.RULES} <= HOPS.keys()
    order = [_chain.HOPS.index(question.hop) for question in _diagnosis.QUESTIONS]
    assert order == sorted(order)


def test_every_ngrok_code_of_the_page_has_a_rule() -> None:
    """The agent's conf knows a state for each code that it tells apart."""
    conf = Path(__file__).parents[2] / "roles/agent_proxy/templates/agent.conf.template.j2"
    told = re.findall(r"ERR_NGROK_\(([0-9|]+)\)", conf.read_text(encoding="utf-8"))
    known = {number for _id, _hop, codes, _wrong, _fix in _rules_tunnel.CODES for number in codes}
    assert told
    assert {int(code) for codes in told for code in codes.split("|")} <= known


HEALTHY_CHAINS: dict[str, dict[str, Any]] = {
    "a file that leads Traefik": {
        "found.container.labels": {},
        "found.container.networks": ["own"],
        "found.routers": [],
    },
    "a rule without a name": {"found.routers": [{**OWN, "rule": "HostRegexp(`.+`)", "port": ""}]},
    "a container in the host's network": {"found.container.networks": ["host"]},
    "an entry point in capitals": {"found.routers": [{**OWN, "entrypoints": "WebSecure"}]},
    "a redirect of another container": {"found.routers": [OWN, {**ROUTER, "rule": HOST, "entrypoints": "web"}]},
    "a part of the name for another container": {
        "found.routers": [
            OWN,
            *({**ROUTER, "rule": f"{HOST} && {more}"} for more in ("ClientIP(`10.0.0.0/8`)", "Method(`PUT`)")),
            {**ROUTER, "rule": HOST, "priority": "7"},
        ]
    },
    "a container of the same router that Traefik ignores": {
        "found.routers": [OWN, {**ROUTER, "name": OWN["name"], "rule": "Host(`a.example`)", "enable": "false"}]
    },
    "as recorded": {},
    "not asked from outside": {PUBLIC: {}, "control": {"time": CONTROL}},
    "behind NAT": {"control.server_addresses": ["192.168.1.7"]},
    "an IPv6 address that the control node's own DNS does not know": {
        "control.addresses": ["2001:4860::1"],
        "control.server_addresses": ["9.9.9.9"],
        PUBLIC: {**HEALTHY["probes"]["public"], "certificate": {"issuer": "somebody"}},
    },
    "a control node without IPv6": {
        "control.addresses": ["2001:4860::1"],
        "control.server_addresses": ["2001:4860::1"],
        PUBLIC: nobody("unreachable") | {"error": "no way to 2001:4860::1 port 443: Network is unreachable"},
    },
    "one of a fleet": {"control.addresses": ["198.51.100.1"]},
    "an app without a WebSocket": {
        "agent.probe_path": "",
        "agent.profile": "fastapi",
        **passed_on(says(403, "refused_origin", headers={"server": "nginx"})),
    },
    "an app without a page at /": {
        "agent.probe_path": "",
        "agent.profile": "gradio",
        TUNNEL: says(404, "no_route"),
        NGINX: says(404, "not_a_websocket"),
        TRAEFIK: {**HEALTHY["probes"]["traefik"], **says(404, "not_a_websocket")},
        PUBLIC: says(404, "not_a_websocket"),
    },
    "an app with a login of its own": {
        "agent.probe_path": "",
        "agent.profile": "generic",
        **passed_on(says(302, "redirected", headers={"location": "https://accounts.google.com/o/oauth2"})),
    },
    "an app that wants a password": {
        "agent.probe_path": "",
        "agent.profile": "generic",
        **passed_on(says(401, "unauthorized")),
    },
    "Traefik in the host's network": {
        "found.traefik.networks": ["host"],
        "found.container.labels": {
            **HEALTHY["found"]["container"]["labels"],
            "traefik.docker.network": "vaettir_default",
        },
    },
    "a bought certificate, six weeks before its end": {"probes.traefik.certificate.not_after": "2027-01-04T00:00:00Z"},
    "capitals in .env": {"found.env.target": "https://Ocapistaine.ngrok-free.app/"},
    "a plain WebSocket server, which looks at no Origin": {
        "agent.profile": "generic",
        "probes.tunnel.foreign": {"status": 101, "refused": False},
    },
    "a container that drains beside it": {"found.routers": [OWN, {**OWN, "container": "vaettir-ocapistaine-old-1"}]},
    "extended CONNECT that works": {"probes.traefik.http2": {**H2, "reason": "ok", "works": True}},
}


@pytest.mark.parametrize("name", HEALTHY_CHAINS)
def test_no_false_alarm(name: str) -> None:
    made = _diagnosis.diagnosis(facts(HEALTHY_CHAINS[name]))
    assert [(one["rule"], one["why"]) for one in made["findings"] if one["rule"]] == []
    assert made["sentence"].endswith("every hop that could be asked works; nobody asked from outside.")


def test_what_could_not_be_asked_is_no_fault() -> None:
    made = _diagnosis.diagnosis({"agent": HEALTHY["agent"]})
    assert {one["verdict"] for one in made["findings"]} == {"unknown"}


def test_the_first_broken_hop_is_the_one_next_to_the_app() -> None:
    made = _diagnosis.diagnosis(facts({**shown(coded(3200)), "found.traefik.version": "3.3.0", **tls("tls_expired")}))
    assert made["hop"] == "ngrok agent"
    assert {one["rule"] for one in made["findings"]} >= {"agent_offline", "traefik_broken_version", "tls_expired"}


def test_the_sentence_names_hop_reason_and_fix() -> None:
    assert _diagnosis.diagnosis(facts(shown(coded(3200))))["sentence"] == (
        "ocapistaine on server1: broken at the ngrok agent: no ngrok agent is connected for "
        "https://ocapistaine.ngrok-free.app (ERR_NGROK_3200). To fix it: on the laptop: "
        "`ngrok http --url=https://ocapistaine.ngrok-free.app PORT` (with another URL there: set target_url of agent "
        "ocapistaine to it)."
    )


def test_a_certificate_that_visitors_refuse_at_traefik_is_named() -> None:
    """A visit to Traefik is a handshake of TLS, too; the words are the rule's, not the visit's."""
    well = [_visitor.seen("page", ok=True, told="answer 200, text/html", status=200)]
    refused = [_visitor.seen("page", told="the certificate is not accepted: self-signed certificate")]
    known = {**facts(tls("tls_pending", "TRAEFIK DEFAULT CERT")), "visits": {"nginx": well, "traefik": refused}}
    made = _diagnosis.diagnosis(known)
    assert (made["hop"], made["rule"]) == ("TLS", "tls_pending")


def test_an_app_that_answers_on_the_laptop_does_not_hang() -> None:
    well = [_visitor.seen("WebSocket", ok=True, told="101, and a pong", status=101)]
    hangs = [_visitor.seen("WebSocket", told="no more bytes came within 6 s")]
    known = facts(shown(nobody("timeout", timings={"connect": 1, "tls": 2, "handshake": 10000})))
    assert _diagnosis.diagnosis(known)["rule"] == "app_hangs"
    between = {**known, "visits": {"laptop": well, "tunnel": hangs}}
    assert (_diagnosis.diagnosis(between)["hop"], _diagnosis.diagnosis(between)["rule"]) == ("ngrok agent", "visitor")
    swallowed = [_visitor.seen("WebSocket", told="101, and no first message of the app's", status=101)]
    unsound = facts(shown(nobody("no_pong", status=101)))
    assert _diagnosis.diagnosis(unsound)["hop"] == "app"
    assert _diagnosis.diagnosis({**unsound, "visits": {"laptop": well, "tunnel": swallowed}})["hop"] == "ngrok agent"
    refused = [_visitor.seen("WebSocket", told="nothing listens on 192.0.2.1 port 80", reached=False)]
    plain = facts({**shown(nobody("refused")), "found.target": "http://192.0.2.1"})
    assert _diagnosis.diagnosis({**plain, "visits": {"laptop": well, "tunnel": refused}})["rule"] == "app_refused"
    both = {**known, "visits": {"laptop": hangs, "tunnel": hangs}}
    assert _diagnosis.diagnosis(both)["rule"] == "app_hangs"


@pytest.mark.parametrize(
    ("code", "laptop", "hop"),
    [
        ("6024", True, "ngrok edge"),
        ("6024", False, "ngrok edge"),
        ("742", True, "ngrok agent"),
        ("742", False, "ngrok agent"),
        ("8012", True, "ngrok agent"),
        ("8012", False, "app"),
        ("9999", True, "ngrok edge"),
        ("", True, "ngrok agent"),
        ("", False, "app"),
    ],
)
def test_ngroks_own_error_says_whose_it_is(code: str, laptop: bool, hop: str) -> None:
    well = [_visitor.seen("/main.js", ok=True, told="answer 200", status=200, file=True)] * 2
    bad = [_visitor.seen("/main.js", told="answer 200", status=200, file=True, code=code and f"ERR_NGROK_{code}")] * 2
    visits = {**({"laptop": well} if laptop else {}), "tunnel": bad}
    assert _diagnosis.diagnosis({**facts({}), "visits": visits})["hop"] == hop
    nobody = [{**one, "reached": False, "code": ""} for one in bad]
    assert _diagnosis.diagnosis({**facts({}), "visits": {**visits, "tunnel": nobody}})["hop"] == "ngrok edge"


def test_a_server_that_does_not_get_out_is_named() -> None:
    nobody_there = [_visitor.seen("page", told="nothing listens on 192.0.2.1 port 443", reached=False)]
    known = facts({**shown(nobody("refused")), "probes.elsewhere": coded(3200)})
    made = _diagnosis.diagnosis({**known, "visits": {"tunnel": nobody_there}})
    assert (made["hop"], made["rule"]) == ("server", "server_no_way_out")


def test_what_fails_sometimes_is_not_what_keeps_everybody_out() -> None:
    tunnel = [_visitor.seen("page", ok=ok, status=200 if ok else 500) for ok in (True, False, True, False)]
    sometimes = {"visits": {"tunnel": tunnel}}
    assert _diagnosis.diagnosis({**facts({}), **sometimes})["hop"] == "app"
    assert _diagnosis.diagnosis({**facts(EXITED), **sometimes})["hop"] == "Traefik"
    # nginx was asked once, at the wrong moment
    unlucky = {**facts({}), "visits": {"tunnel": tunnel, "nginx": tunnel}}
    unlucky["probes"] = {**unlucky["probes"], "nginx": {**unlucky["probes"]["nginx"], **says(502, "proxy_error")}}
    assert _diagnosis.diagnosis(unlucky)["hop"] == "app"
    always = {**unlucky, "visits": {"tunnel": tunnel, "nginx": [one for one in tunnel if not one["ok"]]}}
    assert _diagnosis.diagnosis(always)["hop"] == "nginx"


def test_lines_are_a_table_and_the_sentence() -> None:
    made = _diagnosis.diagnosis(facts(stopped("exited")))
    lines = _diagnosis.lines(made)
    assert lines[0].split() == ["HOP", "ASKED", "FOUND", "VERDICT"]
    assert len(lines) == len(made["findings"]) + 4
    assert lines[-2] == made["sentence"]


def test_a_healthy_chain_is_one_line_with_its_seconds() -> None:
    made = _diagnosis.diagnosis({**HEALTHY, "seconds": 12.4})
    assert _diagnosis.lines(made) == ["", made["sentence"], ""]
    assert "every hop that could be asked works (12 s); nobody asked from outside." in made["sentence"]


def test_what_was_not_waited_for_is_named() -> None:
    for changes in ({}, stopped("exited")):
        told = _diagnosis.diagnosis({**facts(changes), "late": ["Traefik"]})["sentence"]
        assert told.endswith(" Not waited for: Traefik.")


@pytest.mark.parametrize(
    ("hop", "rule", "asks"),
    [
        *(("DNS", "public_other", True), ("DNS", "visitor", True), ("ngrok edge", "visitor", True)),
        *(("DNS", "dns_none", False), ("app", "visitor", False), ("", "", False), ("Traefik", "visitor", False)),
    ],
)
def test_where_two_machines_are_compared_both_are_asked_again(hop: str, rule: str, asks: bool) -> None:
    assert _diagnosis.is_between_askers({"hop": hop, "rule": rule}) == asks


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("v3.7.15", (3, 7, 15)),
        ("nginx/1.27.3", (1, 27, 3)),
        ("26.1.5+dfsg1", (26, 1, 5)),
        ("3.3", (3, 3, 9999)),
        ("latest", ()),
    ],
)
def test_version(text: str, number: tuple[int, ...]) -> None:
    assert _chain.version(text) == number


@pytest.mark.parametrize(("text", "found"), [("60", 60), ("1m30s", 90), ("500ms", 0.5), ("0", 0), ("soon", None)])
def test_seconds(text: str, found: float | None) -> None:
    assert _chain.seconds(text) == found


def test_hosts() -> None:
    assert _rules_traefik.hosts("Host(`a.example`) || Host(`B.example`, `c.example`) && PathPrefix(`/x`)") == [
        "a.example",
        "b.example",
        "c.example",
    ]


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=8), lambda inner: st.dictionaries(st.text(max_size=4), inner)
    )
)
def test_a_probe_may_say_anything(answer: Any) -> None:
    probe = {"reason": "ok", "status": 200, "error": "{}", "headers": {"date": str(answer), "location": str(answer)}}
    for name in ("tunnel", "nginx", "traefik", "public"):
        made = _diagnosis.diagnosis(facts({f"probes.{name}": probe}))
        assert "\n" not in made["sentence"]


@pytest.mark.parametrize(
    ("router", "fix"),
    [
        ({}, "take ocapistaine.vaettir.example.org out of the other container's labels"),
        ({"agent": "old"}, "`ansible-playbook locki.vaettir.remove_agent -e agent=old`"),
    ],
)
def test_a_rival_goes_the_way_it_came(router: dict[str, Any], fix: str) -> None:
    for points in ("", "web,WebSecure"):
        rival = {**ROUTER, "rule": f"({HOST} || Host(`b.example`))", "entrypoints": points, **router}
        assert _diagnosis.diagnosis(facts({"found.routers": [OWN, rival]}))["fix"].startswith(fix)


@pytest.mark.parametrize(
    ("theirs", "own", "fix"),
    [
        (["198.51.100.1"], ["203.0.113.7", "2001:4860::7"], "A 203.0.113.7"),
        (["203.0.113.7", "2001:4860::1"], ["203.0.113.7", "2001:4860::7"], "AAAA 2001:4860::7"),
        ([], ["2001:4860::7"], "AAAA 2001:4860::7"),
    ],
)
def test_the_record_is_of_the_family_that_differs(theirs: list[str], own: list[str], fix: str) -> None:
    control = {"control.addresses": theirs, "control.server_addresses": own, PUBLIC: nobody("refused")}
    made = _diagnosis.diagnosis(facts(control))
    assert made["fix"] == f"in the DNS of its zone: ocapistaine.vaettir.example.org {fix}", made["sentence"]


def test_without_a_third_clock_either_may_be_wrong() -> None:
    both = {TUNNEL: HEALTHY["probes"]["tunnel"] | {"headers": {}}, "found.time": CONTROL + 3600}
    made = _diagnosis.diagnosis(facts(both))
    assert made["rule"] == "clock_wrong"
    assert made["why"].startswith("the clocks of server1 and of the control node are 3600 s apart")
    assert made["fix"].endswith("on server1 and on the control node")


def test_streamlit_is_asked_where_it_lives() -> None:
    assert _facts.health_path("/app/_stcore/stream") == "/app/_stcore/health"
    assert _facts.health_path("/_stcore/stream") == "/_stcore/health"
    assert _facts.health_path("") == _facts.health_path("/ws") == "/_stcore/health"


def test_credentials_of_a_target_are_not_told() -> None:
    changes = {"found.container.target": "https://me:secret@old.ngrok-free.app", **after_nginx(page())}
    made = _diagnosis.diagnosis(facts(changes))
    assert made["rule"] == "env_not_in_force"
    assert "secret" not in str(made)


@pytest.mark.parametrize(
    "changes",
    [
        {"found.traefik.errors": [SOCKET], **STOPPED},
        after_traefik(nobody("timeout")),
        after_traefik(nobody("tls_failed")),
        {"found.traefik.log": f"{NO_CLIENT} tls: x509: unknown", **tls("tls_pending")},
    ],
)
def test_a_traefik_as_it_should_be_starts_anew(changes: dict[str, Any]) -> None:
    """An upgrade leaves it alone."""
    assert "`docker restart vaettir-traefik-1`" in _diagnosis.diagnosis(facts(changes))["fix"]


@pytest.mark.parametrize(("ago", "rule"), [(30, "traefik_stopped"), (3600, "traefik_gateway")])
def test_a_restart_of_long_ago_is_over(ago: float, rule: str) -> None:
    started = time.strftime("%Y-%m-%dT%H:%M:%S.123456789Z", time.gmtime(HEALTHY["found"]["time"] - ago))
    restarted = {"found.traefik.restarts": 3, "found.traefik.health": "", "found.traefik.started": started}
    assert _diagnosis.diagnosis(facts({**restarted, **GATEWAY}))["rule"] == rule


def test_a_port_is_taken_only_from_one_that_does_not_run() -> None:
    taken = {"stack.taken_ports": [{"port": 443, "by": "another program"}], **GATEWAY}
    assert _diagnosis.diagnosis(facts(taken))["rule"] == "traefik_gateway"


def test_nothing_is_left_where_a_log_says_nothing() -> None:
    why = _diagnosis.diagnosis(facts({**stopped("exited"), **STOPPED}))["why"]
    assert why == "vaettir-ocapistaine-1 does not run (exited)"


@pytest.mark.parametrize(
    ("changes", "fix"),
    [
        ({}, "docker restart vaettir-traefik-1"),
        ({"found.fragment_edited": True}, "docker rm -f vaettir-ocapistaine-1"),
        (
            {"stack.traefik": {"reasons": ["its compose service differs"]}},
            "ansible-playbook locki.vaettir.upgrade_traefik",
        ),
    ],
)
def test_what_was_edited_by_hand_goes_back(changes: dict[str, Any], fix: str) -> None:
    for answer in (NO_ROUTE, GATEWAY, after_traefik(says(401, "unauthorized"))):
        assert f"`{fix}`" in _diagnosis.diagnosis(facts({**answer, **changes}))["fix"].split(";")[0]


@pytest.mark.parametrize(
    ("said", "hop", "rule", "words"),
    [
        ("boom", "server", "server_failed", "To fix it: on one: fix what it says"),
        ("/srv/.env: Permission denied", "server", "root_unreadable", "chown"),
        ("ca_path /x cannot be used: gone.", "TLS", "authority", "locki.vaettir.deploy_agent -e"),
    ],
)
def test_a_question_that_failed_is_a_diagnosis(said: str, hop: str, rule: str, words: str) -> None:
    made = _diagnosis.failed("my-agent", "one", said, {"root": "/srv"})
    assert (made["hop"], made["rule"], made["broken"]) == (hop, rule, True)
    assert words in made["sentence"]
    assert made["fix"]


def test_settings_that_are_not_valid_are_a_diagnosis() -> None:
    made = _diagnosis.invalid("my-agent", "one", "set it.")
    assert (made["hop"], made["rule"], made["broken"], made["fix"]) == ("server", "settings", True, "")
    assert made["sentence"] == "my-agent on one: cannot be diagnosed: set it."
    assert set(made) == set(_diagnosis.diagnosis(HEALTHY))
