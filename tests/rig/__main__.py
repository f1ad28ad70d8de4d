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
    command = commands.add_parser("images", help="build every image whose inputs changed")
    command.add_argument("tags", nargs="*", metavar="TAG")
    command.add_argument("--force", action="store_true", help="build even if nothing changed")
    command = commands.add_parser("ca", help="the CA of the run and its certificates, in .rig/ca")
    command = commands.add_parser("outside-up", help="the world outside: DNS, ngrok edge, apps")
    command.add_argument("name")
    command = commands.add_parser("pebble-up", help="the certificate authority of an outside world")
    command.add_argument("outside")
    command = commands.add_parser("server-up", help="a systemd server with its own Docker")
    command.add_argument("name")
    command.add_argument("--dns", required=True, metavar="IP", help="address of the outside container")
    command.add_argument("-p", "--publish", action="append", default=[], metavar="IP:PORT:PORT")
    command.add_argument("--bare", action="store_true", help="a server without Docker")
    command = commands.add_parser("down", help="remove containers and their volumes")
    command.add_argument("names", nargs="+")
    command = commands.add_parser("load", help="hand images of this machine to servers")
    command.add_argument("servers", help="one, or several with commas")
    command.add_argument("images", nargs="+", metavar="IMAGE")
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

        return images.build_all(options.tags, options.force)
    if options.command == "ca":
        from . import ca

        return ca.ensure()
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

    if options.command == "outside-up":
        return servers.outside_up(options.name)
    if options.command == "server-up":
        return servers.server_up(options.name, options.dns, options.publish, options.bare)
    if options.command == "down":
        return servers.down(options.names)
    if options.command == "load":
        return servers.load(options.servers.split(","), options.images)
    return servers.clean()


if __name__ == "__main__":
    try:
        result = main()
    except RigError as error:
        sys.exit(f"error: {error}")
    if result is not None:
        print(json.dumps(result))
