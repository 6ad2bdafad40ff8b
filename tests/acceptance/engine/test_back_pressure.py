"""A client that sends faster than its commands are handled is held back, not queued without bound."""

from __future__ import annotations

import json

from tests.acceptance.engine.conftest import NewWire
from tests.acceptance.engine.memory import resident_bytes
from tests.acceptance.engine.peer import command
from tests.acceptance.engine.wire import Wire, ping, pump
from tests.acceptance.nodes import assert_no_traceback, metric
from tests.conftest import StartCluster
from tests.support.cluster import DaphneNode
from tests.support.servers import RedisServer

MIB = 1024 * 1024
COMMANDS = 100_000
WITHIN_SECONDS = 40.0
LONG_ENOUGH = {
    "REALTIME_PUBLISH_TIMEOUT_SECONDS": "30",
    "REALTIME_MEMBERS_TIMEOUT_SECONDS": "30",
    "REALTIME_TRACKING_IS_ON": "0",
}


def push_until_held_back(wire: Wire, other: Wire) -> int:
    """Send until the kernel takes no more although the node goes on answering others; how much it took."""
    whole = len(wire.unsent)
    unmoved, left = 0, whole
    while unmoved < 20:
        ping(other, [wire])
        unmoved = unmoved + 1 if len(wire.unsent) == left else 0
        left = len(wire.unsent)
        assert left, "everything was taken"
    return whole - left


def grown(node: DaphneNode, at_first: int) -> str:
    return f"memory grew by {(resident_bytes(node.pid) - at_first) / MIB:.1f} MiB"


def assert_grew_little(node: DaphneNode, at_first: int, most: int) -> None:
    print(grown(node, at_first))
    assert resident_bytes(node.pid) - at_first < most, grown(node, at_first)


def test_commands_behind_one_that_waits(start_cluster: StartCluster, own_redis: RedisServer, new_wire: NewWire) -> None:
    """While a `join` waits for Redis, 100,000 commands behind it fill the kernel's window and not the node's memory;
    when Redis goes on they are handled, each once and in order."""
    cluster = start_cluster(nodes=1, redis=own_redis, environment=LONG_ENOUGH)
    node = cluster.nodes[0]
    eager, other = new_wire(node), new_wire(node)
    ping(eager, [other])
    at_first = resident_bytes(node.pid)
    own_redis.pause()
    eager.send(command("join", room="waits", ref="first"))
    eager.send(*(command("ping", ref=number, padding="x" * 100) for number in range(COMMANDS)))
    taken = push_until_held_back(eager, other)
    print(f"the kernel and the node took {taken / MIB:.1f} MiB of {taken / MIB + len(eager.unsent) / MIB:.1f}")
    assert_grew_little(node, at_first, 5 * MIB)
    own_redis.resume()
    answers = eager.texts
    already = len(answers)
    pump([eager, other], lambda: len(answers) >= already + COMMANDS + 1, "all answers", WITHIN_SECONDS)
    came = [json.loads(each) for each in answers[already:]]
    assert came[0] == {"type": "joined", "room": "waits", "ref": "first"}
    assert came[1:] == [{"type": "pong", "ref": number} for number in range(COMMANDS)]
    assert_grew_little(node, at_first, 10 * MIB)
    assert_no_traceback(cluster)


def test_publishing_faster_than_redis_takes(
    start_cluster: StartCluster, own_redis: RedisServer, new_wire: NewWire
) -> None:
    """While Redis takes nothing, a client that publishes without waiting for answers is held back; every message is
    acknowledged or refused, and what was acknowledged arrives, in order."""
    cluster = start_cluster(nodes=1, redis=own_redis, environment={"REALTIME_TRACKING_IS_ON": "0"})
    node = cluster.nodes[0]
    eager, member, other = new_wire(node, "room"), new_wire(node, "room"), new_wire(node)
    ping(eager, [member, other])
    at_first = resident_bytes(node.pid)
    own_redis.pause()
    eager.send(*(command("room", room="room", data=number, ref=number) for number in range(COMMANDS)))
    eager.send(command("ping", ref="the end"))
    taken = push_until_held_back(eager, other)
    print(f"the kernel and the node took {taken / MIB:.1f} MiB of {(taken + len(eager.unsent)) / MIB:.1f}")
    assert_grew_little(node, at_first, 8 * MIB)
    eager.is_lazy = True  # so that it reads as fast as it sends
    pump([eager, member], lambda: b'"unavailable"' in eager.raw, "the end of the patience with Redis")
    own_redis.resume()
    pump([eager, member], lambda: b'"the end"' in eager.raw[-100_000:], "all commands handled", WITHIN_SECONDS)
    eager.is_lazy = False
    eager.parse()
    pump([eager, member], lambda: len(eager.messages("ack", "error")) >= COMMANDS, "all answers")
    assert_grew_little(node, at_first, 16 * MIB)
    acknowledged = [each["ref"] for each in eager.messages("ack")]
    refused = [each["ref"] for each in eager.messages("error")]
    print(f"{len(acknowledged)} acknowledged, {len(refused)} refused")
    assert sorted(acknowledged + refused) == list(range(COMMANDS))
    ping(member, [eager])
    came = [each["data"] for each in member.messages("room")]
    assert came == sorted(came)
    assert set(acknowledged) <= set(came)
    assert_no_traceback(cluster)


def test_replies_that_nobody_reads(start_cluster: StartCluster, new_wire: NewWire) -> None:
    """A client that asks 100,000 times and reads nothing ends as a slow consumer; before that it has cost no more than
    its backlog may."""
    node = start_cluster(nodes=1, environment={"REALTIME_TRACKING_IS_ON": "0"}).nodes[0]
    eager, other = new_wire(node, receive_buffer=4096), new_wire(node)
    ping(eager, [other])
    at_first = resident_bytes(node.pid)
    eager.appetite = 0
    eager.send(*(command("ping", ref="x" * 100) for _ in range(COMMANDS)))
    pump([eager, other], lambda: metric(node, "realtime_connections_evicted_total") == 1, "eviction", WITHIN_SECONDS)
    assert_grew_little(node, at_first, 16 * MIB)
    node.wait_until(lambda: "code=4008" in node.log, "closing it", 10)
    ping(other)
