"""Three nodes with the echoes of the suites, and peers that are closed after their test.

All ping often. `patient` and `other` wait long for the answer, so that a busy machine ends no session; `strict` has the
times that the suites are written for.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from tests.acceptance.nodes import use_application
from tests.acceptance.socketio.peer import Polling, Socket, Talker
from tests.conftest import CLUSTERS
from tests.support.cluster import Cluster, DaphneNode
from tests.support.servers import RedisServer

APPLICATION = "tests.acceptance.socketio.application:application"
SECRET_KEY = secrets.token_hex(32)
TIMES = {
    "DJANGO_SECRET_KEY": SECRET_KEY,
    "REALTIME_MESSAGE_MAX_BYTES": "1000000",
    "REALTIME_COMMAND_MAX_BYTES": "1000000",
    "REALTIME_SOCKETIO_PING_INTERVAL_SECONDS": "0.3",
}
STRICT = {"REALTIME_SOCKETIO_PING_TIMEOUT_SECONDS": "0.2", "REALTIME_SOCKETIO_CONNECT_TIMEOUT_SECONDS": "1"}
TRANSPORTS = {
    "polling only": ["polling"],
    "WebSocket only": ["websocket"],
    "upgrade": ["polling", "websocket"],
}
NewPolling = Callable[..., Awaitable[Polling]]
NewSocket = Callable[..., Awaitable[Socket]]
NewTalker = Callable[..., Awaitable[Talker]]


@pytest.fixture(scope="package")
def echo_cluster(redis_server: RedisServer) -> Iterator[Cluster]:
    cluster = use_application(Cluster(redis_server.url, nodes=3, environment=TIMES), APPLICATION)
    cluster.nodes[2].environment = {**cluster.nodes[2].environment, **STRICT}
    with cluster:
        yield cluster


@pytest.fixture
def patient(request: pytest.FixtureRequest, echo_cluster: Cluster) -> DaphneNode:
    request.node.stash.setdefault(CLUSTERS, []).append(echo_cluster)
    return echo_cluster.nodes[0]


@pytest.fixture
def other(patient: DaphneNode, echo_cluster: Cluster) -> DaphneNode:
    return echo_cluster.nodes[1]


@pytest.fixture
def strict(request: pytest.FixtureRequest, echo_cluster: Cluster) -> DaphneNode:
    request.node.stash.setdefault(CLUSTERS, []).append(echo_cluster)
    return echo_cluster.nodes[2]


@pytest.fixture
async def polling() -> AsyncIterator[NewPolling]:
    """Opens sessions over HTTP: `await polling(url)`."""
    opened: list[Polling] = []

    async def open_one(url: str, **options: Any) -> Polling:
        opened.append(await Polling.open(url, **options))
        return opened[-1]

    yield open_one
    for each in opened:
        await each.close()


@pytest.fixture
async def socket() -> AsyncIterator[NewSocket]:
    """Opens WebSockets: `await socket(url, sid)`."""
    opened: list[Socket] = []

    async def open_one(url: str, sid: str | None = None, **options: Any) -> Socket:
        opened.append(await Socket.open(url, sid, **options))
        return opened[-1]

    yield open_one
    with contextlib.suppress(OSError):
        await asyncio.gather(*(each.close() for each in opened))


@pytest.fixture
async def talker() -> AsyncIterator[NewTalker]:
    """Connects clients over WebSockets: `await talker(node, namespace="/custom", auth={…})`."""
    connected: list[Talker] = []

    async def connect_one(node: DaphneNode, **options: Any) -> Talker:
        connected.append(await Talker.connect(node.http_url + "/socket.io/", **options))
        return connected[-1]

    yield connect_one
    await asyncio.gather(*(each.close() for each in connected))


def in_turn(cluster: Cluster, *, by_session: bool = False) -> Cluster:
    """Let nginx ask the nodes in turn; and unless `by_session`, without a look at the session."""
    assert cluster.nginx is not None
    text = cluster.nginx.configuration.read_text()
    assert "least_conn;" in text
    assert "http://$socketio_nodes" in text
    text = text.replace("least_conn;", "")
    if not by_session:
        text = text.replace("http://$socketio_nodes", "http://nodes")
    cluster.nginx.configuration.write_text(text)
    return cluster


@pytest.fixture(scope="package")
def in_turn_cluster(redis_server: RedisServer) -> Iterator[Cluster]:
    with in_turn(Cluster(redis_server.url, nodes=2, nginx=True)) as cluster:
        yield cluster


@pytest.fixture
def url(request: pytest.FixtureRequest, in_turn_cluster: Cluster) -> str:
    request.node.stash.setdefault(CLUSTERS, []).append(in_turn_cluster)
    assert in_turn_cluster.nginx is not None
    return in_turn_cluster.nginx.http_url
