# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Work in threads, for as long as somebody waits: what hangs is left behind, and named."""

from __future__ import annotations

import concurrent.futures
import threading
import time
from typing import Any, Callable, Mapping


class AtOnce:
    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.late: list[str] = []

    @property
    def left(self) -> float:
        return max(0.0, self.end - time.monotonic())

    def begin(self, name: str, work: Callable[[], Any], otherwise: Any) -> Callable[[], Any]:
        """What it returns waits for the result, and in the end does without it."""
        done: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def do() -> None:
            try:
                done.set_result(work())
            except BaseException as error:  # whoever waits hears of it
                done.set_exception(error)

        def result() -> Any:
            if concurrent.futures.wait([done], self.left).done:
                return done.result()
            self.late.append(name)
            return otherwise

        threading.Thread(target=do, daemon=True).start()
        return result


def at_once(work: Mapping[str, Callable[[], Any]], seconds: float) -> dict[str, Any]:
    """What came of each within the time."""
    group = AtOnce(seconds)
    results = {name: group.begin(name, one, None) for name, one in work.items()}
    found = {name: result() for name, result in results.items()}
    return {name: one for name, one in found.items() if name not in group.late}
