"""One cluster of three nodes behind nginx for each kind of backplane, for all tests here."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

import pytest

from tests.acceptance.nodes import acquainted
from tests.acceptance.outage import ready
from tests.support.cluster import Cluster
from tests.support.servers import RedisServer, Server

HEARTBEAT_SECONDS = 1.0
NODE_TIMEOUT_SECONDS = 5.0  # then the nodes know of the death of one that a test killed


@dataclass(frozen=True)
class Kind:
    """One kind of backplane."""

    name: str
    fixture: str  # a server that the tests may kill, of package or session scope
    has_common_order: bool  # all members of a room see the same sequence
    reads_on: bool = False  # after an outage, where it had stopped: nobody misses anything


KINDS = [
    Kind("redis", "module_redis", has_common_order=True),
    Kind("rabbitmq", "rabbitmq_process", has_common_order=False),
    Kind("kafka", "kafka_process", has_common_order=True, reads_on=True),
]


@pytest.fixture(scope="package")
def module_redis() -> Iterator[RedisServer]:
    with RedisServer() as server:
        yield server


@pytest.fixture(scope="package", params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest.fixture(scope="package")
def broker(kind: Kind, request: pytest.FixtureRequest) -> Server:
    """The server under the cluster; whoever harms it mends it."""
    server: Server = request.getfixturevalue(kind.fixture)
    if server.is_running:
        server.resume()
    server.start()
    return server


@pytest.fixture(scope="package")
def module_cluster(broker: Server) -> Iterator[Cluster]:
    environment = {
        "REALTIME_HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
        "REALTIME_NODE_TIMEOUT_SECONDS": str(NODE_TIMEOUT_SECONDS),
    }
    with Cluster(broker.url, nodes=3, nginx=True, environment=environment) as cluster:
        yield cluster


@pytest.fixture
async def cluster(module_cluster: Cluster, broker: Server) -> AsyncIterator[Cluster]:
    """The cluster of this kind, ready; what a test killed runs again afterwards."""
    await ready(module_cluster)
    await acquainted(module_cluster, within=4 * NODE_TIMEOUT_SECONDS)
    yield module_cluster
    if broker.is_running:
        broker.resume()
    broker.start()  # not in a thread: a Redis ends with the thread that started it
    for node in module_cluster.nodes:
        if not node.is_running:
            await asyncio.to_thread(node.start)


@pytest.fixture
def room() -> str:
    """A room that no other test uses."""
    return f"room-{uuid.uuid4().hex[:8]}"
