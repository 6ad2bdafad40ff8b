"""The events that every namespace has: our commands, in Socket.IO's words. docs/socketio.md has the table."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

import msgspec

from realtime.handlers import HANDLERS, publish
from realtime.protocol.envelope import RoomEnvelope
from realtime.protocol.errors import BadMessage, BadRoom, UnknownType
from realtime.protocol.messages import (
    Authenticate,
    Join,
    Leave,
    Ping,
    PublishBroadcast,
    PublishPrivate,
    PublishRoom,
)
from realtime.protocol.names import MAIN_NAMESPACE, is_room_name, room_in_namespace
from realtime.protocol.socketio import Event
from realtime.socketio.refs import Asked

if TYPE_CHECKING:
    from realtime.socketio.connection import SocketIOConnection

RECIPIENT_MAX = 128
TOKEN_MAX = 8192


async def answer(connection: SocketIOConnection, event: Event, asked: Asked) -> None:
    """Do what a client asks. Raises CommandRefused and BackplaneUnavailable."""
    ours = EVENTS.get(event.name)
    if ours is None or (event.namespace != MAIN_NAMESPACE and ours in MAIN_ONLY):
        raise UnknownType(f"There is no event {event.name[:40]!r}.")
    await ours(connection, event, asked)


async def ping(connection: SocketIOConnection, event: Event, asked: Asked) -> None:
    """``ping()``"""
    if not connection.node.settings.ping_is_activity:
        connection.last_active = connection.active_before
    reply = await HANDLERS[Ping](connection, Ping(ref=asked.ref))
    if reply is not None:
        connection.send(reply)


async def welcome(connection: SocketIOConnection, event: Event, asked: Asked) -> None:
    """``welcome()``: the acknowledgement says what plain clients are told at the beginning."""
    greeting = msgspec.to_builtins(connection.greeting())
    greeting.pop("type")
    connection.acknowledge_with(asked, greeting)


async def join(connection: SocketIOConnection, event: Event, asked: Asked) -> None:
    """``join(room, {members})``"""
    room = _room(event)
    is_new = room not in connection.rooms
    members = event.options(1).get("members") is True
    reply = await HANDLERS[Join](connection, Join(room=room, members=members, ref=asked.ref))
    if reply is not None:
        connection.send(reply)
    if is_new and connection.node.settings.socketio_join_notices:
        _announce(connection, room)


def _announce(connection: SocketIOConnection, room: str) -> None:
    joined = connection.rooms.get(room)
    if joined is None:
        return
    node = connection.node
    notice = msgspec.json.encode(f"user {connection.id} joined")
    envelope = RoomEnvelope(
        v=node.version,
        room=room,
        data=msgspec.Raw(notice),
        sender=connection.id,
        skip=connection.id,
        event="message",
    )
    node.publish(joined.group, envelope)


async def leave(connection: SocketIOConnection, event: Event, asked: Asked) -> None:
    """``leave(room)``"""
    reply = await HANDLERS[Leave](connection, Leave(room=_room(event), ref=asked.ref))
    if reply is not None:
        connection.send(reply)


async def chat(connection: SocketIOConnection, event: Event, asked: Asked) -> None:
    """``chat(room, message)``: to everybody in the room, the sender included."""
    await _publish(connection, event, asked, echo=True)


async def room(connection: SocketIOConnection, event: Event, asked: Asked) -> None:
    """``room(room, data, {echo})``: to the other members."""
    await _publish(connection, event, asked, echo=_echo(event, 2))


async def _publish(connection: SocketIOConnection, event: Event, asked: Asked, *, echo: bool) -> None:
    data, is_binary = event.data(1, "data")
    command = PublishRoom(room=_room(event), data=data, echo=echo, ref=asked.ref)
    await publish.room(connection, command, binary=is_binary)


async def broadcast(connection: SocketIOConnection, event: Event, asked: Asked) -> None:
    """``broadcast(data, {echo})``: to everybody else; in another namespace than ``/`` to those in it."""
    data, is_binary = event.data(0, "data")
    echo = _echo(event, 1)
    if event.namespace == MAIN_NAMESPACE:
        command = PublishBroadcast(data=data, echo=echo, ref=asked.ref)
        await publish.broadcast(connection, command, binary=is_binary)
    else:
        everybody = PublishRoom(room=room_in_namespace(event.namespace, ""), data=data, echo=echo, ref=asked.ref)
        await publish.room(connection, everybody, binary=is_binary)


async def private(connection: SocketIOConnection, event: Event, asked: Asked) -> None:
    """``private(to, data)``"""
    to = event.text(0, "to")
    if not 1 <= len(to) <= RECIPIENT_MAX:
        raise BadMessage(f"Argument `to` has 1 to {RECIPIENT_MAX} characters.")
    data, is_binary = event.data(1, "data")
    command = PublishPrivate(to=to, data=data, ref=None if asked.ack is None else asked.ref)
    await publish.private(connection, command, binary=is_binary)


async def authenticate(connection: SocketIOConnection, event: Event, asked: Asked) -> None:
    """``authenticate(token)``"""
    token = event.text(0, "token")
    if len(token) > TOKEN_MAX:
        raise BadMessage(f"Argument `token` has at most {TOKEN_MAX} characters.")
    reply = await HANDLERS[Authenticate](connection, Authenticate(token=token, ref=asked.ref))
    if reply is not None:
        connection.send(reply)


EVENTS: dict[str, Callable[[SocketIOConnection, Event, Asked], Awaitable[None]]] = {
    "ping": ping,
    "welcome": welcome,
    "join": join,
    "leave": leave,
    "chat": chat,
    "room": room,
    "broadcast": broadcast,
    "private": private,
    "authenticate": authenticate,
}
MAIN_ONLY = frozenset({private, authenticate})
"""They have nothing to do with rooms: they are events of ``/``."""


def _room(event: Event) -> str:
    name = event.text(0, "room")
    if not is_room_name(name):
        raise BadRoom()
    return room_in_namespace(event.namespace, name)


def _echo(event: Event, index: int) -> bool:
    return event.options(index).get("echo") is True
