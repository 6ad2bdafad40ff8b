"""The Channels consumer: it owns a connection's lifetime and takes no decision.

Its groups are joined by its node, for all consumers of the node at once (ARCHITECTURE.md, "one channel per node"),
so that it overrides ``__call__``: no channel of its own, no dispatch with a thread hop per message.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from dataclasses import dataclass

from channels.consumer import AsyncConsumer

from realtime.auth import BadToken, Identity
from realtime.connection import Connection
from realtime.handlers import HANDLERS
from realtime.handlers.identify import identity_of_token
from realtime.middleware import (
    chosen_subprotocol,
    forget_token,
    header,
    identity_of,
    is_origin_allowed,
    remote_address,
    token_of,
)
from realtime.node import Node
from realtime.probe import is_probe, serve_probe
from realtime.protocol.closing import UNAUTHORIZED
from realtime.protocol.errors import CommandRefused, Forbidden, Unavailable
from realtime.rates import Source
from realtime.runtime import Runtime, runtime
from realtime.server import daphne_hooks, uvicorn_hooks
from realtime.server.plain import PlainSocket
from realtime.server.socket import BINARY, ClientSocket, Receive, Scope, Send
from realtime.throttle import TurnedAway
from realtime.tracking import ConnectionFacts

RETRY_AFTER_SECONDS = 5
ORIGIN = "origin"
TOKEN = "token"
IDENTITY = "identity"
TURN_AWAY_SECONDS = 3.0
"""A client whose token is not good, and that does not answer the close frame, is left to the server after that time."""


class RealtimeConsumer(AsyncConsumer):
    """One client that speaks the JSON protocol of docs/protocol.md."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # type: ignore[override]
        """The whole life of a connection; cleanup is in ``finally``, since ``disconnect`` is not called on a crash."""
        process = runtime()
        process.proxies.settle(scope)
        client = client_socket(process, scope, receive, send)
        await receive()  # websocket.connect
        if is_probe(scope, process.probe_secret):
            await serve_probe(client)
            return
        admitted = admit(process, scope)
        if isinstance(admitted, TurnedAway):
            is_origin = admitted.reason == ORIGIN
            await (client.deny(403) if is_origin else client.deny(503, retry_after_seconds=seconds_of(admitted)))
            return
        node, address = admitted.node, remote_address(scope)
        with admitted:
            identity = await _identify(node, scope, client, address)
        if identity is None:
            admitted.leave()
            return
        connection = _connection(admitted, client, identity, address)
        opened(process, scope, connection, identity)
        try:
            connection.welcome()
            await node.add(connection)
            scope["headers"] = []  # nobody asks again, and they would stay as long as the client
            while (message := await client.next()) is not None:
                if message is BINARY:
                    connection.handle_binary()
                else:
                    await connection.handle(message)
        finally:
            connection.ended()
            admitted.leave()
            process.connection_closed(connection, client.close_code, client.close_reason)


@dataclass(frozen=True, slots=True)
class Admission:
    """A client is let in: it has a place in the node, and counts for its address.

    A ``with`` for the time of the handshake gives both back when that fails. Later the place is the hub's, and
    ``leave`` is called when the socket is gone.
    """

    node: Node
    source: Source

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: object, trace: object) -> None:
        self.node.occupancy.arrived()
        if kind is not None:
            self.leave()

    def leave(self) -> None:
        """It counts for its address no more."""
        self.node.throttle.leave(self.source)


def admit(process: Runtime, scope: Scope) -> Admission | TurnedAway:
    """Let a client in, before anybody is asked who it is; or say why not, which is counted."""
    found = _admit(process, scope)
    if isinstance(found, TurnedAway):
        process.instrument.connection_refused(found.reason)
    return found


def _admit(process: Runtime, scope: Scope) -> Admission | TurnedAway:
    node = process.node
    if not is_origin_allowed(scope, process.origin_rules):
        return TurnedAway(ORIGIN, 0)
    if node is None:
        return TurnedAway("not_started", RETRY_AFTER_SECONDS)
    if not node.is_accepting:
        return TurnedAway(node.state, RETRY_AFTER_SECONDS)
    address = remote_address(scope)
    turned_away = node.throttle.knock(address)
    if turned_away is not None:
        return turned_away
    source = node.throttle.enter(address)
    if isinstance(source, TurnedAway):
        return source
    if not node.occupancy.arrive():
        node.throttle.leave(source)
        return TurnedAway("capacity", RETRY_AFTER_SECONDS)
    return Admission(node, source)


