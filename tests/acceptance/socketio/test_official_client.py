"""The official client in Node.js, on two nodes behind nginx that asks them in turn."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from tests.acceptance.nodes import metric
from tests.acceptance.socketio.conftest import TRANSPORTS, in_turn
from tests.acceptance.socketio.official import OfficialClient
from tests.support.cluster import Cluster
from tests.support.servers import RedisServer

# A WebSocket that was carried to the node that dies ends when that is taken for dead.
QUICK_TO_JUDGE = {"REALTIME_HEARTBEAT_SECONDS": "1", "REALTIME_NODE_TIMEOUT_SECONDS": "5"}
StartClient = Callable[..., Awaitable[OfficialClient]]


@pytest.fixture
async def start_client() -> AsyncIterator[StartClient]:
    clients: list[OfficialClient] = []

    async def start(url: str, **options: Any) -> OfficialClient:
        clients.append(await OfficialClient.start(url, **options))
        return clients[-1]

    yield start
    await asyncio.gather(*(client.close() for client in clients))


@pytest.mark.parametrize("transports", TRANSPORTS.values(), ids=TRANSPORTS)
async def test_two_clients_talk_without_sticky_sessions(
    url: str, start_client: StartClient, transports: list[str]
) -> None:
    """Join, chat, private, acknowledgements and bytes, whichever node each request reaches."""
    room = "-".join(transports)
    ann, ben = await asyncio.gather(*(start_client(url, transports=transports) for _ in range(2)))
    ids = [(await each.connected())["connect"] for each in (ann, ben)]
    if len(transports) == 2:
        for each in (ann, ben):
            await each.find(lambda told: "websocket" in (told.get("transport"), told.get("upgrade")), "the upgrade")
    assert await ann.ask("join", room) == {"ok": True, "room": room}
    await ben.do("join", room)
    await ann.event("message", f"user {ids[1]} joined")
    for number in range(5):
        await ben.do("chat", room, {"number": number})
    for each in (ann, ben):
        for number in range(5):
            await each.event("message", {"room": room, "user": ids[1], "message": {"number": number}})
    await ann.do("private", ids[1], ["psst"])
    await ben.event("private", {"user": ids[0], "message": ["psst"]})
    await ann.do("room", room, {"picture": {"$hex": "00ff"}})
    await ben.event("message", {"room": room, "user": ids[0], "message": {"picture": {"$hex": "00ff"}}})
    assert (await ann.ask("chat", "nowhere", 1))["code"] == "not_joined"


async def test_requests_are_carried_and_need_not_be(
    redis_server: RedisServer, in_turn_cluster: Cluster, start_client: StartClient
) -> None:
    """Without a look at the session id, about half of them; with nginx as delivered, none."""

    async def talk(cluster: Cluster) -> float:
        assert cluster.nginx is not None
        client = await start_client(cluster.nginx.http_url, transports=["polling"])
        await client.connected()
        for _ in range(6):
            await client.do("ping")
        return sum(metric(node, "realtime_socketio_carried_total") for node in cluster.nodes)

    assert await talk(in_turn_cluster) > 0
    with Cluster(redis_server.url, nodes=2, nginx=True) as as_delivered:
        assert await talk(as_delivered) == 0


async def test_a_client_comes_back_after_the_death_of_its_node(
    redis_server: RedisServer, start_client: StartClient
) -> None:
    """Over each transport; it joins again, and hears who is on the other node."""
    with in_turn(Cluster(redis_server.url, nodes=2, nginx=True, environment=QUICK_TO_JUDGE)) as cluster:
        assert cluster.nginx is not None
        address = cluster.nginx.http_url
        clients = await asyncio.gather(*(start_client(address, transports=each) for each in TRANSPORTS.values()))
        for client in clients:
            await client.connected()
        node = (await clients[0].ask("welcome"))["node"]
        killed = next(each for each in cluster.nodes if node.startswith(each.name))
        on_it = [client for client in clients if (await client.ask("welcome"))["node"] == node]
        await asyncio.to_thread(killed.kill)
        for client in on_it:
            await client.find(lambda told: "disconnect" in told, "the end")
            await client.connected()
        for client in clients:
            await client.do("join", "after")
        await clients[0].do("chat", "after", "still here")
        for client in clients:
            await client.find(lambda told: "still here" in str(told.get("args")), "the chat")
