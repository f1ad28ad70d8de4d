# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Faults of Traefik, the certificate and the way to the server."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import re
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import trustme
from ansible_collections.locki.vaettir.plugins.module_utils._chain import DNS, TLS, TRAEFIK

from . import ca, images, servers
from .doctor import AGENT, DOMAIN, Fault, Stand, person
from .releases import UP
from .shell import run, wait_for

CONTAINER, OTHER, WEB = "vaettir-traefik-1", "vaettir-other-1", "other-web"
FRAGMENT, COMPOSE, OVERRIDE = f"agents/{AGENT}.yml", "docker-compose.yml", "docker-compose.override.yml"
OWN_FILE = "traefik/dynamic/own.yml"
OTHER_NAME = "other.vaettir.example"
Change = Callable[[str], str]
Injection = Callable[[Stand], contextlib.AbstractContextManager[None]]


# -- files on the server, edited by hand ---------------------------------------------------------------------------


@contextlib.contextmanager
def _edited(path: str, service: str, change: Change, stand: Stand) -> Iterator[None]:
    """And put into force as the README tells."""
    kept = stand.shell(f"cat {path}")
    assert change(kept) != kept, path
    _put(stand, path, change(kept), service)
    try:
        yield
    finally:
        _put(stand, path, kept, f"--wait {service}")
        stand.shell(f"rm -f {path}.*~")


def _put(stand: Stand, path: str, content: str, service: str) -> None:
    # compose would count a replaced container that still drains
    wait_for("the end of the replaced container", lambda: "-old-" not in stand.shell("docker ps -a"), 60)
    stand.write(path, content)
    stand.shell(f"{UP} {service}")


def _agent(change: Change) -> Injection:
    return partial(_edited, FRAGMENT, AGENT, change)


def _traefik(change: Change) -> Injection:
    return partial(_edited, COMPOSE, "traefik", change)


def _instead(pattern: str, text: str) -> Change:
    return lambda content: re.sub(pattern, text, content, count=1)


def _router(content: str) -> str:
    """The name of the agent's own router."""
    (found,) = re.findall(r"traefik\.http\.routers\.([^.]+)\.rule", content)
    return str(found)


def _label(*lines: str) -> Change:
    """More labels, of ROUTER for one."""
    more = "".join(f"      traefik.{line}\n" for line in lines)
    return lambda content: content.replace(
        "\n    labels:\n", f"\n    labels:\n{more.replace('ROUTER', _router(content))}"
    )


def _network(names: str, *labels: str) -> Change:
    def change(content: str) -> str:
        labelled = _label(*labels)(content) if labels else content
        return (
            labelled.replace("\n    labels:\n", f"\n    networks: [{names}]\n    labels:\n") + "\nnetworks: {own: {}}\n"
        )

    return change


def _middleware(*settings: str) -> Injection:
    """One of the owner's, before the agent's router, in place of ours."""
    own = _label("http.routers.ROUTER.middlewares: own", *(f"http.middlewares.own.{line}" for line in settings))
    return _agent(lambda content: own(re.sub(r"      traefik\.\S+\.middlewares: .*\n", "", content)))


def _flag(text: str) -> Injection:
    return _traefik(_instead(r"    command:\n", f"    command:\n      - --{text}\n"))


@contextlib.contextmanager
def _other_service(router: str, rule: str, stand: Stand) -> Iterator[None]:
    """One of the owner's, in the file that is the owner's."""
    base = f"traefik.http.routers.{router.replace('ROUTER', _router(stand.shell(f'cat {FRAGMENT}')))}"
    labels = f"{{traefik.enable: 'true', {base}.entrypoints: websecure, {base}.rule: 'Host(`{rule}`)'}}"
    stand.write(OVERRIDE, f"services: {{other: {{image: '{images.NGINX}', labels: {labels}}}}}\n")
    try:
        stand.shell(f"{UP} other")
        yield
    finally:
        stand.shell(f"docker rm -f {OTHER}; rm {OVERRIDE}")


def _taken_out(stand: Stand) -> None:
    """What is to be done `there`."""
    stand.shell(f'sed -i "s/labels: {{[^}}]*}}/labels: {{}}/" {OVERRIDE}; {UP} other')


@contextlib.contextmanager
def _own_file(content: str, stand: Stand) -> Iterator[None]:
    """In the folder that Traefik watches."""
    stand.write(OWN_FILE, content)
    try:
        stand.shell(f"docker restart -t 1 {CONTAINER}; {UP} --wait traefik")
        yield
    finally:
        _without_file(stand)


