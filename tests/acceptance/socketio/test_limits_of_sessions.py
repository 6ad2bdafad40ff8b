"""Bounds, refusals and ends: as for plain clients."""

from __future__ import annotations

import asyncio
import os
import signal

import httpx
import pytest
from websockets.exceptions import InvalidStatus

from tests.acceptance.nodes import acquainted, eventually, metric, use_application
from tests.acceptance.socketio.conftest import APPLICATION, NewPolling, NewSocket, NewTalker
from tests.conftest import StartCluster
from tests.support.cluster import Cluster, DaphneNode
from tests.support.servers import RedisServer

SMALL_BACKLOG = {"REALTIME_BACKLOG_MAX_BYTES": "20000", "REALTIME_BACKLOG_HARD_MAX_BYTES": "80000"}


def url(node: DaphneNode) -> str:
    return node.http_url + "/socket.io/"


async def test_a_client_that_does_not_poll_is_a_slow_consumer(
    start_cluster: StartCluster, polling: NewPolling, talker: NewTalker
) -> None:
    """What waits for its polls has the bound of any backlog; the others do not wait for it."""
    cluster = await asyncio.to_thread(lambda: start_cluster(nodes=1, environment=SMALL_BACKLOG))
    node = cluster.nodes[0]
    session = await (await polling(url(node))).join_namespace()
    await session.say('42["join","r"]')
    ann = await talker(node)
    await ann.do("join", "r")
    for number in range(20):
        await ann.do("chat", "r", f"{number} " + "x" * 8_000)
    assert len(await ann.collect("message", 20)) == 20
    await eventually(lambda: metric(node, "realtime_connections_evicted_total") == 1, "the slow one is evicted")
    answer = await session.poll()
    assert (answer.status_code, answer.text) in ((200, "1"), (400, '{"code":1,"message":"Session ID unknown"}'))
    assert await ann.ask("ping") == {"ok": True}


async def test_a_message_beyond_the_limit_closes_a_websocket(patient: DaphneNode, talker: NewTalker) -> None:
    """With 1009; so do attachments that are too large together."""
    ann = await talker(patient)
    await ann.emit("chat", "r", "x" * 1_000_001)
    assert await ann.ended() == 1009
    ben = await talker(patient)
    await ben.emit("chat", "r", [b"x" * 600_000, b"x" * 600_000])
    assert await ben.ended() == 1009


async def test_a_page_of_another_origin_is_refused(patient: DaphneNode, socket: NewSocket, polling: NewPolling) -> None:
    """Over HTTP and WebSocket, in a session as well, and it may not read what it is told; a page of the host may."""
    session = await polling(url(patient))
    foreign, own = {"Origin": "http://evil.example"}, {"Origin": patient.http_url}
    query = {"EIO": "4", "transport": "polling"}
    async with httpx.AsyncClient() as http:
        answer = await http.get(url(patient), params=query, headers=foreign)
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
        answer = await http.post(url(patient), params=session.query, headers=foreign, content="40")
        assert answer.status_code == 403
        preflight = await http.request("OPTIONS", url(patient), params=query, headers=foreign)
        assert "access-control-allow-origin" not in preflight.headers
        answer = await http.get(url(patient), params=query, headers=own)
        assert answer.headers["access-control-allow-origin"] == patient.http_url
    for sid in (None, session.sid):
        with pytest.raises(InvalidStatus, match="403"):
            await socket(url(patient), sid, additional_headers=foreign)


async def test_a_page_of_an_allowed_origin_may_read(start_cluster: StartCluster) -> None:
    """With its cookies, and after asking what it may send."""
    allowed = {"REALTIME_ALLOWED_ORIGINS": "https://shop.example"}
    cluster = await asyncio.to_thread(lambda: start_cluster(nodes=1, environment=allowed))
    node = cluster.nodes[0]
    headers = {"Origin": "https://shop.example", "Access-Control-Request-Headers": "x-mine"}
    query = {"EIO": "4", "transport": "polling"}
    async with httpx.AsyncClient() as http:
        answer = await http.get(url(node), params=query, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://shop.example"
        assert answer.headers["access-control-allow-credentials"] == "true"
        preflight = await http.request("OPTIONS", url(node), params=query, headers=headers)
        assert preflight.status_code == 204
        assert preflight.headers["access-control-allow-methods"] == "GET, POST"
        assert preflight.headers["access-control-allow-headers"] == "x-mine"


async def test_a_drain_ends_every_session(start_cluster: StartCluster, polling: NewPolling, talker: NewTalker) -> None:
    """A WebSocket with 1012, a poll that waits with a close packet; the node exits in time."""
    cluster = await asyncio.to_thread(lambda: start_cluster(nodes=1))
    node = cluster.nodes[0]
    ann = await talker(node)
    session = await (await polling(url(node))).join_namespace()
    poll = await session.begin_poll()
    os.kill(node.pid, signal.SIGTERM)
    assert await ann.ended() == 1012
    assert await poll == (200, "1")
    assert await asyncio.to_thread(node.wait) == 0
    assert "drain_incomplete" not in node.log


async def test_clients_are_told_what_they_may_have_missed(own_redis: RedisServer, talker: NewTalker) -> None:
    """In each namespace that they are connected to, when the backplane was away."""
    environment = {"REALTIME_HEARTBEAT_SECONDS": "0.5"}
    cluster = use_application(Cluster(own_redis.url, nodes=1, environment=environment), APPLICATION)
    with cluster:
        node = cluster.nodes[0]
        ann, ben = await talker(node), await talker(node, namespace="/custom")
        await ann.do("join", "r")
        await asyncio.to_thread(own_redis.restart)
        for each in (ann, ben):
            assert await each.expect("missed") == [{"rooms": None}]
        await asyncio.to_thread(node.wait_ready)
        assert await ann.ask("chat", "r", "back") == {"ok": True}


async def test_a_carried_client_that_does_not_read_is_a_slow_consumer(
    start_cluster: StartCluster, polling: NewPolling, socket: NewSocket, talker: NewTalker
) -> None:
    """What waits for it waits on the node that has its WebSocket, and is bounded there; its session ends."""
    cluster = await asyncio.to_thread(lambda: start_cluster(nodes=2, environment=SMALL_BACKLOG))
    await acquainted(cluster)
    home, carrier = cluster.nodes
    session = await (await polling(url(home))).join_namespace()
    client = await socket(url(carrier), session.sid, max_queue=1)
    await client.send("2probe")
    assert await client.packet() == "3probe"
    await client.send("5")
    await client.send('421["join","r"]')
    while '"ok":true' not in str(await client.next()):
        pass
    ann = await talker(home)
    await ann.do("join", "r")
    sent = 0
    while metric(carrier, "realtime_connections_evicted_total") == 0:
        assert sent < 2_000, "64 MB were taken for a client that does not read"
        for _ in range(20):
            await ann.do("room", "r", "x" * 32_000)
            sent += 1
    await eventually(lambda: metric(home, "websocket_connected_clients") == 1, "the session has ended")
    assert await ann.ask("ping") == {"ok": True}
