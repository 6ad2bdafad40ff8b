"""One connection to one RabbitMQ server: bytes in, batches of replies out. It knows nothing of groups."""

from __future__ import annotations

import asyncio
import random
import struct
from collections.abc import Sequence

from pamqp import base, commands, header
from pamqp.common import FieldTable

from realtime.layers.linked_connection import LinkedConnection
from realtime.layers.rabbitmq_addresses import RabbitAddress
from realtime.layers.rabbitmq_frames import FRAME_BYTES, BrokenFrame, FrameReader, Reply, Said, method_frame

HEARTBEAT_SECONDS = 30  # the broker gives a silent connection up after twice that; we send something far more often
ATTEMPT_SECONDS = 1.5  # for all servers together; a link gives 2 s to an attempt, with what follows
CAPABILITIES = ("publisher_confirms", "basic.nack", "consumer_cancel_notify", "connection.blocked")

_FAREWELL = method_frame(0, commands.Connection.Close(200, "closed", 0, 0))

Call = tuple[int, base.Frame]  # a method on a channel


class RabbitRefused(ConnectionError):
    """RabbitMQ answered, but with an error."""


class RabbitConnection(LinkedConnection):
    """Everything that came in one read is handed over as one list. `lost` is done when the connection is
    gone."""

    def __init__(self) -> None:
        super().__init__()
        self._reader = FrameReader()
        self._asked: asyncio.Future[list[Said]] | None = None  # `ask` waits, before `on_replies` gets anything
        self._answers: list[Said] = []
        self._wanted = 0

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        try:
            replies = self._reader.feed(data)
        except (ConnectionError, LookupError, struct.error) as error:  # such as a body without its method
            self.abort(BrokenFrame(str(error)))
            return
        if any(type(reply) is Said and self._is_the_end(reply) for reply in replies):
            return
        if self._asked is not None:
            self._answer(replies)
        elif replies and self.on_replies is not None:
            self.on_replies(replies)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._asked is not None and not self._asked.done():
            error = self.lost.result() or ConnectionResetError("RabbitMQ closed the connection")
            self._asked.set_exception(error)

    # For its owner

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
