"""A client that sends nothing is closed; what counts as sending is a setting."""

from __future__ import annotations

import time

import pytest
from websockets.frames import Close

from tests.acceptance.engine.peer import BINARY, PING, PONG, close, command, frame
from tests.acceptance.engine.wire import Wire, ping, pump
from tests.acceptance.limits.conftest import SERVERS, NewPeer, StartNodes, counted, end_of
from tests.acceptance.nodes import assert_no_traceback, metric
from tests.support.cluster import DaphneNode

IDLE_SECONDS = 4.0
STEP_SECONDS = 0.2  # between two signs of life
IDLE = (1001, "Connection timeout")
SIGNS = {
    "ping": command("ping"),
    "message": command("broadcast", data=1),
    "nonsense": frame(BINARY, b"nonsense"),
    "protocol ping": frame(PING, b"alive"),
    "protocol pong": frame(PONG, b"alive"),
    "silent": b"",
}
"""Peers by what they send again and again. The silent one comes last: others are closed before it, or not at all."""
PROTOCOL = {"protocol ping", "protocol pong"}


class Circle:
    """One peer of each kind on one node, all of which read everything."""

    def __init__(self, node: DaphneNode, new_peer: NewPeer, lost: set[str]) -> None:
        self.node = node
        self.lost = lost
        self.wires = {sign: Wire(new_peer(node)) for sign in SIGNS}

    def give_signs(self) -> None:
        for sign, wire in self.wires.items():
            if not wire.is_closed:
                wire.send(SIGNS[sign])

    @property
    def closed(self) -> set[str]:
        return {sign for sign, wire in self.wires.items() if wire.is_closed}


@pytest.mark.parametrize(
    ("settings", "lost", "lost_on_plain"),
    [
        ({}, {"silent", *PROTOCOL}, {"silent", *PROTOCOL}),
        ({"PING_IS_ACTIVITY": 0, "PONG_IS_ACTIVITY": 1}, {"silent", "ping"}, {"silent", "ping", *PROTOCOL}),
    ],
    ids=["by default", "the other way round"],
)
def test_the_silent_are_closed(
    settings: dict[str, int], lost: set[str], lost_on_plain: set[str], start_nodes: StartNodes, new_peer: NewPeer
) -> None:
    """1001 "Connection timeout" for those who send nothing that counts, and for nobody else, on every server; only
    those that we reach into show pings and pongs of the protocol."""
    cluster = start_nodes(*SERVERS, IDLE_TIMEOUT_SECONDS=IDLE_SECONDS, PING_INTERVAL_SECONDS=1, **settings)
    losses = (lost, lost, lost_on_plain)
    circles = [Circle(node, new_peer, each) for node, each in zip(cluster.nodes, losses, strict=True)]
    wires = [wire for circle in circles for wire in circle.wires.values()]
    last_sign = 0.0

    def are_lost() -> bool:
        nonlocal last_sign
        if time.monotonic() - last_sign >= STEP_SECONDS:
            last_sign = time.monotonic()
            for circle in circles:
                circle.give_signs()
        return all(circle.closed >= circle.lost for circle in circles)

    pump(wires, are_lost, "closing the silent", 4 * IDLE_SECONDS)
    for circle in circles:
        assert circle.closed == circle.lost
        for sign in set(SIGNS) - circle.lost:
            ping(circle.wires[sign], wires)
        assert counted(circle.node, "realtime_connections_evicted_total", reason="idle") == len(circle.lost)
        assert metric(circle.node, "websocket_connected_clients") == len(SIGNS) - len(circle.lost)
    gone = [wire for wire in wires if wire.is_closed]
    for wire in gone:
        closed = Close.parse(bytes(wire.frames[-1].data))
        assert (closed.code, closed.reason) == IDLE
        wire.send(close(1001))
    pump(gone, lambda: all(wire.has_ended for wire in gone), "the end")
    for wire in gone:
        wire.socket.close()
    rows = [wire.peer.id for wire in gone]
    cluster.nodes[0].wait_until(lambda: all(end_of(cluster, row) == IDLE for row in rows), "done with the rows")
    assert_no_traceback(cluster)


def test_the_welcome_says_for_how_long_a_client_may_be_silent(start_nodes: StartNodes, new_peer: NewPeer) -> None:
    """So that clients can send a ping in time."""
    (node,) = start_nodes("daphne", IDLE_TIMEOUT_SECONDS=17).nodes
    assert new_peer(node).welcome["limits"]["idle_timeout_seconds"] == 17
