"""Each alert that is shipped fires when its cause is there; with its `for` shortened, as nobody waits for minutes."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import sqlite3
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import InvalidStatus

from tests.acceptance.client import Client
from tests.acceptance.nodes import acquainted, eventually, use_application
from tests.acceptance.scraped.conftest import Scrape
from tests.support.cluster import Cluster, DaphneNode
from tests.support.prometheus import PrometheusServer, impatient, shipped
from tests.support.servers import RedisServer

pytestmark = pytest.mark.slow

ALERTS = set(re.findall(r"- alert: (\w+)", shipped("rules.yml")))
WITHIN = 60.0
STALL_SECONDS = 0.8
PENDING_MAX = 600
MESSAGE = "x" * (3 * 2**18)
QUICK = {
    "REALTIME_HEARTBEAT_SECONDS": "0.5",
    "REALTIME_NODE_TIMEOUT_SECONDS": "3",
    "REALTIME_TRACKING_PENDING_MAX": str(PENDING_MAX),
}
STRICT = {"REALTIME_BACKLOG_MAX_BYTES": "8192", "REALTIME_BACKLOG_HARD_MAX_BYTES": "16384"}
CROWDED = {"REALTIME_CONNECTIONS_MAX": str(PENDING_MAX + 100)}  # 80 % is less than what slow_database opens
SHORT_OF_MEMORY = {"REALTIME_MEMORY_MAX_BYTES": str(2**20), "REALTIME_MEMORY_CHECK_SECONDS": "0.5"}
LENIENT = {"REALTIME_BACKLOG_MAX_BYTES": str(2**29), "REALTIME_BACKLOG_HARD_MAX_BYTES": str(2**29)}


class Scene:
    """A cluster of three, one node that does not belong to it, and Prometheus looking at all four.

    The first node is strict with slow clients, the second one lets them be, the third one is for killing.
    """

    def __init__(
        self, cluster: Cluster, stranger: DaphneNode, redis: RedisServer, prometheus: PrometheusServer
    ) -> None:
        self.strict, self.lenient, self.victim = cluster.nodes
        self.cluster = cluster
        self.stranger = stranger
        self.redis = redis
        self.prometheus = prometheus
        self.seen: set[str] = set()

    async def fires(self, alert: str, node: DaphneNode | None = None) -> None:
        """Wait until an alert fires, for this node if one is given."""
        instance = "" if node is None else f"127.0.0.1:{node.port}"

        def holds() -> bool:
            return any(alert == name and instance in ("", where) for name, where in self.prometheus.firing())

        await eventually(holds, f"{alert} fires", WITHIN)
        self.seen.add(alert)


@pytest.fixture
async def scene(own_redis: RedisServer, scrape: Scrape) -> AsyncIterator[Scene]:
    cluster = use_application(
        Cluster(own_redis.url, nodes=3, environment=QUICK), "tests.acceptance.scraped.failing:application"
    )
    stranger = DaphneNode(
        "stranger", cluster.directory, {**cluster.environment, "BACKPLANE_PREFIX": "elsewhere", **SHORT_OF_MEMORY}
    )
    cluster.nodes[0].environment |= STRICT | CROWDED
    cluster.nodes[1].environment |= LENIENT
    try:
        await asyncio.to_thread(cluster.start)
        await acquainted(cluster)
        nodes = [*cluster.nodes, stranger]
        prometheus = await asyncio.to_thread(scrape, nodes, impatient(shipped("rules.yml")))
        yield Scene(cluster, stranger, own_redis, prometheus)
    finally:
        stranger.kill()
        cluster.stop()


async def never_started(scene: Scene) -> None:
    """A target that nobody listens on; nothing else fires in a cluster at rest."""
    await scene.fires("RealtimeNodeDown", scene.stranger)
    up = 'count(up{job="realtime"} == 1)'
    await eventually(lambda: scene.prometheus.value(up) == 3, "the others are scraped", WITHIN)
    assert scene.prometheus.firing() == {("RealtimeNodeDown", f"127.0.0.1:{scene.stranger.port}")}


async def other_prefix(scene: Scene) -> None:
    """A node that talks past the others, and holds more memory than it may."""
    await asyncio.to_thread(scene.stranger.start)
    await scene.fires("RealtimeNodesDisagree")
    await scene.fires("RealtimeMemory", scene.stranger)


async def killed(scene: Scene) -> None:
    """One node is gone."""
    await asyncio.to_thread(scene.victim.kill)
    await scene.fires("RealtimeNodeDown", scene.victim)
    await scene.fires("RealtimeNodeDied")


async def bug(scene: Scene) -> None:
    """A handler raises."""
    client = await Client.connect(scene.strict.url)
    await client.send("ping", ref="bug")
    assert (await client.expect("error", ref="bug"))["code"] == "internal_error"
    await client.close()
    await scene.fires("RealtimeHandlerFailures", scene.strict)


async def wrong_envelope(scene: Scene) -> None:
    """Somebody publishes what no node can read; members are told that they may have missed something."""
    client = await Client.connect(scene.strict.url)
    scene.redis.command("PUBLISH", f"{scene.cluster.prefix}__group__rt.all", '{"v":999,"type":"broadcast","data":1}')
    await client.expect("missed")
    await client.close()
    await scene.fires("RealtimeEnvelopesUnreadable")
    await scene.fires("RealtimeMissed", scene.strict)


async def refused(scene: Scene) -> None:
    """Pages of another site try to connect."""

    async def attempt() -> None:
        with pytest.raises(InvalidStatus):
            await open_websocket(scene.strict.url, origin="https://evil.example", proxy=None)  # type: ignore[arg-type]

    for _ in range(80):
        await attempt()
    await scene.fires("RealtimeConnectionsRefused", scene.strict)


async def stalls(scene: Scene) -> None:
    """The process does not get the processor."""
    for _ in range(5):
        scene.lenient.pause()
        await asyncio.sleep(STALL_SECONDS)
        scene.lenient.resume()
        await asyncio.to_thread(scene.lenient.wait_ready)
    await scene.fires("RealtimeLoopBlocked", scene.lenient)


def is_over(scene: Scene, histogram: str, bound: str) -> bool:
    """Whether something was observed above a bound."""
    return (scene.prometheus.value(f'sum({histogram}_count) - sum({histogram}_bucket{{le="{bound}"}})') or 0) > 0


async def slow_backplane(scene: Scene) -> None:
    """What was published a moment before Redis stood still arrives late, and so do the answers to joins."""
    clients = [await Client.connect(node.url) for node in (scene.strict, scene.lenient)]
    for client in clients:
        await client.join("slow")
    # What is stamped is one publication in a tenth of a second: the pause must come before one of them is through.
    for attempt in range(20):
        scene.redis.pause()
        await clients[0].send("room", room="slow", data="late", ref="late")
        await clients[1].send("join", room=f"another {attempt}", ref="late")
        await asyncio.sleep(STALL_SECONDS)
        scene.redis.resume()
        for client in clients:
            await client.take(lambda message: message.get("ref") == "late", "an answer", 20)
        for node in (scene.strict, scene.lenient):
            await asyncio.to_thread(node.wait_ready)
        if is_over(scene, "realtime_delivery_lag_seconds", "0.5") and is_over(
            scene, "websocket_message_latency_seconds", "0.5"
        ):
            break
    await scene.fires("RealtimeLatency")
    await scene.fires("RealtimeDeliveryLag")
    for client in clients:
        await client.close()


async def deaf_client(node: DaphneNode, room: str) -> ClientConnection:
    """A client that joins a room and reads no more; its kernel keeps little for it."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    sock.connect(("127.0.0.1", node.port))
    client = await open_websocket(node.url, sock=sock, max_queue=1, proxy=None, compression=None, max_size=None)
    await client.send(f'{{"type":"join","room":"{room}"}}')
    await client.recv()
    await client.recv()
    return client


