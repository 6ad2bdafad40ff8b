"""What each command does: one coroutine per command, and the table that names them.

A handler is ``async (connection, command) -> reply | None``; a refused command is an exception of ``protocol.errors``.
A handler that answers later (``connection.acknowledge``) returns None.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from realtime.connection import Connection
from realtime.handlers import identify, publish, rooms
from realtime.protocol import messages

Handler = Callable[[Connection, Any], Awaitable[messages.Reply | None]]


async def ping(connection: Connection, command: messages.Ping) -> messages.Reply:
    """Answer that somebody is there."""
    return messages.Pong(ref=messages.echo_ref(command.ref))


class HandlerTable(dict[type[messages.Command], Handler]):
    """The handlers of the protocol's commands. ``own``: those of the project's, which are looked at after them."""

    def __init__(self, handlers: dict[type[messages.Command], Handler]) -> None:
        super().__init__(handlers)
        self.own: dict[type[messages.OwnCommand], Handler] = {}

    def __missing__(self, kind: Any) -> Handler:
        return self.own[kind]


HANDLERS = HandlerTable(
    {
        messages.Ping: ping,
        messages.Join: rooms.join,
        messages.Leave: rooms.leave,
        messages.PublishBroadcast: publish.broadcast,
        messages.PublishRoom: publish.room,
        messages.PublishPrivate: publish.private,
        messages.Authenticate: identify.authenticate,
    }
)
