# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The module as a function, certificates, and servers in processes of their own."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme
from ansible_collections.locki.vaettir.plugins.module_utils import _http, _probe

from tests.rig.shell import ROOT, wait_for

HOST = "probe.example"


def probe(url: str, contexts: dict[str, ssl.SSLContext] | None = None, **given: Any) -> dict[str, Any]:
    """What the module returns. Making contexts takes longer than a probe: whoever makes many passes them."""
    options = {"address": "127.0.0.1", **given}
    if contexts is None:
        return _probe.ask(url, **options)
    return _probe.probe(_probe.parameters(options), _http.parse_url(url), contexts)


class Files(NamedTuple):
    """PEM files; `certificate` is for HOST and its neighbours."""

    ca: str
    certificate: str
    key: str


def write_pair(folder: Path, name: str, leaf: trustme.LeafCert) -> tuple[str, str]:
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    certificate.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
    leaf.private_key_pem.write_to_path(key)
    return str(certificate), str(key)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA(organization_name="probe tests")


@pytest.fixture(scope="session")
def files(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Files:
    folder = tmp_path_factory.mktemp("certificates")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    leaf = authority.issue_cert(HOST, "*.probe.example", "127.0.0.1", common_name=HOST)
    return Files(str(folder / "ca.pem"), *write_pair(folder, "server", leaf))


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


def is_open(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def process(module: str, *arguments: str, port: int) -> Iterator[int]:
    """`python -m MODULE …` until the end of the block, with its port open."""
    command = [sys.executable, "-m", module, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".collections")}
    with subprocess.Popen(command, cwd=ROOT, env=environment) as running:
        try:

            def ready() -> bool:
                assert running.poll() is None, f"{' '.join(command)} ended"
                return is_open(port)

            wait_for(module, ready, 30, 0.05)
            yield port
        finally:
            running.kill()


@pytest.fixture(scope="session")
def server(files: Files) -> Iterator[Callable[..., int]]:
    """Starts one of `servers` once, with TLS or without; its port."""
    started: dict[tuple[str, bool], int] = {}
    running: list[Any] = []

    def start(name: str, secure: bool) -> int:
        if (name, secure) not in started:
            port = free_port()
            more = (files.certificate, files.key) if secure else ()
            running.append(process("tests.probe.servers", name, str(port), *more, port=port))
            started[name, secure] = running[-1].__enter__()
        return started[name, secure]

    yield start
    for each in reversed(running):
        each.__exit__(None, None, None)
