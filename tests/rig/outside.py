# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""The world outside the servers, as one process tree: DNS, the ngrok edge, and the apps behind it."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import dns
from .apps import echo
from .edge import Edge

APPS = Path(__file__).parent / "apps"


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="outside", description=__doc__)
    parser.add_argument("--address", default="0.0.0.0", help="where everything listens")
    parser.add_argument("--https-port", type=int, default=443)
    parser.add_argument("--http-port", type=int, default=80)
    parser.add_argument("--control-port", type=int, default=4040)
    parser.add_argument("--echo-port", type=int, default=9000, help="the echo app, reachable from outside too")
    parser.add_argument("--streamlit-port", type=int, default=8501)
    parser.add_argument("--cert", type=Path, default=Path("/etc/rig/edge.pem"), help="full chain of the edge")
    parser.add_argument("--key", type=Path, default=Path("/etc/rig/edge.key"))
    for fault in ("wrong-name", "expired-certificate"):
        text = f"what the fault {fault.replace('-', '_')} shows"
        parser.add_argument(f"--{fault}", type=Path, nargs=2, metavar=("CERT", "KEY"), help=text)
    parser.add_argument("--no-dns", action="store_true")
    parser.add_argument("--no-streamlit", action="store_true")
    parser.add_argument("--ip", help="what DNS says of the edge; default: this machine's own address")
    return parser.parse_args(argv)


async def streamlit(port: int) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "streamlit", "run", str(APPS / "ocapistaine.py")),
        *("--server.address=127.0.0.1", f"--server.port={port}", "--server.headless=true"),
        *("--server.fileWatcherType=none", "--browser.gatherUsageStats=false"),
    )


async def until_open(port: int) -> None:
    while True:
        with contextlib.suppress(OSError):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            return
        await asyncio.sleep(0.1)


async def main(argv: Sequence[str] | None = None) -> int:
    options = arguments(argv)
    streamlit_url, echo_url = (f"http://127.0.0.1:{port}" for port in (options.streamlit_port, options.echo_port))
    spare = {"wrong_name": options.wrong_name, "expired_certificate": options.expired_certificate}
    edge = Edge(
        options.cert,
        options.key,
        address=options.address,
        https_port=options.https_port,
        http_port=options.http_port,
        control_address=options.address,
        control_port=options.control_port,
        tunnels={"ocapistaine.ngrok-free.app": streamlit_url, "second.ngrok-free.app": echo_url},
        spare_certificates={fault: tuple(pair) for fault, pair in spare.items() if pair},
        dns=None if options.no_dns else dns.Dns(options.ip or socket.gethostbyname(socket.gethostname())),
    )
    stopping = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stopping.set)
    runner, _ = await echo.start(options.address, options.echo_port)
    await edge.start()
    waits: list[asyncio.Future[Any]] = [asyncio.ensure_future(stopping.wait())]
    process = None
    if not options.no_streamlit:
        process = await streamlit(options.streamlit_port)
        waits.append(asyncio.ensure_future(process.wait()))
        ready = asyncio.ensure_future(until_open(options.streamlit_port))
        await asyncio.wait([*waits, ready], return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
    edge.ready = True
    print(f"outside: control API on port {edge.control_port}", flush=True)
    await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    failed = not stopping.is_set()
    if failed:
        print("outside: the Streamlit app has ended by itself", file=sys.stderr, flush=True)
    if process and process.returncode is None:
        process.terminate()
        await process.wait()
    await edge.stop()
    await runner.cleanup()
    return int(failed)


if __name__ == "__main__":
    try:
        import uvloop  # a faster loop where it is installed

        sys.exit(uvloop.run(main()))
    except ModuleNotFoundError:
        sys.exit(asyncio.run(main()))