@contextlib.asynccontextmanager
async def deaf_clients(node: DaphneNode, count: int, room: str) -> AsyncIterator[None]:
    deaf = [await deaf_client(node, room) for _ in range(count)]
    try:
        yield
    finally:
        for client in deaf:
            client.transport.abort()


async def publish(node: DaphneNode, room: str, count: int) -> None:
    client = await Client.connect(node.url)
    await client.join(room)
    for _ in range(count):
        await client.do("room", room=room, data=MESSAGE)
    await client.close()


async def deaf(scene: Scene) -> None:
    """On one node they are closed, on the other one their backlog grows."""
    async with deaf_clients(scene.strict, 15, "closed"):
        await publish(scene.lenient, "closed", 3)
        await scene.fires("RealtimeSlowConsumers", scene.strict)
    async with deaf_clients(scene.lenient, 15, "kept"):
        await publish(scene.lenient, "kept", 12)
        await scene.fires("RealtimeBacklog", scene.lenient)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    database = sqlite3.connect(path, isolation_level=None, timeout=20)
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        database.execute("ROLLBACK")
        database.close()


async def slow_database(scene: Scene) -> None:
    """Somebody holds the write lock while more clients come than rows may wait."""
    with locked(scene.cluster.database):
        clients: list[ClientConnection] = []
        while len(clients) < PENDING_MAX + 50:
            opening = [open_websocket(scene.strict.url, proxy=None, compression=None) for _ in range(50)]
            clients += await asyncio.gather(*opening)
        await scene.fires("RealtimeConnectionsNearMaximum", scene.strict)
        await scene.fires("RealtimeTrackingBehind", scene.strict)
        await scene.fires("RealtimeTrackingLost", scene.strict)
        for client in clients:
            client.transport.abort()


async def redis_gone(scene: Scene) -> None:
    """Nobody can publish, and no node takes clients."""
    client = await Client.connect(scene.strict.url)
    await client.join("lobby")
    await asyncio.to_thread(scene.redis.kill)
    assert (await client.ask("room", room="lobby", data=1, within=20))["code"] == "unavailable"
    for alert in ("RealtimeBackplaneDown", "RealtimeNodeNotReady"):
        await scene.fires(alert, scene.strict)
    await scene.fires("RealtimePublishFailures", scene.strict)
    await client.close()


async def test_each_alert_fires_when_its_cause_is_there(scene: Scene) -> None:
    """One cause after the other, on one cluster."""
    for cause in (
        never_started,
        other_prefix,
        killed,
        bug,
        wrong_envelope,
        refused,
        slow_backplane,
        stalls,
        deaf,
        slow_database,
        redis_gone,
    ):
        await cause(scene)
    assert scene.seen == ALERTS
