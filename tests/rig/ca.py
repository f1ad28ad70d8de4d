# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The run's own CA, the certificates that the edge and the servers show, and the ssh key of the deploy user."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from .shell import STATE, only_one, run, say

if TYPE_CHECKING:
    import trustme

FOLDER = STATE / "ca"
AUTHORITY_KEY = FOLDER / "ca.key"
SSH_KEY = STATE / "ssh" / "id_ed25519"
EDGE_NAMES = ("edge.test", "*.ngrok-free.app", "*.ngrok-free.dev", "*.ngrok.app")
PUBLIC_NAMES = ("*.vaettir.localhost", "*.vaettir.example", "*.one.example")
VALID = datetime.timedelta(days=365)
RENEW_BEFORE = datetime.timedelta(days=30)


def ensure() -> dict[str, str]:
    """Makes what is missing or near its end; returns the paths."""
    with only_one("ca"):
        return _ensure()


def _ensure() -> dict[str, str]:
    import trustme  # here, so that the rest of the rig needs nothing installed

    now = datetime.datetime.now(datetime.UTC)
    wanted = {  # file name: names, end
        "edge": (EDGE_NAMES, now + VALID),
        "public": (PUBLIC_NAMES, now + VALID),
        "wrong-name": (("wrong-name.test",), now + VALID),
        "expired": (EDGE_NAMES, now - datetime.timedelta(days=1)),
    }
    good = all(_good(FOLDER / f"{name}.pem", *certificate) for name, certificate in wanted.items())
    if not good or not AUTHORITY_KEY.exists():
        say("making the CA of the run and its certificates (.rig/ca)")
        authority = trustme.CA(organization_name="locki.vaettir test rig")
        _write(FOLDER / "ca.pem", authority.cert_pem.bytes(), 0o644)
        _write(AUTHORITY_KEY, authority.private_key_pem.bytes())
        for name, (names, end) in wanted.items():
            leaf = authority.issue_cert(*names, common_name=names[0], not_before=end - 2 * VALID, not_after=end)
            _write(FOLDER / f"{name}.key", leaf.private_key_pem.bytes())
            _write(FOLDER / f"{name}.pem", b"".join(blob.bytes() for blob in leaf.cert_chain_pems), 0o644)
    if not SSH_KEY.exists():
        SSH_KEY.parent.mkdir(parents=True, exist_ok=True)
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "locki.vaettir test rig", "-f", SSH_KEY])
    paths = {path.name: path for path in sorted(FOLDER.iterdir())}
    return {name: str(path) for name, path in {**paths, "ssh": SSH_KEY}.items()}


def authority() -> trustme.CA:
    """The CA of the run, for certificates that one test alone needs."""
    import trustme

    return trustme.CA.from_pem((FOLDER / "ca.pem").read_bytes(), AUTHORITY_KEY.read_bytes())


def _good(path: Path, names: tuple[str, ...], end: datetime.datetime) -> bool:
    """Whether a certificate is there for exactly these names, and ends about when it should."""
    from cryptography import x509

    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except OSError:
        return False
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    near = end - certificate.not_valid_after_utc < VALID - RENEW_BEFORE
    return near and set(found.get_values_for_type(x509.DNSName)) == set(names)


def _write(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Never readable by others for a moment, never half written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    part.unlink(missing_ok=True)
    part.touch(mode=mode)
    part.write_bytes(data)
    part.replace(path)
