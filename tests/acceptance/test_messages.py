"""Broadcast, room and private messages between clients of three nodes."""

from __future__ import annotations

import asyncio
import time
import uuid

import pytest
import redis

from realtime.auth import issue_token
from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import acquainted
from tests.support.cluster import Cluster
from tests.support.servers import RedisServer

AT_ONCE_SECONDS = 1.0  # what needs no time-out: far less than the 2 s of one, far more than a busy machine takes


@pytest.fixture
async def trio(module_cluster: Cluster, connect: Connect) -> list[Client]:
    """One client on each of three nodes."""
    await acquainted(module_cluster)
    return list(await asyncio.gather(*(connect(node.url) for node in module_cluster.nodes)))


@pytest.fixture
def room() -> str:
    """A room that no other test uses."""
    return f"room-{uuid.uuid4().hex[:8]}"


async def test_each_process_is_a_node_of_its_own(trio: list[Client]) -> None:
    """Three processes welcome with three different nodes, and a connection id names its node."""
    assert len({client.node for client in trio}) == 3
    assert len({client.id for client in trio}) == 3
    for client in trio:
        assert client.id.startswith(f"{client.node}.")
        assert client.welcome["user"] is None
        assert client.welcome["limits"]["rooms_max"] == 128


async def test_nginx_spreads_clients_over_the_nodes(module_cluster: Cluster, connect: Connect) -> None:
    """Connections through nginx reach every node, and their messages every other connection."""
    assert module_cluster.nginx is not None
    url = module_cluster.nginx.url
    clients = [await connect(url) for _ in range(6)]
    assert len({client.node for client in clients}) == 3
    await clients[0].do("broadcast", data="through nginx")
    for client in clients[1:]:
        assert (await client.expect("broadcast"))["data"] == "through nginx"


async def test_a_client_that_offers_compression_is_served(module_cluster: Cluster, connect: Connect) -> None:
    """As browsers do; the node declines, so that one frame serves everybody."""
    client = await connect(module_cluster.nodes[0].url, compression="deflate")
    assert client.connection.response is not None
    assert "Sec-WebSocket-Extensions" not in client.connection.response.headers
    await client.do("broadcast", data="x" * 10_000, echo=True)
    assert (await client.expect("broadcast"))["data"] == "x" * 10_000


async def test_a_broadcast_reaches_everybody_but_its_sender(
    module_cluster: Cluster, trio: list[Client], connect: Connect
) -> None:
    """Each other connection, on the sender's node as on the others, gets it once; the sender does not."""
    neighbour = await connect(module_cluster.nodes[0].url)
    sender, *others = [*trio, neighbour]
    assert await sender.do("broadcast", data={"n": 1}) == {"type": "ack"}
    await neighbour.do("broadcast", data="sentinel")
    for client in others:
        assert await client.expect("broadcast") == {"type": "broadcast", "from": sender.id, "data": {"n": 1}}
    for client in trio:
        assert await client.expect("broadcast") == {"type": "broadcast", "from": neighbour.id, "data": "sentinel"}
    assert [client.waiting for client in (*trio, neighbour)] == [[], [], [], []]


async def test_echo_includes_the_sender(trio: list[Client], room: str) -> None:
    """With `echo` the sender gets its own broadcast and room message like everybody else."""
    for client in trio:
        await client.join(room)
    await trio[0].do("broadcast", data="b", echo=True)
    await trio[0].do("room", room=room, data="r", echo=True)
    for client in trio:
        assert (await client.expect("broadcast"))["data"] == "b"
        assert (await client.expect("room"))["data"] == "r"


async def test_a_room_message_reaches_the_other_members_only(
    module_cluster: Cluster, trio: list[Client], connect: Connect, room: str
) -> None:
    """Members on every node get it once; the sender and connections outside the room do not."""
    neighbour, stranger = await asyncio.gather(*(connect(module_cluster.nodes[0].url) for _ in range(2)))
    for client in (*trio, neighbour):
        await client.join(room)
    await stranger.join(f"{room}-other")
    assert await trio[1].do("room", room=room, data=[1, "zwei", None]) == {"type": "ack"}
    await trio[1].do("broadcast", data="sentinel", echo=True)
    for client in (trio[0], trio[2], neighbour):
        push = await client.expect("room")
        assert push == {"type": "room", "room": room, "from": trio[1].id, "data": [1, "zwei", None]}
    for client in (*trio, neighbour, stranger):
        await client.expect("broadcast", data="sentinel")
        assert client.waiting == []


async def test_only_members_publish_to_a_room(trio: list[Client], room: str) -> None:
    """Who is not in a room is told `not_joined` when it publishes to it or leaves it."""
    await trio[0].join(room)
    for command in ({"type": "room", "data": 1}, {"type": "leave"}):
        assert (await trio[1].ask(**command, room=room))["code"] == "not_joined"
    await trio[0].do("room", room=room, data="sentinel", echo=True)
    assert (await trio[0].expect("room"))["data"] == "sentinel"


async def test_leave_means_silence(trio: list[Client], room: str) -> None:
    """After `left` nothing of the room comes, from other nodes and from the same; joining again brings it back."""
    leaver, *others = trio
    for client in trio:
        await client.join(room, f"{room}-after")
    assert await leaver.do("leave", room=room) == {"type": "left", "room": room}
    for client in others:
        await client.do("room", room=room, data="not for you")
        await client.do("room", room=f"{room}-after", data="sentinel")
        assert (await leaver.expect("room"))["data"] == "sentinel"
    assert leaver.waiting == []
    await leaver.join(room)
    await others[0].do("room", room=room, data="again")
    assert (await leaver.expect("room"))["data"] == "again"


