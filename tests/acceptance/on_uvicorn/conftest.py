"""Nodes on uvicorn for single tests."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.conftest import CLUSTERS
from tests.support.cluster import Cluster, DaphneNode
from tests.support.servers import RedisServer
from tests.support.uvicorn import add_uvicorn

LOOPS = ["asyncio", "uvloop"]

StartNode = Callable[..., DaphneNode]


@pytest.fixture
def start_node(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[StartNode]:
    """Starts a node on uvicorn that the test may stop: `start_node("--loop", "uvloop", environment={…})`."""
    clusters = request.node.stash.setdefault(CLUSTERS, [])

    def start(
        *arguments: str,
        redis: RedisServer | None = None,
        environment: dict[str, str] | None = None,
        application: str = "config.asgi:application",
    ) -> DaphneNode:
        cluster = Cluster((redis or redis_server).url, nodes=0, environment=environment)
        clusters.append(cluster)
        node = add_uvicorn(cluster, *arguments, application=application)
        cluster.start()
        return node

    yield start
    for cluster in clusters:
        cluster.stop()
