"""Servers for the run, a cluster of each kind with a prefix of its own for each test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.contract.kinds import KINDS, Cluster, Kind
from tests.support.kafka import KafkaServer
from tests.support.rabbitmq import RabbitServer
from tests.support.servers import RedisServer, Server


@pytest.fixture(scope="session")
def redis_pair() -> Iterator[list[RedisServer]]:
    """Shared by all tests that do not harm them."""
    with RedisServer() as first, RedisServer() as second:
        yield [first, second]


@pytest.fixture
def redis_servers(redis_pair: list[RedisServer]) -> list[RedisServer]:
    return redis_pair


@pytest.fixture
def own_redis_servers() -> Iterator[list[RedisServer]]:
    """Two that the test may harm."""
    with RedisServer() as first, RedisServer() as second:
        yield [first, second]


@pytest.fixture
def rabbitmq_servers(rabbitmq_server: RabbitServer) -> list[RabbitServer]:
    return [rabbitmq_server]


@pytest.fixture
def own_rabbitmq_servers(rabbitmq_server: RabbitServer) -> list[RabbitServer]:
    """The same one: it takes seconds to start, and each test finds it in order."""
    return [rabbitmq_server]


@pytest.fixture
def kafka_servers(kafka_server: KafkaServer) -> list[KafkaServer]:
    return [kafka_server]


@pytest.fixture
def own_kafka_servers(kafka_server: KafkaServer) -> list[KafkaServer]:
    """The same one, for the same reason."""
    return [kafka_server]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    chosen: Kind = request.param
    return chosen


@pytest_asyncio.fixture
async def cluster(kind: Kind, request: pytest.FixtureRequest) -> AsyncIterator[Cluster]:
    servers = request.getfixturevalue(f"{kind.broker}_servers") if kind.servers else []
    cluster = Cluster(kind, servers)
    yield cluster
    await cluster.close()


@pytest.fixture
def own_servers(kind: Kind, request: pytest.FixtureRequest) -> list[Server]:
    """Servers that the test may kill."""
    servers: list[Server] = request.getfixturevalue(f"own_{kind.broker}_servers")
    return servers[: kind.servers]


@pytest_asyncio.fixture
async def fragile(kind: Kind, own_servers: list[Server]) -> AsyncIterator[Cluster]:
    """A cluster on servers of its own."""
    cluster = Cluster(kind, own_servers)
    yield cluster
    for server in own_servers:
        if server.is_running:
            server.resume()
    await cluster.close()