async def test_what_follows_joined_is_not_missed(trio: list[Client], room: str) -> None:
    """A message published right after `joined`, on another node, arrives; fifty times in fifty new rooms."""
    publisher, member = trio[0], trio[1]
    for number in range(50):
        name = f"{room}-{number}"
        await publisher.join(name)
        await member.join(name)
        await publisher.send("room", room=name, data=number)
        await member.expect("room", room=name, data=number)


async def test_a_private_message_reaches_one_connection(trio: list[Client]) -> None:
    """It reaches the addressed connection on another node, or on the same, and no other; the `ack` says so."""
    for recipient in trio:
        assert await trio[0].do("private", to=recipient.id, data="psst") == {"type": "ack"}
        assert await recipient.expect("private") == {"type": "private", "from": trio[0].id, "data": "psst"}
    await trio[0].do("broadcast", data="sentinel", echo=True)
    for client in trio:
        await client.expect("broadcast", data="sentinel")
        assert client.waiting == []


async def test_a_private_message_reaches_all_connections_of_a_user(trio: list[Client]) -> None:
    """After `authenticate`, `user:<id>` means each of the user's connections, on whatever node; nobody else's."""
    user, other = f"u{uuid.uuid4().hex[:8]}", f"u{uuid.uuid4().hex[:8]}"
    for client, name in zip(trio, (user, user, other), strict=True):
        reply = await client.do("authenticate", token=issue_token(name, seconds=600))
        assert reply["user"] == name
        assert 590 <= reply["expires_in"] <= 600
    assert await trio[2].do("private", to=f"user:{user}", data="hello") == {"type": "ack"}
    await trio[2].do("broadcast", data="sentinel", echo=True)
    for client in trio[:2]:
        assert (await client.expect("private"))["data"] == "hello"
    for client in trio:
        await client.expect("broadcast", data="sentinel")
        assert client.waiting == []


async def test_a_connection_belongs_to_one_user(trio: list[Client]) -> None:
    """A token refreshes the same user only; a forged or expired one says nothing about anybody."""
    client = trio[0]
    await client.do("authenticate", token=issue_token("7"))
    assert (await client.do("authenticate", token=issue_token("7")))["user"] == "7"
    forged = issue_token("7", keys=["somebody else's key, which is long enough to sign"])
    for token in (issue_token("8"), forged, issue_token("7", seconds=-1), "x", ""):
        assert (await client.ask("authenticate", token=token))["code"] == "unauthorized"
    await trio[1].do("private", to="user:7", data="still you")
    await client.expect("private", data="still you")


@pytest.mark.parametrize(
    "recipient",
    [
        "nowhere.AAAAAAAAAAAAAAAAAAAAAA",  # a node that never was
        "{node}.AAAAAAAAAAAAAAAAAAAAAA",  # a live node without such a connection
        "user:nobody-by-this-name",
        "user:",
        "rt.all",
        "asgi__group__rt.all",
        "*",
    ],
)
async def test_an_unknown_recipient_is_told_at_once(trio: list[Client], recipient: str) -> None:
    """Nobody by that name: `unknown_recipient`, without waiting for a time-out."""
    to = recipient.format(node=trio[1].node)
    began = time.monotonic()
    assert (await trio[0].ask("private", to=to, data=1))["code"] == "unknown_recipient"
    assert time.monotonic() - began < AT_ONCE_SECONDS


async def test_a_connection_that_ended_is_unknown(
    module_cluster: Cluster, trio: list[Client], connect: Connect
) -> None:
    """A private message to a connection that is gone is `unknown_recipient`, whether it closed or was cut off."""
    for cut in (False, True):
        gone = await connect(module_cluster.nodes[1].url)
        await trio[0].do("private", to=gone.id, data="while it lives")
        if cut:
            gone.abort()
        else:
            await gone.close()
        began = time.monotonic()
        while (reply := await trio[0].ask("private", to=gone.id, data=1))["type"] == "ack":
            assert time.monotonic() - began < AT_ONCE_SECONDS
        assert reply["code"] == "unknown_recipient"


async def test_publications_arrive_as_they_were_written(trio: list[Client]) -> None:
    """Any JSON value comes out as it went in, to the character."""
    texts = ["null", "0", "-1.50e-7", '"\\u0041\\ud83d\\ude00 é \\/"', '{"b":1,"a":[{}, [ ] ]}', "9007199254740993"]
    for text in texts:
        await trio[0].send_raw(f'{{"type":"private","to":"{trio[1].id}","data":{text}}}')
    await trio[1].until(lambda: len(trio[1].pushes("private")) == len(texts), "all texts")
    frames = [frame for frame in trio[1].texts if '"private"' in frame]
    assert [frame.partition('"data":')[2].removesuffix("}") for frame in frames] == texts


async def test_redis_delivers_once_to_each_node(
    module_cluster: Cluster, redis_server: RedisServer, connect: Connect, room: str
) -> None:
    """However many members a room has: the nodes are subscribed, not the connections."""
    for node in module_cluster.nodes:
        for _ in range(5):
            await (await connect(node.url)).join(room)
    with redis.Redis.from_url(redis_server.url) as server:
        channels = server.pubsub_channels(f"*{module_cluster.prefix}*{room}*")
        assert [count for _, count in server.pubsub_numsub(*channels)] == [3]
