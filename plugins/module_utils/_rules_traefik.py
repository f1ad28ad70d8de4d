# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What may be wrong with Traefik."""

from __future__ import annotations

import re
from typing import Any, Callable

from . import _names
from ._chain import (
    BROKEN,
    DEPENDS,
    STOP,
    TRAEFIK,
    WARN,
    Chain,
    Match,
    Question,
    Rule,
    answer,
    moment,
    seconds,
    state,
    version,
)

UPLINK = 1.25e6  # bytes a second, 10 Mbit/s: a visitor's line
OLD_API = (1, 24)
BROKEN_TRAEFIK = ((2, 11, 17), (3, 2, 4), (3, 3, 0))  # extended CONNECT advertised and broken


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


def _shared(chain: Chain) -> set[str]:
    """In the host's network Traefik reaches those of all containers."""
    ours, theirs = set(chain.container.get("networks") or []), set(chain.proxy.get("networks") or [])
    return ours if "host" in theirs else ours & theirs


def _networks(chain: Chain) -> str:
    if not chain.container or not chain.proxy:
        return ""
    return ", ".join(sorted(_shared(chain))) or "none in common"


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


def _engine(chain: Chain) -> Match:
    docker = chain.stack.get("docker") or {}
    number = version(chain.proxy.get("version"))
    fits = number >= (3, 6, 1) or (2, 11, 31) <= number < (3,)
    # Those before know one version of the Engine's API, which Engine 29 refuses unless its daemon.json lets it in.
    least = version(docker.get("min_api"))[:2] or (version(docker.get("version")) >= (29,) and (1, 44))
    known = least and least > OLD_API and number and not fits
    return bool(known or _says(chain, r"client version \S+ is too old")) and {
        "error": f"{chain.proxy.get('version')} with Docker Engine {docker.get('version')}"
    }


def _says(chain: Chain, pattern: str) -> str:
    """The last such line of Traefik's log. Where it works, what it said is over."""
    lines = [] if chain.traefik_good else chain.proxy.get("errors") or []
    return str(next((line for line in reversed(lines) if re.search(pattern, line, re.IGNORECASE)), ""))


def _log(*patterns: str) -> Callable[[Chain], Match]:
    def found(chain: Chain) -> Match:
        said = [line for line in (_says(chain, pattern) for pattern in patterns) if line]
        return bool(said) and {"error": said[0], "fix": made_again(chain)}

    return found


def _port_taken(chain: Chain) -> Match:
    own = f"container {chain.proxy.get('name')}"
    taken = [one for one in chain.stack.get("taken_ports") or [] if one["by"] != own]
    elsewhere = chain.traefik_good or "host" in (chain.proxy.get("networks") or [])
    if not taken or elsewhere or chain.proxy.get("running") or not chain.proxy.get("status"):
        return False
    port, by = taken[0]["port"], str(taken[0]["by"])
    kind, _space, name = by.partition(" ")
    holder = f"`docker stop {name}`" if kind == "container" else f"stop it (`sudo ss -ltnp sport = :{port}` tells more)"
    return {"error": f"port {port} is held by {by}", "holder": holder}


def _stopped(chain: Chain) -> Match:
    """One that starts again and again runs for a moment, too."""
    proxy, started = chain.proxy, moment(chain.proxy.get("started"))
    old = started is not None and float(chain.found.get("time") or 0) - started > 60
    bad = proxy.get("restarts") and not chain.traefik_good and proxy.get("health") != "healthy"
    again = proxy.get("running") and bad and not old
    return bool(proxy.get("status") and (again or not proxy.get("running"))) and {
        "error": "restarting" if again else proxy["status"]
    }


def _refused_router(chain: Chain) -> Match:
    names = "|".join(re.escape(str(router["name"])) for router in _own_routers(chain))
    gone = _traefik_reason("no_route", "stopped")(chain)
    match = bool(gone and names) and _log(rf"ERR.* routerName=({names})@docker")(chain)
    return match and {**match, "fix": _fix(chain)}


def _router_middlewares(chain: Chain) -> list[str]:
    """Somebody else's: the agent's own sets a header, and has its router's name."""
    own = _own_routers(chain)
    return sorted({name for router in own for name in router.get("middlewares") or [] if name != router["name"]})


def _point_middlewares(chain: Chain) -> str:
    return str((chain.proxy.get("flags") or {}).get(f"entrypoints.{_entry_point(chain)}.http.middlewares", ""))


def _fix(chain: Chain) -> str:
    """Labels come with the agent, flags with Traefik."""
    upgrade = _point_middlewares(chain) and not _router_middlewares(chain)
    return f"`{chain.words()['upgrade']}`" if upgrade else chain.words()["redo"]


