"""One room, plain and Socket.IO members of every kind, three nodes: everybody gets everything, in one order."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import acquainted
from tests.acceptance.socketio.conftest import NewPolling, NewTalker
from tests.acceptance.socketio.peer import Polling, Talker
from tests.conftest import StartCluster
from tests.support.cluster import Cluster

QUIET = {"REALTIME_SOCKETIO_JOIN_NOTICES": "0"}
PATH = "/socket.io/"


@pytest.mark.parametrize(
    ("each_kind", "messages"), [(50, 40), pytest.param(500, 20, marks=pytest.mark.slow)], ids=["50 + 50", "500 + 500"]
)
async def test_a_mixed_room_is_ordered_and_complete(
    start_cluster: StartCluster,
    connect: Connect,
    talker: NewTalker,
    polling: NewPolling,
    each_kind: int,
    messages: int,
) -> None:
    """Two senders of each kind at once; five Socket.IO members poll, two of them through the wrong node."""
    cluster = await asyncio.to_thread(lambda: start_cluster(nodes=3, environment=QUIET))
    await acquainted(cluster)
    plain, talkers, pollers = await crowd(cluster, connect, talker, polling, each_kind)

    async def publish(sender: Client | Talker, name: str) -> None:
        for number in range(messages):
            if isinstance(sender, Client):
                await sender.send("room", room="r", data=f"{name} {number}", echo=True)
            else:
                await sender.emit("chat", "r", f"{name} {number}")

    senders: list[Client | Talker] = [plain[0], plain[1], talkers[0], talkers[1]]
    listening = [asyncio.create_task(heard_by_polling(each, 4 * messages)) for each in pollers]
    await asyncio.gather(*(publish(sender, f"s{number}") for number, sender in enumerate(senders)))
    order = [message["data"] for message in await plain[0].collect("room", 4 * messages, within=60)]
    for number in range(4):
        own = [text for text in order if text.startswith(f"s{number} ")]
        assert own == [f"s{number} {index}" for index in range(messages)]
    for client in plain:
        assert [message["data"] for message in await client.collect("room", len(order), within=60)] == order
    for each in talkers:
        assert [arguments[0]["message"] for arguments in await each.collect("message", len(order))] == order
    for heard in await asyncio.gather(*listening):
        assert heard == order


async def crowd(
    cluster: Cluster, connect: Connect, talker: NewTalker, polling: NewPolling, each_kind: int
) -> tuple[list[Client], list[Talker], list[Polling]]:
    """All of them members of one room, spread over the nodes."""
    nodes = cluster.nodes
    plain: list[Client] = []
    talkers: list[Talker] = []
    for start in range(0, each_kind, 50):
        some = range(start, min(start + 50, each_kind))
        plain += await asyncio.gather(*(connect(nodes[number % 3].url) for number in some))
        talkers += await asyncio.gather(*(talker(nodes[number % 3]) for number in some))
    await asyncio.gather(*(client.join("r") for client in plain), *(each.do("join", "r") for each in talkers))
    pollers = [await polling(nodes[number % 3].http_url + PATH) for number in range(5)]
    for number, session in enumerate(pollers):
        if number < 2:
            session.url = nodes[(number + 1) % 3].http_url + PATH
        await session.join_namespace()
        await session.say('421["join","r"]')
        while '431[{"ok":true' not in await session.said():
            pass
    return plain, talkers, pollers


async def heard_by_polling(session: Polling, count: int) -> list[str]:
    """The first so many chat messages that polls bring."""
    heard: list[str] = []
    async with asyncio.timeout(90):
        while len(heard) < count:
            for packet in (await session.said()).split("\x1e"):
                if packet == "2":
                    await session.say("3")
                elif packet.startswith("42"):
                    heard.append(json.loads(packet[2:])[1]["message"])
    return heard
