"""A node is told to end: by SIGTERM, by SIGINT, twice, and with clients that make it hard."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import socket
import time

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import acquainted, assert_no_traceback, eventually
from tests.conftest import StartCluster
from tests.support.cluster import DaphneNode, http_status

RESTART = (1012, "Service restart")
SIGNALS = [signal.SIGTERM, signal.SIGINT]


async def ended(node: DaphneNode, within: float = 10.0) -> int:
    return await asyncio.to_thread(node.wait, within)


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_signal_ends_a_node_cleanly(
    start_cluster: StartCluster, connect: Connect, number: signal.Signals
) -> None:
    """Every client, busy or idle, sees 1012 "Service restart"; the exit status is 0, and nothing went wrong."""
    cluster = start_cluster(nodes=1)
    node = cluster.nodes[0]
    clients = await asyncio.gather(*(connect(node.url) for _ in range(250)))
    for client in clients[:50]:
        await client.join("room")
        await client.send("room", room="room", data="in the middle of it")
    os.kill(node.pid, number)
    assert {await client.closed() for client in clients} == {RESTART}
    assert await ended(node) == 0
    assert_no_traceback(cluster)
    assert "code=1012" in node.log


async def test_a_node_without_clients_ends_at_once(start_cluster: StartCluster) -> None:
    """Nobody is there to wait for."""
    node = start_cluster(nodes=1).nodes[0]
    began = time.monotonic()
    assert await asyncio.to_thread(node.stop) == 0
    assert time.monotonic() - began < 2


@pytest.mark.parametrize("number", SIGNALS)
async def test_a_draining_node_and_a_second_signal(
    start_cluster: StartCluster, connect: Connect, number: signal.Signals
) -> None:
    """While the balancer is given time to notice, readiness is red, newcomers get 503 and who is there is served; a
    second signal ends the process at once."""
    environment = {"REALTIME_DRAIN_WAIT_SECONDS": "60", "REALTIME_DRAIN_DEADLINE_SECONDS": "120"}
    node = start_cluster(nodes=1, environment=environment).nodes[0]
    client = await connect(node.url)
    os.kill(node.pid, number)
    await eventually(lambda: http_status(node.port, "/health/ready") == 503, "readiness is red")
    with pytest.raises(InvalidStatus) as refused:
        await connect(node.url)
    assert refused.value.response.status_code == 503
    assert refused.value.response.headers["Retry-After"]
    await client.do("broadcast", data="still served", echo=True)
    await client.expect("broadcast")
    began = time.monotonic()
    os.kill(node.pid, number)
    assert await ended(node, 2) == 128 + number
    assert time.monotonic() - began < 1


async def test_the_deadline_ends_a_node_that_cannot_drain(start_cluster: StartCluster, connect: Connect) -> None:
    """Whatever a drain waits for, the process is gone at its deadline, with another exit status than 0."""
    environment = {"REALTIME_DRAIN_WAIT_SECONDS": "60", "REALTIME_DRAIN_DEADLINE_SECONDS": "1"}
    node = start_cluster(nodes=1, environment=environment).nodes[0]
    await connect(node.url)
    began = time.monotonic()
    node.terminate()
    assert await ended(node) == 1
    assert 0.9 < time.monotonic() - began < 2.5


async def test_the_others_are_told_at_once(start_cluster: StartCluster, connect: Connect) -> None:
    """A node that ends says goodbye: its members leave their rooms and its connections are unknown without waiting for
    the node timeout; the other node's clients notice nothing else."""
    cluster = start_cluster(nodes=2)
    await acquainted(cluster)
    leaving, staying = cluster.nodes
    gone, watcher = await connect(leaving.url), await connect(staying.url)
    await gone.join("room")
    await watcher.join("room", members=True)
    began = time.monotonic()
    leaving.terminate()
    push = await watcher.expect("members")
    assert push == {"type": "members", "room": "room", "joined": [], "left": [{"id": gone.id, "user": None}]}
    assert await ended(leaving) == 0
    assert (await watcher.ask("private", to=gone.id, data=1))["code"] == "unknown_recipient"
    assert time.monotonic() - began < 5  # far below the 15 s of the node timeout
    assert watcher.waiting == []


@pytest.mark.parametrize("pause_seconds", [0.0, 0.6])
async def test_what_waits_for_a_client_is_sent_before_the_close(
    start_cluster: StartCluster, connect: Connect, pause_seconds: float
) -> None:
    """A client that was slow to read gets everything that was handed over to it, and then the close frame; also one
    that takes 5 s for it, while it goes on reading."""
    cluster = start_cluster(nodes=1)
    node = cluster.nodes[0]
    sender = await connect(node.url)
    small = socket.socket()
    small.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    small.connect(("127.0.0.1", node.port))
    slow = await open_websocket(node.url, sock=small, proxy=None, compression=None, max_queue=1, ping_interval=None)
    welcome = str(await slow.recv())
    recipient = welcome.partition('"id":"')[2].partition('"')[0]
    for number in range(9):
        await sender.do("private", to=recipient, data=f"{number}" + "x" * 100_000)
    node.terminate()
    assert await sender.closed() == RESTART
    came: list[str] = []
    with pytest.raises(ConnectionClosed) as closed:
        await read_all(slow, came, pause_seconds)
    assert [message.partition('"data":"')[2][0] for message in came] == [str(number) for number in range(9)]
    assert closed.value.rcvd is not None, closed.value
    assert (closed.value.rcvd.code, closed.value.rcvd.reason) == RESTART
    assert await ended(node) == 0


async def read_all(connection: ClientConnection, into: list[str], pause_seconds: float) -> None:
    """Read until ConnectionClosed, as slowly as the client is."""
    while True:
        await asyncio.sleep(pause_seconds)
        into.append(str(await asyncio.wait_for(connection.recv(), 5)))


async def test_a_client_that_never_answers_is_not_waited_for(start_cluster: StartCluster, connect: Connect) -> None:
    """One that does not answer the close frame, and one that never reads: the others are closed at once, the process
    ends well before its deadline, with 0."""
    cluster = start_cluster(nodes=1)
    node = cluster.nodes[0]
    polite = await connect(node.url)
    mute = [handshake(node) for _ in range(3)]
    try:
        began = time.monotonic()
        node.terminate()
        assert await polite.closed(2) == RESTART
        assert await ended(node) == 0
        assert time.monotonic() - began < 8
    finally:
        for each in mute:
            each.close()
    assert_no_traceback(cluster)


def handshake(node: DaphneNode) -> socket.socket:
    """A WebSocket whose client does nothing more after the handshake."""
    peer = socket.create_connection(("127.0.0.1", node.port), timeout=5)
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [
        "GET /ws/ HTTP/1.1",
        f"Host: 127.0.0.1:{node.port}",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        f"Sec-WebSocket-Key: {key}",
        "",
        "",
    ]
    peer.sendall("\r\n".join(lines).encode())
    assert b"101 Switching Protocols" in peer.recv(4096)
    return peer