def made_again(chain: Chain) -> str:
    """What was hand-edited is made again; a Traefik that is as it should be may have lost its way."""
    words = chain.words()
    if (chain.stack.get("traefik") or {}).get("reasons"):
        return f"`{words['upgrade']}`"
    if chain.found.get("fragment_edited"):
        return words["redo"]
    return f"on {words['server']}: `docker restart {words['traefik']}`; if it stays so, `{words['deploy']}`"


def _answered(chain: Chain) -> bool:
    """Somebody between Traefik and the container has an answer of its own."""
    nobody = (None, "no_route", "stopped", "proxy_error", "no_answer", "timeout", "refused", "unreachable")
    return bool(chain.nginx) and not chain.traefik_good and chain.behind_tls.get("reason") not in nobody


def _in_between(chain: Chain) -> Match:
    refused, bad = bool((chain.behind_tls.get("upload") or {}).get("refused")), _answered(chain)
    used = ", ".join(_router_middlewares(chain)) or _point_middlewares(chain)
    error = chain.behind_tls.get("error") if bad else "an upload of 2 MB is refused (413)"
    return bool((bad or refused) and chain.nginx and used) and {"error": error, "used": used, "fix": _fix(chain)}


def _own_file(chain: Chain) -> Match:
    files = chain.proxy.get("files") or []
    return bool(files) and _answered(chain) and {"error": chain.behind_tls.get("error", ""), "files": ", ".join(files)}


def _connect(chain: Chain) -> str:
    """What GODEBUG says of extended CONNECT: 1 for on, 0 for off."""
    return ([*re.findall(r"(?:^|,)http2xconnect=([01])", str(chain.proxy.get("godebug", ""))), ""])[0]


def _bad_connect(chain: Chain) -> bool:
    found = chain.behind_tls.get("http2") or {}
    return found.get("reason") in ("bad_connect", "bad_http2") or (not found and _connect(chain) == "1")


def _broken_set(chain: Chain) -> Match:
    works = (chain.behind_tls.get("http2") or {}).get("works")
    broken = version(chain.proxy.get("version")) in BROKEN_TRAEFIK and _connect(chain) != "0"
    return broken and not works and {"error": chain.proxy["version"]}


def _retry(chain: Chain) -> Match:
    number = version(chain.proxy.get("version"))
    routers = [router for router in _own_routers(chain) if router.get("retry")]
    return bool(routers and number) and number < (3, 7, 8)


def _slow_upload(chain: Chain) -> Match:
    limit, most = read_timeout(chain), _names.size_in_bytes(chain.agent.get("max_body_size"))
    if not limit or most / limit <= UPLINK:
        return False
    return {
        "error": f"{limit:g} s",
        "size": str(chain.agent["max_body_size"]),
        "speed": f"{most * 8 / limit / 1e6:.0f}",
    }


def _no_network(chain: Chain) -> Match:
    return bool(chain.container.get("running") and chain.proxy.get("running")) and not _shared(chain)


def _wrong_network(chain: Chain) -> Match:
    flags = chain.proxy.get("flags") or {}
    label = (chain.container.get("labels") or {}).get("traefik.docker.network")
    chosen = label or flags.get("providers.docker.network")
    return bool(chosen and chain.container.get("running")) and chosen not in _shared(chain) and {"error": chosen}


def _unless_works(applies: Callable[[Chain], Match]) -> Callable[[Chain], Match]:
    """Where Traefik goes to the container all the same, its owner has another way: a file, a default rule."""
    return lambda chain: not chain.works(TRAEFIK) and applies(chain)


def _not_enabled(chain: Chain) -> Match:
    return bool(chain.container) and _ignored(chain, (chain.container.get("labels") or {}).get("traefik.enable", ""))


def _ignored(chain: Chain, enable: object) -> bool:
    """Whether Traefik leaves a container with this label out."""
    default = str((chain.proxy.get("flags") or {}).get("providers.docker.exposedbydefault", "true")).lower()
    return (str(enable).lower() or default) not in ("true", "t", "1")


def _no_router(chain: Chain) -> Match:
    own = _own_routers(chain)
    if not chain.container.get("running") or any(chain.agent.get("domain") in hosts(router["rule"]) for router in own):
        return False
    others = sorted({host for router in own for host in hosts(router["rule"])})
    return {"error": f"only for {', '.join(others)}" if others else "none at all"}


def _others(chain: Chain) -> list[dict[str, Any]]:
    """Routers of other containers that Traefik looks at."""
    found = chain.found.get("routers") or []
    return [one for one in found if not one.get("own") and not _ignored(chain, one.get("enable", "true"))]


