# SPDX-License-Identifier: GPL-3.0-or-later
# Copyright (c) 2026, the locki.vaettir authors
"""Runs in the tools container (its Python, standard library only): the long line, WebSockets, what processes use."""

from __future__ import annotations

import argparse
import base64
import ctypes
import fcntl
import json
import os
import select
import socket
import ssl
import struct
import subprocess
import time
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

TICKS = os.sysconf("SC_CLK_TCK")
CLONE_NEWNET = 0x40000000
TUNSETIFF, TUNSETOFFLOAD = 0x400454CA, 0x400454D0
IFF_TUN_NO_PI_VNET_HDR = 0x0001 | 0x1000 | 0x4000
OFFLOAD = 0x01 | 0x02 | 0x04  # checksums and segmentation stay undone: large packets are cheap to carry
DESTINATION = slice(10 + 16, 10 + 20)  # behind the header of IFF_VNET_HDR
DEVICE = "line0"


# --- What processes use -----------------------------------------------------------------------------------------------


def family(root: int) -> list[int]:
    """A process and all that it started."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(stat.parent.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def usage(root: int) -> dict[str, float]:
    """CPU seconds so far, and the memory of the whole family with shared pages counted once."""
    cpu, memory = 0.0, 0
    for pid in family(root):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        cpu += (int(fields[11]) + int(fields[12])) / TICKS
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                memory += int(line.split()[1]) * 1024
    return {"cpu": cpu, "memory": memory}


# --- WebSockets -------------------------------------------------------------------------------------------------------


def connect(address: str, host: str, tls: bool) -> socket.socket:
    """One open WebSocket on /ws."""
    connection = socket.create_connection((address, 443 if tls else 80), timeout=20)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls:
        connection = ssl.create_default_context(cafile="/etc/rig/ca.pem").wrap_socket(connection, server_hostname=host)
    key = base64.b64encode(os.urandom(16)).decode()
    connection.sendall(
        f"GET /ws HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
    )
    answer = b""
    while b"\r\n\r\n" not in answer:
        part = connection.recv(4096)
        if not part:
            break
        answer += part
    if b" 101 " not in answer.split(b"\r\n")[0]:
        raise SystemExit(f"no WebSocket: {answer[:300]!r}")
    return connection


def sockets(address: str, host: str, tls: bool, count: int, seconds: float, per_second: float) -> dict[str, Any]:
    """Echo round trips over many open sockets, started at a steady rate whether or not earlier ones are back."""
    with ThreadPoolExecutor(50) as pool:
        open_ones = list(pool.map(lambda _: connect(address, host, tls), range(count)))
    payload = b"x" * 64
    frame = bytes([0x82, 0x80 | len(payload)]) + b"\0\0\0\0" + payload
    size = 2 + len(payload)
    poller = select.epoll()
    by_fd = {}
    for connection in open_ones:
        connection.settimeout(None)
        poller.register(connection, select.EPOLLIN)
        by_fd[connection.fileno()] = connection
    sent: dict[int, float] = {}
    trips: list[float] = []
    started = time.perf_counter()
    number, due = 0, started
    while True:
        now = time.perf_counter()
        if now > started + seconds:
            break
        if now >= due:
            connection = open_ones[number % count]
            number, due = number + 1, due + 1 / per_second
            if connection.fileno() not in sent:
                sent[connection.fileno()] = time.perf_counter()
                connection.sendall(frame)
        # epoll knows milliseconds only: near the next start it is asked without waiting
        wait = due - time.perf_counter()
        for fd, _ in poller.poll(wait if wait > 0.0015 else 0):
            answer = by_fd[fd].recv(4096)
            if len(answer) != size:
                raise SystemExit(f"echo of {len(answer)} bytes")
            trips.append(time.perf_counter() - sent.pop(fd))
    trips.sort()
    for connection in open_ones:
        connection.close()
    return {
        "p50_ms": trips[len(trips) // 2] * 1e3,
        "p99_ms": trips[int(len(trips) * 0.99)] * 1e3,
        "messages": len(trips),
    }


def weigh(address: str, host: str, root: int, count: int) -> dict[str, float]:
    """Memory with nothing to do, and per open socket that has carried a message."""
    idle = usage(root)["memory"]
    open_ones = [connect(address, host, False) for _ in range(count)]
    for connection in open_ones:
        connection.sendall(b"\x82\x84\0\0\0\0ping")
    for connection in open_ones:
        if connection.recv(4096) != b"\x82\x04ping":
            raise SystemExit("no echo")
    full = usage(root)["memory"]
    for connection in open_ones:
        connection.close()
    return {"idle": idle, "full": full, "per_socket": (full - idle) / count}


# --- The long line ----------------------------------------------------------------------------------------------------


def device(pid: int) -> int:
    """A TUN device in the network namespace of a process."""
    libc = ctypes.CDLL(None, use_errno=True)
    with Path(f"/proc/{pid}/ns/net").open() as namespace:
        if libc.setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), "setns")
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", DEVICE.encode(), IFF_TUN_NO_PI_VNET_HDR))
    fcntl.ioctl(fd, TUNSETOFFLOAD, OFFLOAD)
    subprocess.run(["ip", "link", "set", DEVICE, "mtu", "1500", "txqueuelen", "10000", "up"], check=True)
    return fd


def line(far: int, near: dict[str, int], round_trip: float, megabits: float) -> None:
    """Carries packets between the edge's namespace (far) and the others, by their address; half a trip each way.

    Those from the edge go one after another, as a laptop's uplink takes them; 0 megabits a second: no limit.
    """
    ends = {socket.inet_aton(address): device(pid) for address, pid in near.items()}
    far_end = device(far)
    # Each in the order in which it is due.
    ups: deque[tuple[float, int, bytes]] = deque()
    downs: deque[tuple[float, int, bytes]] = deque()
    print(os.getpid(), flush=True)
    everybody = [far_end, *ends.values()]
    seconds_per_byte = 8e-6 / megabits if megabits else 0.0
    uplink_is_free = 0.0
    while True:
        first = min(way[0][0] for way in (ups, downs) if way) if ups or downs else None
        wait = None if first is None else max(first - time.monotonic(), 0)
        for fd in select.select(everybody, [], [], wait)[0]:
            due = time.monotonic() + round_trip / 2
            try:
                for _ in range(64):
                    packet = os.read(fd, 70000)
                    if packet[10] >> 4 == 4:  # IPv4; the kernel greets in IPv6 as well
                        to = far_end if fd != far_end else ends.get(packet[DESTINATION])
                        if to is None:
                            continue
                        if fd == far_end:
                            uplink_is_free = max(uplink_is_free, time.monotonic()) + len(packet) * seconds_per_byte
                            ups.append((uplink_is_free + round_trip / 2, to, packet))
                        else:
                            downs.append((due, to, packet))
            except BlockingIOError:
                pass
        now = time.monotonic()
        for way in (ups, downs):
            while way and way[0][0] <= now:
                _, to, packet = way.popleft()
                os.write(to, packet)


def route(edge: str, far: int, near: dict[str, int], long: bool) -> None:
    """Which way the packets take: over the line or the bridge."""

    def ip(pid: int, *words: str) -> None:
        subprocess.run(["nsenter", "-t", str(pid), "-n", "ip", "route", *words], check=True)

    for address, pid in near.items():
        for namespace, target, source in ((pid, edge, address), (far, address, edge)):
            if long:
                ip(namespace, "replace", f"{target}/32", "dev", DEVICE, "src", source)
            else:
                ip(namespace, "del", f"{target}/32", "dev", DEVICE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("line", "route", "sockets", "usage", "weigh"):
        commands.add_parser(name).add_argument("arguments", type=json.loads, help="JSON: this function's arguments")
    options = parser.parse_args()
    answer = globals()[options.command](**options.arguments)
    if answer is not None:
        print(json.dumps(answer))


if __name__ == "__main__":
    main()
