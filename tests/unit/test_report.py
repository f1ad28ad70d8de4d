# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The report: a row for each agent, what the second witness makes of it, and how it is read."""

from __future__ import annotations

from typing import Any

from ansible_collections.locki.vaettir.plugins.filter import report

ROW: dict[str, Any] = {
    "server": "demo",
    "agent": "one",
    "outcome": "released",
    "url": "https://one.example",
    "release": "20261128T201030Z",
    "seconds": 2.5,
    "changed": True,
    "failed": False,
    "switched": True,
    "online": True,
    "trusted": True,
    "verified": True,
    "notes": [],
    "message": "one on demo: WebSocket upgrade verified at https://one.example",
    "handshake": {"label": "one"},
}
BAD = {"label": "one", "met": False, "error": "answer 502 instead of 101"}
SETTINGS = [{"name": "one", "domain": "one.example"}, {"name": "two"}]


def host(*rows: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"__agent_proxy_release": {"agents": list(rows)}, **more}


def test_a_table_then_notes_then_what_a_visitor_gets() -> None:
    page = {**ROW, "agent": "offline", "url": "", "message": "", "notes": ["a hand-edited file has its backup: x~."]}
    assert report.report_lines([ROW, page]) == [
        "SERVER  AGENT    OUTCOME   URL                  RELEASE           SECONDS",
        "demo    one      released  https://one.example  20261128T201030Z  2.5",
        "demo    offline  released  -                    20261128T201030Z  2.5",
        "offline on demo: a hand-edited file has its backup: x~.",
        "one on demo: WebSocket upgrade verified at https://one.example",
    ]


def test_a_public_name_that_does_not_answer_is_a_warning() -> None:
    lines = report.report_lines([{**ROW, "outside": "its public name does not answer"}])
    assert "WARNING: one on demo: its public name does not answer." in lines


def test_curl_contradicts() -> None:
    assert report.contradicted([ROW], [BAD], SETTINGS) == [
        {"name": "one", "domain": "one.example", "release": "", "instead_of": "20261128T201030Z"}
    ]
    assert report.contradicted([ROW], [{**BAD, "met": True}], SETTINGS) == []


def test_what_curl_contradicted_is_reported_as_rolled_back() -> None:
    again = {**ROW, "release": "20261128T201000Z", "outcome": "released", "message": "verified"}
    (row,) = report.host_rows(
        [host(ROW, __agent_proxy_curl={"results": [BAD]}, __agent_proxy_again={"agents": [again]})]
    )
    assert (row["outcome"], row["failed"], row["release"]) == ("rolled back", True, "20261128T201000Z")
    assert row["message"] == (
        "one on demo: curl contradicts the verification: answer 502 instead of 101. "
        "It was rolled back to release 20261128T201000Z."
    )


def test_a_first_release_that_curl_contradicts_is_taken_away() -> None:
    again = {**ROW, "release": ""}
    (row,) = report.host_rows(
        [host(ROW, __agent_proxy_curl={"results": [BAD]}, __agent_proxy_again={"agents": [again]})]
    )
    assert row["message"].endswith("It was rolled back and is taken away again.")


def test_a_rollback_that_did_not_happen_is_not_claimed() -> None:
    failed = {**ROW, "outcome": "failed", "failed": True, "message": "one on demo: no image"}
    for again in ([], [ROW], [failed]):
        curl = {"results": [BAD]}
        (row,) = report.host_rows([host(ROW, __agent_proxy_curl=curl, __agent_proxy_again={"agents": again})])
        assert (row["outcome"], row["failed"]) == ("failed", True)
        assert "It could not be rolled back" in row["message"]
        assert "`ansible-playbook locki.vaettir.rollback_agent -e agent=one`" in row["message"]


def test_servers_without_rows_have_none() -> None:
    assert report.host_rows([{}, host(), host(ROW, __agent_proxy_curl={"skipped": True})]) == [ROW]


def test_who_is_not_verified() -> None:
    assert report.verification_error([ROW], "demo") == ""
    for more in ({"verified": False}, {"trusted": False}, {"outside": "does not answer"}):
        told = report.verification_error([{**ROW, **more}], "demo")
        assert told.startswith("one on demo: not verified."), more
        assert "`ansible-playbook locki.vaettir.diagnose_agent -e agent=one`" in told


def test_for_prometheus() -> None:
    rows = [{**ROW, "seen": True}, {**ROW, "agent": "two", "verified": False, "online": False}]
    told = report.prometheus(rows, 1700000000)
    for line in (
        'vaettir_agent_verified{agent="one"} 1',
        'vaettir_agent_verified{agent="two"} 0',
        'vaettir_agent_online{agent="two"} 0',
        'vaettir_agent_public{agent="one"} 1',
        'vaettir_agent_verification_timestamp_seconds{agent="two"} 1700000000',
    ):
        assert f"{line}\n" in told
    assert 'public{agent="two"}' not in told
