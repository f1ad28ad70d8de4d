# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What may be wrong with the certificate, and between visitors and the server."""

from __future__ import annotations

import re
from typing import Callable

from ._chain import (
    BROKEN,
    DNS,
    TLS,
    WARN,
    Chain,
    Match,
    Question,
    Rule,
    answer,
    clock_wrong,
    moment,
    points_elsewhere,
    record,
)
from ._rules_traefik import made_again

MONTH = 30 * 86400  # seconds


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


def _tls(*reasons: str) -> Callable[[Chain], Match]:
    return lambda chain: (
        chain.tls_reason in reasons and {"error": chain.traefik.get("error", ""), "fix": made_again(chain)}
    )


def _pending(said: str = "") -> Callable[[Chain], Match]:
    """Traefik has none to show, and says that of it."""
    return lambda chain: (
        chain.tls_reason == "tls_pending"
        and chain.agent.get("tls") == "acme"
        and bool(re.search(said, str(chain.proxy.get("log", ""))))
    )


def _staging(chain: Chain) -> Match:
    issuer = str(chain.certificate.get("issuer", ""))
    return bool(chain.tls_reason and re.search(r"\(STAGING\)|Fake LE|Pebble", issuer)) and {"error": issuer}


def _ends_soon(chain: Chain) -> Match:
    """In its last sixth, at most a month: whoever renews it should have done so."""
    begin, end = moment(chain.certificate.get("not_before")), moment(chain.certificate.get("not_after"))
    now = chain.control.get("time") or chain.found.get("time")
    if not begin or not end or not now or chain.tls_reason:
        return False
    return end - float(now) < min((end - begin) / 6, MONTH) and {"error": str(chain.certificate["not_after"])[:10]}


def _other_certificate(chain: Chain) -> bool:
    theirs, keys = chain.public.get("certificate") or {}, ("issuer", "not_before", "not_after")
    return bool(theirs and chain.certificate) and any(theirs.get(key) != chain.certificate.get(key) for key in keys)


def _between(chain: Chain) -> str:
    """Who stands between the visitors and this server; empty for nobody."""
    server = str((chain.public.get("headers") or {}).get("server", ""))
    known = re.search(r"cloudflare|akamai|cloudfront|fastly|varnish|sucuri|bunny", server, re.IGNORECASE)
    return server if known else ""


def _dns_elsewhere(chain: Chain) -> Match:
    """With the server's own certificate and the app's own answer, it is the server by another address."""
    theirs, own = points_elsewhere(chain)
    other = bool(own) and not _between(chain) and (not chain.public_good or _other_certificate(chain))
    return other and {"error": ", ".join(theirs), "wanted": ", ".join(own), "record": record(own[0])}


def _dns_none(chain: Chain) -> Match:
    if "addresses" not in chain.control or chain.control["addresses"] or _mute(chain):
        return False
    wanted = (chain.control.get("server_addresses") or ["ADDRESS-OF-THE-SERVER"])[0]
    return {"wanted": wanted, "record": record(wanted)}


def _behind_proxy(chain: Chain) -> Match:
    return bool(chain.public) and bool(_between(chain)) and {"error": _between(chain)}


def _mute(chain: Chain) -> bool:
    """The control node's own resolver does not answer, so that it knows nothing of what visitors see."""
    told = str(chain.public.get("error", ""))
    return (
        chain.public.get("reason") in ("dns", "timeout")
        and not chain.control.get("addresses")
        and ("emporary failure" in told or "was not resolved" in told)
    )


def _unfit_key(chain: Chain) -> Match:
    said = [line for line in chain.proxy.get("errors") or [] if "failed to load X509 key pair" in line]
    return bool(said) and _tls("tls_pending", "tls_failed")(chain) and {"error": said[-1].partition("pair: ")[2]}


def _unread(chain: Chain) -> Match:
    """One bad file, and Traefik knows none of those next to it."""
    said = [line for line in chain.proxy.get("errors") or [] if "providerName=file" in line]
    return bool(said) and _tls("tls_pending")(chain) and {"error": said[-1]}


def _public(*reasons: str) -> Callable[[Chain], Match]:
    return lambda chain: (
        bool(chain.public) and chain.public.get("reason") in reasons and {"error": chain.public.get("error", "")}
    )


_FILES = "the files of stack_tls_certificate and stack_tls_key"  # on the control node

QUESTIONS = (
    Question("tls", TLS, "certificate for {domain}", _told_certificate),
    Question("dns", DNS, "addresses of {domain}", _addresses),
    Question("public", DNS, "{public_origin} from the control node", lambda chain: answer(chain.public)),
)

