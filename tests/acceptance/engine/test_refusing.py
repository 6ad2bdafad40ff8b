"""A handshake that is refused: with the right status, and with what the client should do."""

from __future__ import annotations

import os
import signal

import pytest

from tests.acceptance.engine.conftest import NewPeer, assert_no_surprise
from tests.acceptance.engine.peer import Peer, Refused
from tests.acceptance.nodes import metric
from tests.conftest import StartCluster
from tests.support.cluster import DaphneNode, http_status


def refused(node: DaphneNode, path: str = "/ws/", **headers: str) -> Refused:
    with pytest.raises(Refused) as caught:
        Peer(node.port, path, headers=headers)
    return caught.value


@pytest.mark.parametrize("path", ["/", "/wsx/", "/ws/more", "/echo/", "/%77%73%2f%2e", "/WS/"])
def test_an_unknown_path(engine: DaphneNode, path: str) -> None:
    """404, counted, and no traceback in the log."""
    before = metric(engine, "realtime_connections_refused_total")
    answer = refused(engine, path)
    assert (answer.status, answer.body) == (404, b"404 Not Found\n")
    assert answer.headers["content-length"] == str(len(answer.body))
    assert metric(engine, "realtime_connections_refused_total") == before + 1
    assert_no_surprise(engine)


@pytest.mark.parametrize("path", ["/ws", "/ws/", "/ws/?token=&x=1"])
def test_a_known_path(engine: DaphneNode, new_peer: NewPeer, path: str) -> None:
    """With and without the last slash, and with a query."""
    assert new_peer(engine, path).welcome


@pytest.mark.parametrize("origin", ["http://evil.example", "https://127.0.0.1.evil.example", "null"])
def test_a_page_of_another_site(engine: DaphneNode, origin: str) -> None:
    """403: the browser's user did not ask for that."""
    assert refused(engine, Origin=origin).status == 403


def test_an_origin_that_is_none(engine: DaphneNode) -> None:
    """Refused as well, with 400 since the header is broken."""
    assert refused(engine, Origin="nonsense").status == 400


def test_a_page_of_our_own(engine: DaphneNode, new_peer: NewPeer) -> None:
    """The page's own origin may connect."""
    assert new_peer(engine, headers={"Origin": f"http://127.0.0.1:{engine.port}"}).welcome


def test_a_draining_node(start_cluster: StartCluster, new_peer: NewPeer) -> None:
    """503 with Retry-After while the balancer has not noticed yet; who is there is served; nothing leaks."""
    environment = {"REALTIME_DRAIN_WAIT_SECONDS": "60", "REALTIME_DRAIN_DEADLINE_SECONDS": "90"}
    node = start_cluster(nodes=1, environment=environment).nodes[0]
    inside = new_peer(node)
    os.kill(node.pid, signal.SIGTERM)
    node.wait_until(lambda: http_status(node.port, "/health/ready") == 503, "draining")
    for _ in range(20):
        answer = refused(node)
        assert (answer.status, answer.body) == (503, b"503 Service Unavailable\n")
        assert answer.headers["retry-after"] == "5"
    inside.do("ping")
    assert metric(node, "websocket_connected_clients") == 1
    assert_no_surprise(node)
