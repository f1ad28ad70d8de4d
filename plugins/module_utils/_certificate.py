# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""What a certificate says of itself (RFC 5280), which ssl tells only of a trusted one; and which ones are trusted."""

from __future__ import annotations

import ipaddress
import re
import ssl
from typing import Any, Iterator

_INTEGER, _SEQUENCE, _SET, _UTC_TIME, _GENERALIZED_TIME = 0x02, 0x30, 0x31, 0x17, 0x18
_VERSION, _EXTENSIONS = 0xA0, 0xA3  # context-specific tags of TBSCertificate
_DNS_NAME, _IP_ADDRESS = 0x82, 0x87  # of GeneralName
_COMMON_NAME, _ORGANIZATION, _SUBJECT_ALT_NAME = b"\x55\x04\x03", b"\x55\x04\x0a", b"\x55\x1d\x11"
_BMP_STRING = 0x1E
_TIME = re.compile(rb"([0-9]{2}|[0-9]{4})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})Z")
NAMES_LIMIT = 100  # more say nothing new


def trusting(ca_path: str) -> ssl.SSLContext:
    """As curl does: the system's authorities, or what is in this file, which need not lead to a root."""
    context = ssl.create_default_context(cafile=ca_path or None)
    if hasattr(ssl, "VERIFY_X509_STRICT"):  # Python 3.13 sets it; neither browsers nor curl ask for it
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    if ca_path:
        context.verify_flags |= getattr(ssl, "VERIFY_X509_PARTIAL_CHAIN", 0x80000)  # known since Python 3.10
    return context


def _values(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each DER value in a row; ValueError where there is none."""
    index = 0
    while index < len(data):
        if index + 2 > len(data):
            raise ValueError("a value without a length")
        tag, size, index = data[index], data[index + 1], index + 2
        if size & 0x80:
            count = size & 0x7F
            if not 1 <= count <= 4 or index + count > len(data):
                raise ValueError("a length of too many bytes")
            size, index = int.from_bytes(data[index : index + count], "big"), index + count
        if index + size > len(data):
            raise ValueError("a value that is longer than all there is")
        yield tag, data[index : index + size]
        index += size


def _one(data: bytes, tag: int) -> bytes:
    found = next(_values(data), (0, b""))
    if found[0] != tag:
        raise ValueError(f"tag {found[0]} instead of {tag}")
    return found[1]


def _name(data: bytes) -> str:
    """The Common Name, or the organization of one without."""
    found: dict[bytes, str] = {}
    for tag, group in _values(data):
        for _tag, pair in _values(group) if tag == _SET else ():
            values = list(_values(pair))
            if len(values) == 2:
                kind, text = values[1]
                found.setdefault(values[0][1], text.decode("utf-16-be" if kind == _BMP_STRING else "utf-8", "replace"))
    return found.get(_COMMON_NAME) or found.get(_ORGANIZATION) or ""


def _time(tag: int, text: bytes) -> str:
    match = _TIME.fullmatch(text)
    if not match or tag not in (_UTC_TIME, _GENERALIZED_TIME):
        raise ValueError("no time")
    year, month, day, hour, minute, second = (part.decode("ascii") for part in match.groups())
    if len(year) == 2:  # RFC 5280, section 4.1.2.5.1
        year = ("20" if int(year) < 50 else "19") + year
    return f"{year}-{month}-{day}T{hour}:{minute}:{second}Z"


def _subject_names(extensions: bytes) -> list[str]:
    names = []
    for _tag, extension in _values(_one(extensions, _SEQUENCE)):
        parts = list(_values(extension))
        if len(parts) < 2 or parts[0][1] != _SUBJECT_ALT_NAME:
            continue
        for tag, value in _values(_one(parts[-1][1], _SEQUENCE)):
            if tag == _DNS_NAME:
                names.append(value.decode("ascii", "replace"))
            elif tag == _IP_ADDRESS and len(value) in (4, 16):
                names.append(str(ipaddress.ip_address(value)))
    return names[:NAMES_LIMIT]


def facts(der: bytes) -> dict[str, Any]:
    """Issuer, subject, names and times; ValueError for what is no certificate."""
    rest = list(_values(_one(_one(der, _SEQUENCE), _SEQUENCE)))
    if rest and rest[0][0] == _VERSION:
        rest = rest[1:]
    if len(rest) < 6 or rest[0][0] != _INTEGER:
        raise ValueError("no certificate")
    times = list(_values(rest[3][1]))
    if len(times) != 2:
        raise ValueError("no time of validity")
    extensions = next((content for tag, content in rest[6:] if tag == _EXTENSIONS), b"")
    return {
        "issuer": _name(rest[2][1]),
        "subject": _name(rest[4][1]),
        "names": _subject_names(extensions) if extensions else [],
        "not_before": _time(*times[0]),
        "not_after": _time(*times[1]),
    }
