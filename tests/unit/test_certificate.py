# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A certificate and a key as the preflight judges them, on the control node."""

from __future__ import annotations

import pytest
import trustme
from ansible_collections.locki.vaettir.plugins.filter.stack import certificate_error
from cryptography.hazmat.primitives import serialization as pem

AUTHORITY = trustme.CA()
LEAF, OTHER = AUTHORITY.issue_cert("a.example"), AUTHORITY.issue_cert("a.example")
CHAIN = "".join(blob.bytes().decode() for blob in LEAF.cert_chain_pems) + AUTHORITY.cert_pem.bytes().decode()
KEY, OTHER_KEY = (leaf.private_key_pem.bytes().decode() for leaf in (LEAF, OTHER))
LOCKED = pem.load_pem_private_key(KEY.encode(), None).private_bytes(
    pem.Encoding.PEM, pem.PrivateFormat.PKCS8, pem.BestAvailableEncryption(b"secret")
)


def test_a_certificate_with_its_chain_and_its_key() -> None:
    assert certificate_error(CHAIN, KEY) == ""


@pytest.mark.parametrize(
    ("certificate", "key", "part"),
    [
        (CHAIN, OTHER_KEY, "mismatch"),
        (CHAIN, LOCKED.decode(), "one with a password"),  # and nobody is asked for it
        (CHAIN, CHAIN, "no PEM"),
        (CHAIN, "", "no PEM"),
        ("\udc82\x00", KEY, "no PEM"),
        ("", "", "no PEM"),
    ],
    ids=["another key", "locked", "no key", "empty", "not even text", "unreadable"],
)
def test_what_does_not_belong_together(certificate: str, key: str, part: str) -> None:
    assert part in certificate_error(certificate, key)
