"""One connection to one RabbitMQ server: bytes in, batches of replies out. It knows nothing of groups."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from collections.abc import Callable, Sequence
from typing import Any, cast

from pamqp import base, commands, header
from pamqp.common import FieldTable

from realtime.layers.rabbitmq_addresses import RabbitAddress
from realtime.layers.rabbitmq_frames import FRAME_BYTES, FrameReader, Reply, Said, method_frame

HEARTBEAT_SECONDS = 30  # the broker gives a silent connection up after twice that; we send something far more often
ATTEMPT_SECONDS = 1.5  # for all servers together; a link gives 2 s to an attempt, with what follows
CAPABILITIES = ("publisher_confirms", "basic.nack", "consumer_cancel_notify", "connection.blocked")

# A dead peer is noticed by TCP itself after 5 + 3 * 2 s, or when something sent stays unacknowledged for 10
# s.
_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 10_000}

_FAREWELL = method_frame(0, commands.Connection.Close(200, "closed", 0, 0))

Call = tuple[int, base.Frame]  # a method on a channel


class RabbitRefused(ConnectionError):
    """RabbitMQ answered, but with an error."""


class RabbitConnection(asyncio.Protocol):
    """Everything that came in one read is handed over as one list. `lost` is done when the connection is
    gone."""

    def __init__(self) -> None:
        self._reader = FrameReader()
        self._asked: asyncio.Future[list[Said]] | None = None  # `ask` waits, before `on_replies` gets anything
        self._answers: list[Said] = []
        self._wanted = 0
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self.on_replies: Callable[[list[Any]], None] | None = None
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        sock = transport.get_extra_info("socket")
        if sock is not None:
            _keep_alive(sock)

    def data_received(self, data: bytes) -> None:
        try:
            replies = self._reader.feed(data)
        except (ConnectionError, KeyError) as error:  # KeyError: a header or a body without its method
            self.abort(error)
            return
        if any(type(reply) is Said and self._is_the_end(reply) for reply in replies):
            return
        if self._asked is not None:
            self._answer(replies)
        elif replies and self.on_replies is not None:
            self.on_replies(replies)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.lost.done():
            self.lost.set_result(exc)
        if self._asked is not None and not self._asked.done():
            error = self.lost.result() or ConnectionResetError("RabbitMQ closed the connection")
            self._asked.set_exception(error)

    # For its owner

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    async def ask(self, calls: Sequence[Call], answers: int | None = None) -> list[Said]:
        """Write methods together and wait for as many answers; only before `on_replies` is set."""
        if self._transport is None:
            raise self.lost.result() or ConnectionResetError("RabbitMQ closed the connection")
        self._asked = asyncio.get_running_loop().create_future()
        self._answers, self._wanted = [], len(calls) if answers is None else answers
        self.write(b"".join(method_frame(channel, method) for channel, method in calls))
        try:
            return await self._asked
        finally:
            self._asked = None

    def pause(self) -> None:
        """Stop reading: TCP then holds RabbitMQ back."""
        if self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and self._paused:
            self._paused = False
            self._transport.resume_reading()

    @property
    def is_paused(self) -> bool:
        return self._paused

    @property
    def is_lost(self) -> bool:
        return self.lost.done()

    def abort(self, error: Exception | None = None) -> None:
        """Give the connection up now; nothing more is read from it."""
        if not self.lost.done():
            self.lost.set_result(error)
        self.on_replies = None
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def close(self) -> None:
        """Say so first, if that can be said without waiting: RabbitMQ logs a warning about whoever just goes."""
        transport = self._transport
        if transport is not None and not transport.get_write_buffer_size():
            self._transport = None
            transport.write(_FAREWELL)
            transport.close()
        self.abort(ConnectionError("closed"))

    def _answer(self, replies: list[Reply]) -> None:
        self._answers += [reply for reply in replies if type(reply) is Said]
        if len(self._answers) >= self._wanted and self._asked is not None and not self._asked.done():
            self._asked.set_result(self._answers)

    def _is_the_end(self, said: Said) -> bool:
        """RabbitMQ closes the connection or one of its channels, or a queue is gone: none of it works without the
        others."""
        method = said.method
        if isinstance(method, commands.Connection.Close | commands.Channel.Close):
            self.abort(RabbitRefused(f"{method.reply_code} {method.reply_text}"))
        elif isinstance(method, commands.Basic.Cancel):
            self.abort(RabbitRefused("the queue was deleted"))
        return self.is_lost


async def connect(addresses: Sequence[RabbitAddress], name: str) -> RabbitConnection:
    """An open connection to one of the servers, which are tried in a random order: so the nodes spread over them."""
    trouble: list[str] = []
    for address in random.sample(addresses, len(addresses)):
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS / len(addresses)):
                return await _connect(address, name)
        except OSError as error:  # TimeoutError is one
            trouble.append(f"{address}: {str(error) or 'no answer in time'}")
    raise RabbitRefused("; ".join(trouble))


async def _connect(address: RabbitAddress, name: str) -> RabbitConnection:
    connection = await _dial(address)
    try:
        await _greet(connection, address, name)
    except BaseException:
        connection.abort()
        raise
    return connection


async def _dial(address: RabbitAddress) -> RabbitConnection:
    loop = asyncio.get_running_loop()
    name = address.server_name if address.tls is not None else None
    _, connection = await loop.create_connection(
        RabbitConnection, address.host, address.port, ssl=address.tls, server_hostname=name
    )
    return connection


async def _greet(connection: RabbitConnection, address: RabbitAddress, name: str) -> None:
    """1. the protocol's header, 2. who we are, 3. what was agreed on, and the virtual host."""
    connection.write(header.ProtocolHeader().marshal())
    await connection.ask([], answers=1)
    properties: FieldTable = {
        "product": "django-realtime-cluster",
        "connection_name": name,  # for people who look at the list of connections
        "capabilities": {**dict.fromkeys(CAPABILITIES, True), "authentication_failure_close": True},
    }
    credentials = f"\0{address.user}\0{address.password}"
    start = commands.Connection.StartOk(properties, "PLAIN", credentials, "en_US")
    await connection.ask([(0, start)])
    tune = commands.Connection.TuneOk(channel_max=16, frame_max=FRAME_BYTES, heartbeat=HEARTBEAT_SECONDS)
    virtual_host = commands.Connection.Open(address.virtual_host)
    await connection.ask([(0, tune), (0, virtual_host)], answers=1)


def _keep_alive(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option, value in _KEEPALIVE.items():
            if hasattr(socket, option):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
