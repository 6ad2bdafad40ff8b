"""What Django code asks of the node in its own process, through the backplane."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any, cast

import msgspec
import pytest
from channels.layers import get_channel_layer
from channels.testing import WebsocketCommunicator
from django.core.management import CommandError, call_command
from pytest_django import Settings

from realtime import api
from realtime.auth import issue_token
from realtime.conf import DEVELOPMENT
from realtime.connection import Connection
from realtime.door import DATABASE_SECONDS
from realtime.hub import Member
from realtime.layers.wire import as_message
from realtime.node import Node
from realtime.orders import RUNNING_MAX
from realtime.protocol import envelope
from realtime.protocol.closing import SERVICE_RESTART, BadClose, CloseCode
from realtime.protocol.envelope import Answer, Disconnect, Question
from realtime.protocol.errors import BadRoom, UnknownRecipient
from realtime.protocol.names import node_channel
from realtime.routing import realtime_application
from realtime.runtime import BATCH_PAUSE_SECONDS, Runtime, runtime
from tests.unit.writers import RecordingWriter

ENVELOPE_MAX_BYTES = 100_000


@pytest.fixture
async def process(settings: Settings) -> AsyncIterator[Runtime]:
    """This process with a running node on the memory layer and without a database."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "realtime.layers.memory.MemoryChannelLayer"}}
    settings.REALTIME = {"DEFAULTS": DEVELOPMENT, "TRACKING_IS_ON": False}
    process = runtime()
    process.reload_settings()
    await process.start()
    yield process
    await process.stop()
    process.reload_settings()


@pytest.fixture
def node(process: Runtime) -> Node:
    assert process.node is not None
    return process.node


def crowd(node: Node, count: int, room: str = "") -> list[Member]:
    """Members without a client."""
    members = [Member(f"{node.id}.{number:022}", None, RecordingWriter()) for number in range(count)]
    for member in members:
        node.hub.add(member)
        if room:
            node.hub.join(member, room)
    return members


