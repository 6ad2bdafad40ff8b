"""A room of thousands never stalls the loop: others are served between the slices."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest

from tests.acceptance.engine.conftest import APPLICATION, NewPeer
from tests.acceptance.engine.crowd import Crowd
from tests.acceptance.engine.peer import Peer, command
from tests.acceptance.engine.wire import Wire, ping
from tests.acceptance.nodes import use_application
from tests.support.cluster import Cluster, DaphneNode
from tests.support.servers import RedisServer

STALL_SECONDS = 0.05
WITHIN_SECONDS = 60.0
SIZES = [pytest.param(3_000), pytest.param(10_000, marks=pytest.mark.slow)]


class BigRoom:
    """A node with a crowd in one room, and a way to fill it."""

    def __init__(self, node: DaphneNode, crowd: Crowd) -> None:
        self.node = node
        self.crowd = crowd

    def publish(self, publisher: Peer, count: int, size: int) -> int:
        """Publish so many at once; the bytes that the crowd will get for it."""
        data = "x" * size
        publisher.send(*(command("room", room="big", data=data) for _ in range(count)))
        message = len(f'{{"type":"room","room":"big","from":"{publisher.id}","data":"{data}"}}')
        return count * self.crowd.count * (message + (2 if message < 126 else 4 if message < 65_536 else 10))


@pytest.fixture(scope="module", params=SIZES)
def big_room(redis_server: RedisServer, request: pytest.FixtureRequest) -> Iterator[BigRoom]:
    environment = {
        "LOG_LEVEL": "WARNING",
        "REALTIME_CONNECTIONS_MAX": "20_000",
        "REALTIME_ADDRESS_CONNECTIONS_MAX": "20_000",
        "REALTIME_PING_INTERVAL_SECONDS": "3600",
        "REALTIME_TRACKING_IS_ON": "0",
    }
    with use_application(Cluster(redis_server.url, nodes=1, environment=environment), APPLICATION) as cluster:
        node = cluster.nodes[0]
        with Crowd(node.port, request.param, "big") as crowd:
            crowd.wait_joined()
            yield BigRoom(node, crowd)


@pytest.mark.parametrize(
    ("rounds", "at_once", "size"),
    [(20, 1, 40), (5, 64, 40), (3, 100, 1_200), (2, 1, 120_000)],
    ids=["one small", "64 small", "a full batch", "one large"],
)
def test_nobody_waits_for_a_big_room(
    big_room: BigRoom, new_peer: NewPeer, rounds: int, at_once: int, size: int
) -> None:
    """While messages go to thousands the loop's thread is never busy for 50 ms without serving others, and everything
    arrives."""
    publisher = new_peer(big_room.node)
    publisher.do("join", room="big")
    stall, other = new_peer(big_room.node, "/stall/"), Wire(new_peer(big_room.node))
    wanted = big_room.crowd.received_bytes
    ask: Callable[[], dict[str, float]] = lambda: json.loads(stall.send(command("?")).payload())  # noqa: E731
    ask()
    pings: list[float] = []
    for _ in range(rounds):
        wanted += big_room.publish(publisher, at_once, size)
        pings.append(ping(other))
        big_room.crowd.wait_received(wanted, "everything for everybody", WITHIN_SECONDS)
    worst = ask()
    assert big_room.crowd.received_bytes == wanted
    print(
        f"{big_room.crowd.count} members: longest slice {worst['cpu'] * 1000:.1f} ms of CPU, "
        f"{worst['clock'] * 1000:.1f} ms by the clock; slowest ping {max(pings) * 1000:.1f} ms"
    )
    assert worst["cpu"] < STALL_SECONDS
