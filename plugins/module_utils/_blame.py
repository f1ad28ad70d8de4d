# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Which hop is to blame for what a visitor meets, where no rule explains it. Pure: answers in, a hop out."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Collection, Mapping

from . import _bisect, _rules_tunnel, _rules_tunnel_ssh
from ._chain import (
    AGENT,
    APP,
    BROKEN,
    DNS,
    EDGE,
    HOPS,
    NGINX,
    SERVER,
    SSH_CONNECTION,
    SSH_SERVER,
    TLS,
    TRAEFIK,
    TUNNEL,
    WARN,
    Chain,
)

# The hop that is to blame where a place fails, and the one behind it does not.
_HOPS = {"laptop": APP, "tunnel": EDGE, "container": SERVER, "nginx": NGINX, "traefik": TRAEFIK, "public": DNS}
UNKNOWN_FAULT = "a visitor's {question} {what} {place} ({here}{there})"  # that no rule explains, and where to look
LOOK = {
    APP: "on the laptop: start the app again, and read what it prints; with `-e app_url=http://127.0.0.1:PORT` there,"
    " `{diagnose}` tells the app and {tunnel} apart",
    SSH_CONNECTION: "on the laptop: end the ssh that runs, and start it again: `{laptop}`",
    AGENT: "on the laptop: `ngrok http --url={target_url} PORT`",
    EDGE: "on {server}: `curl -sv {target_url} -o /dev/null`; on the laptop: start ngrok again without its traffic"
    " policy, and look at dashboard.ngrok.com",
    SERVER: "on {server}: `sudo systemctl restart docker`, and look at `sudo iptables -L DOCKER-USER -n -v`",
    NGINX: "on {server}: `docker restart {container}`, then `{deploy}`; it says more with `docker logs {container}`",
    TRAEFIK: "on {server}: `docker restart {traefik}`, then `{deploy}`; look at its middlewares, in"
    " {root}/traefik/dynamic as well",
    DNS: "look for a proxy, a firewall or another server between: `curl -sv {public_origin} -o /dev/null`",
}


def place_hop(name: str, chain: Chain) -> str:
    """Of a tunnel of one's own the place `tunnel` is where its SSH server ends."""
    return SSH_SERVER if name == "tunnel" and chain.by_ssh else _HOPS[name]


@dataclass(frozen=True)
class Blame:
    """Of one fault; `tunnels` are those that the laptop's ngrok tells of, if it was asked."""

    fault: _bisect.Fault
    chain: Chain
    visits: Mapping[str, Any]
    tunnels: Collection[str] | None = None

    @property
    def hop(self) -> str:
        if self.fault.place == "tunnel":
            return self._of_the_tunnel()
        sent_away = not self.chain.container.get("running") or self.chain.container.get("health") == "unhealthy"
        # Traefik sends nobody there.
        return NGINX if self.fault.place == "traefik" and sent_away else _HOPS[self.fault.place]

    def _of_the_tunnel(self) -> str:
        answers_on_laptop = self.fault.behind == "laptop"
        if self.chain.by_ssh:
            return SSH_CONNECTION if answers_on_laptop else APP
        if self.is_cut_off and self.chain.is_https:
            return EDGE
        if not answers_on_laptop:
            return self._coded or APP
        if self._coded:
            return AGENT if self._coded == APP else self._coded
        return EDGE if self.tunnels and self.chain.target in self.tunnels else AGENT

    @property
    def _coded(self) -> str:
        """Of whom ngrok's own error speaks, if it was one."""
        code = next((one["code"] for one in self._bad if one["code"]), "")
        number = int(code.rpartition("_")[2] or 0)
        known = (hop for _rule, hop, numbers, _wrong, _fix in _rules_tunnel.CODES if number in numbers)
        return next(known, EDGE) if code else ""

    @property
    def _bad(self) -> list[dict[str, Any]]:
        answers = self.visits[self.fault.place]
        return [one for one in answers if one["question"] == self.fault.question and not one["ok"]]

    @property
    def is_cut_off(self) -> bool:
        """No connection came to the tunnel."""
        return self.fault.place == "tunnel" and bool(self._bad) and not any(one["reached"] for one in self._bad)

    @property
    def is_swallowed(self) -> bool:
        """The tunnel takes connections and says nothing, where the app answers on the laptop."""
        silent = all(one["reached"] and one["status"] in (0, 101) and not one.get("closed") for one in self._bad)
        return self.fault.behind == "laptop" and bool(self._bad) and silent and not self.chain.by_ssh

    def is_explained_by(self, one: Mapping[str, str]) -> bool:
        """A broken hop between the place where it fails and the one where it does not."""
        fault = self.fault
        begin = HOPS.index(place_hop(fault.behind, self.chain)) + 1 if fault.behind else 0
        within = begin <= HOPS.index(one["hop"]) <= HOPS.index(place_hop(fault.place, self.chain))
        outside = fault.place == "public" and one["hop"] in (TLS, DNS)
        behind = (SERVER, NGINX, *([TLS] if re.search("certificate|TLS handshake", fault.here) else []))
        causes = one["hop"] in behind and fault.place == "traefik"
        causes = causes or (one["hop"] == SERVER and self.is_cut_off)
        return (one["verdict"] == BROKEN and (within or causes)) or (one["verdict"] == WARN and outside)

    def clears(self, one: Mapping[str, str]) -> bool:
        """The tunnel is not what is broken where it answers a visitor's every question, nor an app that answers on the
        laptop where the tunnel says nothing; nor is a hop beyond the one that fails sometimes, where visitors get
        through now and then: who asked there once had no luck."""
        fault, hop = self.fault, one["hop"]
        beyond = self.hop not in TUNNEL and fault.behind in ("tunnel", "container", "nginx")
        suspected = hop in TUNNEL and beyond and fault.word != _bisect.ONCE
        between = hop == APP and self.is_swallowed
        answers = [seen for name in _HOPS if _HOPS[name] == hop for seen in self.visits.get(name, ())]
        passes = any(seen["ok"] for seen in answers if seen["question"] == fault.question)
        outwards = HOPS.index(hop) > HOPS.index(_HOPS[fault.place])
        flickers = fault.word == _bisect.FAILS and not fault.always and outwards and passes
        return one["verdict"] == BROKEN and (suspected or flickers or between)

    def told(self) -> tuple[tuple[str, dict[str, str]], tuple[str, dict[str, str]]]:
        """What is wrong and where to look, each with the words that fill it."""
        fault, chain = self.fault, self.chain
        words = {
            "question": fault.question,
            "what": {_bisect.SLOWER: "is slow", _bisect.DIFFERS: "is another one"}.get(fault.word, "fails"),
            "place": _bisect.PLACES[fault.place],
            "here": fault.here if fault.always else f"{fault.here}, {fault.bad} of {fault.asked} times",
            "there": f"; {_bisect.PLACES[fault.behind]}: {fault.there}" if fault.behind else "",
        }
        known = {**chain.words(), **(_rules_tunnel_ssh.words(chain) if chain.by_ssh else {})}
        return (UNKNOWN_FAULT, words), (LOOK[self.hop], known)
