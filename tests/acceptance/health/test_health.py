"""What is checked of a node: each check fails for its reason, is told where people and balancers look, and recovers."""

from __future__ import annotations

import json
import sqlite3
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import pytest
from websockets.asyncio.client import connect as open_websocket

from realtime.probe import PROBE_HEADER
from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import assert_no_traceback, eventually, metric, use_application
from tests.conftest import CLUSTERS, StartCluster
from tests.support.cluster import Cluster, DaphneNode, run_manage
from tests.support.servers import RedisServer
from tests.support.uvicorn import UNCOMPRESSED, add_uvicorn

TOKEN = "a token of this test"
QUICK = {
    "REALTIME_HEALTH_TOKEN": TOKEN,
    "REALTIME_HEALTH_INTERVAL_SECONDS": "0.2",
    "REALTIME_HEALTH_LOOP_LAG_MAX_MS": "60000",
    "REALTIME_HEALTH_LATENCY_MAX_MS": "60000",
    "REALTIME_HEALTH_TIMEOUT_SECONDS": "30",
    "REALTIME_HEARTBEAT_SECONDS": "0.3",
    "REALTIME_TRACKING_FLUSH_SECONDS": "0.1",
}
CHECKS = ["connections", "memory", "responsiveness", "backplane", "database", "loop_lag"]
WITHIN = 60.0
MIB = 1024 * 1024


