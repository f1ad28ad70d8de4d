# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors

from __future__ import annotations

import socket
from functools import cache
from typing import Any

from ansible_collections.locki.vaettir.plugins.module_utils import _diagnosis, _foreseen


@cache
def addresses(host: str) -> list[str]:
    """As the control node resolves it. Names below localhost are its own (RFC 6761), whatever its resolver says."""
    if host == "localhost" or host.endswith(".localhost"):
        return ["127.0.0.1"]
    try:
        answers = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return list(dict.fromkeys(str(answer[4][0]) for answer in answers))


class FilterModule:
    def filters(self) -> dict[str, Any]:
        return {
            "addresses": addresses,
            "diagnosis_lines": _diagnosis.lines,
            "foreseen": _foreseen.foreseen,
        }
