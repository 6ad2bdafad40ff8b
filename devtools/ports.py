"""Ports of this machine for servers that are started here, by `make run` and by the tests."""

from __future__ import annotations

import itertools
import random
import socket
from pathlib import Path

HOST = "127.0.0.1"
FIRST, LEAST = 10_000, 2_000
RANGE = Path("/proc/sys/net/ipv4/ip_local_port_range")


def end_of_servers(told: Path = RANGE) -> int:
    """The first port that the kernel may give to a client: on Linux it says so, usually 32768.

    A port of that range may go to somebody's outgoing connection while its server is down: then the server cannot come
    back to it. Where the range begins so low that too few are left, it is not heeded.
    """
    try:
        first = int(told.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        first = 0
    return min(first, 32_768) if first >= FIRST + LEAST else 32_768


END = end_of_servers()

# Processes start at different places, so that two of them do not look at the same ports at the same time.
_start = random.SystemRandom().randrange(FIRST, END)
_candidates = itertools.cycle([*range(_start, END), *range(FIRST, _start)])


def is_free(port: int) -> bool:
    """Whether a server could listen on the port now. A port that only waits after closing is free."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
            probe.listen(1)
        except OSError:
            return False
    return True


def free_port() -> int:
    """A port that nobody listens on at this moment. One process is given each port once, before it has had all."""
    return free_ports_in_a_row(1)


def free_ports_in_a_row(count: int) -> int:
    """The first of `count` consecutive ports that nobody listens on, as `free_port`."""
    found: list[int] = []
    while len(found) < count:
        port = next(_candidates)
        in_a_row = not found or port == found[-1] + 1
        found = [*found, port] if is_free(port) and in_a_row else []
    return found[0]
