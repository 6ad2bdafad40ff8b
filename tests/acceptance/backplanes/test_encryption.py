"""With BACKPLANE_KEYS nobody who reads along on Redis understands anything, and a node with another key is noticed."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator

import pytest

from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import assert_no_traceback, eventually, metric
from tests.support.cluster import Cluster, run_manage
from tests.support.servers import RedisServer

NEW, OLD, FOREIGN = ("new-" * 10, "old-" * 10, "foreign-" * 5)


@pytest.fixture(scope="module")
def cluster(redis_server: RedisServer) -> Iterator[Cluster]:
    """Two nodes in the middle of a change of keys, one with a key of its own, and one without any."""
    cluster = Cluster(redis_server.url, nodes=4, environment={"REALTIME_HEARTBEAT_SECONDS": "0.5"})
    for node, keys in zip(cluster.nodes, (f"{NEW},{OLD}", f"{OLD},{NEW}", FOREIGN, ""), strict=True):
        node.environment["BACKPLANE_KEYS"] = keys
    with cluster:
        yield cluster
        assert_no_traceback(cluster)


class Eavesdropper:
    """Somebody on Redis who subscribes to everything of a cluster."""

    def __init__(self, redis: RedisServer, prefix: str) -> None:
        self.heard = b""
        self._socket = socket.create_connection(("127.0.0.1", redis.port), timeout=10)
        self._socket.sendall(f"PSUBSCRIBE {prefix}*\r\n".encode())
        self.listen_until(b"psubscribe")

    def listen_until(self, word: bytes) -> None:
        while word not in self.heard:
            self.heard += self._socket.recv(65_536)

    def close(self) -> None:
        self._socket.close()


async def test_what_is_on_redis_is_encrypted(cluster: Cluster, redis_server: RedisServer, connect: Connect) -> None:
    """Messages of nodes and of Django code pass between nodes whose keys are being changed; who reads along finds
    neither their text nor their form."""
    one, other = await connect(cluster.nodes[0].url), await connect(cluster.nodes[1].url)
    await one.join("lobby")
    await other.join("lobby")
    ear = await asyncio.to_thread(Eavesdropper, redis_server, cluster.prefix)
    await one.do("room", room="lobby", data="attack at dawn")
    await other.expect("room", data="attack at dawn")
    await other.do("room", room="lobby", data="attack at noon")
    await one.expect("room", data="attack at noon")
    environment = cluster.nodes[0].environment
    published = await asyncio.to_thread(run_manage, environment, "publish", "room", "lobby", '"attack at dusk"')
    assert published.returncode == 0, published.stderr
    await one.expect("room", data="attack at dusk")
    await other.expect("room", data="attack at dusk")
    end = b"the end of the test"
    await asyncio.to_thread(redis_server.command, "PUBLISH", f"{cluster.prefix}-end", end)
    await asyncio.to_thread(ear.listen_until, end)
    ear.close()
    # The node without a key is the only one that speaks plainly.
    ours = [line for line in ear.heard.split(b"\r\n") if line.startswith((b"gAAAA", b"{"))]
    plain = [line for line in ours if line.startswith(b"{")]
    assert len(ours) - len(plain) >= 3
    assert b"attack" not in ear.heard
    assert not re.search(rb"\bn[123]-", b"".join(plain))


@pytest.mark.parametrize("number", [2, 3], ids=["another key", "no key"])
async def test_a_node_that_cannot_read_the_others_says_so(cluster: Cluster, connect: Connect, number: int) -> None:
    """What it cannot read is counted and logged, and its clients are told that they miss something."""
    node = cluster.nodes[number]
    client = await connect(node.url)
    await client.expect("missed", rooms=None)
    counted = "realtime_backplane_dropped_total" if number == 2 else "realtime_envelopes_unreadable_total"
    await eventually(lambda: metric(node, counted) > 0, "what cannot be read is counted")
    assert ("backplane_key_unknown count=" if number == 2 else "envelopes_unreadable count=") in node.log


async def test_nodes_with_the_right_key_see_one_with_another(cluster: Cluster) -> None:
    """They count and log what it sends."""
    for node in cluster.nodes[:2]:
        await eventually(lambda node=node: metric(node, "realtime_backplane_dropped_total") > 0, "counted")  # type: ignore[misc]
        assert "backplane_key_unknown count=" in node.log
