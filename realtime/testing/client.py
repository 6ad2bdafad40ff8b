"""A client of the JSON protocol, through the project's ASGI application, in the process of the test."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import json
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack
from http import HTTPStatus
from typing import Any, NamedTuple, Self, cast

import msgspec

from realtime.protocol.envelope import PrivateEnvelope
from realtime.runtime import require_node, runtime
from realtime.server.socket import Application, Message
from realtime.testing.node import RealtimeNode

TIMEOUT_SECONDS = 5.0
HOST = "testserver"
ADDRESS = ("127.0.0.1", 50_000)
ENDED = "application.ended"

Headers = Iterable[tuple[bytes, bytes]]


class Refused(AssertionError):
    """The node answered a command with an error: ``code``, ``message``, and ``retry_after`` where there is one."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        self.code: str = error["code"]
        self.message: str = error["message"]
        self.retry_after: float | None = error.get("retry_after")
        super().__init__(f"{self.code}: {self.message}")


class ConnectionDenied(AssertionError):
    """The handshake was refused with ``status``."""

    def __init__(self, status: int) -> None:
        self.status = status
        super().__init__(f"the handshake was refused with {status}")


class Close(NamedTuple):
    """How the server ended a connection."""

    code: int
    reason: str


class Closed(AssertionError):
    """The server ended the connection, with ``close``, while the client waited for something else."""

    def __init__(self, close: Close) -> None:
        self.close = close
        super().__init__(f"the connection was closed with {close.code} {close.reason!r}")