def _points(value: object) -> set[str]:
    """Entry points: none are all. Command lines tell them in lower case."""
    return {name for name in str(value or "").replace(" ", "").lower().split(",") if name}


def _two_routers(chain: Chain) -> Match:
    """What asks for more than a host, or has a priority, is no rival: that is how an owner parts a name."""
    domain, point = chain.agent.get("domain"), _entry_point(chain)
    other = [
        router
        for router in _others(chain)
        if domain in hosts(router["rule"]) and not re.sub(r"\bHost\([^)]*\)|\|\||[\s()]", "", str(router["rule"]))
        if not router.get("priority") and point in (_points(router.get("entrypoints")) or {point})
    ]
    old = sorted({str(router["agent"]) for router in other if router.get("agent")})
    labels = f"take {domain} out of the other container's labels, and `docker compose up -d` there"
    return bool(other) and {
        "error": ", ".join(sorted({f"{router['name']} of {router['container']}" for router in other})),
        "fix": f"`{_names.playbook('remove_agent', old[0])}`" if old else labels,
    }


def _same_router(chain: Chain) -> Match:
    own = {str(router["name"]): router["rule"] for router in _own_routers(chain)}
    other = [one for one in _others(chain) if own.get(str(one["name"]), one["rule"]) != one["rule"]]
    return bool(other) and {"error": f"{other[0]['name']} of {other[0]['container']}"}


def _own_values(chain: Chain, key: str) -> list[str]:
    domain = chain.agent.get("domain")
    return [str(router[key]) for router in _own_routers(chain) if router.get(key) and domain in hosts(router["rule"])]


def _wrong_entry_point(chain: Chain) -> Match:
    flags = chain.proxy.get("flags") or {}
    known = {key.split(".")[1] for key in flags if key.startswith("entrypoints.")}
    used = {name for value in _own_values(chain, "entrypoints") for name in _points(value)}
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
        and {"error": chain.behind_tls.get("error", ""), "fix": made_again(chain)}
    )


def _closed(chain: Chain) -> Match:
    """One that takes the connection and does not answer hangs."""
    words, match = chain.words(), _traefik_reason("refused", "unreachable", "timeout", "tls_failed", "dns")(chain)
    hangs = chain.behind_tls.get("reason") == "timeout"
    port = f"`{words['upgrade']}`, with stack_https_port {words['port']}"
    return match if hangs or not match else {**match, "fix": port}


QUESTIONS = (
    Question("traefik_container", TRAEFIK, "container {traefik}", lambda chain: state(chain, chain.proxy)),
    Question("traefik_version", TRAEFIK, "version, WebSockets over HTTP/2", _http2),
    Question("timeout", TRAEFIK, "readTimeout for uploads", _timeout),
    Question("network", TRAEFIK, "network with {container}", _networks),
    Question("router", TRAEFIK, "routers for {domain}", _routers),
    Question("traefik", TRAEFIK, "{probe_path} on 127.0.0.1", lambda chain: answer(chain.behind_tls)),
)

