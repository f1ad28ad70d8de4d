# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Faults of the app, the ngrok agent and the ngrok edge."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from ansible_collections.locki.vaettir.plugins.module_utils._chain import AGENT, APP, EDGE

from .doctor import PORT, PUBLIC, TUNNEL, Fault, Stand, person

OTHER = 8510  # port of an app that a fault brings
CLOSED = 8599  # nobody's
LOCAL = "http://127.0.0.1"
STREAMLIT = (
    f"python3 -m streamlit run /srv/rig/apps/ocapistaine.py --server.address=127.0.0.1 --server.port={OTHER}"
    " --server.headless=true --server.fileWatcherType=none --browser.gatherUsageStats=false"
)
ODD = f"python3 -m rig.apps.odd {OTHER}"
NO_STREAMLIT = f"python3 -m http.server --bind 127.0.0.1 {OTHER}"
OPEN = "/srv/.streamlit/config.toml"
SECRET = "the-secret-of-the-inventory"


# -- the laptop ---------------------------------------------------------------------------------------------------


def _start(stand: Stand, command: str) -> None:
    """An app in place of the one on that port, until it listens."""
    _end(stand)
    stand.laptop(
        f"setsid {command} > /tmp/app.log 2>&1 & echo $! > /tmp/app.pid;"
        f"for _ in $(seq 300); do (exec 3<>/dev/tcp/127.0.0.1/{OTHER}) 2>/dev/null && exit; sleep 0.1; done;"
        "cat /tmp/app.log >&2; exit 1"
    )


def _end(stand: Stand) -> None:
    stand.laptop("kill -KILL $(cat /tmp/app.pid) || true; rm -f /tmp/app.pid")


def _lead(stand: Stand, port: int = OTHER) -> None:
    stand.edge.put(TUNNEL, f"{LOCAL}:{port}")


@contextmanager
def behind(stand: Stand, command: str) -> Iterator[None]:
    """Another app behind the tunnel."""
    _start(stand, command)
    _lead(stand)
    try:
        yield
    finally:
        _lead(stand, PORT)
        _end(stand)


# -- a person -----------------------------------------------------------------------------------------------------


def _starts(words: str, command: str = STREAMLIT) -> Callable[[Stand, str], None]:
    return person(words, lambda stand: _start(stand, command))


# -- app ----------------------------------------------------------------------------------------------------------


@contextmanager
def closed_port(stand: Stand) -> Iterator[None]:
    _lead(stand, CLOSED)
    try:
        yield
    finally:
        _lead(stand, PORT)


@contextmanager
def ended(stand: Stand) -> Iterator[None]:
    with behind(stand, STREAMLIT):
        _end(stand)
        yield


@contextmanager
def hangs(stand: Stand) -> Iterator[None]:
    with behind(stand, STREAMLIT):
        stand.laptop("kill -STOP $(cat /tmp/app.pid)")
        yield


@contextmanager
def speaks_https(stand: Stand) -> Iterator[None]:
    """Its port is what a person would write in place of PORT."""
    certificate = "--server.sslCertFile=/etc/rig/edge.pem --server.sslKeyFile=/etc/rig/edge.key"
    stand.obvious["PORT"] = str(OTHER)
    try:
        with behind(stand, f"{STREAMLIT} {certificate}"):
            yield
    finally:
        stand.obvious["PORT"] = str(PORT)


@contextmanager
def no_websocket(stand: Stand) -> Iterator[None]:
    """Its next version has none any more."""
    stand.agent |= {"profile": "fastapi", "probe_path": "/ws"}
    _lead(stand, 9000)
    stand.deploy()
    with behind(stand, NO_STREAMLIT):
        yield


@contextmanager
def origin_option_lost(stand: Stand) -> Iterator[None]:
    """Started again without the option that mode preserve needs."""
    stand.agent["origin_mode"] = "preserve"
    with behind(stand, f"{STREAMLIT} --server.corsAllowedOrigins={PUBLIC}"):
        stand.deploy()
        _start(stand, STREAMLIT)
        yield


