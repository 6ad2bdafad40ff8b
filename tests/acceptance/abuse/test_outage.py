"""Redis hangs, dies and forgets while somebody floods the node. (Attack 15.)"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest

from tests.acceptance.abuse.attacker import Target
from tests.acceptance.abuse.conftest import StartSiege
from tests.acceptance.abuse.siege import PAIRS
from tests.acceptance.engine.peer import command
from tests.acceptance.engine.wire import Wire, pump, turn
from tests.acceptance.nodes import metric
from tests.support.servers import RedisServer

FLOODERS = 40
PER_SECOND = 20  # of each: together five times what the others say
SECONDS = 4.0
OUTAGE_SECONDS = 2.5  # longer than a publication is waited for
HEARTBEAT_SECONDS = 1


def floods(target: Target) -> Counter[str]:
    """Many clients publish all the time, whatever they are told. Every command is answered once."""
    wires = [Wire(target.member(f"flooded-{n}", user=n, source=f"127.6.30.{n + 1}")) for n in range(FLOODERS)]
    begun, sent = time.monotonic(), 0
    while (passed := time.monotonic() - begun) < target.seconds:
        while sent < passed * PER_SECOND:
            for number, wire in enumerate(wires):
                wire.send(command("room", room=f"flooded-{number}", data="x" * 200, ref=sent))
            sent += 1
        turn(wires)
    told = Counter[str]()
    pump(wires, lambda: all(count_answers(wire) == sent for wire in wires), "an answer to each", 30)
    for wire in wires:
        assert sorted(ref for ref, _ in answers(wire)) == list(range(sent))
        told.update(kind for _, kind in answers(wire))
        wire.socket.close()
    return told


def answers(wire: Wire) -> list[tuple[int, str]]:
    return [(each["ref"], each.get("code") or each["type"]) for each in wire.messages("ack", "error")]


def count_answers(wire: Wire) -> int:
    """The same number, without a look at each; pushes have no `ref`."""
    return sum(b'"ref":' in text for text in wire.texts)


def hang(redis: RedisServer) -> None:
    """It stands still for a while: connections stay open, nothing is answered."""
    redis.pause()
    time.sleep(OUTAGE_SECONDS)
    redis.resume()


def die(redis: RedisServer) -> None:
    """It is killed, and comes back after a while, empty."""
    redis.kill()
    time.sleep(OUTAGE_SECONDS)
    redis.start()


def forget(redis: RedisServer) -> None:
    """All keys are gone, and then all connections, the subscribers' first."""
    redis.command("FLUSHALL")
    for kind in ("pubsub", "normal"):
        redis.command("CLIENT", "KILL", "TYPE", kind)
    redis.command("FLUSHALL", "SYNC")


OUTAGES = [
    pytest.param(hang, id="hung"),
    pytest.param(die, id="killed", marks=pytest.mark.slow),
    pytest.param(forget, id="flushed", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("outage", OUTAGES)
def test_redis_fails_in_a_flood(
    start_siege: StartSiege, own_redis: RedisServer, outage: Callable[[RedisServer], None]
) -> None:
    """Clients are answered as quickly as before; what was acknowledged arrives, or its members are told; every command
    of the flood has one answer, and what waits is bounded."""
    siege = start_siege(own_redis, HEARTBEAT_SECONDS=HEARTBEAT_SECONDS)
    node = siege.cluster.nodes[0]

    def fail_in_the_flood() -> None:
        node.wait_until(lambda: metric(node, "realtime_rooms") >= PAIRS + FLOODERS, "flooded", 30)
        outage(own_redis)

    siege.withstand(
        floods,
        metric="realtime_backplane_interruptions_total",
        log="backplane_interrupted",
        seconds=SECONDS,
        is_outage=True,
        meanwhile=fail_in_the_flood,
    )
