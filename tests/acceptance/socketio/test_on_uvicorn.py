"""A node on uvicorn serves Socket.IO clients as one on daphne does."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator

import pytest

from tests.acceptance.nodes import acquainted
from tests.acceptance.socketio.conftest import APPLICATION, TIMES, NewPolling, NewSocket, NewTalker
from tests.conftest import CLUSTERS
from tests.support.cluster import Cluster, DaphneNode
from tests.support.servers import RedisServer
from tests.support.uvicorn import add_uvicorn

NO_COMPRESSION = ("--ws-per-message-deflate", "false")


@pytest.fixture(scope="module", params=[NO_COMPRESSION, ()], ids=["plain", "compressed"])
def mixed_cluster(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[Cluster]:
    """One node on daphne and one on uvicorn."""
    cluster = Cluster(redis_server.url, nodes=1, environment=TIMES)
    add_uvicorn(cluster, *request.param, application=APPLICATION)
    with cluster:
        asyncio.run(acquainted(cluster))
        yield cluster


@pytest.fixture
def node(request: pytest.FixtureRequest, mixed_cluster: Cluster) -> DaphneNode:
    """That on uvicorn."""
    request.node.stash.setdefault(CLUSTERS, []).append(mixed_cluster)
    return mixed_cluster.nodes[-1]


async def test_text_and_bytes_over_each_transport(
    node: DaphneNode, mixed_cluster: Cluster, talker: NewTalker, polling: NewPolling
) -> None:
    """To a WebSocket of each node, compressed where the client asks for it, and to one that polls."""
    room = uuid.uuid4().hex[:12]
    ann = await talker(node, compression="deflate")
    ben = await talker(mixed_cluster.nodes[0])
    session = await (await polling(node.http_url + "/socket.io/")).join_namespace('{"silent":1}')
    await session.say(f'421["join","{room}"]')
    for each in (ann, ben):
        await each.do("join", room)
    for sender, data in ((ann, {"b": b"\x00\xff", "n": 1}), (ben, "text")):
        await sender.do("chat", room, data)
        for each in (ann, ben):
            while (came := (await each.expect("message"))[0]) != {"room": room, "user": sender.id, "message": data}:
                assert "joined" in came
    said = ""
    while '"message":"text"' not in said:
        said += await session.said()
    assert "\x1ebAP8=" in said


async def test_an_upgrade_and_its_end(node: DaphneNode, polling: NewPolling, socket: NewSocket) -> None:
    """From polling to a WebSocket, closed by the server for what is no packet."""
    url = node.http_url + "/socket.io/"
    session = await (await polling(url)).join_namespace('{"silent":1}')
    client = await socket(url, session.sid)
    await client.send("2probe")
    assert await client.packet() == "3probe"
    await client.send("5")
    await client.send('42["message",1]')
    assert await client.next() == '42["message-back",1]'
    await client.send("nonsense")
    assert await client.ended() == 1008
    assert (await session.poll()).status_code == 400
