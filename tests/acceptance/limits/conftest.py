"""Nodes with small limits, on each server, and peers that are closed after their test."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.acceptance.engine.peer import Peer
from tests.acceptance.nodes import get
from tests.conftest import CLUSTERS
from tests.support.cluster import Cluster, DaphneNode
from tests.support.servers import RedisServer
from tests.support.uvicorn import UNCOMPRESSED, add_uvicorn

SERVERS = ("daphne", "uvicorn", "plain")
"""``plain``: uvicorn with an implementation of WebSockets that it does not let us reach into."""
EVERYWHERE = pytest.mark.parametrize("server", SERVERS)

StartNodes = Callable[..., Cluster]
NewPeer = Callable[..., Peer]


@pytest.fixture
def start_nodes(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[StartNodes]:
    """Starts a cluster with a node on each server: `start_nodes("daphne", "uvicorn", CONNECTIONS_MAX=3)`."""
    clusters = request.node.stash.setdefault(CLUSTERS, [])

    def start(*servers: str, **settings: Any) -> Cluster:
        environment = {f"REALTIME_{name}": str(value) for name, value in settings.items()}
        cluster = Cluster(redis_server.url, nodes=servers.count("daphne"), environment=environment)
        clusters.append(cluster)
        for server in servers:
            if server != "daphne":
                add_uvicorn(cluster, *(UNCOMPRESSED if server == "uvicorn" else ("--ws", "websockets")))
        return cluster.start()

    yield start
    for cluster in clusters:
        cluster.stop()


@pytest.fixture
def new_peer() -> Iterator[NewPeer]:
    """Connects peers, `new_peer(node)`, and cuts them off after the test."""
    peers: list[Peer] = []

    def connected(node: DaphneNode, **options: Any) -> Peer:
        peers.append(Peer(node.port, **options))
        return peers[-1]

    yield connected
    for peer in peers:
        peer.socket.close()


def end_of(cluster: Cluster, connection: str) -> tuple[int, str] | None:
    """The close code and the reason in the row of a connection; None while it is open."""
    with sqlite3.connect(f"file:{cluster.database}?mode=ro", uri=True, timeout=10) as database:
        found = database.execute(
            "SELECT close_code, close_reason FROM realtime_connection WHERE id = ? AND disconnected IS NOT NULL",
            [connection],
        ).fetchone()
    database.close()
    return None if found is None else (found[0], found[1])


def counted(node: DaphneNode, name: str, **labels: str) -> float:
    """The value of one sample of a metric."""
    pairs = ",".join(f'{key}="{value}"' for key, value in labels.items())
    wanted = f"{name}{{{pairs}}} "
    lines = [line for line in get(f"{node.http_url}/metrics").splitlines() if line.startswith(wanted)]
    return float(lines[0].rpartition(" ")[2]) if lines else 0.0
