"""A TLS endpoint of daphne serves the same messages in the same order, by way of Twisted."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest

from devtools.ports import free_port
from tests.acceptance.engine.peer import PING, PONG, Peer, command, frame
from tests.acceptance.nodes import assert_no_traceback, metric
from tests.support.cluster import Cluster, DaphneNode
from tests.support.processes import accepts
from tests.support.servers import RedisServer
from tests.support.tls import self_signed

MIB = 1024 * 1024
MESSAGES = 2_000


class TlsNode:
    """A node with a second endpoint."""

    def __init__(self, node: DaphneNode, port: int, context: ssl.SSLContext) -> None:
        self.node = node
        self.port = port
        self.context = context

    def peer(self, path: str = "/ws/", receive_buffer: int | None = None) -> Peer:
        return Peer(self.port, path, tls=self.context, receive_buffer=receive_buffer)


@pytest.fixture(scope="module")
def tls(redis_server: RedisServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsNode]:
    pair = self_signed(tmp_path_factory.mktemp("tls"))
    cluster = Cluster(redis_server.url, nodes=1)
    port = free_port()
    node = cluster.nodes[0]
    node.command += ["-e", f"ssl:{port}:interface=127.0.0.1:privateKey={pair.key}:certKey={pair.certificate}"]
    with cluster:
        node.wait_until(lambda: accepts(port), "listening with TLS")
        yield TlsNode(node, port, pair.trusting())
        assert_no_traceback(cluster)


def test_messages_keep_their_order(tls: TlsNode) -> None:
    """Members with and without TLS get the same sequence of room messages; pings and replies have their place in it."""
    with tls.peer() as sender, tls.peer() as member, Peer(tls.node.port) as plain:
        for peer in (sender, member, plain):
            peer.do("join", room="tls")
        for number in range(MESSAGES):
            sender.send(command("room", room="tls", data=[number, "x" * (number % 300)]))
            if number % 100 == 50:
                member.send(command("ping", ref=number), frame(PING, b"%d" % number))
        came = [member.frame() for _ in range(MESSAGES + 2 * MESSAGES // 100)]
        pushes = [data for data in (bytes(each.data) for each in came) if data.startswith(b'{"type":"room"')]
        assert pushes == [plain.payload() for _ in range(MESSAGES)]
        pongs = [each.data for each in came if each.opcode == PONG]
        assert pongs == [b"%d" % number for number in range(50, MESSAGES, 100)]
        sender.do("ping")


def test_a_big_message(tls: TlsNode) -> None:
    """Larger than any record of TLS, there and back."""
    with tls.peer() as sender, tls.peer() as member:
        sender.do("join", room="big")
        member.do("join", room="big")
        sender.send(command("room", room="big", data="x" * 900_000))
        assert member.message()["data"] == "x" * 900_000


def test_closing(tls: TlsNode) -> None:
    """A message that is too big is answered with 1009 and its reason; a goodbye with a goodbye."""
    with tls.peer() as peer:
        peer.send(frame(2, b"x" * (MIB + 1))[:14])
        assert peer.closed() == (1009, "Message too big")
    with tls.peer() as peer:
        peer.leave()


def test_a_slow_reader(tls: TlsNode) -> None:
    """A client that does not read is closed with 4008 here, too, and nobody waits for it."""
    evicted = metric(tls.node, "realtime_connections_evicted_total")
    with tls.peer() as sender, tls.peer(receive_buffer=4096) as slow, tls.peer() as quick:
        for peer in (sender, slow, quick):
            peer.do("join", room="slow")
        for number in range(100):
            sender.send(command("room", room="slow", data=[number, "x" * 100_000]))
            assert quick.message()["data"][0] == number
        tls.node.wait_until(
            lambda: metric(tls.node, "realtime_connections_evicted_total") == evicted + 1, "closing the slow one", 10
        )
        sender.do("ping")
