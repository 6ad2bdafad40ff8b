"""A busy room in which some do not read, or hardly. (Attack 9.)"""

from __future__ import annotations

import time

from tests.acceptance.abuse.attacker import Target
from tests.acceptance.abuse.conftest import ON_BOTH
from tests.acceptance.abuse.oracle import MIB
from tests.acceptance.abuse.siege import Siege
from tests.acceptance.engine.peer import Peer, command
from tests.acceptance.engine.wire import Wire, pump, turn

READERS, NEVER = 38, 2  # 5 % of 40
SIZE = 40_000
PER_SECOND = 50  # 2 MB/s for each
TRICKLE_BYTES = 1_024  # a second
HARD_BYTES = 4 * MIB
WITHIN_SECONDS = 30.0


def does_not_read(target: Target) -> dict[str, float]:
    """Forty are in a room, two of which never read; one more takes 1 KB/s. All the others read everything."""
    publisher = Wire(target.member("busy"))
    readers = [Wire(reader(target, number)) for number in range(READERS)]
    slow = [Wire(reader(target, 100 + number, receive_buffer=4_096)) for number in range(NEVER + 1)]
    trickle = slow[-1]
    for wire in slow:
        wire.appetite = 0
    count = int(target.seconds * PER_SECOND)
    begun, sent = time.monotonic(), 0
    while sent < count:
        now = time.monotonic()
        while sent < count and sent <= (now - begun) * PER_SECOND:
            publisher.send(command("room", room="busy", data=[sent, "x" * SIZE]))
            sent += 1
        trickle.appetite = max(0, int((now - begun) * TRICKLE_BYTES) - len(trickle.raw))
        turn([publisher, trickle, *readers])
    pump([publisher, *readers], lambda: all(len(wire.texts) == count for wire in readers), "all", WITHIN_SECONDS)
    for wire in readers:
        assert [each["data"][0] for each in wire.messages("room")] == list(range(count))
    taken = len(trickle.raw)
    for wire in slow:  # what they find when they read at last: not all of it, and the end
        wire.appetite = None
    pump(slow, lambda: all(wire.has_ended for wire in slow), "the end of the slow ones", WITHIN_SECONDS)
    assert all(len(wire.texts) < count for wire in slow)
    for wire in (publisher, *readers):
        wire.socket.close()
    return {"read at 1 KB/s": taken}


def reader(target: Target, number: int, **options: int) -> Peer:
    """Members of some users, each of an address of its own."""
    return target.member("busy", user=1 + number % 7, source=f"127.6.7.{number + 1}", **options)


@ON_BOTH
def test_readers_that_do_not_read(siege: Siege) -> None:
    """They are closed as slow consumers and cost no more than what may wait for them; the others get everything."""
    outcome = siege.withstand(
        does_not_read,
        metric='realtime_connections_evicted_total{reason="slow_consumer"}',
        log="connection_closed .*code=4008 reason='Slow consumer'",
        seconds=3.0,
        niceness=0,  # the readers who read are no attackers
    )
    assert [each.grown for each in outcome.rounds] == [NEVER + 1] * len(outcome.rounds)
    assert outcome.peak_bytes < (NEVER + 1) * HARD_BYTES * 1.5
