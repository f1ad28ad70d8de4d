# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path
from typing import Any


def certificate_error(certificate: str | None, key: str | None) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")  # short keys are not what is asked
    # Its owner's alone (0700): the ssl module reads files only, and the key may come out of a vault.
    with tempfile.TemporaryDirectory() as folder:
        paths = Path(folder, "certificate"), Path(folder, "key")
        for path, text in zip(paths, (certificate, key), strict=True):
            path.write_text(text or "", encoding="utf-8", errors="replace")
        try:
            context.load_cert_chain(paths[0], paths[1], password=lambda: "")  # else it would ask the terminal
        except ssl.SSLError as error:
            return (error.reason or "").lower().replace("_", " ") or "no PEM, or one with a password"
    return ""


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {"certificate_error": certificate_error}