class RealtimeClient:
    """``async with RealtimeClient(user=alice) as client``: connected, and welcomed.

    ``user`` logs in by a session as ``force_login`` of Django's test client does; ``cookies`` are those of such a
    client; ``token`` is sent as ``authenticate``. Without any of them the client is anonymous, and no query is made.
    Where no ``RealtimeNode`` runs the first client brings one, which ends with it.
    """

    def __init__(
        self,
        *,
        user: Any = None,
        cookies: Mapping[str, Any] | None = None,
        token: str | None = None,
        headers: Headers = (),
        path: str = "",
        subprotocols: Iterable[str] = (),
        application: Application | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        self.id = ""
        """The connection's id, once connected."""
        self.welcome: dict[str, Any] = {}
        self._user = user
        self._cookies = {name: getattr(each, "value", each) for name, each in (cookies or {}).items()}
        self._token = token
        self._headers = list(headers)
        self._path = path
        self._subprotocols = list(subprotocols)
        self._application = application
        self._timeout = timeout
        self._refs = itertools.count(1)
        self._kept: list[dict[str, Any]] = []  # arrived, and not asked for yet
        self._inbox: asyncio.Queue[Message] = asyncio.Queue()
        self._outbox: asyncio.Queue[Message] = asyncio.Queue()
        self._running: asyncio.Task[None] | None = None
        self._close: Close | None = None
        self._exits = AsyncExitStack()

    # -- life --------------------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as exits:
            if runtime().node is None:
                await exits.enter_async_context(RealtimeNode())
            exits.push_async_callback(self._end)
            if self._user is not None:
                await self._force_login()
            await self._connect()
            if self._token is not None:
                await self.authenticate(self._token)
            self._exits = exits.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._exits.aclose()

    async def _force_login(self) -> None:
        from django.test import AsyncClient

        browser = AsyncClient()
        await browser.aforce_login(self._user)
        self._cookies |= {name: each.value for name, each in browser.cookies.items()}

    async def _connect(self) -> None:
        application = self._application or _project_application()
        self._running = asyncio.create_task(
            _run(application, self._scope(), self._inbox, self._outbox),
            context=contextvars.Context(),  # what the test has set is not the application's
            name="client of a test",
        )
        await self._inbox.put({"type": "websocket.connect"})
        answer = await self._next_event()
        if answer["type"] != "websocket.accept":
            raise ConnectionDenied(answer.get("status", HTTPStatus.FORBIDDEN))
        self.welcome = await self.next("welcome")
        self.id = self.welcome["id"]

    def _scope(self) -> dict[str, Any]:
        path, _, query = (self._path or f"{runtime().settings.path_prefix}/ws/").partition("?")
        headers = [(b"host", HOST.encode()), *self._headers]
        if self._cookies:
            text = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
            headers.append((b"cookie", text.encode("latin1")))
        return {
            "type": "websocket",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "scheme": "ws",
            "path": path,
            "raw_path": path.encode(),
            "root_path": "",
            "query_string": query.encode(),
            "headers": headers,
            "client": ADDRESS,
            "server": (HOST, 80),
            "subprotocols": self._subprotocols,
            "extensions": {"websocket.http.response": {}},
            "state": {},
        }

    async def _end(self) -> None:
        """The client goes; what the application raised is raised here."""
        if self._running is None:
            return
        await self._inbox.put({"type": "websocket.disconnect", "code": 1000})
        async with asyncio.timeout(self._timeout):
            await self._running

    # -- commands ----------------------------------------------------------------------------------------------------

    async def send(self, kind: str, **fields: Any) -> None:
        """Send a command, and wait for nothing."""
        await self.send_text(json.dumps({"type": kind, **fields}))

    async def send_text(self, text: str) -> None:
        """Send whatever it is."""
        await self._inbox.put({"type": "websocket.receive", "text": text})

    async def ask(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Send a command, and return its answer. Raises Refused."""
        ref = f"test-{next(self._refs)}"
        await self.send(kind, ref=ref, **fields)
        answer = await self._find(lambda message: message.get("ref") == ref, self._timeout)
        if answer["type"] == "error":
            raise Refused(answer)
        return answer

    async def join(self, room: str, **fields: Any) -> dict[str, Any]:
        """Join a room; ``members=True`` asks for its members."""
        return await self.ask("join", room=room, **fields)

    async def leave(self, room: str) -> dict[str, Any]:
        """Leave a room."""
        return await self.ask("leave", room=room)

    async def publish(self, room: str, data: Any, **fields: Any) -> dict[str, Any]:
        """Publish to a room; ``echo=True`` includes this client."""
        return await self.ask("room", room=room, data=data, **fields)

    async def broadcast(self, data: Any, **fields: Any) -> dict[str, Any]:
        """Publish to everybody."""
        return await self.ask("broadcast", data=data, **fields)

    async def send_private(self, to: str, data: Any) -> dict[str, Any]:
        """Publish to one connection, or to ``user:<primary key>``."""
        return await self.ask("private", to=to, data=data)

    async def authenticate(self, token: str) -> dict[str, Any]:
        """Say who the client is."""
        return await self.ask("authenticate", token=token)

    async def ping(self) -> dict[str, Any]:
        """Ask whether anybody is there."""
        return await self.ask("ping")

    # -- what arrives ------------------------------------------------------------------------------------------------

    async def next(self, kind: str | None = None, *, timeout: float | None = None) -> dict[str, Any]:
        """The next message of this type that was not taken yet; without a type the next one. Others are kept.

        Raises TimeoutError when none comes, and Closed.
        """
        limit = self._timeout if timeout is None else timeout
        return await self._find(lambda message: kind in (None, message["type"]), limit)

    async def received(self) -> list[dict[str, Any]]:
        """Everything that was not taken yet, once all that has been published by now is delivered: may be nothing."""
        node, mark = require_node(), f"mark-{next(self._refs)}"
        if self.id in node.hub.writers:
            data = msgspec.Raw(msgspec.json.encode(mark))
            await node.publish_to(node.id, PrivateEnvelope(v=node.version, to=self.id, data=data))
            await self._find(lambda message: message.get("data") == mark, self._timeout)
        else:  # nothing is delivered to it
            await self.ping()
        taken, self._kept = self._kept, []
        return taken

    async def closed(self, *, timeout: float | None = None) -> Close:
        """Wait until the server ends the connection: its close code and reason. What arrives before is kept."""
        async with asyncio.timeout(self._timeout if timeout is None else timeout):
            while self._close is None:
                try:
                    self._kept.append(await self._receive())
                except Closed:
                    break
        assert self._close is not None
        return self._close

    async def _find(self, is_wanted: Any, timeout: float) -> dict[str, Any]:
        for index, message in enumerate(self._kept):
            if is_wanted(message):
                return self._kept.pop(index)
        async with asyncio.timeout(timeout):
            while not is_wanted(message := await self._receive()):
                self._kept.append(message)
        return message

    async def _receive(self) -> dict[str, Any]:
        if self._close is not None:
            raise Closed(self._close)
        event = await self._next_event()
        if event["type"] == "websocket.close":
            self._close = Close(event.get("code") or 1000, event.get("reason") or "")
            await self._inbox.put({"type": "websocket.disconnect", "code": self._close.code})
            raise Closed(self._close)
        message: dict[str, Any] = json.loads(event.get("text") or event["bytes"])
        return message

    async def _next_event(self) -> Message:
        async with asyncio.timeout(self._timeout):
            event = await self._outbox.get()
        if event["type"] == ENDED:
            if self._running is not None:
                await self._running  # raises what ended it
            raise AssertionError("the application has ended without a close")
        return event


async def _run(
    application: Application, scope: dict[str, Any], inbox: asyncio.Queue[Message], outbox: asyncio.Queue[Message]
) -> None:
    try:
        await application(scope, inbox.get, outbox.put)
    finally:
        await outbox.put({"type": ENDED})


def _project_application() -> Application:
    """What ASGI_APPLICATION names."""
    from channels.routing import get_default_application

    return cast(Application, get_default_application())
