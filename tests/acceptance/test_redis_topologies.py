"""More than one Redis: a master with replicas under Sentinels, and several shards."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import assert_no_traceback, eventually
from tests.acceptance.outage import ONE_MISSED, assert_everything_arrives, members, ready
from tests.conftest import StartCluster
from tests.support.servers import RedisServer

SENTINELS = 3
QUORUM = 2
NOTICE_MS = 1_000  # silence after which a Sentinel takes the master for gone
FAILOVER_SECONDS = 30.0
ROOMS = 30  # with two shards, each has none of them once in 500 million runs


@pytest.fixture
def replica(own_redis: RedisServer) -> Iterator[RedisServer]:
    """A replica of `own_redis`."""
    with RedisServer("--replicaof", "127.0.0.1", str(own_redis.port)) as server:
        yield server


@pytest.fixture
def sentinels(own_redis: RedisServer, replica: RedisServer, tmp_path: Path) -> Iterator[list[RedisServer]]:
    """Sentinels that watch `own_redis`, and know its replica and each other."""
    with ExitStack() as stack:
        started = [
            stack.enter_context(RedisServer(sentinel_config=_config(tmp_path, n, own_redis))) for n in range(SENTINELS)
        ]
        yield started


def _config(directory: Path, number: int, master: RedisServer) -> Path:
    path = directory / f"sentinel-{number}.conf"
    path.write_text(
        f"sentinel monitor main 127.0.0.1 {master.port} {QUORUM}\n"
        f"sentinel down-after-milliseconds main {NOTICE_MS}\n"
        "sentinel failover-timeout main 5000\n"
    )
    return path


def _knows(sentinel: RedisServer, fact: bytes, value: bytes) -> bool:
    """Whether this stands in what a Sentinel says about the master; the answer is a list of names and values."""
    words = sentinel.command("SENTINEL", "MASTER", "main").split(b"\r\n")[2::2]
    return value in words[words.index(fact) + 1 :][:1]


async def test_a_failover_of_sentinels(
    start_cluster: StartCluster,
    own_redis: RedisServer,
    replica: RedisServer,
    sentinels: list[RedisServer],
    connect: Connect,
) -> None:
    """The master is killed: the Sentinels choose the replica, the nodes find it by themselves, nobody is disconnected,
    each client is told once what it may have missed, and everything arrives again."""

    def is_known() -> bool:
        return all(
            _knows(each, b"num-slaves", b"1") and _knows(each, b"num-other-sentinels", b"2") for each in sentinels
        )

    await eventually(is_known, "the Sentinels know the replica and each other", FAILOVER_SECONDS)
    hosts = ",".join(f"127.0.0.1:{each.port}" for each in sentinels)
    url = f"redis+sentinel://{hosts}/main/0"
    cluster = start_cluster(nodes=2, redis=own_redis, environment={"BACKPLANE_URL": url})
    clients = await members(cluster, connect)
    await assert_everything_arrives(clients)
    own_redis.kill()
    await eventually(lambda: not any(node.is_ready for node in cluster.nodes), "all nodes noticed", FAILOVER_SECONDS)
    took = await eventually(lambda: all(node.is_ready for node in cluster.nodes), "a new master", FAILOVER_SECONDS)
    print(f"ready again {took:.1f} s after the nodes had noticed")
    await assert_everything_arrives(clients)
    assert [client.pushes("missed") for client in clients] == [ONE_MISSED] * len(clients)
    assert b"master" in replica.command("ROLE")
    assert_no_traceback(cluster)


async def test_a_shard_is_lost_and_comes_back(
    start_cluster: StartCluster, own_redis: RedisServer, redis_server: RedisServer, connect: Connect
) -> None:
    """Rooms are spread over two shards and all work. Without one of them no node is ready; when it is back, all is well
    and only what was on it may have been missed."""
    url = f"{redis_server.url},{own_redis.url}"
    cluster = start_cluster(nodes=2, redis=own_redis, environment={"BACKPLANE_URL": url})
    here, there = await asyncio.gather(*(connect(node.url) for node in cluster.nodes))
    rooms = [f"room-{number}" for number in range(ROOMS)]
    for client in (here, there):
        await client.join(*rooms)
    for room in rooms:
        await here.do("room", room=room, data=room)
        await there.expect("room", room=room, data=room)
    on_lost = own_redis.command("PUBSUB", "CHANNELS", f"{cluster.prefix}__group__rt.r.room-*").count(b"rt.r.room-")
    assert 0 < on_lost < ROOMS
    own_redis.kill()
    await eventually(lambda: not any(node.is_ready for node in cluster.nodes), "all nodes noticed")
    own_redis.start()
    await ready(cluster)
    for room in rooms:
        await here.do("room", room=room, data="again")
        await there.expect("room", room=room, data="again")
    [told] = there.pushes("missed")
    assert told["rooms"] is None or len(told["rooms"]) == on_lost  # None: broadcasts are on that shard, too
    assert_no_traceback(cluster)
