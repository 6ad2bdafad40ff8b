"""Frames that carry nothing, by the hundred thousand: continuations, single bytes, pings and pongs. (Attack 6.)"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from websockets.frames import Close, Opcode

from tests.acceptance.abuse.attacker import Target
from tests.acceptance.abuse.conftest import ON_BOTH
from tests.acceptance.abuse.siege import Siege
from tests.acceptance.engine.peer import CONTINUATION, PING, PONG, TEXT, Peer, frame
from tests.acceptance.nodes import metric

POLICY = (1008, "Policy violation")
MASK = bytes(4)
BEGUN = frame(TEXT, b"", fin=False, mask=MASK)
EMPTY = frame(CONTINUATION, b"", fin=False, mask=MASK)
LAST = frame(CONTINUATION, b"", mask=MASK)
ONE_BYTE = frame(CONTINUATION, b" ", fin=False, mask=MASK)
FLOODS = {
    "1,000,000 empty continuations": (BEGUN, EMPTY * 1_000, 1_000),
    "the same between pings": (BEGUN, (EMPTY * 9 + frame(PING, b"", mask=MASK)) * 100, 1_000),
    "fragments of one byte": (BEGUN, ONE_BYTE * 1_000, 100),
    "whole messages in empty frames": (b"", (BEGUN + EMPTY * 900 + LAST), 200),
    "100,000 pings": (b"", frame(PING, b"x", mask=MASK) * 1_000, 100),
    "100,000 pongs": (b"", frame(PONG, b"", mask=MASK) * 1_000, 100),
    "100,000 empty messages": (b"", frame(TEXT, b"", mask=MASK) * 1_000, 100),
}
PONGS_MAX = 2_000
"""The burst of 100, and what a server has parsed already when it is used up."""
sources: Iterator[str] = (f"127.7.{number // 250}.{number % 250 + 1}" for number in itertools.count())


def floods(target: Target) -> dict[str, int]:
    """Each flood on a connection of its own, until it is told to go; how many pings were answered."""
    answered = {}
    names = list(FLOODS)
    for number in target.paced(len(names)):
        begin, piece, count = FLOODS[names[number]]
        peer = target.connect(source=next(sources))
        push(peer, begin, piece, count)
        answered[names[number]] = until_closed(peer)
        peer.socket.close()
    assert max(answered.values()) < PONGS_MAX, answered
    return answered


def push(peer: Peer, begin: bytes, piece: bytes, count: int) -> None:
    """Send all of it, whether anybody listens or not; it may be cut off."""
    try:
        peer.socket.sendall(begin)
        for _ in range(count):
            peer.socket.sendall(piece)
    except ConnectionError:
        pass


def until_closed(peer: Peer) -> int:
    """Read up to the close frame, which says why; the pongs before it."""
    pongs = 0
    while True:
        came = peer.frame()
        if came.opcode is Opcode.CLOSE:
            closed = Close.parse(bytes(came.data))
            assert (int(closed.code), closed.reason) == POLICY
            return pongs
        pongs += came.opcode is Opcode.PONG


@ON_BOTH
def test_floods_of_frames(siege: Siege) -> None:
    """Attack 6: 1008 for each after some hundred frames; what follows is not parsed, and pings are not answered."""
    node = siege.cluster.nodes[0]
    before = metric(node, "realtime_connections_evicted_total")
    outcome = siege.withstand(
        floods,
        metric='realtime_connections_evicted_total{reason="fragments"}',
        log=r"limit_reached .*limit=(fragments|control_frames)",
        seconds=4.0,
    )
    floods_seen = len(outcome.rounds) * len(FLOODS)
    assert metric(node, "realtime_connections_evicted_total") - before == floods_seen
