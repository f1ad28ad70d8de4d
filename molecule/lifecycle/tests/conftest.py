# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
from __future__ import annotations

import pytest
import testinfra

from tests.rig import snapshot

SERVER = "vaettir-lifecycle-one"
HOME = "/home/deploy/vaettir"


@pytest.fixture(scope="session")
def root(server):
    """Traefik's own files are root's."""
    assert server.check_output(f"cd {HOME} && docker compose up -d --wait notes && echo up") == "up"
    found = testinfra.get_host(f"docker://{SERVER}")
    # As Traefik writes it when an authority has given it something.
    found.check_output(f"umask 077; echo '{{\"acme\": {{}}}}' > {HOME}/traefik/acme/acme.json")
    return found


@pytest.fixture
def what_changes():
    """Tells in a line each what is not as it was when the test began."""
    before = snapshot.take(SERVER)
    return lambda: snapshot.difference(before, snapshot.take(SERVER))
