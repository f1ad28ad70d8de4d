# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""A DNS server that asks another one and takes its time: `python3 slow_dns.py OTHER SECONDS`."""

from __future__ import annotations

import socket
import sys
import threading
import time


def main(other: str, seconds: float) -> None:
    server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    server.bind(("0.0.0.0", 53))

    def answer(question: bytes, whom: tuple[str, int]) -> None:
        time.sleep(seconds)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(5)
            client.sendto(question, (other, 53))
            server.sendto(client.recv(4096), whom)

    while True:
        threading.Thread(target=answer, args=server.recvfrom(4096), daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]))
