"""Joining and leaving rooms."""

from __future__ import annotations

from msgspec import UNSET

from realtime.connection import Connection
from realtime.protocol.errors import NotJoined, TooManyRooms
from realtime.protocol.messages import Join, Joined, Leave, Left, echo_ref

MEMBERS_LISTED_MAX = 1_000
"""Longer lists of members are answered with their count."""


async def join(connection: Connection, command: Join) -> Joined:
    """Join; the reply comes after the backplane confirmed. Joining again is no error, and may ask for the members."""
    connection.spend_join()
    node = connection.node
    room = command.room
    if (pending := node.judge.join(connection.caller, room)) is not None:
        await pending
    await put_in(connection, room)
    if not command.members or room not in connection.rooms:  # it may have gone meanwhile, and would watch for ever
        return Joined(room=room, ref=echo_ref(command.ref))
    silent = await node.members.watch(connection, room)
    known = list(node.members.members_of(room).values())
    return Joined(
        room=room,
        members=known if len(known) <= MEMBERS_LISTED_MAX else UNSET,
        count=UNSET if len(known) <= MEMBERS_LISTED_MAX else len(known),
        partial=silent or UNSET,
        ref=echo_ref(command.ref),
    )


async def put_in(connection: Connection, room: str) -> None:
    """Make a connection a member of a room, whatever its client may: code of the project may call this."""
    if room not in connection.rooms:
        if len(connection.rooms) >= connection.node.settings.rooms_per_connection_max:
            raise TooManyRooms()
        await connection.node.join(connection, room)


async def leave(connection: Connection, command: Leave) -> Left:
    """Leave; nothing of the room follows the reply."""
    if not connection.node.leave(connection, command.room):
        raise NotJoined()
    return Left(room=command.room, ref=echo_ref(command.ref))
