"""A cluster is brought to a version with a newer envelope, node by node, while clients talk."""

from __future__ import annotations

import asyncio
import json
import random

import pytest
import redis.asyncio

from realtime.protocol.envelope import READS
from tests.acceptance.nodes import acquainted, assert_no_traceback, metric
from tests.acceptance.operating.residents import (
    Residents,
    assert_no_gap,
    assert_nothing_acknowledged_is_missing,
)
from tests.conftest import StartCluster
from tests.support.cluster import Cluster, DaphneNode
from tests.support.servers import RedisServer

CLIENTS = 6
SENDERS = 3
# An upgraded cluster changes to the newer envelope when everybody who lives must have been heard.
QUICK = {"REALTIME_HEARTBEAT_SECONDS": "0.5", "REALTIME_NODE_TIMEOUT_SECONDS": "3"}
OLDER, NEWER = max(READS), max(READS) + 1
LISTENED = 50  # envelopes of one look
RISE_SECONDS = 30.0


async def test_an_upgrade_under_traffic(
    start_cluster: StartCluster, own_redis: RedisServer, rng: random.Random, capsys: pytest.CaptureFixture[str]
) -> None:
    """While nodes of both versions live, all of them publish what the older ones read; when the last of these is gone,
    the newer version. Nobody misses anything, no envelope is unreadable, and an older node may come back."""
    cluster = start_cluster(nodes=3, nginx=True, redis=own_redis, environment=QUICK)
    await acquainted(cluster)
    assert cluster.nginx is not None
    residents = Residents(cluster.nginx.url, rng)
    try:
        for number in range(CLIENTS):
            await residents.enter(f"c{number}", is_sender=number < SENDERS)
        await residents.all_present()
        for node in cluster.nodes:
            await residents.more_traffic(50)
            assert await versions(own_redis, cluster) == {OLDER}
            await exchange(node, to="tests.acceptance.upgrade.newer:application")
            await residents.all_present()
        async with asyncio.timeout(RISE_SECONDS):
            while await versions(own_redis, cluster) != {NEWER}:
                pass
        await residents.more_traffic(50)
        await exchange(cluster.nodes[0], to="config.asgi:application")
        await residents.all_present()
        await residents.more_traffic(50)
        assert await versions(own_redis, cluster) == {OLDER}
        await residents.finish()
    finally:
        await residents.stop()
    stays = residents.all_stays
    assert [push for stay in stays for push in stay.client.pushes("missed", "error")] == []
    assert_no_gap(stays)
    proved = assert_nothing_acknowledged_is_missing(stays)
    assert proved > 500
    assert [metric(node, "realtime_envelopes_unreadable_total") for node in cluster.nodes] == [0, 0, 0]
    assert_no_traceback(cluster)
    with capsys.disabled():
        print(f"\nupgrade: {len(residents.absences())} absences, {proved} deliveries proved")


async def exchange(node: DaphneNode, to: str) -> None:
    """End a node as an operator does, and start it with another application."""
    node.terminate()
    assert await asyncio.to_thread(node.wait, 20) == 0
    node.command[2] = to
    await asyncio.to_thread(node.start)


async def versions(server: RedisServer, cluster: Cluster) -> set[int]:
    """The versions of the next envelopes to a room."""
    seen: list[int] = []
    async with redis.asyncio.from_url(server.url) as client, client.pubsub() as listener:
        await listener.psubscribe(f"{cluster.prefix}__group__rt.r.*")
        async for message in listener.listen():
            if message["type"] == "pmessage":
                seen.append(json.loads(message["data"])["v"])
            if len(seen) == LISTENED:
                break
    return set(seen)