@contextmanager
def any_origin(stand: Stand) -> Iterator[None]:
    settings = "[server]\nenableCORS = false\nenableXsrfProtection = false\n"
    stand.laptop(f"mkdir -p $(dirname {OPEN}); printf '{settings}' > {OPEN}")
    try:
        with behind(stand, STREAMLIT):
            yield
    finally:
        stand.laptop(f"rm -f {OPEN}")


def _closes_it(stand: Stand) -> None:
    stand.laptop(f"sed -i /enableCORS/d {OPEN}")
    _start(stand, STREAMLIT)


@contextmanager
def target(stand: Stand, url: str) -> Iterator[None]:
    """The inventory says so, and it is deployed."""
    stand.agent["target_url"] = url
    stand.deploy()
    yield


# -- ngrok agent, ngrok edge --------------------------------------------------------------------------------------


@contextmanager
def stopped(stand: Stand) -> Iterator[None]:
    with stand.edge.stopped(TUNNEL):
        yield


@contextmanager
def other_url(stand: Stand) -> Iterator[None]:
    """ngrok has made up a new one."""
    with stand.edge.stopped(TUNNEL):
        stand.edge.put("new.ngrok-free.app", f"{LOCAL}:{PORT}")
        try:
            yield
        finally:
            stand.edge.delete("new.ngrok-free.app")


@contextmanager
def broken(stand: Stand, fault: str) -> Iterator[None]:
    with stand.edge.faulty(TUNNEL, fault):
        yield


def _heal(stand: Stand) -> None:
    stand.edge.fault(TUNNEL, None)


def of_the_edge(name: str, code: int, words: str) -> Fault:
    return Fault(name, EDGE, partial(broken, fault=f"ERR_NGROK_{code}"), person(words, _heal))


@contextmanager
def no_such_name(stand: Stand) -> Iterator[None]:
    stand.edge.address("typo.ngrok-free.app", "")
    try:
        with target(stand, "https://typo.ngrok-free.app"):
            yield
    finally:
        stand.edge.address("typo.ngrok-free.app", None)


@contextmanager
def somebody_else(stand: Stand) -> Iterator[None]:
    """Theirs was asleep at the deploy."""
    with target(stand, "https://somebody.ngrok-free.app"):
        _start(stand, NO_STREAMLIT)
        stand.edge.put("somebody.ngrok-free.app", f"{LOCAL}:{OTHER}")
        try:
            yield
        finally:
            stand.edge.delete("somebody.ngrok-free.app")
            _end(stand)


@contextmanager
def unknown_authority(stand: Stand) -> Iterator[None]:
    stand.agent["ca_certificate"] = ""
    stand.deploy()
    yield


@contextmanager
def other_secret(stand: Stand) -> Iterator[None]:
    """The policy on the laptop has another one than the inventory."""
    stand.agent["tunnel_secret"] = SECRET
    stand.deploy()
    with behind(stand, f"{ODD} policy another-secret-of-the-laptop"):
        yield


@contextmanager
def no_secret(stand: Stand) -> Iterator[None]:
    """Only the laptop knows of it."""
    stand.obvious["the secret of its policy.yml"] = SECRET
    with behind(stand, f"{ODD} policy {SECRET}"):
        yield


