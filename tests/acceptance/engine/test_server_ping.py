"""The server's own pings, outstanding and late: they change nothing for who answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.acceptance.engine.conftest import APPLICATION, NewPeer
from tests.acceptance.engine.peer import CONTINUATION, PING, PONG, TEXT, frame, text
from tests.acceptance.nodes import use_application
from tests.support.cluster import Cluster, DaphneNode
from tests.support.servers import RedisServer

PING_TIMEOUT_SECONDS = 5


@pytest.fixture(scope="module")
def pinging(redis_server: RedisServer) -> Iterator[DaphneNode]:
    """A node that pings each connection at every look that the server takes, about every two seconds."""
    environment = {"REALTIME_PING_INTERVAL_SECONDS": "0.1", "REALTIME_PING_TIMEOUT_SECONDS": str(PING_TIMEOUT_SECONDS)}
    with use_application(Cluster(redis_server.url, nodes=1, environment=environment), APPLICATION) as cluster:
        yield cluster.nodes[0]


@pytest.mark.parametrize("answers", [True, False])
def test_messages_while_a_ping_is_outstanding(pinging: DaphneNode, new_peer: NewPeer, answers: bool) -> None:
    """Whole messages, pieces of them, and the late pong in the middle: each is answered once, in order."""
    peer = new_peer(pinging, "/echo/direct/")
    ping = peer.payload(PING)
    pong = frame(PONG, ping) if answers else frame(PONG, b"something else")
    whole = text("3")
    peer.send(text("1"), text("2"), whole[:4])
    peer.send(whole[4:], pong, text("4"), frame(TEXT, b"5", fin=False))
    peer.send(frame(PING, b"mine"), frame(CONTINUATION, b"5"), text("6"))
    came = [peer.frame() for _ in range(7)]
    assert [bytes(each.data) for each in came if each.opcode == TEXT] == [b"1", b"2", b"3", b"4", b"55", b"6"]
    assert [bytes(each.data) for each in came if each.opcode == PONG] == [b"mine"]
    assert came[-1].data == b"6"


def test_who_answers_late_stays(pinging: DaphneNode, new_peer: NewPeer) -> None:
    """A pong that comes within the timeout is in time, although the next ping was due meanwhile; who never answers is
    dropped after the timeout."""
    clock, late, dead = new_peer(pinging), new_peer(pinging), new_peer(pinging)
    first = late.payload(PING)
    for look in range(4):  # the last is beyond the timeout of the first ping
        clock.send(frame(PONG, clock.payload(PING)))
        if look == 2:
            late.send(frame(PONG, first))
    late.do("ping")
    assert [came.opcode for came in dead.rest()] == [PING]
