# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The death of a process, for tests in the same process."""

from __future__ import annotations

import signal


class Killed(BaseException):
    """SIGKILL: nothing of the process runs any more."""


def quiet() -> None:
    """Its alarm is gone with it."""
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
