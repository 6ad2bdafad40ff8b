"""Redis dies and comes back, or stands still."""

from __future__ import annotations

import asyncio
import time

from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import eventually
from tests.acceptance.outage import (
    FAST_SECONDS,
    assert_everything_arrives,
    assert_unavailable,
    members,
    ready,
    status,
)
from tests.conftest import StartCluster
from tests.support.servers import RedisServer

OUTAGE_SECONDS = 5.0  # really waited for: that is the promise
HEARTBEAT_SECONDS = 1.0
BUSY_SECONDS = 1.0  # what a busy machine may add to a promise in heartbeats


async def test_redis_is_killed_and_restarted(
    start_cluster: StartCluster, own_redis: RedisServer, connect: Connect
) -> None:
    """For 5 s every publish is `unavailable` at once and nobody is disconnected; then everything arrives again on every
    node, in the rooms joined before, and each client was told once that it may have missed something."""
    cluster = start_cluster(nodes=3, redis=own_redis)
    clients = await members(cluster, connect)
    own_redis.kill()
    end = time.monotonic() + OUTAGE_SECONDS
    rounds = 0
    while time.monotonic() < end:
        for client, other in zip(clients, clients[1:] + clients[:1], strict=True):
            await assert_unavailable(client, FAST_SECONDS, type="broadcast", data=rounds)
            await assert_unavailable(client, FAST_SECONDS, type="room", room="room", data=rounds)
            await assert_unavailable(client, FAST_SECONDS, type="private", to=other.id, data=rounds)
            assert await client.is_alive()
        rounds += 1
        await asyncio.sleep(0.1)
    assert rounds >= 5
    assert not any(node.is_ready for node in cluster.nodes)
    newcomer = await connect(cluster.nodes[0].url)
    own_redis.start()
    await ready(cluster)
    await newcomer.join("room")
    clients.append(newcomer)
    await assert_everything_arrives(clients)
    assert [client.pushes("missed") for client in clients] == [[{"type": "missed", "rooms": None}]] * len(clients)
    assert not any(client.is_closed for client in clients)
    assert not any(isinstance(push["data"], int) for client in clients for push in client.pushes("broadcast", "room"))


async def test_rooms_during_an_outage(start_cluster: StartCluster, own_redis: RedisServer, connect: Connect) -> None:
    """A join is `unavailable` and leaves nobody in the room; a leave works, and holds after the outage."""
    cluster = start_cluster(nodes=2, redis=own_redis)
    clients = await members(cluster, connect, per_node=1)
    here, there = clients
    own_redis.kill()
    await eventually(lambda: not any(node.is_ready for node in cluster.nodes), "all nodes are unready")
    await assert_unavailable(here, 2.0 + FAST_SECONDS, type="join", room="new")
    assert (await here.ask("room", room="new", data=1))["code"] == "not_joined"
    await here.do("leave", room="room")
    own_redis.start()
    await ready(cluster)
    await there.do("room", room="room", data="not for who has left")
    await there.do("broadcast", data="sentinel")
    await here.expect("broadcast", data="sentinel")
    assert here.pushes("room") == []
    await here.join("new", "room")
    await there.do("room", room="room", data="again")
    await here.expect("room", data="again")


async def test_redis_stands_still(start_cluster: StartCluster, own_redis: RedisServer, connect: Connect) -> None:
    """Open connections that nothing comes from are a dead backplane: readiness is red within two heartbeats, publishes
    are `unavailable` within 2 s; when Redis goes on, so does everything, without a restart."""
    environment = {"REALTIME_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS)}
    cluster = start_cluster(nodes=2, redis=own_redis, environment=environment)
    clients = await members(cluster, connect)
    own_redis.pause()
    try:
        took = await eventually(lambda: not any(status(node) == 200 for node in cluster.nodes), "all nodes are unready")
        assert took < 2 * HEARTBEAT_SECONDS * 1.1 + BUSY_SECONDS
        assert [status(node) for node in cluster.nodes] == [503, 503]
        for client in clients:
            await assert_unavailable(client, FAST_SECONDS, type="broadcast", data="lost")
            assert await client.is_alive()
    finally:
        own_redis.resume()
    await ready(cluster)
    await assert_everything_arrives(clients)
    assert [client.pushes("missed") for client in clients] == [[{"type": "missed", "rooms": None}]] * len(clients)
    assert not any(client.is_closed for client in clients)


async def test_a_publish_into_a_redis_that_stands_still(
    start_cluster: StartCluster, own_redis: RedisServer, connect: Connect
) -> None:
    """A publish that Redis does not answer is `unavailable` within 2 s, long before the next heartbeat."""
    cluster = start_cluster(nodes=1, redis=own_redis)
    client = await connect(cluster.nodes[0].url)
    own_redis.pause()
    try:
        await assert_unavailable(client, 2.0 + FAST_SECONDS, type="broadcast", data=1)
        await assert_unavailable(client, FAST_SECONDS, type="broadcast", data=2)
    finally:
        own_redis.resume()
    await ready(cluster)
    await client.do("broadcast", data=3)


async def test_a_node_starts_without_redis(
    start_cluster: StartCluster, own_redis: RedisServer, connect: Connect
) -> None:
    """It stays up and lets clients in, says once what to do, and is ready when Redis comes."""
    cluster = start_cluster(nodes=1, redis=own_redis)
    node = cluster.nodes[0]
    node.kill()
    own_redis.kill()
    node.spawn()
    await eventually(lambda: status(node) == 503, "the node answers", 20)
    client = await connect(node.url)
    await assert_unavailable(client, 2.0 + FAST_SECONDS, type="broadcast", data=1)
    assert node.log.count("set BACKPLANE_URL") == 1
    own_redis.start()
    await ready(cluster)
    await client.do("broadcast", data=2, echo=True)
    await client.expect("broadcast", data=2)
