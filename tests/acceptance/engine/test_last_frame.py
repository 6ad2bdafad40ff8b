"""A connection that is closed in the middle of heavy traffic gets no frame after its close frame."""

from __future__ import annotations

import functools
import random

import pytest
from websockets.frames import Close, Opcode

from tests.acceptance.engine.conftest import NewWire
from tests.acceptance.engine.peer import BINARY, PING, close, command, frame
from tests.acceptance.engine.wire import Wire, pump, turn
from tests.conftest import StartCluster
from tests.support.cluster import DaphneNode

MEMBERS = 15
FLOOD = 200
WITHIN_SECONDS = 20.0


def assert_close_is_last(wire: Wire, *ends: tuple[int, str]) -> None:
    """Every byte belongs to a whole frame, the only close frame is the last one, and the messages have no gap."""
    wire.assert_whole()
    closes = [index for index, each in enumerate(wire.frames) if each.opcode is Opcode.CLOSE]
    assert closes == [len(wire.frames) - 1], closes
    parsed = Close.parse(wire.frames[-1].data)
    assert (parsed.code, parsed.reason) in ends
    assert [each["data"] for each in wire.messages("room")] == list(range(len(wire.texts)))


class Flood:
    """One client that fills the room with numbered messages, as fast as the members' parsers take them."""

    def __init__(self, wire: Wire, members: list[Wire]) -> None:
        self.wire = wire
        self.members = members
        self.count = 0

    def has_brought(self, wire: Wire, count: int) -> bool:
        return self.goes_on() and len(wire.texts) >= count

    def goes_on(self) -> bool:
        if all(self.count - len(each.texts) < 5 * FLOOD for each in self.members if not each.is_closed):
            numbers = range(self.count, self.count + FLOOD)
            self.wire.send(*(command("room", room="flood", data=number) for number in numbers))
            self.count += FLOOD
        return True


def test_a_drain_under_traffic(start_cluster: StartCluster, new_wire: NewWire, rng: random.Random) -> None:
    """Fifteen members, some of which answer the close frame and some of which say nothing, read up to 1012."""
    node = start_cluster(nodes=1).nodes[0]
    members = [new_wire(node, "flood") for _ in range(MEMBERS)]
    flood = Flood(new_wire(node, "flood"), members)
    everyone = [flood.wire, *members]

    def flooded(enough: int) -> bool:
        flood.goes_on()
        return all(len(wire.texts) > enough for wire in members)

    pump(everyone, lambda: flooded(1_000), "traffic", WITHIN_SECONDS)
    polite = rng.sample(members, MEMBERS // 2)
    node.terminate()

    def all_ended() -> bool:
        flood.goes_on()
        for wire in [each for each in polite if each.is_closed and not each.has_ended]:
            wire.send(frame(PING, b"too late"), close())
        return all(wire.has_ended for wire in everyone)

    pump(everyone, all_ended, "the end of all connections", WITHIN_SECONDS)
    assert node.wait() == 0
    for wire in members:
        assert_close_is_last(wire, (1012, "Service restart"))
        assert len(wire.texts) >= 1_000


@pytest.mark.parametrize("how", ["too big", "violation", "its own close"])
def test_a_close_under_traffic(engine: DaphneNode, new_wire: NewWire, how: str) -> None:
    """Members that bring it upon themselves, one after the other, while everybody is written to; the others go on."""
    last_words, end = {
        "too big": (frame(BINARY, b"x" * (1 << 20 | 1))[:14], (1009, "Message too big")),
        "violation": (frame(BINARY, rsv=1), (1002, "RSV = 1 and no extension negotiated")),
        "its own close": (close(1000, "bye"), (1000, "")),
    }[how]
    members = [new_wire(engine, "flood") for _ in range(MEMBERS)]
    stays = new_wire(engine, "flood")
    flood = Flood(new_wire(engine, "flood"), [*members, stays])
    everyone = [flood.wire, stays, *members]
    for number, wire in enumerate(members):
        enough = len(wire.texts) + 100 * (number % 3) + 1
        pump(everyone, functools.partial(flood.has_brought, wire, enough), "traffic", WITHIN_SECONDS)
        wire.send(last_words)
    pump(
        everyone,
        lambda: flood.goes_on() and all(wire.is_closed for wire in members),
        "a close frame for everybody",
        WITHIN_SECONDS,
    )
    for wire in members:
        wire.send(close())
    pump(everyone, lambda: flood.goes_on() and all(wire.has_ended for wire in members), "the end", WITHIN_SECONDS)
    for wire in members:
        assert_close_is_last(wire, end)
    pump(everyone, lambda: len(stays.texts) == flood.count, "all messages for who stays", WITHIN_SECONDS)
    turn(everyone)
    assert [each["data"] for each in stays.messages("room")] == list(range(flood.count))