def _without_file(stand: Stand) -> None:
    stand.shell(f"rm -f {OWN_FILE}; docker restart -t 1 {CONTAINER}; {UP} --wait traefik")


# -- Traefik's container, the Engine, the port -----------------------------------------------------------------------


@contextlib.contextmanager
def _typed(command: str, stand: Stand) -> Iterator[None]:
    stand.shell(f"docker {command} {CONTAINER}")
    try:
        yield
    finally:
        stand.shell(f"docker unpause {CONTAINER} || true; {UP} --wait traefik")


@contextlib.contextmanager
def _too_old(stand: Stand) -> Iterator[None]:
    """What Docker Engine 29 does to it, asked of the server's Engine: nothing older than API 1.44."""
    servers.load([stand.server], [images.TRAEFIK_OLD])
    path, restart = "/etc/systemd/system/docker.service.d/api.conf", servers.RESTART_DOCKER
    setting = "[Service]\nEnvironment=DOCKER_MIN_API_VERSION=1.44\n"
    stand.shell(f"mkdir -p $(dirname {path}); cat > {path}; {restart}", "root", text=setting)
    try:
        with _traefik(_instead(r'image: "traefik:\S+', f'image: "{images.TRAEFIK_OLD}"'))(stand):
            yield
    finally:
        stand.shell(f"rm {path}; {restart}", "root")
        stand.shell(f"{UP} --wait")


@contextlib.contextmanager
def _port_taken(begin: str, end: str, user: str, stand: Stand) -> Iterator[None]:
    """Somebody else was faster after a reboot."""
    stand.shell(f"docker stop -t 1 {CONTAINER}")
    stand.shell(begin, user)
    try:
        wait_for("the other one", lambda: ":443 " in stand.shell("ss -Hltn"), 10)
        stand.shell(f"docker start {CONTAINER}", check=False)
        yield
    finally:
        stand.shell(f"{end} || true", user)
        stand.shell(f"{UP} --wait traefik")


def _web_stopped(stand: Stand, fix: str) -> None:
    person("stop it (", lambda stand: stand.shell(f"systemctl stop {WEB}", "root"))(stand, fix)
    stand.apply(fix)


_CONTAINER_WEB = (f"docker run -d --name {WEB} -p 443:80 {images.NGINX}", f"docker rm -f {WEB}", "deploy")
_SERVER_WEB = (f"systemd-run -q --unit {WEB} python3 -m http.server 443", f"systemctl stop {WEB}", "root")


# -- the certificate ----------------------------------------------------------------------------------------------

_READ_ANEW = "echo '#' >> traefik/dynamic/tls.yml"  # certificates are read with this file


@contextlib.contextmanager
def _certificate(change: Callable[[Stand], object], stand: Stand) -> Iterator[None]:
    """Other files in traefik/certs."""
    stand.shell("cp -a traefik/certs certs.kept")
    try:
        change(stand)
        stand.shell(f"{_READ_ANEW}; sleep 2")
        yield
    finally:
        stand.shell(f"cp -a certs.kept/. traefik/certs/; rm -r certs.kept; {_READ_ANEW}; rm -f traefik/*/*~; sleep 2")


def _issued(
    stand: Stand,
    *,
    name: str = DOMAIN,
    days: int = 90,
    authority: Callable[[], trustme.CA] = ca.authority,
    chain: int = 9,
) -> None:
    """One that ends in so many days, with so many of its chain's certificates."""
    end = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days)
    leaf = authority().issue_cert(name, not_before=end - datetime.timedelta(days=90), not_after=end)
    stand.write("traefik/certs/cert.pem", "".join(blob.bytes().decode() for blob in leaf.cert_chain_pems[:chain]))
    stand.write("traefik/certs/key.pem", leaf.private_key_pem.bytes().decode())


def _self_signed(stand: Stand) -> None:
    stand.shell(
        "cd traefik/certs; openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30"
        f" -keyout key.pem -out cert.pem -subj /CN={DOMAIN} -addext subjectAltName=DNS:{DOMAIN} 2>/dev/null"
    )


def _other_key(stand: Stand) -> None:
    stand.shell("openssl ecparam -genkey -name prime256v1 -out traefik/certs/key.pem")


