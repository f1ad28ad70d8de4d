# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The run's own CA, the certificates that the edge and the servers show, and the ssh key of the deploy user."""

from __future__ import annotations

import datetime
from pathlib import Path

import trustme
from cryptography import x509

from .shell import STATE, run, say

FOLDER = STATE / "ca"
SSH_KEY = STATE / "ssh" / "id_ed25519"
EDGE_NAMES = ("edge.test", "*.ngrok-free.app", "*.ngrok-free.dev", "*.ngrok.app")
PUBLIC_NAMES = ("*.vaettir.localhost", "*.vaettir.example", "*.one.example")
VALID = datetime.timedelta(days=365)
RENEW_BEFORE = datetime.timedelta(days=30)


def ensure() -> dict[str, str]:
    """Makes what is missing or near its end; returns the paths."""
    files = {name: FOLDER / name for name in ("ca.pem", "ca.key", "edge.pem", "public.pem", "public.key")}
    if not (_good(files["edge.pem"], EDGE_NAMES) and _good(files["public.pem"], PUBLIC_NAMES)):
        say("making the CA of the run and its certificates (.rig/ca)")
        authority = trustme.CA(organization_name="locki.vaettir test rig")
        end = datetime.datetime.now(datetime.timezone.utc) + VALID
        edge = authority.issue_cert(*EDGE_NAMES, common_name=EDGE_NAMES[0], not_after=end)
        public = authority.issue_cert(*PUBLIC_NAMES, common_name=PUBLIC_NAMES[0], not_after=end)
        _write(files["ca.pem"], authority.cert_pem.bytes(), 0o644)
        _write(files["ca.key"], authority.private_key_pem.bytes())
        _write(files["public.key"], public.private_key_pem.bytes())
        _write(files["public.pem"], b"".join(blob.bytes() for blob in public.cert_chain_pems), 0o644)
        _write(files["edge.pem"], edge.private_key_and_cert_chain_pem.bytes())
    if not SSH_KEY.exists():
        SSH_KEY.parent.mkdir(parents=True, exist_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "locki.vaettir test rig", "-f", SSH_KEY])
    return {name: str(path) for name, path in {**files, "ssh": SSH_KEY}.items()}


def _good(path: Path, names: tuple[str, ...]) -> bool:
    """Whether a certificate is there for exactly these names and lives for a while yet."""
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except OSError:
        return False
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    left = certificate.not_valid_after_utc - datetime.datetime.now(datetime.timezone.utc)
    return left > RENEW_BEFORE and set(found.get_values_for_type(x509.DNSName)) == set(names)


def _write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Never readable by others for a moment, never half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    part.touch(mode=mode)
    part.write_bytes(data)
    part.replace(path)
