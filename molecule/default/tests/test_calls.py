# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What a run without changes costs: every call of a server is about half a second."""

from __future__ import annotations

import subprocess
import time

from tests.rig import playbook
from tests.rig.transcript import Transcript

MOST = 14  # of them the proof: curl's handshake, all questions through Traefik, and the container itself


def test_calls_of_a_run_that_changes_nothing(servers, server):
    # Docker on this machine counts as well, while it happens: it remembers the last 256 events only, of all containers.
    words = ["docker", "events", "--since", str(int(time.time())), "--filter", f"container={next(iter(servers))}"]
    words += ["--filter", "event=exec_create"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as events:
        try:
            server.check_output("true counting begins")
            next(line for line in events.stdout if "counting begins" in line)
            run = playbook.run(playbook.DEPLOY, "-e", "agent=ocapistaine")
        finally:
            events.terminate()
        seen = events.stdout.read().splitlines()
    assert (run.status, run.changed) == (0, []), run
    tasks = [call.task for call in run.of("remote")]
    listing = "\n".join(f"{number:2} {task}" for number, task in enumerate(tasks, 1))
    Transcript("remote-calls", "Calls of the server in a run that changes nothing, one agent").add(
        "ansible-playbook deploy-agent.yml -e agent=ocapistaine", listing
    )
    assert len(seen) == len(tasks), listing  # each call is a `docker exec` in the server
    assert len(tasks) <= MOST, listing