RULES: tuple[Rule, ...] = (
    # --- Traefik
    Rule(
        "traefik_missing",
        "traefik_container",
        DEPENDS,
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
        "traefik_port_taken",
        "traefik_container",
        BROKEN,
        "{error}, so {traefik} cannot have it",
        "on {server}: {holder}, then `{up_traefik}`",
        _port_taken,
    ),
    Rule(
        "traefik_changed",
        "traefik_container",
        BROKEN,
        "{traefik} does not run ({error}), and was not made from what the inventory says: {traefik_log}",
        "`{upgrade}`",
        lambda chain: bool((chain.stack.get("traefik") or {}).get("reasons")) and _stopped(chain),
    ),
    Rule(
        "traefik_stopped",
        "traefik_container",
        BROKEN,
        "{traefik} does not run ({error}): {traefik_log}",
        "on {server}: `{up_traefik}`",
        _stopped,
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
        STOP,
    ),
    Rule(
        "traefik_broken_version",
        "traefik_version",
        BROKEN,
        "Traefik {error} advertises WebSockets over HTTP/2 and breaks them: curl works, browsers do not",
        "set stack_traefik_image to traefik:v3.7.15, and `{upgrade}`",
        _broken_set,
        STOP,
    ),
    Rule(
        "traefik_http2",
        "traefik_version",
        BROKEN,
        "Traefik advertises WebSockets over HTTP/2 and breaks them: curl works, browsers do not",
        "remove http2xconnect=1 from GODEBUG in {traefik}'s environment, then `{upgrade}`",
        _bad_connect,
        STOP,
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
        WARN,
    ),
    Rule(
        "network_none",
        "network",
        DEPENDS,
        "{container} and Traefik have no network in common",
        "on {server}: `docker network connect {network} {container}`, and `{deploy}` to keep it so",
        _unless_works(_no_network),
    ),
    Rule(
        "network_wrong",
        "network",
        DEPENDS,
        "Traefik is to go over the network {error}, which the two do not have in common",
        "{redo}; in a compose file of your own remove the label traefik.docker.network, then `{up}`",
        _unless_works(_wrong_network),
    ),
    Rule(
        "router_disabled",
        "router",
        DEPENDS,
        "{container} has no label traefik.enable=true",
        "{redo}; in a compose file of your own write the label, then `{up}`",
        _unless_works(_not_enabled),
    ),
    Rule(
        "router_none",
        "router",
        DEPENDS,
        "{container} has no router for {domain} ({error})",
        "{redo}, with that domain of agent {agent}; in a compose file of your own fix the label, then `{up}`",
        _unless_works(_no_router),
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
        "{fix}",
        _two_routers,
        STOP,
    ),
    Rule(
        "router_entry_point",
        "router",
        DEPENDS,
        "the router listens on the entry point {error}, and port {port} is {wanted}",
        "{redo}; in a compose file of your own set the label entrypoints to {wanted}, then `{up}`",
        _unless_works(_wrong_entry_point),
    ),
    *(
        Rule(
            name,
            "router",
            verdict,
            "Traefik knows no certificate resolver {error} (there is {wanted})",
            "{redo}; in a compose file of your own set the label tls.certresolver to one of those, then `{up}`",
            applies,
        )
        for name, verdict, applies in (
            ("router_resolver", BROKEN, lambda chain: bool(chain.tls_reason) and _wrong_resolver(chain)),
            ("router_resolver_spare", WARN, _wrong_resolver),  # another certificate for the name is there
        )
    ),
    Rule(
        "router_port",
        "router",
        DEPENDS,
        "Traefik is to go to port {error} of {container}, and nginx listens on 80",
        "{redo}; in a compose file of your own set the label loadbalancer.server.port to 80, then `{up}`",
        _unless_works(_wrong_port),
    ),
    Rule(
        "traefik_closed",
        "traefik",
        BROKEN,
        "Traefik does not listen on port {port} ({error})",
        "{fix}; in a compose file of your own publish it, then `{up_traefik}`",
        _closed,
    ),
    Rule(
        "traefik_socket",
        "traefik",
        BROKEN,
        "Traefik cannot ask Docker, so it sees no container: {error}",
        "{fix}; in a compose file of your own mount /var/run/docker.sock, then `{up_traefik}`",
        _log(r"docker API|Docker daemon|docker\.sock"),
    ),
    Rule(
        "traefik_file_broken",
        "traefik",
        BROKEN,
        "Traefik cannot read its files: {error}",
        "fix that file in {root}/traefik/dynamic",
        _log(r"ERR.*providerName=file"),
    ),
    Rule(
        "router_refused",
        "traefik",
        BROKEN,
        "Traefik refuses the router of {container}: {error}",
        "{fix}; in a compose file of your own fix what it names, then `{up}`",
        _refused_router,
    ),
    Rule(
        "traefik_middleware",
        "traefik",
        BROKEN,
        "the middleware {used} does not let everything through: {error}",
        "{fix}; in a compose file of your own take it out",
        _in_between,
    ),
    Rule(
        "traefik_own_file",
        "traefik",
        BROKEN,
        "Traefik does not go to {container} ({error}), and has files of its owner: {files}",
        "take what is there for {domain} out of {files}",
        _own_file,
    ),
    Rule(
        "traefik_no_route",
        "traefik",
        BROKEN,
        "Traefik has no route to {container}: {traefik_log}",
        "{fix}",
        _traefik_reason("no_route", "stopped"),
    ),
    Rule(
        "traefik_gateway",
        "traefik",
        BROKEN,
        "Traefik does not reach {container} ({error})",
        "{fix}",
        _traefik_reason("proxy_error", "no_answer"),
    ),
    Rule(
        "traefik_upload",
        "traefik",
        BROKEN,
        "Traefik refuses an upload of 2 MB (413)",
        "take the buffering middleware with maxRequestBodyBytes out",
        lambda chain: bool((chain.behind_tls.get("upload") or {}).get("refused")),
    ),
    Rule(
        "traefik_other",
        "traefik",
        BROKEN,
        "Traefik does not pass on what nginx answers ({error})",
        "{fix}; `docker logs {traefik}` on {server} tells more",
        lambda chain: (
            bool(chain.behind_tls and chain.nginx)
            and not chain.traefik_good
            and {"error": chain.behind_tls.get("error", ""), "fix": made_again(chain)}
        ),
    ),
)