RULES: tuple[Rule, ...] = (
    # --- TLS
    Rule(
        "tls_staging",
        "tls",
        BROKEN,
        "the certificate comes from a staging authority ({error}), which no browser trusts",
        "remove stack_acme_server from the inventory and {root}/traefik/acme/acme.json from {server}, and `{upgrade}`",
        lambda chain: chain.agent.get("tls") == "acme" and _staging(chain),
    ),
    Rule(
        "tls_staging_file",
        "tls",
        BROKEN,
        "the certificate comes from a staging authority ({error}), which no browser trusts",
        f"get one from the authority itself into {_FILES}, and `{{deploy}}`",
        _staging,
    ),
    # Traefik asks again only when one of its routers changes, as one does with each restart of an agent.
    Rule(
        "tls_authority_untrusted",
        "tls",
        BROKEN,
        "Traefik has no certificate for {domain} yet, because it does not trust the ACME server: {traefik_log}",
        # Traefik reads a file with the same name only when it starts.
        "set stack_acme_ca_certificate to the authority of stack_acme_server, and {fix}",
        lambda chain: (
            _pending("cannot get ACME client.*(x509: |certificate signed by)")(chain)
            and {
                "fix": "`{upgrade}`; a renewed file of the same path: `{deploy}`, then on {server}: "
                "`docker restart {traefik}`".format_map(chain.words())
            }
        ),
    ),
    Rule(
        "tls_authority",
        "tls",
        BROKEN,
        "Traefik has no certificate for {domain} yet, because it does not reach the ACME server: {traefik_log}",
        "let stack_acme_server answer {server}, or wait until it does; then on {server}: `docker restart {container}`",
        _pending("cannot get ACME client"),
    ),
    Rule(
        "tls_unread",
        "tls",
        BROKEN,
        "Traefik cannot read its files, and so knows no certificate for {domain}: {error}",
        "fix the file that it names in {root}/traefik/dynamic",
        _unread,
    ),
    Rule(
        "tls_pending",
        "tls",
        BROKEN,
        "Traefik has no certificate for {domain} yet: {traefik_log}",
        "point {domain} at {server} and open ports 80 and {port}; then on {server}: `docker restart {container}`",
        _pending(),
    ),
    Rule(
        "tls_key",
        "tls",
        BROKEN,
        "Traefik cannot use the certificate and the key that it has for {domain}: {error}",
        f"put a certificate and its own key into {_FILES}, and `{{deploy}}`",
        _unfit_key,
    ),
    Rule(
        "tls_broken_off",
        "tls",
        BROKEN,
        "Traefik listens, and its TLS breaks off ({error}): {traefik_log}",
        "{fix}; if it stays so, on {server}: `docker logs {traefik}`",
        lambda chain: not chain.behind_tls and _tls("tls_failed")(chain),
    ),
    Rule(
        "tls_default",
        "tls",
        BROKEN,
        "Traefik has no certificate for {domain}, and shows its own",
        f"put a certificate for {{domain}} into {_FILES}, and `{{deploy}}`",
        _tls("tls_pending"),
    ),
    Rule(
        "tls_expired",
        "tls",
        BROKEN,
        "the certificate of {domain} is not valid now ({error})",
        "renew the file of stack_tls_certificate and `{deploy}`; with acme on {server}: `docker restart {traefik}`",
        lambda chain: not clock_wrong(chain) and _tls("tls_expired")(chain),
    ),
    Rule(
        "tls_name",
        "tls",
        BROKEN,
        "the certificate is not for {domain} ({error})",
        f"put a certificate for {{domain}} into {_FILES}, and `{{deploy}}`",
        _tls("tls_name"),
    ),
    Rule(
        "tls_untrusted",
        "tls",
        BROKEN,
        "the certificate of {domain} is from an authority that nobody knows ({error})",
        "put its whole chain into the file of stack_tls_certificate (your own authority: stack_tls_ca), and `{deploy}`",
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
        "dns_mute",
        "dns",
        WARN,
        "the control node's DNS does not answer, so nobody knows what visitors get",
        "fix the control node's DNS (/etc/resolv.conf), or leave the question out: `{diagnose} -e from_outside=false`",
        _mute,
    ),
    Rule(
        "dns_none",
        "dns",
        BROKEN,
        "{domain} has no address",
        "in the DNS of its zone: {domain} {record} {wanted}",
        _dns_none,
        WARN,
    ),
    Rule(
        "dns_elsewhere",
        "dns",
        BROKEN,
        "{domain} points at {error}, and {server} is {wanted}",
        "in the DNS of its zone: {domain} {record} {wanted}",
        lambda chain: not chain.public_good and _dns_elsewhere(chain),
        WARN,
    ),
    Rule(
        "dns_before",
        "dns",
        WARN,
        "{domain} points at {error}, not at {server} ({wanted}): a proxy with limits of its own, or another server",
        "in the DNS of its zone: {domain} {record} {wanted}",
        _dns_elsewhere,
    ),
    Rule(
        "public_closed",
        "public",
        BROKEN,
        "port {port} of {domain} is closed to the control node ({error}), and Traefik listens",
        # ufw's rules are not asked for ports that Docker publishes
        "on {server}: `sudo iptables -I DOCKER-USER -p tcp --dport {port} -j ACCEPT`, and open it at the provider",
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
