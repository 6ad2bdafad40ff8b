"""Socket.IO over each backplane: the same rooms, private messages, and a session that is carried between nodes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.acceptance.socketio.peer import DEADLINE_SECONDS, Polling, Socket, Talker
from tests.support.cluster import Cluster, DaphneNode


def url(node: DaphneNode) -> str:
    return node.http_url + "/socket.io/"


@pytest.fixture
async def plain(cluster: Cluster, connect: Connect) -> Client:
    """On the first node."""
    return await connect(cluster.nodes[0].url)


@pytest.fixture
async def talker(cluster: Cluster) -> AsyncIterator[Talker]:
    """On the second node."""
    talker = await Talker.connect(url(cluster.nodes[1]))
    yield talker
    await talker.close()


@pytest.fixture
async def session(cluster: Cluster) -> AsyncIterator[Polling]:
    """On the third node; its requests reach the first one."""
    session = await Polling.open(url(cluster.nodes[2]))
    session.url = url(cluster.nodes[0])
    yield await session.join_namespace()
    await session.close()


async def test_clients_of_all_kinds_talk_and_are_carried(
    cluster: Cluster, plain: Client, talker: Talker, session: Polling, room: str
) -> None:
    """To a room, to all and to one, each to each: over polls and posts that are carried, and then over the WebSocket of
    the session's upgrade, which is carried by another node."""
    await plain.join(room)
    await session.say(f'421["join","{room}"]')
    await heard(session, f'431[{{"ok":true,"room":"{room}"}}]')
    await talker.do("join", room)
    own_id = session.connected["sid"]

    await talker.do("chat", room, 1)
    await plain.expect("room", data=1)
    await heard(session, said(room, talker.id, 1))
    await session.say(f'42["chat","{room}",2]')
    await plain.do("broadcast", data=room)
    await plain.do("private", to=own_id, data="psst")
    await heard(session, f'42["private",{{"user":"{plain.id}","message":"psst"}}]')
    while (await talker.expect("broadcast"))[0] != {"user": plain.id, "message": room}:
        pass  # of other tests

    client = await Socket.open(url(cluster.nodes[1]), session.sid)
    try:
        await client.send("2probe")
        assert await client.packet() == "3probe"
        await client.send("5")
        await client.send(f'451-["chat","{room}",{{"_placeholder":true,"num":0}}]')
        await client.send(b"\x00\xff")
        while await client.next() != b"\x00\xff":
            pass
        await client.send(f'42["private","{talker.id}","over"]')
        assert await talker.expect("private") == [{"user": own_id, "message": "over"}]
    finally:
        await client.close()
    for data in (2, {"$base64": "AP8="}):
        await plain.expect("room", data=data)
    messages = [arguments[0] for name, arguments in talker.events if name == "message"]
    assert [each["message"] for each in messages if each["user"] == own_id] == [2, b"\x00\xff"]


def said(room: str, user: str, message: int) -> str:
    return f'42["message",{{"room":"{room}","user":"{user}","message":{message}}}]'


async def heard(session: Polling, wanted: str) -> None:
    """Poll until this packet has come."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while wanted not in (await session.said()).split("\x1e"):
            pass
