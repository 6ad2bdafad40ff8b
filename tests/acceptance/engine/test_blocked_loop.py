"""A node whose loop stood still goes on where it was: nothing is lost, doubled or out of order."""

from __future__ import annotations

from tests.acceptance.engine.conftest import NewWire
from tests.acceptance.engine.peer import command
from tests.acceptance.engine.wire import Wire, pump, pump_for
from tests.acceptance.nodes import assert_no_traceback
from tests.conftest import StartCluster

BLOCKED_SECONDS = 2.0
SENDERS = 4
EACH = 5_000
WITHIN_SECONDS = 40.0


def test_a_node_that_stood_still(start_cluster: StartCluster, new_wire: NewWire) -> None:
    """One of two nodes is stopped for two seconds under traffic, twice: members on both get each sender's messages once
    and in order, all in one sequence; everything is acknowledged, nobody is told to have missed something."""
    cluster = start_cluster(nodes=2)
    blocked, other = cluster.nodes
    senders = [new_wire(node, "room") for node in [blocked, blocked, other, other]]
    observers = [new_wire(node, "room") for node in [blocked, other]]
    everyone = [*senders, *observers]
    sent = 0

    def go_on(until: int) -> None:
        nonlocal sent
        for wire in senders:
            wire.send(*(command("room", room="room", data=number, ref=number) for number in range(sent, until)))
        sent = until

    def received(wire: Wire) -> int:
        return len(wire.texts)

    def half_came() -> bool:
        return received(observers[0]) > sent // 2

    for stop in (1, 2):
        go_on(until := stop * EACH // 3)
        pump(everyone, half_came, "some messages", WITHIN_SECONDS)
        blocked.pause()
        go_on(until + EACH // 6)
        pump_for(everyone, BLOCKED_SECONDS)
        blocked.resume()
    go_on(EACH)
    total = SENDERS * EACH
    pump(everyone, lambda: all(received(wire) >= total for wire in everyone), "everything", WITHIN_SECONDS)

    common = [(each["from"], each["data"]) for each in observers[0].messages("room")]
    assert len(common) == total
    assert [(each["from"], each["data"]) for each in observers[1].messages("room")] == common
    for wire in senders:
        own = wire.peer.id
        assert [number for sender, number in common if sender == own] == list(range(EACH))
        others = [(each["from"], each["data"]) for each in wire.messages("room")]
        assert others == [(sender, number) for sender, number in common if sender != own]
        assert sorted(each["ref"] for each in wire.messages("ack")) == list(range(EACH))
    for wire in everyone:
        wire.assert_whole()
        assert wire.messages("missed", "error") == []
    assert_no_traceback(cluster)
