"""A client that does not read is closed with 4008, costs a bounded amount of memory, and nobody else waits for it."""

from __future__ import annotations

import time
from collections.abc import Callable

from websockets.frames import Close

from tests.acceptance.engine.conftest import NewWire
from tests.acceptance.engine.memory import resident_bytes
from tests.acceptance.engine.peer import close, command
from tests.acceptance.engine.wire import Wire, ping, pump
from tests.acceptance.nodes import metric
from tests.conftest import StartCluster
from tests.support.cluster import DaphneNode

MIB = 1024 * 1024
HARD_BYTES = 4 * MIB  # the default of REALTIME_BACKLOG_HARD_MAX_BYTES
SLOW, QUICK = 10, 20
SIZE = 20_000
PER_SECOND = 100
SECONDS = 1.5
SLOW_CONSUMER = (4008, "Slow consumer")


class Traffic:
    """Publishes to the room at an even rate; the quick members note how late each message is."""

    def __init__(self, publisher: Wire, quick: list[Wire]) -> None:
        self.publisher = publisher
        self.quick = quick
        self.count = 0

    def run(self, everyone: list[Wire], seconds: float, now_and_then: Callable[[], None] = lambda: None) -> list[float]:
        """Publish for that long and wait until all quick ones have everything; their latencies, sorted."""
        latencies: list[float] = []

        def note(data: bytes) -> None:
            now = time.monotonic()
            for at in data.split(b'"data":[')[1:]:
                latencies.append(now - float(at[: at.index(b",")]))

        for wire in self.quick:
            wire.on_read = note
        began = time.monotonic()
        wanted = int(seconds * PER_SECOND)

        def go_on() -> bool:
            for number in range(self.count, min(wanted, int((time.monotonic() - began) * PER_SECOND))):
                self.publisher.send(command("room", room="slow", data=[time.monotonic(), "x" * SIZE]))
                self.count += 1
                if number % 10 == 0:
                    now_and_then()
            return len(latencies) >= wanted * len(self.quick)

        self.count = 0
        pump(everyone, go_on, "all messages for the quick ones", seconds + 20)
        return sorted(latencies)


def p99(latencies: list[float]) -> float:
    return latencies[len(latencies) * 99 // 100]


def evictions(node: DaphneNode) -> float:
    return metric(node, "realtime_connections_evicted_total")


def test_others_go_on(start_cluster: StartCluster, new_wire: NewWire) -> None:
    """Ten of thirty members never read while 2 MB/s go to each: they are closed with 4008, logged and counted; the
    node's memory grows by no more than what may wait for them, and the others' p99 stays what it was."""
    node = start_cluster(nodes=1, environment={"REALTIME_TRACKING_IS_ON": "0"}).nodes[0]
    publisher = new_wire(node, "slow")
    quick = [new_wire(node, "slow") for _ in range(QUICK)]
    traffic = Traffic(publisher, quick)
    traffic.run([publisher, *quick], 0.5)
    alone = traffic.run([publisher, *quick], SECONDS)
    slow = [new_wire(node, "slow", receive_buffer=4096) for _ in range(SLOW)]
    for wire in slow:
        wire.appetite = 0
    before, peak = resident_bytes(node.pid), 0

    def look() -> None:
        nonlocal peak
        peak = max(peak, resident_bytes(node.pid))

    beside = traffic.run([publisher, *quick], SECONDS, look)
    look()
    node.wait_until(lambda: evictions(node) == SLOW, "closing the slow ones", 10)
    node.wait_until(lambda: node.log.count("code=4008") == SLOW, "logging the slow ones", 10)
    assert metric(node, "websocket_connected_clients") == QUICK + 1
    print(f"p99 alone {p99(alone) * 1000:.1f} ms, beside {p99(beside) * 1000:.1f} ms")
    print(f"memory grew by {(peak - before) / MIB:.1f} MiB for {SLOW} slow readers")
    assert peak - before < SLOW * HARD_BYTES * 1.2
    assert p99(beside) < 1.5 * p99(alone) + 0.02
    assert traffic.run([publisher, *quick], 0.3)


def test_who_reads_in_time_is_told(start_cluster: StartCluster, new_wire: NewWire) -> None:
    """A slow reader that begins to read right after its eviction gets what waited for it, whole, and then 4008 with its
    reason; one that goes on sleeping is cut off."""
    node = start_cluster(nodes=1).nodes[0]
    publisher, wakes, sleeps = new_wire(node, "slow"), new_wire(node, "slow"), new_wire(node, "slow")
    wakes.appetite = sleeps.appetite = 0
    for number in range(400):
        publisher.send(command("room", room="slow", data=[number, "x" * SIZE]))
    pump([publisher], lambda: evictions(node) == 2, "eviction")
    wakes.appetite = None
    pump([publisher, wakes], lambda: wakes.is_closed, "a close frame")
    wakes.send(close())
    pump([publisher, wakes], lambda: wakes.has_ended, "the end")
    wakes.assert_whole()
    parsed = Close.parse(wakes.frames[-1].data)
    assert (parsed.code, parsed.reason) == SLOW_CONSUMER
    numbers = [each["data"][0] for each in wakes.messages("room")]
    assert numbers == list(range(len(numbers)))
    assert HARD_BYTES <= len(wakes.raw) < 8 * MIB
    node.wait_until(lambda: node.log.count("code=4008") == 2, "cutting the sleeper off", 10)
    sleeps.appetite = None
    pump([publisher, sleeps], lambda: sleeps.has_ended, "the end of the sleeper")
    assert len(sleeps.raw) < HARD_BYTES
    numbers = [each["data"][0] for each in sleeps.messages("room")]
    assert numbers == list(range(len(numbers)))
    assert ping(publisher)


def test_a_little_too_much_for_a_little_too_long(start_cluster: StartCluster, new_wire: NewWire) -> None:
    """Over 1 MiB for over 1 s is too slow; the same for who has read it within that second is not."""
    node = start_cluster(nodes=1).nodes[0]
    publisher, quick, slow = new_wire(node, "slow"), new_wire(node, "slow"), new_wire(node, "slow")
    quick.appetite = slow.appetite = 0
    began = time.monotonic()
    for number in range(130):
        publisher.send(command("room", room="slow", data=[number, "x" * SIZE]))
    pump([publisher], lambda: metric(node, "realtime_backlog_bytes") > 2 * MIB, "a backlog for both")
    quick.appetite = None
    pump([publisher, quick], lambda: len(quick.texts) == 130, "everything for the quick one")
    pump([publisher, quick], lambda: evictions(node) == 1, "eviction")
    assert time.monotonic() - began > 1
    slow.appetite = None
    pump([publisher, slow], lambda: slow.is_closed, "a close frame")
    assert len(slow.texts) == 130
    assert Close.parse(slow.frames[-1].data).code == 4008
    assert ping(quick)
