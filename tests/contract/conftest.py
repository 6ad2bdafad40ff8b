"""Two Redis servers for the run, a cluster of each kind with a prefix of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.contract.kinds import KINDS, Cluster, Kind
from tests.support.servers import RedisServer


@pytest.fixture(scope="session")
def redis_pair() -> Iterator[list[RedisServer]]:
    """Shared by all tests that do not harm them."""
    with RedisServer() as first, RedisServer() as second:
        yield [first, second]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest_asyncio.fixture
async def cluster(kind: Kind, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    servers = request.getfixturevalue("redis_pair") if kind.servers else []
    cluster = Cluster(kind, servers)
    yield cluster
    await cluster.close()


@pytest.fixture
def own_servers(kind: Kind) -> Iterator[list[RedisServer]]:
    """Servers that the test may kill."""
    servers = [RedisServer() for _ in range(kind.servers)]
    for server in servers:
        server.start()
    yield servers
    for server in servers:
        server.stop()


@pytest_asyncio.fixture
async def fragile(kind: Kind, own_servers: list[RedisServer]) -> AsyncIterator[Cluster]:
    """A cluster on servers of its own."""
    cluster = Cluster(kind, own_servers)
    yield cluster
    for server in own_servers:
        if server.is_running:
            server.resume()
    await cluster.close()