# -- DNS, and what stands between ------------------------------------------------------------------------------------


@contextlib.contextmanager
def _points_at(find: Callable[[Stand], str | None], stand: Stand) -> Iterator[None]:
    stand.edge.address(DOMAIN, find(stand))
    try:
        yield
    finally:
        stand.edge.address(DOMAIN, stand.address)


def _nobody(stand: Stand) -> str:
    """An address of the same network that nobody has."""
    return str(ipaddress.ip_network(f"{stand.address}/16", strict=False)[-2])


_FRONT = """events {{}}
http {{
  server {{
    listen 443 ssl;
    ssl_certificate /front.pem;
    ssl_certificate_key /front.pem;
    location / {{
      proxy_pass https://{address};
      proxy_ssl_server_name on;
      proxy_ssl_name {domain};
      proxy_set_header Host {domain};
      {more}
    }}
  }}
}}
"""
_SOCKETS = "proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection upgrade;"


@contextlib.contextmanager
def _front(more: str, stand: Stand) -> Iterator[None]:
    """An nginx on another machine, where the name leads; it has a certificate of its own."""
    name, leaf = f"{stand.server}-front", ca.authority().issue_cert(DOMAIN)
    conf = _FRONT.format(address=stand.address, domain=DOMAIN, more=more)
    run(["docker", "create", "--name", name, images.NGINX])
    try:
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "nginx.conf").write_text(conf, encoding="ascii")
            Path(folder, "front.pem").write_bytes(leaf.private_key_and_cert_chain_pem.bytes())
            run(["docker", "cp", f"{folder}/nginx.conf", f"{name}:/etc/nginx/nginx.conf"])
            run(["docker", "cp", f"{folder}/front.pem", f"{name}:/front.pem"])
        run(["docker", "start", name])
        with _points_at(lambda _stand: servers.address(name), stand):
            yield
    finally:
        run(["docker", "rm", "-fv", name])


@contextlib.contextmanager
def _firewall(target: str, stand: Stand) -> Iterator[None]:
    """For all but the server itself."""
    before = stand.shell("iptables-save -t filter", "root")
    stand.shell(f"iptables -I DOCKER-USER -i eth0 -p tcp --dport 443 -j {target}", "root")
    try:
        yield
    finally:
        stand.shell("iptables-restore", "root", text=before)


@contextlib.contextmanager
def _deaf(stand: Stand) -> Iterator[None]:
    """The control node's DNS server is a machine that is none."""
    stand.other_dns = stand.address
    try:
        yield
    finally:
        stand.other_dns = ""


def _hears(stand: Stand) -> None:
    stand.other_dns = ""


# -- the tables ------------------------------------------------------------------------------------------------------

