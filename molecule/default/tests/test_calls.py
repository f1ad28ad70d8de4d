# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What a run without changes costs: every call of a server is about half a second."""

from __future__ import annotations

import time

from tests.rig import playbook
from tests.rig.shell import run as execute
from tests.rig.transcript import Transcript

MOST = 14  # of them the proof: curl's handshake, all questions through Traefik, and the container itself


def test_calls_of_a_run_that_changes_nothing(servers):
    began = int(time.time())
    run = playbook.run(playbook.DEPLOY, "-e", "agent=ocapistaine")
    assert (run.status, run.changed) == (0, []), run
    tasks = [call.task for call in run.of("remote")]
    listing = "\n".join(f"{number:2} {task}" for number, task in enumerate(tasks, 1))
    Transcript("remote-calls", "Calls of the server in a run that changes nothing, one agent").add(
        "ansible-playbook deploy-agent.yml -e agent=ocapistaine", listing
    )
    # Docker on this machine has counted as well: each call is a `docker exec` in the server.
    words = ["docker", "events", "--since", str(began), "--until", str(int(time.time()) + 1)]
    words += ["--filter", f"container={next(iter(servers))}", "--filter", "event=exec_create"]
    assert len(execute(words).stdout.splitlines()) == len(tasks), listing
    assert len(tasks) <= MOST, listing
