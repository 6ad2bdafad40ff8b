"""Other people's Channels code on the same channel layer, in a project that wraps its application in ours."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.acceptance.client import DEADLINE_SECONDS
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import assert_no_traceback, use_application
from tests.support.cluster import Cluster, DaphneNode
from tests.support.servers import RedisServer

APPLICATION = "tests.acceptance.other_project.asgi:application"
KINDS = ["async", "sync"]
GROUPS = ["lobby", "all", "nodes", "asgi", "r.lobby", "rt-lobby", "rt", "echo", "group", "node", "x" * 99]


class Chatter:
    """A client of a stock consumer."""

    def __init__(self, connection: ClientConnection, channel: str) -> None:
        self.connection = connection
        self.channel = channel

    async def say(self, text: str, **fields: str) -> None:
        await self.connection.send(json.dumps({"text": text, **fields}))

    async def hear(self) -> str:
        """The next message of its group."""
        message = json.loads(await asyncio.wait_for(self.connection.recv(), DEADLINE_SECONDS))
        assert message["type"] == "chat", message
        return str(message["text"])


Chat = Callable[[DaphneNode, str, str], Awaitable[Chatter]]


@pytest.fixture(scope="module")
def module_cluster(redis_server: RedisServer) -> Iterator[Cluster]:
    """Two nodes of somebody else's project."""
    cluster = Cluster(
        redis_server.url, nodes=2, environment={"DJANGO_SETTINGS_MODULE": "tests.acceptance.other_project.settings"}
    )
    with use_application(cluster, APPLICATION):
        yield cluster
    assert_no_traceback(cluster)


@pytest.fixture
async def chat() -> AsyncIterator[Chat]:
    """Connects clients to stock consumers, `await chat(node, "async", group)`."""
    connections: list[ClientConnection] = []

    async def connected(node: DaphneNode, kind: str, group: str) -> Chatter:
        url = f"ws://127.0.0.1:{node.port}/chat/{kind}/{group}/"
        connections.append(await open_websocket(url, proxy=None, compression=None))
        hello = json.loads(await asyncio.wait_for(connections[-1].recv(), DEADLINE_SECONDS))
        assert hello["type"] == "hello"
        return Chatter(connections[-1], hello["channel"])

    yield connected
    await asyncio.gather(*(connection.close() for connection in connections))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("group", GROUPS)
async def test_their_groups_are_theirs(
    module_cluster: Cluster, connect: Connect, chat: Chat, group: str, kind: str
) -> None:
    """In a group of any name their consumers on all nodes hear each other once, and nothing of ours; our rooms, of the
    same name too, hear nothing of theirs."""
    nodes = module_cluster.nodes
    theirs = [await chat(node, kind, group) for node in nodes]
    room = group[:64]
    ours = [await (await connect(node.url)).join(room, "lobby") for node in nodes]
    await theirs[0].say("one")
    assert [await chatter.hear() for chatter in theirs] == ["one", "one"]
    await ours[0].do("room", room=room, data="ours", echo=True)
    await ours[0].do("broadcast", data="ours", echo=True)
    await ours[0].do("private", to=ours[1].id, data="ours")
    await theirs[1].say("two")
    assert [await chatter.hear() for chatter in theirs] == ["two", "two"]
    await ours[1].do("broadcast", data="sentinel", echo=True)
    for client, count in zip(ours, (2, 3), strict=True):
        await client.expect("broadcast", data="sentinel")
        assert len(client.waiting) == count
        assert {message["data"] for message in client.waiting} == {"ours"}


async def test_their_channels_are_theirs(module_cluster: Cluster, chat: Chat) -> None:
    """A message to the channel of one consumer on another node reaches that one alone."""
    here, there = module_cluster.nodes
    sender = await chat(here, "async", "a")
    recipient, other = [await chat(there, "async", "b") for _ in range(2)]
    await sender.say("for one", channel=recipient.channel)
    assert await recipient.hear() == "for one"
    await other.say("for all")
    assert [await recipient.hear(), await other.hear()] == ["for all", "for all"]


async def test_their_end_is_theirs(module_cluster: Cluster, connect: Connect, chat: Chat) -> None:
    """A consumer that leaves its group, or fails, disturbs neither the others of its group nor our clients."""
    here = module_cluster.nodes[0]
    client = await connect(here.url)
    leaving, staying = await chat(here, "async", "end"), await chat(here, "async", "end")
    await leaving.connection.close()
    await staying.say("still here")
    assert await staying.hear() == "still here"
    await client.do("broadcast", data=1, echo=True)
    await client.expect("broadcast")


async def test_their_paths_are_theirs(module_cluster: Cluster, connect: Connect) -> None:
    """/ws/ is ours, their routes are theirs, and what neither knows is 404."""
    for path in ("/nope", "/chat/other/a/", "/ws/chat/async/a/"):
        with pytest.raises(InvalidStatus) as refused:
            await connect(f"ws://127.0.0.1:{module_cluster.nodes[0].port}{path}")
        assert refused.value.response.status_code == 404


async def test_their_clients_are_closed_too(redis_server: RedisServer, chat: Chat) -> None:
    """When a node ends, clients of stock consumers lose their connection as well, and the exit status is 0."""
    environment = {"DJANGO_SETTINGS_MODULE": "tests.acceptance.other_project.settings"}
    with use_application(Cluster(redis_server.url, nodes=1, environment=environment), APPLICATION) as cluster:
        node = cluster.nodes[0]
        chatters = [await chat(node, kind, "end") for kind in KINDS]
        node.terminate()
        for chatter in chatters:
            with pytest.raises(ConnectionClosed):
                await chatter.hear()
        assert await asyncio.to_thread(node.wait, 10) == 0