_LABELS: dict[str, Injection] = {
    "the container is on a network of its own": _agent(_network("own")),
    "the label traefik.docker.network names a network without Traefik": _agent(
        _network("default, own", "docker.network: vaettir_own")
    ),
    "the label traefik.enable is false": _agent(_instead('enable: "true"', 'enable: "false"')),
    "the router has a wrong name in its rule": _agent(_instead(DOMAIN, f"x{DOMAIN}")),
    "the router has no rule": _agent(_instead(r"      traefik\S+\.rule: .*\n", "")),
    "the router's rule cannot be read": _agent(_instead(r'`\)"\n', '`"\n')),
    "the router listens on the wrong entry point": _agent(_instead("points: websecure", "points: web")),
    "the router wants an entry point that there is not": _agent(_instead("points: websecure", "points: https")),
    "Traefik is sent to a wrong port of the container": _agent(_instead('port: "80"', 'port: "8080"')),
    "the router wants a middleware that there is not": _middleware(),
    "a middleware refuses uploads over 1 MB": _middleware('buffering.maxrequestbodybytes: "1000000"'),
    "a middleware asks for a password": _middleware("basicauth.users: somebody:{SHA}0DPiKuNIrrVmD8IUCuw1hQxNqZc="),
    "a middleware redirects to another name": _middleware(
        "redirectregex.regex: ^https://[^/]*/(.*)", f"redirectregex.replacement: https://{OTHER_NAME}/$${{1}}"
    ),
    "a middleware lets one office in only": _middleware("ipallowlist.sourcerange: 203.0.113.0/24"),
}
_TRAEFIK: dict[str, Injection] = {
    "Traefik is stopped": partial(_typed, "stop -t 1"),
    "Traefik is paused": partial(_typed, "pause"),
    "Traefik's container was removed": partial(_typed, "rm -f"),
    "Traefik has a flag that it does not know, and starts again and again": _flag("no.such=flag"),
    "Traefik is too old for the Docker Engine": _too_old,
    "Traefik cannot read Docker's socket": _traefik(_instead(r"      - docker-api:/run/docker-api:ro\n", "")),
    "Traefik breaks WebSockets over HTTP/2 (GODEBUG=http2xconnect=1)": _traefik(
        _instead(r"    command:\n", "    environment: {GODEBUG: http2xconnect=1}\n    command:\n")
    ),
    "Traefik's entry point wants a middleware that there is not": _flag(
        "entrypoints.websecure.http.middlewares=own@file"
    ),
    "Traefik does not publish port 443": _traefik(_instead(r'      - "443:443"\n', "")),
    "another container holds port 443": partial(_port_taken, *_CONTAINER_WEB),
}
_TLS: dict[str, Callable[[Stand], object]] = {
    "the certificate has expired": partial(_issued, days=-1),
    "the certificate is for another name": partial(_issued, name=OTHER_NAME),
    "the certificate is signed by itself": _self_signed,
    "the certificate lacks its chain": partial(_issued, authority=lambda: ca.authority().create_child_ca(), chain=1),
    "the certificate is from a staging authority": partial(
        _issued, authority=partial(trustme.CA, organization_name="(STAGING) Let's Encrypt")
    ),
    "the key does not fit the certificate": _other_key,
    "there is no file with a certificate": lambda stand: stand.shell("rm traefik/certs/cert.pem"),
}
_DNS: dict[str, Injection] = {
    "the name has no address": partial(_points_at, lambda _stand: None),
    "the name leads to another server": partial(_points_at, lambda stand: stand.resolver),
    "the name leads to an address that nobody has": partial(_points_at, _nobody),
    "a proxy before the server does not pass WebSockets": partial(_front, ""),
    "a firewall drops what comes to port 443": partial(_firewall, "DROP"),
    "a firewall refuses what comes to port 443": partial(_firewall, "REJECT"),
}
_NOISE = "http: {routers: {own: {rule: PathPrefix(`/`), priority: 1000, tls: {}, service: noop@internal}}}\n"

FAULTS: tuple[Fault, ...] = (
    *(Fault(name, TRAEFIK, inject) for name, inject in {**_TRAEFIK, **_LABELS}.items()),
    Fault("another program holds port 443", TRAEFIK, partial(_port_taken, *_SERVER_WEB), _web_stopped),
    Fault(
        "another container's router has the same rule",
        TRAEFIK,
        partial(_other_service, "aaa", DOMAIN),
        person(f"take {DOMAIN} out of the other container's labels", _taken_out),
    ),
    Fault(
        "another container's router has the same name",
        TRAEFIK,
        partial(_other_service, "ROUTER", OTHER_NAME),
        person("rename the router in the other container's labels", _taken_out),
    ),
    Fault(
        "a file of the owner's for Traefik cannot be read",
        TLS,
        partial(_own_file, "http: [\n"),
        person("traefik/dynamic", _without_file),
    ),
    Fault(
        "a file of the owner's for Traefik takes every name",
        TRAEFIK,
        partial(_own_file, _NOISE),
        person(OWN_FILE, _without_file),
    ),
    Fault(
        "Traefik cuts uploads off after 60 s",
        TRAEFIK,
        _traefik(_instead("readtimeout=1800", "readtimeout=60")),
        warns=True,
    ),
    Fault(
        "the router wants a certificate resolver that there is not",
        TRAEFIK,
        _agent(_label("http.routers.ROUTER.tls.certresolver: letsencrypt")),
        warns=True,
    ),
    *(Fault(name, TLS, partial(_certificate, change)) for name, change in _TLS.items()),
    Fault("the certificate ends soon", TLS, partial(_certificate, partial(_issued, days=3)), warns=True),
    *(Fault(name, DNS, inject) for name, inject in _DNS.items()),
    Fault("a proxy before the server passes everything", DNS, partial(_front, _SOCKETS), warns=True),
    Fault("the control node's DNS does not answer", DNS, _deaf, person("/etc/resolv.conf", _hears), warns=True),
)
CHOSEN: tuple[str, ...] = (
    "Traefik is stopped",
    "the certificate has expired",
    "the name has no address",
)
