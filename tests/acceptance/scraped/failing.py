"""The application as it is delivered, with a bug: whoever pings with a `ref` of `bug` finds it."""

from __future__ import annotations

from config.asgi import application
from realtime.connection import Connection
from realtime.handlers import HANDLERS, ping
from realtime.protocol.messages import Ping, Reply

__all__ = ["application"]


async def buggy_ping(connection: Connection, command: Ping) -> Reply:
    if command.ref == "bug":
        raise ZeroDivisionError("a bug")
    return await ping(connection, command)


HANDLERS[Ping] = buggy_ping
