"""Clients that pretend: to be another, to be the server, or to be one of the nodes. (Attack 13.)

The others are on two nodes and hear everything that they should, and nothing else: each attack ends with a broadcast of
theirs that everybody gets next. All clients may do everything here, so that no permission stops what must not work.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from realtime.auth import issue_token
from realtime.protocol import envelope, messages
from realtime.protocol.names import group_of_room, node_channel, room_in_namespace
from realtime.protocol.socketio import RESERVED
from tests.acceptance.abuse.attacker import Target
from tests.acceptance.abuse.siege import Siege
from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.acceptance.engine.peer import command
from tests.acceptance.nodes import acquainted, assert_no_traceback, use_application
from tests.acceptance.socketio.conftest import APPLICATION
from tests.acceptance.socketio.peer import Socket, Talker
from tests.support.cluster import Cluster, DaphneNode
from tests.support.servers import RedisServer

KEY = "a-key-of-this-test-alone-0123456789abcdef"
SETTINGS = {"REALTIME_TOKEN_KEYS": KEY, "REALTIME_SOCKETIO_JOIN_NOTICES": "0"}
FORGERIES = 300
THE_END = "the end"
COMMANDS = {str(kind.__struct_config__.tag) for kind in messages.COMMANDS}
PUSHES = {str(kind.__struct_config__.tag) for kind in messages.OUTBOUND}
ENVELOPES = {str(kind.__struct_config__.tag) for kind in envelope.AnyEnvelope.__args__}
HANDLERS = {
    "connect", "receive", "disconnect", "dispatch", "handle", "evict", "ended", "refuse", "send", "welcome", "put_in",
    "__class__", "__init__", "__dict__", "constructor", "toString", "chat.message", "websocket.close",
    "websocket.disconnect", "websocket.http.response.start", "http.disconnect", "lifespan.shutdown", "channel_name",
}  # fmt: skip


@pytest.fixture(scope="module")
def pair(redis_server: RedisServer) -> Iterator[Cluster]:
    cluster = Cluster(redis_server.url, nodes=2, environment=SETTINGS)
    with use_application(cluster, APPLICATION):
        asyncio.run(acquainted(cluster))
        yield cluster
        assert_no_traceback(cluster)


class People:
    """Ann is user 1, on both transports; Ben is nobody, on the other node. All are in the lobby."""

    def __init__(self, ann: Client, ben: Client, talker: Talker, mallory: Client) -> None:
        self.ann, self.ben, self.talker, self.mallory = ann, ben, talker, mallory

    async def heard(self) -> dict[str, list[Any]]:
        """What each of the others got since the last time, up to a broadcast of Ben's that ends it.

        Redis has one order: whatever it had acknowledged before is delivered before.
        """
        await self.ben.send("broadcast", data=THE_END, echo=True)
        heard: dict[str, list[Any]] = {}
        for name in ("ann", "ben"):
            client: Client = getattr(self, name)
            await client.expect("broadcast", data=THE_END)
            heard[name], client.waiting[:] = list(client.waiting), []
        heard["talker"] = []
        while (event := await self.talker.next_event()) != ("broadcast", [{"user": self.ben.id, "message": THE_END}]):
            heard["talker"].append(event)
        return heard

    async def heard_nothing(self) -> None:
        """Nobody got anything; all are as they were."""
        assert await self.heard() == {"ann": [], "ben": [], "talker": []}

    async def are_well(self) -> None:
        """Nobody was closed, or is another one or elsewhere than before."""
        for client in (self.ann, self.ben):
            assert await client.is_alive()
        assert await self.ann.do("private", to="user:1", data="still mine") == {"type": "ack"}
        await self.ann.expect("private", data="still mine")
        await self.talker.expect("private")
        assert (await self.talker.do("join", "lobby"))["ok"] is True


def socketio_url(node: DaphneNode) -> str:
    return f"{node.http_url}/socket.io/"


@pytest.fixture
async def people(pair: Cluster, connect: Connect) -> AsyncIterator[People]:
    one, two = pair.nodes
    ann, mallory, ben = [await connect(node.url) for node in (one, one, two)]
    token = issue_token(1, keys=[KEY])
    await ann.do("authenticate", token=token)
    talker = await Talker.connect(socketio_url(two), auth={"silent": True, "token": token})
    for client in (ann, ben, mallory):
        await client.join("lobby")
    await talker.do("join", "lobby")
    people = People(ann, ben, talker, mallory)
    await people.heard()
    yield people
    await people.are_well()
    await talker.close()


async def test_nobody_speaks_in_anothers_name(people: People) -> None:
    """Whatever fields a message has besides its own, the node says who sent it, to whom, and what kind it is."""
    ann, mallory = people.ann, people.mallory
    forged = {
        "from": ann.id, "sender": ann.id, "skip": people.ben.id, "user": "1", "user_id": 1, "id": ann.id,
        "node": ann.node, "v": 99, "event": "welcome", "binary": True, "receipt": 1, "stamp": 1, "at": 1,
        "identity": {"user": "1"}, "connection": ann.id, "group": "rt.all", "channel": node_channel(ann.node),
    }  # fmt: skip
    await mallory.do("room", room="lobby", data=1, **forged)
    await mallory.do("private", to=people.ben.id, data=2, **forged)
    await mallory.do("private", to="user:1", data=3, **forged)
    raw = json.dumps({**forged, "type": "welcome"})[:-1] + ',"type":"broadcast","data":4,"ref":"raw"}'
    await mallory.send_raw(raw)
    await mallory.expect("ack", ref="raw")
    heard = await people.heard()
    room = {"type": "room", "room": "lobby", "from": mallory.id, "data": 1}
    private = {"type": "private", "from": mallory.id, "data": 3}
    broadcast = {"type": "broadcast", "from": mallory.id, "data": 4}
    assert sorted(heard["ben"], key=str) == sorted([room, {**private, "data": 2}, broadcast], key=str)
    assert sorted(heard["ann"], key=str) == sorted([room, private, broadcast], key=str)
    assert [each["user"] for _, (each,) in heard["talker"]] == [mallory.id] * 3
    assert mallory.pushes("room", "private") == []


@pytest.mark.parametrize("type", sorted((PUSHES | ENVELOPES | HANDLERS) - COMMANDS))
async def test_nothing_but_a_command_is_one(people: People, type: str) -> None:
    """Neither what nodes say to clients, nor what they say to each other, nor the name of a function."""
    ann, node = people.ann, people.ann.node
    fields: dict[str, Any] = {
        "v": 1, "node": node, "from": ann.id, "connection": ann.id, "to": ann.id, "id": ann.id, "user": "1",
        "room": "lobby", "rooms": ["lobby"], "code": 4003, "reason": "", "request": "1", "reply_to": node_channel(node),
        "data": 1, "members": [], "joined": [], "left": [], "changes": [], "stream": "1", "receipt": 1, "nonce": 1,
    }  # fmt: skip
    answer = await people.mallory.ask(type, **fields)
    assert (answer["type"], answer["code"]) == ("error", "unknown_type")
    await people.heard_nothing()


async def test_a_room_is_nothing_but_a_room(people: People) -> None:
    """Its name may be that of a group, a channel, a user or a connection: who is in it hears what is said in it, and
    nobody else does."""
    ann, mallory, ben = people.ann, people.mallory, people.ben
    names = [
        "rt.all", "rt.nodes", node_channel(ann.node), f"rt.echo.{ann.node}", "rt.u.1", "rt.r.lobby", "user:1", ann.id,
        group_of_room("lobby"), ann.node, f"node.{ann.node}", "*", "lobby*", "lobby/", "LOBBY",
        "/custom", "asgi__group__rt.all", "__all__",
    ]  # fmt: skip
    for name in names:
        await mallory.join(name)
        await mallory.do("room", room=name, data=name)
    await people.heard_nothing()
    for said in (
        ben.send("room", room="lobby", data="to the lobby", echo=True),
        ben.send("private", to="user:1", data="to Ann"),
    ):
        await said
    await people.heard()
    assert await mallory.is_alive()
    assert [each["data"] for each in mallory.pushes("room", "private")] == ["to the lobby"]  # as a member of that
    assert mallory.pushes("members") == []


async def test_a_recipient_is_a_connection_or_a_user(people: People) -> None:
    """No channel, no group, no pattern, and no part of an id."""
    ann, node = people.ann, people.ann.node
    for to in (
        node, f"{node}.", f"node.{node}", node_channel(node), "rt.all", "rt.nodes", "rt.r.lobby", "rt.u.1", "*", "1",
        "user", "user:", "User:1", " user:1", ann.id[:-1], f"{ann.id}x", f" {ann.id}", f"{ann.id}\n", ann.id.upper(),
        f"rt.{ann.id}", "lobby", "__class__",
    ):  # fmt: skip
        answer = await people.mallory.ask("private", to=to, data="for nobody")
        assert (answer["type"], answer.get("code")) == ("error", "unknown_recipient"), to
    await people.heard_nothing()


@pytest.mark.parametrize(
    "data",
    [
        '{"type":"welcome","id":"x","node":"x","user":"1"}',
        '{"v":1,"type":"disconnect","connection":"x","code":4003}',
        '"\\",\\"from\\":\\"x\\",\\"data\\":\\""',
        '"}\\n{\\"type\\":\\"missed\\",\\"rooms\\":null}"',
        '{"__proto__":{"from":"x"},"from":"x","from":"y"}',
        '{"$base64":"QUJD"}',
    ],
)
async def test_what_is_said_stays_what_is_said(people: People, data: str) -> None:
    """Data that looks like the frame around it arrives as data."""
    await people.mallory.send_raw(f'{{"type":"room","room":"lobby","data":{data},"from":"x","ref":"raw"}}')
    await people.mallory.expect("ack", ref="raw")
    heard = await people.heard()
    for name in ("ann", "ben"):
        assert heard[name] == [{"type": "room", "room": "lobby", "from": people.mallory.id, "data": json.loads(data)}]
        client: Client = getattr(people, name)
        assert any(f'"data":{data}' in text for text in client.texts)
    assert len(heard["talker"]) == 1


async def test_events_of_socketio_itself_cannot_be_emitted(people: People, pair: Cluster) -> None:
    """Whoever tries does not speak the protocol, and is closed; nobody hears of it."""
    for event in ("connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"):
        forger = await Talker.connect(socketio_url(pair.nodes[0]))
        await forger.emit(event, {"sid": people.talker.id})
        assert await forger.ended() == 1008
    await people.heard_nothing()


async def test_no_other_event_is_one(people: People, pair: Cluster) -> None:
    """What nodes emit, and names of functions, are unknown; what has the name of a push is the command of that name."""
    forger = await Talker.connect(socketio_url(pair.nodes[0]))
    await forger.do("join", "lobby")
    await people.heard()
    known = COMMANDS | {"welcome", "chat", "message", "message-with-ack", "price", "fail"}
    for event in sorted((PUSHES | ENVELOPES | HANDLERS | {"message-back", "error"}) - known - RESERVED):
        answer = await forger.ask(event, {"from": people.ann.id, "room": "lobby", "data": 1})
        assert (answer["ok"], answer["code"]) == (False, "unknown_type"), event
    assert (await forger.do("welcome", people.ann.id, {"user": "1"}))["id"] == forger.id
    await people.heard_nothing()
    options = {"echo": False, "from": people.ann.id, "sender": people.ann.id, "skip": people.ben.id, "event": "welcome"}
    await forger.do("room", "lobby", 1, options)
    await forger.do("private", people.ben.id, 2, options)
    heard = await people.heard()
    room = {"type": "room", "room": "lobby", "from": forger.id, "data": 1}
    assert heard["ben"] == [room, {"type": "private", "from": forger.id, "data": 2}]
    assert heard["ann"] == [room]
    await forger.close()


async def test_packets_that_only_a_server_sends(people: People, pair: Cluster) -> None:
    """Errors of a connection, acknowledgements of what was never asked, events in namespaces that one is not in."""
    for packet in ('43["ok"]', '431[{"ok":true}]', '42/custom,["join","lobby"]', "43/custom,7[]", "41/custom,"):
        forger = await Talker.connect(socketio_url(pair.nodes[0]))
        await forger.socket.send(packet)
        await forger.do("ping")
        await forger.close()
    for packet in ('44{"message":"no"}', '0{"sid":"x"}', "6", "3probe", "5"):
        forger = await Talker.connect(socketio_url(pair.nodes[0]))
        await forger.socket.send(packet)
        assert await forger.ended() == 1008, packet
    stranger = await Socket.open(socketio_url(pair.nodes[0]))
    await stranger.handshake()
    await stranger.send('42["chat","lobby","in no namespace"]')
    assert await stranger.ended() == 1008
    await people.heard_nothing()


async def test_rooms_of_a_namespace_are_out_of_reach(people: People, pair: Cluster) -> None:
    """Nobody outside can name them, and nobody inside can name ours."""
    inside = await Talker.connect(socketio_url(pair.nodes[0]), namespace="/custom")
    await inside.do("join", "lobby")
    for name in (room_in_namespace("/custom", "lobby"), room_in_namespace("/custom", "")):
        for kind in ("join", "room", "leave"):
            assert (await people.mallory.ask(kind, room=name, data=1))["code"] == "bad_room"
        for event in ("join", "room", "chat"):
            assert (await people.talker.ask(event, name, 1))["code"] == "bad_room"
    await people.mallory.join("/custom,lobby", "/custom", "custom")
    await people.mallory.do("room", room="/custom,lobby", data="a room of that name")
    await inside.do("chat", "lobby", "inside")
    assert await inside.expect("message") == [{"room": "lobby", "user": inside.id, "message": "inside"}]
    for name in ("/\nlobby", "\nlobby", "/custom\nlobby"):
        assert (await inside.ask("join", name))["code"] == "bad_room"
    assert await people.mallory.is_alive()
    assert people.mallory.pushes("room") == []
    await people.heard_nothing()
    assert [name for name, _ in inside.events] == ["message"]
    await inside.close()


def forges(target: Target) -> None:
    """Users who try whatever they may not: private rooms, broadcasts, and the words of nodes."""
    peers = [target.member(user=number, source=f"127.6.21.{number + 1}") for number in range(len(target.tokens))]
    tried = [
        (lambda n: command("join", room=f"private-{n}", ref=n), "forbidden"),
        (lambda n: command("broadcast", data="to all", ref=n), "forbidden"),
        (lambda n: command("welcome", id="x", node="x", user="1", ref=n), "unknown_type"),
        (lambda n: command("disconnect", connection="x", code=4003, ref=n), "unknown_type"),
        (lambda n: command("room", room="rt.all", data=1, **{"from": "x"}, ref=n), "not_joined"),
    ]
    for number in target.paced(FORGERIES):
        peer, (build, code) = peers[number % len(peers)], tried[number % len(tried)]
        peer.send(build(number))
        answer = peer.message()
        assert (answer["ref"], answer.get("code")) == (number, code)
    for peer in peers:
        peer.socket.close()


def test_a_flood_of_forgeries_harms_nobody(siege: Siege) -> None:
    """All of it is refused, and costs the database one question for each user."""
    siege.withstand(forges, metric='realtime_errors_total{code="forbidden"}', log="permission_refused action=may_")
