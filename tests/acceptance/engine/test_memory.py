"""What a node holds does not grow with what it has done: soak runs of minutes.

`ENGINE_SOAK_CONNECTS` is the number of connections of the second test (20,000; 100,000 for the published figure), and
`ENGINE_SOAK_DELIVERIES` that of the deliveries of the first, in millions (10).
"""

from __future__ import annotations

import os

import pytest

from tests.acceptance.engine.conftest import NewPeer, NewWire
from tests.acceptance.engine.crowd import Crowd
from tests.acceptance.engine.memory import cpu_seconds, resident_bytes
from tests.acceptance.engine.peer import Peer, close, command
from tests.acceptance.engine.wire import ping
from tests.acceptance.nodes import assert_no_traceback, metric
from tests.conftest import StartCluster

pytestmark = pytest.mark.slow

MIB = 1024 * 1024
MEMBERS = 1_000
IN_FLIGHT = 64
QUIET = {"LOG_LEVEL": "WARNING", "REALTIME_PING_INTERVAL_SECONDS": "3600"}  # every byte is counted
MILLIONS = int(os.environ.get("ENGINE_SOAK_DELIVERIES", "10"))
CONNECTS = int(os.environ.get("ENGINE_SOAK_CONNECTS", "20000"))


def test_ten_million_deliveries(start_cluster: StartCluster, new_peer: NewPeer) -> None:
    """Between the 2nd and the 10th million deliveries a node's memory stays within 5 %."""
    cluster = start_cluster(nodes=1, environment=QUIET)
    node = cluster.nodes[0]
    with Crowd(node.port, MEMBERS, "soak") as crowd:
        crowd.wait_joined()
        publisher = new_peer(node)
        publisher.do("join", room="soak")
        size = len(f'{{"type":"room","room":"soak","from":"{publisher.id}","data":1000000}}') + 2
        sizes: list[int] = []
        wanted = crowd.received_bytes
        burst = b"".join(command("room", room="soak", data=1_000_000) for _ in range(IN_FLIGHT))
        for million in range(1, MILLIONS + 1):
            before = cpu_seconds(node.pid)
            for _ in range(1_000_000 // MEMBERS // IN_FLIGHT):
                publisher.send(burst)
                wanted += IN_FLIGHT * MEMBERS * size
                crowd.wait_received(wanted, "a burst for everybody", 20)
            sizes.append(resident_bytes(node.pid))
            per_delivery = (cpu_seconds(node.pid) - before) / 1_000_000
            print(f"{million} M deliveries: {sizes[-1] / MIB:.1f} MiB, {per_delivery * 1e6:.2f} us of CPU each")
    assert max(sizes[1:]) < 1.05 * sizes[1]
    assert_no_traceback(cluster)


def test_many_connects(start_cluster: StartCluster, new_wire: NewWire) -> None:
    """A node that has seen 20,000 clients come, join, talk, and go in every way holds what it held after 5,000."""
    cluster = start_cluster(nodes=1, environment=QUIET)
    node = cluster.nodes[0]
    witness = new_wire(node, "soak")
    sizes: list[int] = []
    for opened in range(0, CONNECTS, 100):
        peers = [Peer(node.port) for _ in range(100)]
        for index, peer in enumerate(peers):
            peer.send(command("join", room=f"room {index % 7}"), command("join", room="soak", members=index % 10 == 0))
            peer.send(command("room", room="soak", data=index))
        for index, peer in enumerate(peers):
            peer.until(lambda message: message["type"] == "joined" and message["room"] == "soak")
            if index % 2:
                peer.send(close())
            elif index % 4:
                peer.abort()
            peer.socket.close()
        ping(witness)
        witness.forget()
        if (opened + 100) % 1_000 == 0:
            node.wait_until(lambda: metric(node, "websocket_connected_clients") == 1, "rid of everybody", 20)
            sizes.append(resident_bytes(node.pid))
            print(f"{opened + 100} connects: {sizes[-1] / MIB:.1f} MiB")
    warm = max(1, len(sizes) // 4)
    assert max(sizes[warm:]) < 1.05 * max(sizes[:warm])
    assert_no_traceback(cluster)
