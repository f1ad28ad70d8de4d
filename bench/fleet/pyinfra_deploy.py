# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The recipe for pyinfra, which runs this file for every server. The folder of files is in $FLEET_PROJECT."""

import os
from pathlib import Path

from pyinfra.operations import files, server
from pyinfra.operations.util import any_changed

project = Path(os.environ["FLEET_PROJECT"])
folder = os.environ["FLEET_FOLDER"]

written = [
    files.template(
        name=f"Write {path.relative_to(project)}", src=str(path), dest=f"{folder}/{path.relative_to(project)}"
    )
    for path in sorted(project.rglob("*"))
    if path.is_file()
]

server.shell(
    name="Build and start what changed",
    commands=[f"cd {folder} && {os.environ['FLEET_BUILD_AND_UP']}"],
    _if=any_changed(*written),
)

server.shell(name="Ask every agent", commands=[os.environ["FLEET_ASKED"]])
