"""What a project's own handlers hold: one client in one namespace."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from realtime.clients import ConnectedClient
from realtime.handlers import HANDLERS, rooms
from realtime.protocol import codec, socketio
from realtime.protocol.envelope import RoomEnvelope
from realtime.protocol.errors import BadRoom
from realtime.protocol.messages import Leave
from realtime.protocol.names import group_of_room, is_room_name, room_in_namespace, split_room

if TYPE_CHECKING:
    from realtime.socketio.connection import SocketIOConnection


class Client(ConnectedClient["SocketIOConnection"]):
    """One client in one namespace."""

    def __init__(self, connection: SocketIOConnection, namespace: str) -> None:
        super().__init__(connection)
        self.namespace = namespace

    @property
    def rooms(self) -> list[str]:
        """The rooms of this namespace that the client is in."""
        names = (split_room(name) for name in self._connection.rooms)
        return [room for namespace, room in names if namespace == self.namespace and room]

    async def emit(self, event: str, *arguments: Any) -> None:
        """Send this client an event. Arguments are what JSON can say, and ``bytes`` anywhere in them."""
        self._connection.emit(self.namespace, event, arguments)

    async def emit_room(self, room: str, event: str, data: Any, *, echo: bool = False) -> None:
        """Publish an event to the other members of a room of this namespace, on all nodes; ``echo`` includes this one.

        Plain WebSocket members of a room of ``/`` get ``data`` as a message of the room. Raises BackplaneUnavailable.
        """
        name = self._name(room)
        node = self._connection.node
        text, is_binary = socketio.as_json(data)
        codec.check_data(text)
        envelope = RoomEnvelope(
            v=node.version,
            room=name,
            data=msgspec.Raw(text),
            sender=self.id,
            skip=None if echo else self.id,
            event=event,
            binary=is_binary,
        )
        await node.publish(group_of_room(name), envelope)

    async def join(self, room: str) -> None:
        """Make the client a member of a room, whatever the permissions. Raises TooManyRooms, BackplaneUnavailable."""
        await rooms.put_in(self._connection, self._name(room))

    async def leave(self, room: str) -> None:
        """Take the client out of a room. Raises NotJoined."""
        await HANDLERS[Leave](self._connection, Leave(room=self._name(room)))

    async def disconnect(self) -> None:
        """Disconnect the client from this namespace; official clients do not come back by themselves."""
        self._connection.emit_packets([socketio.disconnected(self.namespace)])
        await self._connection.leave_namespace(self.namespace)

    def _name(self, room: str) -> str:
        if not is_room_name(room):
            raise BadRoom()
        return room_in_namespace(self.namespace, room)
