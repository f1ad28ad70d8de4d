# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What is broken, in the words of the diagnosis, while it still is there to be asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Mapping

from . import _diagnosis, _facts, _names, _questions
from ._chain import TLS, TUNNEL
from ._server import Server
from ._transaction import Answer, Expectation

ONLY_WARNED_OF = {"foreign_origin": "nginx_open"}  # by a diagnosis, where a verification fails


@dataclass(frozen=True)
class Explanation:
    """Of an agent whose last checks had these answers, by hop; `container` is the one that they were about."""

    server: Server
    settings: Mapping[str, Any]
    expected: Expectation
    container: dict[str, Any] | None
    answers: dict[str, dict[str, Any]]
    visits: Callable[[], dict[str, list[dict[str, Any]]]] = dict  # what visitors got, or get meanwhile

    def of(self, answer: Answer) -> str:
        page_is_fine = self.expected.offline and (answer.is_page or bool(answer.state))
        diagnosed = self._diagnose(without=TUNNEL if page_is_fine else ())
        if diagnosed["broken"]:
            return str(diagnosed["sentence"]).partition(": ")[2]
        seen = answer.error or answer.reason
        if diagnosed["why"]:
            named = [one for one in diagnosed["findings"] if one["rule"] == ONLY_WARNED_OF.get(answer.reason, "none")]
            at = _diagnosis.explained(_diagnosis.first(named or diagnosed["findings"]))
            return f"{seen}. {at[0].upper()}{at[1:]}"
        return f"{seen}. Every hop: `{_names.playbook('diagnose_agent', self.settings['name'])}`."

    def of_certificate(self) -> str:
        found = [one for one in self._diagnose()["findings"] if one["hop"] == TLS]
        why, fix = (found[0]["why"], found[0]["fix"]) if found else ("", "")
        pending = "tls pending: " if self.answers["traefik"]["reason"] == "tls_pending" else ""
        return f"{pending}{f'{why}. To fix it: {fix}' if why else 'its certificate came a moment ago'}."

    def _diagnose(self, without: tuple[str, ...] = ()) -> dict[str, Any]:
        server, agent = self.server, dict(self.settings)
        known = _facts.gather(server.root, server.project, agent, server.ca_path, self.container, self.answers)
        told = _questions.described(agent, server.name, server.project, "acme" if server.acme else "files")
        return _diagnosis.diagnosis(
            {"agent": told, "stack": dict(server.stack), **known, "visits": self.visits()}, without
        )