FAULTS: tuple[Fault, ...] = (
    Fault("nothing listens on the port that ngrok leads to", APP, closed_port),
    Fault("the app has ended", APP, ended, _starts("start the app")),
    Fault("the app takes requests and never answers", APP, hangs, _starts("start the app again")),
    Fault("the app speaks https, and ngrok http", APP, speaks_https),
    Fault("every request breaks the app: 500", APP, partial(behind, command=f"{ODD} error"), _starts("fix it")),
    Fault(
        "every WebSocket breaks the app",
        APP,
        partial(behind, command=f"{ODD} closing"),
        _starts("start the app again"),
    ),
    Fault("another app behind the tunnel, no Streamlit", APP, partial(behind, command=NO_STREAMLIT)),
    Fault(
        "the app has a baseUrlPath",
        APP,
        partial(behind, command=f"{STREAMLIT} --server.baseUrlPath=app"),
        _starts("server.baseUrlPath"),
    ),
    Fault("the app has no WebSocket any more", APP, no_websocket),
    Fault("the app in mode preserve, without corsAllowedOrigins", APP, origin_option_lost),
    Fault(
        "the app in mode rewrite takes its public origin only",
        APP,
        partial(behind, command=f"{ODD} origin {PUBLIC}"),
    ),
    Fault("the app takes WebSockets from any website", APP, any_origin, person("enableCORS", _closes_it), warns=True),
    Fault(
        "nothing listens at a target without a tunnel",
        APP,
        partial(target, url=f"http://edge.test:{CLOSED}"),
    ),
    Fault("the tunnel is stopped", AGENT, stopped),
    Fault("ngrok was started with another URL", AGENT, other_url),
    Fault("the tunnel has no backend", AGENT, partial(broken, fault="ERR_NGROK_724")),
    Fault("the ngrok agent is draining", AGENT, partial(broken, fault="ERR_NGROK_742")),
    Fault("the ngrok agent is being replaced", AGENT, partial(broken, fault="ERR_NGROK_743")),
    of_the_edge("requests per minute are used up", 734, "wait a minute"),
    of_the_edge("connections per minute are used up", 702, "wait a minute"),
    of_the_edge("the month's requests are used up", 727, "upgrade the ngrok plan"),
    of_the_edge("the month's bandwidth is used up", 725, "upgrade the ngrok plan"),
    of_the_edge("the tunnel is banned", 3208, "write to support@ngrok.com"),
    of_the_edge("the account is suspended", 338, "write to support@ngrok.com"),
    of_the_edge("the traffic policy forbids the upgrade", 3213, "traffic policy"),
    of_the_edge("the circuit breaker is open", 3202, "circuit breaker"),
    of_the_edge("the IP policy refuses the server", 3203, "IP policy"),
    of_the_edge("the warning page comes even with the skip header", 6024, "upgrade the ngrok plan"),
    Fault(
        "a login page stands before the app",
        EDGE,
        partial(behind, command=f"{ODD} login https://idp.example/login"),
        _starts("remove the authentication"),
    ),
    Fault(
        "the tunnel wants a password",
        EDGE,
        partial(behind, command=f"{ODD} password"),
        _starts("remove the authentication"),
    ),
    Fault(
        "the tunnel's policy has another secret",
        EDGE,
        other_secret,
        _starts("write the tunnel_secret", f"{ODD} policy {SECRET}"),
    ),
    Fault("the tunnel's policy wants a secret, and the inventory has none", EDGE, no_secret),
    Fault("the URL is somebody else's", EDGE, somebody_else),
    Fault("the tunnel's name does not exist", EDGE, no_such_name),
    Fault("the target is https, and what is there is not", EDGE, partial(target, url="https://edge.test:9000")),
    Fault("the target is http, and what is there is https", EDGE, partial(target, url=f"http://{TUNNEL}:443")),
    Fault("the tunnel's certificate has an authority that nobody told", EDGE, unknown_authority),
    Fault(
        "the tunnel's certificate is for another name",
        EDGE,
        partial(target, url=f"https://{TUNNEL.split('.')[0]}.edge.test"),
    ),
    Fault(
        "the tunnel's certificate has expired",
        EDGE,
        partial(broken, fault="expired_certificate"),
        person("renew the certificate", _heal),
    ),
    Fault("the edge resets every connection", EDGE, partial(broken, fault="reset"), person("status.ngrok.com", _heal)),
    Fault("the edge does not answer", EDGE, partial(broken, fault="blackhole"), person("status.ngrok.com", _heal)),
)
CHOSEN: tuple[str, ...] = (
    "the app takes WebSockets from any website",
    "the tunnel is stopped",
)
