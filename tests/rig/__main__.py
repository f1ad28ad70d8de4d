# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""`python -m tests.rig COMMAND`: progress on stderr, results as JSON on stdout."""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

from . import machine
from .shell import RigError


def main() -> Any:
    """Parses the command line and calls one function; imports late: `machine` runs with nothing installed."""
    parser = argparse.ArgumentParser(prog="python -m tests.rig", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    command = commands.add_parser("machine", help="Debian packages, Docker, .venv, the collection link")
    command.add_argument("--also", nargs="*", default=[], metavar="PACKAGE", help="further Debian packages")
    commands.add_parser("images", help="build every image whose inputs changed")
    command = commands.add_parser("pebble-up", help="the certificate authority of an outside world")
    command.add_argument("outside")
    command = commands.add_parser(
        "scenario-up", help="all containers of a Molecule scenario; platforms as JSON on stdin"
    )
    command.add_argument("name")
    commands.add_parser("scenario-load", help="images for its servers; platforms as JSON on stdin")
    command = commands.add_parser("scenario-down", help="remove them; platforms as JSON on stdin")
    command.add_argument("name")
    commands.add_parser("clean", help="remove every container, image and process of ours, and .rig")

    options = parser.parse_args()
    if options.command == "machine":
        return machine.setup(options.also)
    if options.command == "images":
        from . import images

        return images.build_all()
    if options.command == "pebble-up":
        from . import pebble

        return pebble.Pebble(options.outside).up()
    if options.command.startswith("scenario-"):
        from . import scenario

        platforms = json.load(sys.stdin)
        if options.command == "scenario-up":
            return scenario.up(options.name, platforms)
        if options.command == "scenario-load":
            return scenario.load(platforms)
        return scenario.down(options.name, platforms)
    from . import servers

    return servers.clean()


if __name__ == "__main__":
    try:
        result = main()
    except RigError as error:
        sys.exit(f"error: {error}")
    if result is not None:
        print(json.dumps(result))
