"""Our application with the echoes that the protocols' own test suites talk to, and some events of a project.

- `/engine.io/`: every message comes back, without Socket.IO;
- `/socket.io/`, namespaces `/` and `/custom`: `auth` after the connection, `message` → `message-back`,
  `message-with-ack`;
- namespace `/staff`: for logged-in users only, with a plain function that reads the database.

Run as `daphne tests.acceptance.socketio.application:application`.
"""

# ruff: noqa: E402 (Django must be set up before these are imported)
from __future__ import annotations

import os
from typing import Any, cast

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup(set_prefix=False)

from asgiref.sync import async_to_sync
from django.core.asgi import get_asgi_application

from realtime.auth import Identity
from realtime.protocol.engineio import MESSAGE
from realtime.protocol.frames import BinaryMessage
from realtime.routing import realtime_application
from realtime.server import daphne_hooks
from realtime.server.socket import Application, Receive, Scope, Send
from realtime.socketio import Client, ConnectionRefused, on, on_connect, on_connecting, on_disconnect
from realtime.socketio.server import Home, SocketIOServer
from realtime.socketio.session import Session, Speaker

ENGINE_PATH = "/engine.io/"


class Echo:
    """Says what it hears."""

    def __init__(self, session: Session) -> None:
        self._session = session

    async def session_opened(self) -> None:
        pass

    async def receive(self, message: bytes) -> None:
        self._session.writer.send([message if isinstance(message, BinaryMessage) else MESSAGE + message])

    def pong_came(self, *, is_asked: bool) -> None:
        pass

    def session_ended(self, code: int) -> None:
        pass


def meet_echo(home: Home, session: Session, scope: Scope, identity: Identity) -> Speaker:
    return Echo(session)


for namespace in ("/", "/custom"):

    @on_connect(namespace)
    async def auth(client: Client, auth: dict[str, Any]) -> None:
        if "silent" not in auth:
            await client.emit("auth", auth)

    @on("message", namespace=namespace)
    async def message(client: Client, *arguments: Any) -> None:
        await client.emit("message-back", *arguments)

    @on("message-with-ack", namespace=namespace)
    async def message_with_ack(client: Client, *arguments: Any) -> tuple[Any, ...]:
        return arguments


@on_connecting("/staff")
def let_in(client: Client, auth: dict[str, Any]) -> None:
    if not client.get_user().is_authenticated:
        raise ConnectionRefused("Log in first", {"code": "unauthorized"})


@on("whoami", namespace="/staff")
def whoami(client: Client) -> dict[str, Any]:
    user = client.get_user()
    async_to_sync(client.emit)("asked", user.get_username())
    return {"name": user.get_username(), "id": client.user_id}


@on("price", namespace="/")
async def price(client: Client, room: str, amount: Any) -> None:
    await client.emit_room(room, "price", {"amount": amount}, echo=True)


@on("fail")
async def fail(client: Client) -> None:
    raise RuntimeError("the handler failed, as it was asked to")


@on("leave us", namespace="/custom")
async def leave_us(client: Client) -> None:
    await client.disconnect()


@on_disconnect("/custom")
async def gone(client: Client) -> None:
    await client.emit_room("watchers", "gone", client.id)


engine = SocketIOServer(meet_echo)
ours = realtime_application(cast(Application, get_asgi_application()))


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] in ("http", "websocket") and scope["path"] == ENGINE_PATH:
        daphne_hooks.mark(scope, send)
        await engine(scope, receive, send)
    else:
        await ours(scope, receive, send)
