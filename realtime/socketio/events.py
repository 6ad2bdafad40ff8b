"""The hook for a project's own events. docs/socketio.md shows it.

    from realtime.socketio import Client, on

    @on("order", namespace="/shop")
    async def order(client: Client, number: int) -> dict[str, object]:
        await client.emit_room("kitchen", "ordered", {"number": number})
        return {"accepted": True}

Handlers are coroutines or plain functions; plain ones run in a thread, where the database may be used. What a handler
returns is its acknowledgement: a tuple is several arguments, None is ``{"ok": true}``.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from realtime.exceptions import RealtimeError
from realtime.protocol.names import MAIN_NAMESPACE
from realtime.protocol.socketio import RESERVED

if TYPE_CHECKING:
    from realtime.socketio.client import Client

Handler = Callable[..., Any]
AnyHandler = TypeVar("AnyHandler", bound=Handler)


class ConnectionRefused(RealtimeError):
    """A client may not connect to a namespace: it is told ``message``, and ``data`` if there is some."""

    def __init__(self, message: str, data: object = None) -> None:
        super().__init__(message)
        self.message = message
        self.data = data


@dataclass(slots=True)
class Namespace:
    """What a project does in one namespace."""

    events: dict[str, Handler] = field(default_factory=dict)
    connecting: list[Handler] = field(default_factory=list)
    connect: list[Handler] = field(default_factory=list)
    disconnect: list[Handler] = field(default_factory=list)


class Registry:
    """The namespaces that clients may connect to: ``/``, and those that something was registered for."""

    def __init__(self) -> None:
        self.namespaces: dict[str, Namespace] = {MAIN_NAMESPACE: Namespace()}

    def namespace(self, name: str) -> Namespace:
        """A namespace, made at its first use. Raises ValueError for a name that none can have."""
        if not name.startswith("/") or any(each in name for each in ",?") or not name.isprintable():
            raise ValueError(f"{name!r} is no namespace: it begins with / and has no comma and no question mark")
        return self.namespaces.setdefault(name, Namespace())


registry = Registry()


def on(event: str, *, namespace: str = MAIN_NAMESPACE) -> Callable[[AnyHandler], AnyHandler]:
    """Call the function for each ``event`` of a client: ``(client, *arguments)``. It replaces an event of ours."""
    if event in RESERVED:
        raise ValueError(f"{event!r} is an event of Socket.IO itself")

    def register(handler: AnyHandler) -> AnyHandler:
        registry.namespace(namespace).events[event] = handler
        return handler

    return register


def on_connecting(namespace: str = MAIN_NAMESPACE) -> Callable[[AnyHandler], AnyHandler]:
    """Call ``(client, auth)`` before a client is connected. It may raise ``ConnectionRefused``."""
    return _appending(lambda: registry.namespace(namespace).connecting)


def on_connect(namespace: str = MAIN_NAMESPACE) -> Callable[[AnyHandler], AnyHandler]:
    """Call ``(client, auth)`` once a client is connected."""
    return _appending(lambda: registry.namespace(namespace).connect)


def on_disconnect(namespace: str = MAIN_NAMESPACE) -> Callable[[AnyHandler], AnyHandler]:
    """Call ``(client)`` once a client is no longer connected; it is out of its rooms by then."""
    return _appending(lambda: registry.namespace(namespace).disconnect)


def _appending(handlers: Callable[[], list[Handler]]) -> Callable[[AnyHandler], AnyHandler]:
    def register(handler: AnyHandler) -> AnyHandler:
        handlers().append(handler)
        return handler

    return register


async def call(handler: Handler, client: Client, *arguments: Any) -> Any:
    """Call a handler: in the loop, or in a thread with its own database connection."""
    if asyncio.iscoroutinefunction(handler):
        return await handler(client, *arguments)
    from channels.db import DatabaseSyncToAsync

    return await DatabaseSyncToAsync(handler, thread_sensitive=False)(client, *arguments)
