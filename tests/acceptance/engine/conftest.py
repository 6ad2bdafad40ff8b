"""One node for all tests that do not stop, pause or flood it, and peers that are closed after their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.acceptance.engine.peer import Peer, text
from tests.acceptance.engine.wire import Wire
from tests.acceptance.nodes import use_application
from tests.conftest import CLUSTERS
from tests.support.cluster import Cluster, DaphneNode
from tests.support.servers import RedisServer

APPLICATION = "tests.acceptance.engine.application:application"
DIRECT, PLAIN = "/echo/direct/", "/echo/plain/"
NewPeer = Callable[..., Peer]
NewWire = Callable[..., Wire]


class Echo(Peer):
    """A peer whose text messages come back."""

    path: str

    def send_behind_a_message(self, *frames: bytes) -> None:
        """A good message and then these frames: the good one is answered.

        Our consumers answer it even if all comes in one segment. Those that get their messages through the server's
        queue have to be given a turn first.
        """
        if self.path == DIRECT:
            self.send(text("before"), *frames)
            assert self.payload() == b"before"
        else:
            self.send(text("before"))
            assert self.payload() == b"before"
            self.send(*frames)


@pytest.fixture(scope="package")
def engine_cluster(redis_server: RedisServer) -> Iterator[Cluster]:
    """One node that serves the tests' own routes beside ours."""
    with use_application(Cluster(redis_server.url, nodes=1), APPLICATION) as cluster:
        yield cluster
        assert_no_surprise(cluster.nodes[0])


def assert_no_surprise(node: DaphneNode) -> None:
    """No traceback in a node's log but those that a test asked for."""
    log = node.log
    assert log.count("Traceback") == log.count("RuntimeError: the application failed, as it was asked to"), log


@pytest.fixture
def engine(engine_cluster: Cluster, request: pytest.FixtureRequest) -> DaphneNode:
    """That node."""
    request.node.stash.setdefault(CLUSTERS, []).append(engine_cluster)
    return engine_cluster.nodes[0]


@pytest.fixture
def new_peer() -> Iterator[NewPeer]:
    """Connects peers, `new_peer(node, "/ws/", …)`, and cuts them off after the test."""
    peers: list[Peer] = []

    def connected(node: DaphneNode, path: str = "/ws/", **options: Any) -> Peer:
        peers.append(Peer(node.port, path, **options))
        return peers[-1]

    yield connected
    for peer in peers:
        peer.socket.close()


@pytest.fixture
def new_wire(new_peer: NewPeer) -> NewWire:
    """Connects peers that join rooms and do not block, `new_wire(node, "a room", …)`."""

    def connected(node: DaphneNode, *rooms: str, **options: Any) -> Wire:
        peer = new_peer(node, **options)
        for room in rooms:
            peer.do("join", room=room)
        return Wire(peer)

    return connected


@pytest.fixture(params=[DIRECT, PLAIN], ids=["direct", "plain"])
def echo_path(request: pytest.FixtureRequest) -> str:
    """The two ways through the server to the same echo."""
    return str(request.param)


@pytest.fixture
def echo(engine: DaphneNode, echo_path: str) -> Iterator[Echo]:
    """A peer whose text messages come back."""
    with Echo(engine.port, echo_path) as peer:
        peer.path = echo_path
        yield peer
