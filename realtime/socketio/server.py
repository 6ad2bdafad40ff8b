"""The ASGI application of ``/socket.io/``: HTTP long-polling and WebSocket, whichever node has the session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from realtime.auth import Identity
from realtime.consumers import (
    IDENTITY,
    ORIGIN,
    RETRY_AFTER_SECONDS,
    Admission,
    admit,
    client_socket,
    opened,
    session_identity,
)
from realtime.middleware import is_origin_allowed, remote_address
from realtime.node import Node
from realtime.protocol import engineio
from realtime.protocol.engineio import Refusal, Refused, Request, Transport
from realtime.protocol.errors import Unavailable
from realtime.protocol.names import node_of_session
from realtime.rates import Source
from realtime.runtime import Runtime, runtime
from realtime.server.socket import ClientSocket, Receive, Scope, Send
from realtime.socketio.carrier import POLL, POST, FarSide, carry_request, carry_websocket
from realtime.socketio.connection import SocketIOConnection
from realtime.socketio.events import Registry, registry
from realtime.socketio.http import origin_headers, read_body, send_answer, send_preflight
from realtime.socketio.session import Answer, Session, Speaker, refused
from realtime.socketio.sessions import Sessions
from realtime.throttle import TurnedAway

POST_SECONDS = 30.0
"""A body whose node has not answered by then is not known to be taken."""

Meet = Callable[["Home", Session, Scope, Identity], Speaker]


class Home:
    """The sessions of one node, and what other nodes carry to it."""

    def __init__(self, process: Runtime, node: Node) -> None:
        self.process = process
        self.node = node
        self.sessions = Sessions(node, process.backlog_limit)
        self.far_side = FarSide(node, process.backlog_limit, self.sessions.get)


def meet_client(home: Home, session: Session, scope: Scope, identity: Identity, events: Registry = registry) -> Speaker:
    """A Socket.IO client is behind this session: a connection of the node."""
    process = home.process

    def ended(connection: SocketIOConnection, code: int) -> None:
        connection.ended()
        process.connection_closed(connection, code)

    connection = SocketIOConnection(
        home.node,
        session,
        identity,
        events,
        address=remote_address(scope),
        on_connected=lambda: home.sessions.connected(session),
        on_ended=ended,
    )
    session.on_held_back = connection.held_back
    home.sessions.expect_connect(session)
    opened(process, scope, connection, identity)
    return connection


class SocketIOServer:
    """``meet``: who talks with the client of a new session."""

    def __init__(self, meet: Meet = meet_client) -> None:
        self._meet = meet
        self._home: Home | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        runtime().proxies.settle(scope)
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
        else:
            await self._http(scope, receive, send)

    def start(self, process: Runtime) -> Home | None:
        """The sessions of the running node; None while there is none."""
        node = process.node
        if node is None:
            return None
        if self._home is None or self._home.node is not node:
            self._home = Home(process, node)
        return self._home

    # -- HTTP --------------------------------------------------------------------------------------------------------

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        process = runtime()
        headers = origin_headers(scope, process.origin_rules)
        if scope["method"] == "OPTIONS":
            await send_preflight(scope, send, headers)
            return
        try:
            answer = await self._answer(process, scope, receive)
        except Refused as error:
            answer = refused(error.refusal)
        except EOFError:
            return
        await send_answer(send, answer, headers)

    async def _answer(self, process: Runtime, scope: Scope, receive: Receive) -> Answer:
        request = engineio.read_query(scope["query_string"])
        method = scope["method"]
        if request.transport is not Transport.POLLING:
            raise Refused(Refusal.BAD_REQUEST)
        if not is_origin_allowed(scope, process.origin_rules):
            process.instrument.connection_refused("origin")
            raise Refused(Refusal.FORBIDDEN)
        home = self.start(process)
        if home is None:
            process.instrument.connection_refused("not_started")
            raise Refused(Refusal.UNAVAILABLE)
        if method not in ("GET", "POST") or (request.session is None and method != "GET"):
            raise Refused(Refusal.BAD_METHOD)
        body = await read_body(receive, process.settings.message_max_bytes)
        if request.session is None:
            return await self._open_polling(home, scope)
        if method == "POST":
            return await self._post(home, request.session, body)
        return await _until_client_gone(self._poll(home, request.session), receive)

    async def _open_polling(self, home: Home, scope: Scope) -> Answer:
        admitted = _admitted(home.process, scope)
        with admitted:
            identity = await _identity(home.node, scope)
        session = await self._open(home, scope, identity, Transport.POLLING, admitted.source)
        return Answer(200, engineio.encode_payload(session.writer.take()))

    async def _poll(self, home: Home, session_id: str) -> Answer:
        session = home.sessions.get(session_id)
        if session is not None:
            return await session.poll()
        settings = home.node.settings
        seconds = settings.socketio_ping_interval_seconds + settings.socketio_ping_timeout_seconds
        return await carry_request(home.node, _other_node(home, session_id), POLL, session_id, b"", seconds)

    async def _post(self, home: Home, session_id: str, body: bytes) -> Answer:
        session = home.sessions.get(session_id)
        if session is not None:
            return await session.post(body)
        return await carry_request(home.node, _other_node(home, session_id), POST, session_id, body, POST_SECONDS)

    # -- WebSocket ---------------------------------------------------------------------------------------------------

    async def _websocket(self, scope: Scope, receive: Receive, send: Send) -> None:
        process = runtime()
        client = client_socket(process, scope, receive, send)
        client.takes_binary = True
        await receive()  # websocket.connect
        try:
            home, request = self._checked_handshake(process, scope)
            if request.session is None:
                await self._serve(home, scope, client)
            else:
                await self._serve_session(home, request.session, scope, client)
        except Refused as error:
            seconds = RETRY_AFTER_SECONDS if error.refusal is Refusal.UNAVAILABLE else None
            await client.deny(error.refusal.status, retry_after_seconds=seconds)

    def _checked_handshake(self, process: Runtime, scope: Scope) -> tuple[Home, Request]:
        request = engineio.read_query(scope["query_string"])
        if request.transport is not Transport.WEBSOCKET:
            raise Refused(Refusal.BAD_REQUEST)
        if not is_origin_allowed(scope, process.origin_rules):
            process.instrument.connection_refused("origin")
            raise Refused(Refusal.FORBIDDEN)
        home = self.start(process)
        if home is None:
            process.instrument.connection_refused("not_started")
            raise Refused(Refusal.UNAVAILABLE)
        return home, request

    async def _serve(self, home: Home, scope: Scope, client: ClientSocket) -> None:
        admitted = _admitted(home.process, scope)
        with admitted:
            identity = await _identity(home.node, scope)
            await client.accept()
        session = await self._open(home, scope, identity, Transport.WEBSOCKET, admitted.source)
        scope["headers"] = []
        try:
            await session.serve(client)
        finally:
            session.end(client.close_code)

    async def _serve_session(self, home: Home, session_id: str, scope: Scope, client: ClientSocket) -> None:
        session = home.sessions.get(session_id)
        _knock(home, scope)
        if session is None:
            node_id = _other_node(home, session_id)
            await client.accept()
            scope["headers"] = []
            await carry_websocket(home.node, node_id, session_id, client)
            return
        if not session.may_upgrade:
            raise Refused(Refusal.BAD_REQUEST)
        await client.accept()
        scope["headers"] = []
        if await session.upgrade(client):
            home.node.instrument.session_opened("upgrade")
            try:
                await session.read(client)
            finally:
                session.end(client.close_code)
        else:
            while await client.next() is not None:
                pass

    # -- sessions ----------------------------------------------------------------------------------------------------

    async def _open(
        self, home: Home, scope: Scope, identity: Identity, transport: Transport, source: Source
    ) -> Session:
        settings = home.node.settings
        session = home.sessions.open(source)
        speaker = session.speaker = self._meet(home, session, scope, identity)
        packet = engineio.open_packet(
            session.id,
            transport,
            ping_interval_seconds=settings.socketio_ping_interval_seconds,
            ping_timeout_seconds=settings.socketio_ping_timeout_seconds,
            max_payload_bytes=settings.message_max_bytes,
        )
        session.writer.send([packet])
        home.node.instrument.session_opened(transport)
        await speaker.session_opened()
        return session


def _admitted(process: Runtime, scope: Scope) -> Admission:
    """Take a place in the node. Raises Refused."""
    admitted = admit(process, scope)
    if isinstance(admitted, TurnedAway):
        raise Refused(Refusal.FORBIDDEN if admitted.reason == ORIGIN else Refusal.UNAVAILABLE)
    return admitted


def _knock(home: Home, scope: Scope) -> None:
    """A WebSocket for a session that has begun elsewhere takes no place, but is a handshake. Raises Refused."""
    turned_away = home.node.throttle.knock(remote_address(scope))
    if turned_away is not None:
        home.process.instrument.connection_refused(turned_away.reason)
        raise Refused(Refusal.UNAVAILABLE)


async def _identity(node: Node, scope: Scope) -> Identity:
    """Who the cookie says the client is. Raises Refused."""
    try:
        return await session_identity(node, scope)
    except Unavailable:
        node.instrument.connection_refused(IDENTITY)
        raise Refused(Refusal.UNAVAILABLE) from None


def _other_node(home: Home, session_id: str) -> str:
    """The other node that a session is on. Raises Refused where there is none."""
    node_id = node_of_session(session_id)
    if node_id is None or node_id == home.node.id or not home.node.may_be_alive(node_id):
        raise Refused(Refusal.UNKNOWN_SESSION)
    return node_id


async def _until_client_gone(work: Coroutine[Any, Any, Answer], receive: Receive) -> Answer:
    """The answer of ``work``, which is cancelled when the client goes. Raises EOFError then."""
    working = asyncio.create_task(work, name="socketio poll")
    gone = asyncio.create_task(_disconnected(receive), name="socketio poll's client")
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise EOFError
    finally:
        working.cancel()
        gone.cancel()
        await asyncio.gather(working, gone, return_exceptions=True)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
