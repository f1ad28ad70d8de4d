# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Commands as a person types them on a server, kept with their real output in .rig/logs/NAME.md."""

from __future__ import annotations

from typing import Any

from .shell import STATE


class Transcript:
    def __init__(self, name: str, title: str) -> None:
        self.path = STATE / "logs" / f"{name}.md"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.write_text(f"# {title}\n", encoding="utf-8")

    def add(self, command: str, output: str) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(f"\n```\n$ {command}\n{output.strip()}\n```\n")

    def type(self, server: Any, command: str, folder: str = "~/vaettir") -> str:
        """Runs it in the folder, error output included; a failure is an error."""
        done = server.run(f"exec 2>&1; cd {folder}; {command}")
        self.add(command, done.stdout)
        assert done.rc == 0, f"{command}: exit status {done.rc}\n{done.stdout}"
        return str(done.stdout)
