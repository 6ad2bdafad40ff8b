"""Requests that never end: a line of the head now and then, silence, single bytes, bodies that trickle. (Attack 3.)"""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.acceptance.abuse.attacker import Target
from tests.acceptance.abuse.conftest import start
from tests.acceptance.abuse.siege import Siege
from tests.acceptance.limits.conftest import counted
from tests.acceptance.nodes import assert_no_traceback
from tests.conftest import CLUSTERS
from tests.support.cluster import DaphneNode
from tests.support.servers import RedisServer

HANDSHAKE_SECONDS, BODY_SECONDS = 2.0, 2.5
CUT_WITHIN_SECONDS = 20.0  # on a machine that is busy with something else
EVERY_SECONDS = 0.9
SOCKETS = 500
HEAD = b"GET /ws/ HTTP/1.1\r\nHost: localhost\r\n"
POST = (
    b"POST /socket.io/?EIO=4&transport=polling&sid=nobody HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n"
)
KINDS = (
    (HEAD, b"X-More: 1\r\n"),  # a line of the head now and then
    (HEAD + b"X-Long: ", b"x"),  # one header, a byte at a time
    (b"", b""),  # silence
    (POST, b"x"),  # a body, a byte at a time
)
LARGE = (
    HEAD + b"X-Filler: 0123456789\r\n" * 5_000,
    HEAD + b"X-Filler: " + b"x" * 100_000,
    POST.replace(b"100000", b"1000000000"),
    POST.replace(b"Content-Length: 100000", b"Transfer-Encoding: chunked")
    + (b"10000\r\n" + b"x" * 65_536 + b"\r\n") * 4,
)


@pytest.fixture(scope="module", params=["daphne", "uvicorn"])
def impatient(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[Siege]:
    """A node that waits shorter than others."""
    limits: dict[str, Any] = {"BODY_SECONDS": BODY_SECONDS, "BODY_MAX_BYTES": 200_000}
    limits["HANDSHAKE_SECONDS"] = HANDSHAKE_SECONDS
    siege = start(redis_server, request.config.option.seed, servers=(request.param,), **limits)
    yield siege
    siege.cluster.stop()


@pytest.fixture(autouse=True)
def _show_its_log(impatient: Siege, request: pytest.FixtureRequest) -> None:
    request.node.stash.setdefault(CLUSTERS, []).append(impatient.cluster)


@dataclass(eq=False)
class Slow:
    """A client that sends next to nothing."""

    socket: socket.socket
    piece: bytes
    opened_at: float
    due: float

    def has_ended(self) -> bool:
        """Whether the node has ended this connection; else it gets its next piece."""
        try:
            while select.select([self.socket], [], [], 0)[0]:
                if not self.socket.recv(4_096):
                    return True
            self.socket.send(self.piece)
        except OSError:
            return True
        self.due += EVERY_SECONDS
        return False


def opened(target: Target) -> socket.socket:
    """A TCP connection, and nothing more."""
    return socket.create_connection(("127.0.0.1", target.port), timeout=10, source_address=(target.source, 0))


def trickle(target: Target) -> dict[str, float]:
    """500 sockets that send next to nothing until each is cut; the shortest and the longest time that one lasted."""
    begun = time.monotonic()
    alive: list[Slow] = []
    lasted: list[float] = []
    count = 0
    while count < SOCKETS or alive:
        now = time.monotonic()
        assert now - begun < CUT_WITHIN_SECONDS, f"{len(alive)} are still there"
        while count < min(SOCKETS, SOCKETS * (now - begun) / target.seconds):
            beginning, piece = KINDS[count % len(KINDS)]
            plain = opened(target)
            plain.setblocking(False)
            plain.send(beginning)
            alive.append(Slow(plain, piece, now, now + EVERY_SECONDS))
            count += 1
        for each in [slow for slow in alive if slow.due <= now and slow.has_ended()]:
            alive.remove(each)
            each.socket.close()
            lasted.append(now - each.opened_at)
        time.sleep(0.02)
    return {"shortest": round(min(lasted), 2), "longest": round(max(lasted), 2)}


def status_of(port: int, request: bytes) -> int | None:
    """The status of the answer; None where the connection was cut before there was one."""
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as plain:
        try:
            plain.sendall(request)
            while data := plain.recv(65_536):
                answer += data
        except ConnectionError:
            pass  # cut while it was still sending
    return int(answer.split()[1]) if answer else None


def cut(node: DaphneNode, reason: str) -> float:
    """How many requests were cut for this reason."""
    return counted(node, "realtime_requests_cut_total", reason=reason)


def test_slow_requests(impatient: Siege) -> None:
    """Attack 3: every one of them is cut when its time is over, whatever it goes on sending; not before."""
    node = impatient.cluster.nodes[0]
    before = cut(node, "late_head"), cut(node, "late_body")
    outcome = impatient.withstand(
        trickle,
        metric='realtime_requests_cut_total{reason="late_head"}',
        log=r"limit_reached .*limit=late_head",
        seconds=3.0,
    )
    assert all(told["shortest"] >= HANDSHAKE_SECONDS * 0.9 for told in outcome.told), outcome.told
    late = cut(node, "late_head") - before[0], cut(node, "late_body") - before[1]
    assert late == (len(outcome.rounds) * SOCKETS * 3 / 4, len(outcome.rounds) * SOCKETS / 4)


def test_large_requests(impatient: Siege) -> None:
    """A head beyond its size is refused with 400, a body with 413 by what its head says; each is cut at once."""
    node = impatient.cluster.nodes[0]
    statuses = [status_of(node.port, request) for request in LARGE]
    assert set(statuses[:2]) <= {400, None}
    assert statuses[2] == 413
    assert statuses[3] in (413, None)
    assert (cut(node, "large_head"), cut(node, "large_body")) == (2, 2)
    assert re.search(r"limit_reached .*limit=large_head", node.log)
    assert re.search(r"limit_reached .*limit=large_body", node.log)
    assert_no_traceback(impatient.cluster)