def ask(node: DaphneNode, path: str = "/health/", token: str = TOKEN) -> tuple[int, dict[str, Any]]:
    """Status and answer of a node."""
    request = urllib.request.Request(f"{node.http_url}{path}", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.status, json.load(response)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


def check(node: DaphneNode, name: str) -> dict[str, Any]:
    """What one check found last."""
    found = [each for each in ask(node)[1]["checks"] if each["check"] == name]
    return found[0] if found else {"is_healthy": None, "reason": ""}


async def fails(node: DaphneNode, name: str, reason: str) -> None:
    """Wait until a check fails for that reason; the whole is unhealthy then, and the metric says so."""
    await eventually(lambda: reason in check(node, name)["reason"], f"{name} fails: {reason}", WITHIN)
    assert ask(node)[0] == 503


async def passes(node: DaphneNode, name: str) -> None:
    await eventually(lambda: check(node, name)["is_healthy"] is True, f"{name} passes", WITHIN)


def health(cluster: Cluster) -> tuple[int, dict[str, Any]]:
    """`manage.py health`."""
    done = run_manage(cluster.environment, "health", "--json")
    return done.returncode, json.loads(done.stdout)


StartNode = Callable[..., Cluster]


@pytest.fixture
def start_node(start_cluster: StartCluster) -> StartNode:
    """One node that looks at its health all the time: `start_node(REALTIME_…="…")`."""

    def start(redis: RedisServer | None = None, **environment: str) -> Cluster:
        return start_cluster(nodes=1, redis=redis, environment={**QUICK, **environment})

    return start


async def test_a_healthy_node_says_so_with_figures(start_node: StartNode) -> None:
    """Every check has passed, with its figure, limit and time; the command agrees, and exits with 0."""
    cluster = start_node()
    node = cluster.nodes[0]
    await eventually(lambda: len(ask(node)[1]["checks"]) == len(CHECKS), "all checks were made", WITHIN)
    status, found = ask(node)
    assert (status, found["healthy"]) == (200, True), found
    assert [each["check"] for each in found["checks"]] == CHECKS
    for each in found["checks"]:
        assert each["figure"] is not None, each
        assert each["figure"] < each["limit"], each
        assert each["reason"] == ""
        assert each["at"] > 0
        assert each["took_seconds"] >= 0
    await eventually(lambda: len(health(cluster)[1]["nodes"][0]["checks"]) == len(CHECKS), "the row has them", WITHIN)
    code, told = health(cluster)
    assert (code, told["healthy"]) == (0, True), told
    text = run_manage(cluster.environment, "health").stdout
    assert text.startswith("healthy  n1")
    assert all(name in text for name in CHECKS)


async def test_details_need_the_token(start_node: StartNode) -> None:
    """Another token, or none, gets 403 and no figure."""
    node = start_node().nodes[0]
    for token in ("", "another", f"{TOKEN}x"):
        status, found = ask(node, token=token)
        assert (status, list(found)) == (403, ["error"])


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
async def test_the_probe_is_no_client_and_nobody_can_pretend_to_be_it(
    start_node: StartNode, redis_server: RedisServer, connect: Connect, request: pytest.FixtureRequest, server: str
) -> None:
    """A full node is still answered by itself, which evicts nobody and counts nowhere; a forged mark is an ordinary
    client."""
    environment = {**QUICK, "REALTIME_CONNECTIONS_MAX": "1", "REALTIME_HEALTH_THRESHOLD": "1"}
    cluster = Cluster(redis_server.url, nodes=1 if server == "daphne" else 0, environment=environment)
    request.node.stash.setdefault(CLUSTERS, []).append(cluster)
    node = cluster.nodes[0] if server == "daphne" else add_uvicorn(cluster, *UNCOMPRESSED)
    with cluster:
        client = await connect(node.url, additional_headers={PROBE_HEADER: "forged"})
        before = check(node, "responsiveness").get("at", 0)
        await eventually(lambda: check(node, "responsiveness").get("at", 0) > before + 1, "several probes", WITHIN)
        found = check(node, "responsiveness")
        assert found["is_healthy"]
        assert found["figure"] > 0
        assert metric(node, "websocket_connected_clients") == 1
        assert metric(node, "realtime_connections_opened_total") == 1
        assert metric(node, "websocket_messages_received_total") == 0
        assert await client.is_alive()
        assert_no_traceback(cluster)


async def test_too_many_connections(start_node: StartNode, connect: Connect) -> None:
    """At 0.8 of the limit the node is nearly full; readiness does not follow, for it can still take some."""
    cluster = start_node(REALTIME_CONNECTIONS_MAX="5")
    node = cluster.nodes[0]
    clients: list[Client] = [await connect(node.url) for _ in range(3)]
    await passes(node, "connections")
    clients.append(await connect(node.url))
    await fails(node, "connections", "4 connections")
    assert ask(node, "/health/ready")[0] == 200
    await eventually(lambda: health(cluster)[0] == 1, "the command exits with 1", WITHIN)
    assert "4 connections" in health(cluster)[1]["problems"][0]
    assert metric(node, "realtime_check_healthy") == len(CHECKS) - 1
    await clients[0].close()
    await passes(node, "connections")
    assert node.log.count("health_lost") == 1
    assert node.log.count("health_restored") == 1


async def test_the_backplane_is_gone(start_node: StartNode, own_redis: RedisServer) -> None:
    """Without Redis the check fails and readiness with it; with Redis both come back."""
    cluster = start_node(own_redis)
    node = cluster.nodes[0]
    await passes(node, "backplane")
    own_redis.kill()
    await fails(node, "backplane", "interrupted")
    assert ask(node, "/health/ready")[0] == 503
    own_redis.start()
    await passes(node, "backplane")
    await eventually(lambda: ask(node, "/health/ready")[0] == 200, "ready again", WITHIN)


async def test_the_database_is_locked(start_node: StartNode) -> None:
    """While somebody else holds the write lock the check fails, and nothing waits for it; then it passes again."""
    cluster = start_node(REALTIME_HEALTH_TIMEOUT_SECONDS="0.5")
    node = cluster.nodes[0]
    await passes(node, "database")
    other = sqlite3.connect(cluster.database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    await fails(node, "database", "did not take a transaction within 0.5 s")
    assert ask(node, "/health/ready")[0] == 200
    other.execute("ROLLBACK")
    other.close()
    await passes(node, "database")


async def test_a_handler_takes_memory_or_blocks_the_loop(
    redis_server: RedisServer, request: pytest.FixtureRequest
) -> None:
    """Memory that is really taken; a loop that is held up is seen in its lag and in the time of an answer."""
    limits = {"REALTIME_HEALTH_LOOP_LAG_MAX_MS": "100", "REALTIME_HEALTH_LATENCY_MAX_MS": "100"}
    limits |= {"REALTIME_MEMORY_MAX_BYTES": str(400 * MIB), "REALTIME_HEALTH_THRESHOLD": "0.5"}
    cluster = use_application(
        Cluster(redis_server.url, nodes=1, environment={**QUICK, **limits}),
        "tests.acceptance.health.application:application",
    )
    request.node.stash.setdefault(CLUSTERS, []).append(cluster)
    with cluster:
        node = cluster.nodes[0]
        url = node.url.replace("/ws/", "/bad/")
        await passes(node, "memory")
        async with open_websocket(url, proxy=None) as taker:
            await taker.send(json.dumps({"bytes": 200 * MIB}))
            await fails(node, "memory", "MiB of memory; it should be below 200 MiB")
            assert ask(node, "/health/ready")[0] == 200
        await passes(node, "memory")
        async with open_websocket(url, proxy=None) as blocker:
            await blocker.send(json.dumps({"seconds": 0.25}))
            await fails(node, "loop_lag", "the loop stood still")
            await fails(node, "responsiveness", "ms to answer a ping")
        await passes(node, "loop_lag")
        await passes(node, "responsiveness")