def seconds_of(turned_away: TurnedAway) -> int:
    """For ``Retry-After``: whole seconds, one at least."""
    return max(math.ceil(turned_away.retry_after), 1)


async def permit_connection(node: Node, identity: Identity, address: str, transport: str) -> None:
    """Ask the project's permissions. Raises CommandRefused."""
    pending = node.judge.connect(node.judge.caller(identity.user, identity.label, "", address, transport))
    if pending is not None:
        await pending


async def _identify(node: Node, scope: Scope, client: ClientSocket, address: str) -> Identity | None:
    """Who the client is, and accept it; None for one that is not let in. Its origin has been looked at before."""
    subprotocol = chosen_subprotocol(scope)
    try:
        identity = await _brought_identity(node, scope)
        await permit_connection(node, identity, address, "websocket")
    except Unavailable:
        node.instrument.connection_refused(IDENTITY)
        await client.deny(503, retry_after_seconds=RETRY_AFTER_SECONDS)
        return None
    except BadToken as error:
        node.instrument.connection_refused(TOKEN)
        node.refusals.refused(error.reason, address)
        await client.accept(subprotocol)  # browsers show a close code, and no HTTP status
        await _turn_away(client)
        return None
    except CommandRefused as refusal:
        node.instrument.connection_refused(refusal.code)
        await client.deny(403 if isinstance(refusal, Forbidden) else 500)
        return None
    await client.accept(subprotocol)
    return identity


async def _brought_identity(node: Node, scope: Scope) -> Identity:
    """Whom the token in the handshake names, or what else is in it. Raises BadToken and Unavailable."""
    token = token_of(scope, node.settings.token_query_parameter)
    try:
        return await (session_identity(node, scope) if token is None else identity_of_token(node, token))
    finally:
        forget_token(scope)


async def session_identity(node: Node, scope: Scope) -> Identity:
    """Who the cookie says the client is. Raises Unavailable when the session cannot be read."""
    try:
        return await identity_of(scope, node.settings)
    except Exception as error:  # whatever the database, the cache or their drivers raise
        node.refusals.unavailable(error)
        raise Unavailable() from error


async def _turn_away(client: ClientSocket) -> None:
    client.writer.close(UNAUTHORIZED)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(TURN_AWAY_SECONDS):
            while await client.next() is not None:
                pass


def _connection(admitted: Admission, client: ClientSocket, identity: Identity, address: str) -> Connection:
    node, source = admitted.node, admitted.source
    connection = Connection(node, client.writer, HANDLERS, identity=identity, address=address, source=source)
    client.on_held_back = connection.held_back
    if node.settings.pong_is_activity:
        client.on_control_frame = connection.touch
    return connection


def client_socket(process: Runtime, scope: Scope, receive: Receive, send: Send) -> ClientSocket:
    """The client's socket: the direct way where the server is known."""
    limit = process.backlog_limit
    inbox_max_bytes = process.settings.inbox_max_bytes
    direct = daphne_hooks.client_socket(scope, send, limit, inbox_max_bytes)
    direct = direct or uvicorn_hooks.client_socket(scope, send, limit, inbox_max_bytes)
    return direct or PlainSocket(scope, receive, send, limit)


def opened(process: Runtime, scope: Scope, connection: Connection, identity: Identity) -> None:
    """Tell of a connection. Its address alone stays as long as the client: the tracker has the rest."""
    process.connection_opened(connection, _facts(scope, connection, identity))


def _facts(scope: Scope, connection: Connection, identity: Identity) -> ConnectionFacts:
    return ConnectionFacts(
        id=connection.id,
        node=connection.node.id,
        transport=connection.transport,
        connected=time.time(),
        user=identity.user,
        user_label=identity.label,
        remote_address=connection.address,
        user_agent=header(scope, b"user-agent")[:255],
        path=str(scope.get("path", ""))[:255],
    )
