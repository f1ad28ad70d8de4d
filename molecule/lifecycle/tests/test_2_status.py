# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The report: to be read, as a file, and with what is wrong."""

from __future__ import annotations

import json
import re

import pytest

from tests.rig import playbook

STATUS = "locki.vaettir.status"
SERVER = "vaettir-lifecycle-one"
NOWHERE = {
    "vaettir": {
        "hosts": {
            "vaettir-lifecycle-nowhere": {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1}
        }
    }
}


@pytest.fixture
def ask(tmp_path, what_changes):
    """Runs it; gives the run, the table's lines and the file's rows, which must say the same."""

    def run(*options, status=0):
        written = tmp_path / "status.json"
        done = playbook.run(STATUS, *options, "-e", f"status_file={written}")
        assert (done.status == 0) is (status == 0), done
        assert done.changed == []
        assert what_changes() == []
        assert written.stat().st_mode & 0o777 == 0o644
        lines = [line.split() for line in done.output.splitlines() if re.match(r"\s+(SERVER|vaettir-\S+) ", line)]
        rows = json.loads(written.read_text(encoding="utf-8"))["agents"]
        assert [line[0] for line in lines] == ["SERVER", *(row["server"] for row in rows)]
        return done, lines, rows

    return run


def test_every_agent_of_every_server(ask):
    _run, lines, rows = ask()
    assert lines[0] == [
        "SERVER",
        "AGENT",
        "RELEASE",
        "AGE",
        "IMAGE",
        "CONTAINER",
        "DRAINING",
        "MEMORY",
        "TUNNEL",
        "VERIFIED",
    ]
    assert [(row["server"], row["agent"]) for row in rows] == [(SERVER, "ocapistaine"), (SERVER, "second")]
    for row, line in zip(rows, lines[1:], strict=True):
        assert re.fullmatch(r"[0-9]{8}T[0-9]{6}Z", row["release"])
        assert 0 < row["age"] < 3600
        assert re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T", row["verified"])
        assert (row["container"], row["draining"], row["tunnel"]) == ("healthy", 0, "ok")
        assert 5e6 < row["memory"] < 60e6
        assert (line[1], line[2], line[-6:]) == (
            row["agent"],
            row["release"],
            ["healthy", "0", f"{row['memory'] / 1e6:.0f}", "MB", "ok", row["verified"]],
        )
        assert line[-7] == row["image"].removeprefix("sha256:")[:12]


def test_a_stopped_tunnel_is_a_state_and_no_error(ask, edge):
    with edge.stopped("second.ngrok-free.app"):
        _run, _lines, (row,) = ask("-e", "agent=second")
    assert (row["agent"], row["container"]) == ("second", "healthy")
    assert row["tunnel"].startswith("offline")


def test_a_server_that_cannot_be_reached(ask, tmp_path):
    inventory = tmp_path / "more.json"
    inventory.write_text(json.dumps(NOWHERE), encoding="utf-8")
    run, _lines, rows = ask("-i", str(inventory), status=1)
    assert [row["container"] for row in rows] == ["healthy", "healthy", "unreachable"]
    assert run.output.rstrip().splitlines()[-1].startswith("vaettir-lifecycle-nowhere cannot be asked (unreachable)")
    assert run.messages == [], "no failed task's block of lines"


def test_an_unknown_agent(what_changes):
    run = playbook.run(STATUS, "-e", "agent=nobody")
    assert run.status != 0
    assert "agent 'nobody' is neither declared nor deployed" in run.messages[-1]
    assert what_changes() == []
