# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Files of the control node that a deploy hands on: whether they are what their variable says."""

from __future__ import annotations

import os
import ssl
import stat

from ansible_collections.locki.vaettir.plugins.module_utils import _names

LARGEST = 4 << 20  # bytes; all authorities of a browser take a tenth


def _content(path: str) -> bytes:
    """Nothing for what is no regular file; and what the kernel makes up, such as /proc/self/environ, has no size."""
    try:
        found = os.stat(path)
        if not stat.S_ISREG(found.st_mode) or not found.st_size:
            return b""
        with open(path, "rb") as file:
            return file.read(LARGEST + 1)
    except (OSError, ValueError):
        return b""


def _certificates(path: str) -> int:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    try:
        context.load_verify_locations(cafile=path)
    except ssl.SSLError:
        return 0
    return context.cert_store_stats()["x509"]


def _no_page(content: bytes) -> bool:
    """Anybody reads it, so that it should not be some other file."""
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError:
        return True
    return "\0" in text or "<" not in text


def _sentence(variable: str, path: str, wrong: str, what: str) -> str:
    return f"{variable} '{_names.masked(path)}' {wrong}: set it to the path of {what}." if wrong else ""


def file_error(variable: str, path: str, what: str = "a PEM file") -> str:
    content = _content(path)
    large = f"is larger than {LARGEST >> 20} MiB" if len(content) > LARGEST else ""
    return _sentence(variable, path, large if content else "is not a file on the control node", what)


def authority_error(variable: str, path: str) -> str:
    """Of a PEM file that is copied to where anybody may read it."""
    what = "a PEM file with certificates only"
    key = "holds a private key" if b"PRIVATE KEY-----" in _content(path) else ""
    return file_error(variable, path, what) or _sentence(
        variable, path, key if _certificates(path) else "holds no certificate", what
    )


def page_error(variable: str, path: str) -> str:
    what = "a page or template in UTF-8"
    wrong = "is not HTML" if _no_page(_content(path)) else ""
    return file_error(variable, path, what) or _sentence(variable, path, wrong, what)
