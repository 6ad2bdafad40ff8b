"""``manage.py stats`` on a running cluster, with its backplane and without."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import eventually, metric
from tests.conftest import StartCluster
from tests.support.cluster import Cluster, run_manage
from tests.support.servers import RedisServer

QUICK = {"REALTIME_HEARTBEAT_SECONDS": "0.3", "REALTIME_TRACKING_FLUSH_SECONDS": "0.1"}


def stats(cluster: Cluster) -> tuple[int, dict[str, Any]]:
    done = run_manage(cluster.environment, "stats", "--json")
    return done.returncode, json.loads(done.stdout)


async def talk(clients: list[Client], until: asyncio.Event) -> None:
    """Each client publishes to the room now and then."""
    while not until.is_set():
        for client in clients:
            await client.do("room", room="lobby", data="x")
        await asyncio.sleep(0.02)


async def test_figures_are_those_of_the_cluster_and_outlive_the_backplane(
    start_cluster: StartCluster, own_redis: RedisServer, connect: Connect
) -> None:
    """Connections, rooms, rates, memory and lag of two nodes; without Redis the same from the database, unhealthy."""
    cluster = start_cluster(nodes=2, redis=own_redis, environment=QUICK)
    clients = [await connect(cluster.nodes[index % 2].url) for index in range(3)]
    for client in clients:
        await client.join("lobby")
    enough = asyncio.Event()
    talking = asyncio.create_task(talk(clients, enough))
    found: dict[str, Any] = {}

    def is_complete() -> bool:
        found["status"], found["report"] = stats(cluster)
        total = found["report"]["total"]
        return bool(total.get("connections") == 3 and "lag_p99_seconds" in total and "latency_p50_seconds" in total)

    try:
        await eventually(is_complete, "the figures are in the database", within=60)
    finally:
        enough.set()
        await talking
    report = found["report"]
    assert (found["status"], report["healthy"]) == (0, True)
    assert sorted(node["statistics"]["connections"] for node in report["nodes"]) == [1, 2]
    assert [node["statistics"]["rooms"] for node in report["nodes"]] == [1, 1]
    for node in report["nodes"]:
        assert node["age_seconds"] < 30
        assert node["statistics"]["messages_in_per_second"] > 0
        assert node["statistics"]["memory_bytes"] > 10 * 2**20
        assert 0 < node["statistics"]["echo_mean_seconds"] < 5
    assert metric(cluster.nodes[0], "realtime_delivery_lag_seconds_count") > 0

    await asyncio.to_thread(own_redis.kill)
    for running in cluster.nodes:
        await asyncio.to_thread(running.wait_not_ready)

    def is_unhealthy() -> bool:
        found["status"], found["report"] = stats(cluster)
        return bool(found["status"] == 1 and len(found["report"]["problems"]) == 2)

    await eventually(is_unhealthy, "both nodes have written that they are interrupted", within=60)
    assert all("interrupted" in problem for problem in found["report"]["problems"])
    assert found["report"]["total"]["connections"] == 3
