"""The rights on Redis and RabbitMQ that docs/backplanes.md gives to nodes: enough for all that they do, and no more."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Iterator

import pika
import pytest
from pika.exceptions import ChannelClosedByBroker

from realtime.layers.rabbitmq import RabbitmqChannelLayer
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import acquainted, assert_no_traceback
from tests.support.cluster import Cluster
from tests.support.processes import CHECKOUT
from tests.support.rabbitmq import RabbitServer
from tests.support.servers import RedisServer

BACKPLANES = CHECKOUT / "docs" / "backplanes.md"
PASSWORD = "of-the-nodes"
# What somebody would try who got hold of a node's password.
FORBIDDEN = [
    "SET x 1",
    "GET x",
    "DEL x",
    "KEYS *",
    "SCAN 0",
    "EVAL return 0",
    "FLUSHALL",
    "CONFIG GET *",
    "CLIENT LIST",
    "CLIENT KILL 127.0.0.1:1",
    "MONITOR",
    "ACL LIST",
    "SHUTDOWN",
    "REPLICAOF 127.0.0.1 1",
    "MODULE LIST",
    "PUBSUB CHANNELS",
    "PUBLISH other__group__x hello",
    "SUBSCRIBE other__group__x",
    "PSUBSCRIBE *",
]


def documented(beginning: str) -> str:
    """The line of docs/backplanes.md that begins so."""
    [line] = re.findall(rf"^{re.escape(beginning)}.*$", BACKPLANES.read_text(), re.MULTILINE)
    return str(line)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Two nodes on a Redis of their own, as the user that the documentation makes."""
    with RedisServer(password="of the operators") as redis:
        cluster = Cluster(f"redis://realtime:{PASSWORD}@127.0.0.1:{redis.port}/3", nodes=2)
        words = (
            documented("ACL SETUSER realtime").replace("PASSWORD", PASSWORD).replace("asgi__", f"{cluster.prefix}__")
        )
        assert redis.command(*words.split()) == b"+OK\r\n"
        with cluster:
            yield cluster
            assert_no_traceback(cluster)


async def test_a_cluster_works_with_the_rights_on_redis(cluster: Cluster, connect: Connect) -> None:
    """Nodes find each other; rooms, private messages and Django code reach whom they should."""
    await acquainted(cluster)
    one, other = await connect(cluster.nodes[0].url), await connect(cluster.nodes[1].url)
    await one.join("lobby", members=True)
    await other.join("lobby")
    await one.do("room", room="lobby", data=1)
    await other.expect("room", data=1)
    await other.do("private", to=one.id, data=2)
    await one.expect("private", data=2)
    await asyncio.to_thread(cluster.manage, "publish", "broadcast", "3")
    await one.expect("broadcast", data=3)
    await one.do("leave", room="lobby")
    assert "NOPERM" not in cluster.nodes[0].log


def test_nodes_may_do_nothing_else_on_redis(cluster: Cluster) -> None:
    """No key, no script, no other cluster's channels, nothing of the server itself."""
    port = int(re.findall(r":(\d+)/", cluster.environment["BACKPLANE_URL"])[0])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        assert ask(connection, f"AUTH realtime {PASSWORD}") == "+OK"
        assert ask(connection, "PING") == "+PONG"
        for command in FORBIDDEN:
            assert ask(connection, command).startswith("-NOPERM"), command


def ask(connection: socket.socket, command: str) -> str:
    connection.sendall(f"{command}\r\n".encode())
    return connection.recv(4096).decode().strip()


@pytest.fixture
def rabbitmq(rabbitmq_server: RabbitServer) -> RabbitServer:
    """With the user that the documentation makes."""
    rabbitmq_server.control("add_user", "realtime", PASSWORD)
    words = [word.strip("'") for word in documented("rabbitmqctl set_permissions realtime").split()[1:]]
    rabbitmq_server.control(*words)
    return rabbitmq_server


async def test_the_rights_on_rabbitmq(rabbitmq: RabbitServer) -> None:
    """A layer publishes and receives with them; another queue or exchange is refused."""
    url = f"amqp://realtime:{PASSWORD}@127.0.0.1:{rabbitmq.port}/"
    layer = RabbitmqChannelLayer(hosts=[url])
    channel = await layer.new_channel()
    await layer.group_add("group", channel)
    await layer.group_send("group", {"type": "heard"})
    assert await asyncio.wait_for(layer.receive(channel), 10) == {"type": "heard"}
    await layer.close()
    await asyncio.to_thread(assert_others_are_refused, url)


def assert_others_are_refused(url: str) -> None:
    connection = pika.BlockingConnection(pika.URLParameters(url))
    for declare in (
        lambda channel: channel.queue_declare("orders"),
        lambda channel: channel.exchange_declare("orders"),
        lambda channel: channel.queue_declare(""),
        lambda channel: channel.basic_get("orders"),
    ):
        with pytest.raises(ChannelClosedByBroker, match="ACCESS_REFUSED"):
            declare(connection.channel())
    connection.close()
