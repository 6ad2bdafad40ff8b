"""A node that is full evicts the longest inactive, or refuses."""

from __future__ import annotations

import http.client
import select
import socket
import time

import pytest

from tests.acceptance.engine.peer import Peer, Refused
from tests.acceptance.limits.conftest import EVERYWHERE, NewPeer, StartNodes, counted, end_of
from tests.acceptance.nodes import assert_no_traceback, metric
from tests.support.cluster import Cluster, DaphneNode
from tests.support.servers import RedisServer

OVERLOADED = (1001, "Server overloaded")
NEVER = 3600
STORM = 200
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@EVERYWHERE
def test_a_full_node_evicts_the_longest_inactive(server: str, start_nodes: StartNodes, new_peer: NewPeer) -> None:
    """A fifth of ten go, the longest inactive: 1001 "Server overloaded". The newcomer and the others stay."""
    cluster = start_nodes(server, CONNECTIONS_MAX=10, EVICT_FRACTION=0.2, EVICT_INACTIVE_SECONDS=0)
    node = cluster.nodes[0]
    peers = [new_peer(node) for _ in range(10)]
    for peer in (*peers[:3], *peers[4:9]):
        peer.do("ping")  # silent ever since they came: the fourth and the tenth
    newcomer = new_peer(node)
    for evicted in (peers[3], peers[9]):
        assert evicted.closed() == OVERLOADED
        evicted.socket.close()
    for peer in (newcomer, *peers[:3], *peers[4:9]):
        peer.do("ping")
    assert metric(node, "websocket_connected_clients") == 9
    assert counted(node, "realtime_connections_evicted_total", reason="overloaded") == 2
    node.wait_until(lambda: end_of(cluster, peers[3].id) == OVERLOADED, "done with the row")
    assert_no_traceback(cluster)


@EVERYWHERE
def test_a_full_node_of_active_clients_refuses(server: str, start_nodes: StartNodes, new_peer: NewPeer) -> None:
    """503 with Retry-After, nobody is closed, and the place of one who leaves is given to the next."""
    cluster = start_nodes(server, CONNECTIONS_MAX=2, EVICT_INACTIVE_SECONDS=NEVER)
    node = cluster.nodes[0]
    peers = [new_peer(node) for _ in range(2)]
    for _ in range(3):
        with pytest.raises(Refused) as caught:
            new_peer(node)
        assert (caught.value.status, caught.value.headers["retry-after"]) == (503, "5")
    assert counted(node, "realtime_connections_refused_total", reason="capacity") == 3
    assert node.log.count("capacity_refuses") == 1
    peers[0].leave()
    node.wait_until(lambda: metric(node, "websocket_connected_clients") == 1, "rid of the one")
    new_peer(node).do("ping")
    peers[1].do("ping")
    assert_no_traceback(cluster)


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
def test_a_storm_of_handshakes_does_not_exceed_the_limit(server: str, start_nodes: StartNodes) -> None:
    """200 at once, each with a cookie that has to be looked up in the database: 50 are let in, the others refused."""
    node = start_nodes(server, CONNECTIONS_MAX=50, EVICT_INACTIVE_SECONDS=NEVER).nodes[0]
    answers = storm(node.port, STORM)
    assert sorted(answers) == [b"101"] * 50 + [b"503"] * (STORM - 50)
    assert counted(node, "realtime_connections_refused_total", reason="capacity") == STORM - 50
    assert counted(node, "realtime_connections_opened_total", transport="websocket") == 50


def test_the_balancer_finds_a_node_with_room(redis_server: RedisServer, new_peer: NewPeer) -> None:
    """Behind nginx clients land on the other node while one is full."""
    cluster = Cluster(redis_server.url, nodes=2, nginx=True, environment={"REALTIME_EVICT_INACTIVE_SECONDS": "3600"})
    full, roomy = cluster.nodes
    full.environment["REALTIME_CONNECTIONS_MAX"] = "2"
    roomy.environment["REALTIME_CONNECTIONS_MAX"] = "7"
    with cluster:
        nginx = cluster.nginx
        assert nginx is not None
        local = [new_peer(full) for _ in range(2)]
        balanced = [Peer(nginx.public_port) for _ in range(6)]
        direct = new_peer(roomy)
        assert {peer.welcome["node"] for peer in balanced} == {direct.welcome["node"]}
        assert direct.welcome["node"] != local[0].welcome["node"]
        assert refusals(full) > 0
        for peer in (*local, *balanced):
            peer.do("ping")
            peer.socket.close()


def test_behind_the_balancer_with_all_nodes_full(redis_server: RedisServer, new_peer: NewPeer) -> None:
    """The client is told when to come back, after every node was asked."""
    environment = {"REALTIME_EVICT_INACTIVE_SECONDS": "3600", "REALTIME_CONNECTIONS_MAX": "1"}
    with Cluster(redis_server.url, nodes=2, nginx=True, environment=environment) as cluster:
        assert cluster.nginx is not None
        for node in cluster.nodes:
            new_peer(node)
        balancer = http.client.HTTPConnection("127.0.0.1", cluster.nginx.public_port, timeout=10)
        balancer.request("GET", "/ws/", headers=UPGRADE)
        answer = balancer.getresponse()
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        balancer.close()
        assert [refusals(node) for node in cluster.nodes] == [1, 1]


def refusals(node: DaphneNode) -> float:
    return counted(node, "realtime_connections_refused_total", reason="capacity")


def storm(port: int, count: int) -> list[bytes]:
    """So many handshakes at once: the status of each answer."""
    headers = {"Host": f"127.0.0.1:{port}", "Cookie": "sessionid=nobody", **UPGRADE}
    lines = ["GET /ws/ HTTP/1.1", *(f"{name}: {value}" for name, value in headers.items()), "", ""]
    request = "\r\n".join(lines).encode()
    sockets = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(count)]
    for each in sockets:
        each.sendall(request)
    answers: dict[int, bytes] = {}
    waiting = {each.fileno(): each for each in sockets}
    deadline = time.monotonic() + 30
    while waiting:
        assert time.monotonic() < deadline, f"{len(waiting)} handshakes without an answer"
        for number in select.select(list(waiting), [], [], 1)[0]:
            answers[number] = waiting.pop(number).recv(12).split()[1]
    for each in sockets:
        each.close()
    return list(answers.values())