async def no_route(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError(f"No route found for path {scope['path']!r}.")


async def connected(**said: object) -> tuple[WebsocketCommunicator, str]:
    """A client that has said something, and its id."""
    client = WebsocketCommunicator(cast(Any, realtime_application(no_route)), "/ws/")
    assert (await client.connect())[0]
    welcome = json.loads(await client.receive_from(5))
    if said:
        await client.send_to(json.dumps(said))
        await client.receive_from(5)
    return client, str(welcome["id"])


async def test_a_client_is_disconnected_with_exactly_that(process: Runtime) -> None:
    """By its id: the code and the reason; the other one stays."""
    client, connection = await connected()
    other, _ = await connected()
    done = await api.adisconnect(connection=connection, code=4321, reason="bye é")
    assert (done.count, done.is_partial, done.silent, done.refusals) == (1, False, (), ())
    assert await client.receive_output(5) == {"type": "websocket.close", "code": 4321, "reason": "bye é"}
    assert (await api.adisconnect(connection=connection)).count == 0
    await other.send_to('{"type":"ping"}')
    assert json.loads(await other.receive_from(5)) == {"type": "pong"}
    await other.disconnect()


async def test_a_user_is_disconnected_everywhere(process: Runtime) -> None:
    """All their connections, and nobody else's; a private message that was published before comes before."""
    phone, _ = await connected(type="authenticate", token=issue_token(7))
    desk, _ = await connected(type="authenticate", token=issue_token(7))
    other, _ = await connected(type="authenticate", token=issue_token(8))
    await api.apublish_private("user:7", "last words")
    assert (await api.adisconnect(user=7, code=4001, reason="Logged out")).count == 2
    for client in (phone, desk):
        assert json.loads(await client.receive_from(5))["data"] == "last words"
        assert (await client.receive_output(5))["code"] == 4001
    assert (await api.alist_connections()).total == 1
    assert (await api.adisconnect(user=99)).count == 0
    await other.disconnect()


async def test_a_member_is_removed_from_a_room(process: Runtime) -> None:
    """Its client is told without having asked, gets nothing more of the room, and may join again."""
    client, connection = await connected(type="join", room="staff")
    done = await api.aremove_member(room="staff", connection=connection)
    assert done.count == 1
    assert json.loads(await client.receive_from(5)) == {"type": "left", "room": "staff"}
    await api.apublish_room("staff", "unheard")
    await api.apublish_private(connection, "sentinel")
    assert json.loads(await client.receive_from(5))["data"] == "sentinel"
    assert (await api.aremove_member(room="staff", connection=connection)).count == 0
    await client.send_to('{"type":"join","room":"staff"}')
    assert json.loads(await client.receive_from(5)) == {"type": "joined", "room": "staff"}
    await client.disconnect()


async def test_connections_are_listed_with_what_they_did(process: Runtime) -> None:
    """One's own figures, by user, by room, by both, and by node."""
    client, connection = await connected(type="authenticate", token=issue_token(7))
    other, _ = await connected(type="join", room="lobby")
    assert process.node is not None
    found = await api.alist_connections(user=7, node=process.node.id)
    assert [(each.id, each.user, each.transport, each.messages_in) for each in found.connections] == [
        (connection, "7", "websocket", 1)
    ]
    assert found.connections[0].bytes_out > found.connections[0].bytes_in > 0
    assert [each.rooms for each in (await api.alist_members("lobby")).connections] == [1]
    assert (await api.alist_connections(user=7, room="lobby")).total == 0
    assert (await api.alist_connections(limit=0)).connections == ()
    assert (await api.alist_connections(limit=0)).total == 2
    for each in (client, other):
        await each.disconnect()


async def test_nodes_describe_themselves(node: Node) -> None:
    """With what they have now, not at their last heartbeat."""
    crowd(node, 3, "lobby")
    found = await api.alist_nodes()
    assert [(each.id, each.state, each.connections, each.rooms) for each in found.nodes] == [(node.id, "ready", 3, 1)]
    assert not found.is_partial


async def test_a_long_list_is_read_page_by_page(node: Node) -> None:
    """Each connection once, none twice, and the total on each page."""
    members = crowd(node, 2_300)
    pages = [await api.alist_connections(limit=1_000)]
    while pages[-1].has_more:
        pages.append(await api.alist_connections(limit=1_000, after=pages[-1].connections[-1].id))
    assert [len(page.connections) for page in pages] == [1_000, 1_000, 300]
    assert [each.id for page in pages for each in page.connections] == sorted(member.id for member in members)
    assert {page.total for page in pages} == {2_300}


async def test_rooms_are_listed_by_name(node: Node) -> None:
    """With a prefix, in pages, with their members."""
    for number in range(250):
        crowd(node, number % 3 + 1, f"chat.{number:03}")
    crowd(node, 1, "lobby")
    page = await api.alist_rooms(prefix="chat.", limit=249)
    assert [room.name for room in page.rooms] == [f"chat.{number:03}" for number in range(249)]
    assert [room.members for room in page.rooms[:4]] == [1, 2, 3, 1]
    assert (page.has_more, dict(page.by_node)) == (True, {node.id: 250})
    rest = await api.alist_rooms(prefix="chat.", after=page.rooms[-1].name)
    assert ([room.name for room in rest.rooms], rest.has_more) == (["chat.249"], False)


async def test_no_envelope_of_an_answer_is_large(node: Node) -> None:
    """The longest list of 10,000 connections comes in parts, of which the last says that it is; more is refused."""
    crowd(node, 10_000, "lobby")
    layer: Any = get_channel_layer()
    layer.mailbox("someone")  # there before the answer
    asked = Question(v=1, request="q", reply_to="someone", about="connections", limit=envelope.LISTED_MAX)
    await layer.send(node_channel(node.id), as_message(envelope.encode(asked)))
    parts: list[Answer] = []
    while not parts or not parts[-1].is_last:
        text = (await asyncio.wait_for(layer.receive("someone"), 5))["text"].encode()
        assert len(text) < ENVELOPE_MAX_BYTES
        part = envelope.decode(text)
        assert isinstance(part, Answer)
        parts.append(part)
    assert len(parts) > 1
    assert sum(len(part.connections) for part in parts) == envelope.LISTED_MAX
    assert {part.total for part in parts} == {10_000}
    with pytest.raises(ValueError, match="limit"):
        await api.alist_connections(limit=envelope.LISTED_MAX + 1)


async def test_an_order_to_drain_is_taken_once(process: Runtime, node: Node) -> None:
    """A second one is refused, so that it cannot become a second signal; another node's is not this one's."""
    drained: list[str] = []
    node.orders = type(node.orders)(node, lambda: drained.append(node.id))
    assert (await api.adrain(node.id)).count == 1
    again = await api.adrain(node.id)
    assert (again.count, again.refusals) == (0, (f"{node.id}: it drains already",))
    assert drained == [node.id]
    gone = await api.adrain("gone-123456")
    assert (gone.count, gone.refusals) == (0, ("gone-123456: no such node",))


async def test_a_foreign_order_with_a_bad_code_closes_nobody(process: Runtime) -> None:
    """Whatever a publisher in another language sends; it is counted and answered, and the batch goes on."""
    client, connection = await connected()
    assert process.node is not None
    layer: Any = get_channel_layer()
    layer.mailbox("someone")  # there before the answer
    order = Disconnect(v=1, request="q", reply_to="someone", to=connection, code=1006)
    await layer.send(node_channel(process.node.id), as_message(envelope.encode(order)))
    text = (await asyncio.wait_for(layer.receive("someone"), 5))["text"].encode()
    refused = envelope.decode(text)
    assert isinstance(refused, Answer)
    assert "1006" in refused.refusal
    await client.send_to('{"type":"ping"}')
    assert json.loads(await client.receive_from(5)) == {"type": "pong"}
    await client.disconnect()


async def test_a_drain_closes_clients_in_paced_batches(process: Runtime, node: Node, settings: Settings) -> None:
    """So many at once, then others get their turn, with DRAIN_BATCH_CONNECTIONS in a batch."""
    await process.stop()
    settings.REALTIME = {
        "DEFAULTS": DEVELOPMENT,
        "TRACKING_IS_ON": False,
        "DRAIN_BATCH_CONNECTIONS": 10,
        "DRAIN_DEADLINE_SECONDS": 7.0,
    }
    process.reload_settings()
    await process.start()
    assert process.node is not None
    closed: list[tuple[float, CloseCode]] = []

    class Noting(RecordingWriter):
        def close(self, close: CloseCode) -> None:
            closed.append((time.monotonic(), close))

    for _ in range(25):
        await process.node.add(Connection(process.node, Noting(), {}))
    process.begin_drain()
    await process.close_connections()
    assert [close for _, close in closed] == [SERVICE_RESTART] * 25
    moments = [moment for moment, _ in closed]
    assert all(moments[index] - moments[index - 1] > BATCH_PAUSE_SECONDS * 0.8 for index in (10, 20))


async def test_a_node_that_is_silent_is_named_by_the_asking_node(node: Node) -> None:
    """It was heard a moment ago and does not answer now; what this node has is right."""
    crowd(node, 2, "lobby")
    ghost = msgspec.structs.replace(node.heartbeat(), node="ghost-123456")
    layer: Any = get_channel_layer()
    await layer.group_send("rt.nodes", as_message(envelope.encode(ghost)))
    found = await api.alist_rooms(within=0.2)
    assert (found.is_partial, found.silent) == (True, ("ghost-123456",))
    assert [(room.name, room.members) for room in found.rooms] == [("lobby", 2)]


async def test_more_orders_than_a_node_can_carry_out_at_once_are_refused(node: Node) -> None:
    """The asker is told, so that it knows that the list lacks this node."""
    layer: Any = get_channel_layer()
    layer.mailbox("someone")  # there before the first answer
    for number in range(RUNNING_MAX + 3):
        asked = Question(v=1, request=str(number), reply_to="someone", about="nodes")
        await layer.send(node_channel(node.id), as_message(envelope.encode(asked)))
    answers = [
        envelope.decode((await asyncio.wait_for(layer.receive("someone"), 5))["text"].encode())
        for _ in range(RUNNING_MAX + 3)
    ]
    refused = [each.request for each in answers if isinstance(each, Answer) and each.refusal == "busy"]
    assert refused == [str(number) for number in range(RUNNING_MAX, RUNNING_MAX + 3)]
    assert (await api.alist_nodes()).silent == ()


@pytest.mark.parametrize("tag", ["question", "disconnect", "remove", "drain", "answer"])
async def test_no_client_can_give_an_order(process: Runtime, tag: str) -> None:
    """It is no command of theirs, in whatever message they hide it; the others are still there."""
    client, connection = await connected()
    victim, victim_id = await connected(type="join", room="lobby")
    assert process.node is not None
    order = {"v": 1, "type": tag, "request": "1", "reply_to": "x", "to": victim_id, "code": 1008, "room": "lobby"}
    order |= {"connection": victim_id, "node": process.node.id, "about": "nodes"}
    await client.send_to(json.dumps(order))
    assert json.loads(await client.receive_from(5))["code"] == "unknown_type"
    for to in (node_channel(process.node.id), process.node.id, "rt.nodes"):
        await client.send_to(json.dumps({"type": "private", "to": to, "data": order, "ref": 1}))
        assert json.loads(await client.receive_from(5))["code"] == "unknown_recipient"
    await client.send_to(json.dumps({"type": "private", "to": victim_id, "data": order}))
    assert json.loads(await victim.receive_from(5)) == {"type": "private", "from": connection, "data": order}
    await victim.send_to('{"type":"leave","room":"lobby"}')
    assert json.loads(await victim.receive_from(5)) == {"type": "left", "room": "lobby"}
    for each in (client, victim):
        await each.disconnect()


async def test_bad_arguments_are_refused_before_anything_is_asked(process: Runtime) -> None:
    """Each with an exception that says what is wrong."""
    with pytest.raises(BadClose):
        await api.adisconnect(user=7, code=1006)
    with pytest.raises(UnknownRecipient):
        await api.adisconnect(connection="user:7")
    with pytest.raises(UnknownRecipient):
        await api.aremove_member(room="lobby", connection="nobody")
    with pytest.raises(BadRoom):
        await api.aremove_member(room="", connection="nobody")
    with pytest.raises(BadRoom):
        await api.alist_members("\n")
    with pytest.raises(UnknownRecipient):
        await api.adrain("rt.nodes *")
    with pytest.raises(TypeError):
        await api.adisconnect()
    with pytest.raises(TypeError):
        await api.adisconnect(connection="n.abcdefghijklmnopqrstuv", user=7)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("disconnect", "user:1", "--code", "1006"), "1006 is not a code to disconnect with"),
        (("disconnect", "nobody"), "no connection id"),
        (("connections", "--limit", "1001"), "limit must be between"),
        (("connections", "--room", "x" * 65), "bad_room"),
        (("drain", "gone-123456"), "no such node"),
    ],
)
def test_a_command_refuses_in_one_line(settings: Settings, words: tuple[str, ...], complaint: str) -> None:
    """A code that is none, an id that is none, a limit beyond the limit, a node that is not there."""
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "realtime.layers.memory.MemoryChannelLayer"}}
    with pytest.raises(CommandError, match=complaint) as caught:
        call_command(*words)
    assert caught.value.returncode == 1
    assert "\n" not in str(caught.value)


def test_what_is_partial_comes_within_two_seconds() -> None:
    """Nodes are waited for, and then their names, in less."""
    assert api.ANSWER_SECONDS + DATABASE_SECONDS < 2
