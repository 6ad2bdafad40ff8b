"""One connection to one Redis server: bytes in, batches of replies out. It knows nothing of publishing or
subscribing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import hiredis

from realtime.layers.addresses import Address
from realtime.layers.linked_connection import LinkedConnection, Replies


class RedisRefused(ConnectionError):
    """Redis answered, but with an error."""


class RedisConnection(LinkedConnection):
    """Everything that came in one read is handed over as one list. `lost` is done when the connection is
    gone."""

    def __init__(self, on_replies: Replies | None = None) -> None:
        super().__init__(on_replies)
        self._reader = hiredis.Reader()
        self._asked: asyncio.Future[list[Any]] | None = None  # `ask` waits for replies, before `on_replies` gets them
        self._answers: list[Any] = []
        self._wanted = 0

    # asyncio.Protocol

    def data_received(self, data: bytes) -> None:
        reader = self._reader
        reader.feed(data)
        replies = []
        gets = reader.gets
        try:
            while (reply := gets()) is not False:
                replies.append(reply)
        except hiredis.HiredisError as error:
            self.abort(error)
            return
        if self._asked is not None:
            self._answer(replies)
        elif replies and self.on_replies is not None:
            self.on_replies(replies)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._asked is not None and not self._asked.done():
            self._asked.set_exception(exc or ConnectionResetError("Redis closed the connection"))

    # For its owner

    async def ask(self, *commands: tuple[str, ...]) -> list[Any]:
        """Send commands and wait for as many replies; only before `on_replies` is set."""
        if self._transport is None:
            raise ConnectionResetError("Redis closed the connection")
        self._asked = asyncio.get_running_loop().create_future()
        self._answers, self._wanted = [], len(commands)
        self.write(b"".join(pack(command) for command in commands))
        try:
            return await self._asked
        finally:
            self._asked = None

    def _answer(self, replies: list[Any]) -> None:
        self._answers += replies
        if len(self._answers) >= self._wanted and self._asked is not None and not self._asked.done():
            self._asked.set_result(self._answers)


def pack(words: Sequence[str | bytes]) -> bytes:
    """A command as Redis wants it."""
    return hiredis.pack_command(tuple(words))  # type: ignore[arg-type, no-any-return, unused-ignore]


async def connect(address: Address, name: str) -> RedisConnection:
    """An authenticated connection to the shard's server (its master, if Sentinels know it) that has answered
    a PING."""
    if address.sentinels:
        host, port = await _find_master(address)
        connection = await _dial(address, host, port)
    else:
        connection = await _dial(address, address.host, address.port)
    try:
        await _greet(connection, address, name)
    except BaseException:
        connection.abort()
        raise
    return connection


async def _dial(address: Address, host: str, port: int) -> RedisConnection:
    loop = asyncio.get_running_loop()
    if address.path:
        _, connection = await loop.create_unix_connection(RedisConnection, address.path, ssl=address.tls)
    else:
        _, connection = await loop.create_connection(RedisConnection, host, port, ssl=address.tls)
    return connection


async def _greet(connection: RedisConnection, address: Address, name: str) -> None:
    commands: list[tuple[str, ...]] = []
    if address.password:
        commands.append(
            ("AUTH", address.username, address.password) if address.username else ("AUTH", address.password)
        )
    if address.db:
        commands.append(("SELECT", str(address.db)))
    if address.sentinels:
        commands.append(("ROLE",))
    commands.append(("PING",))
    commands.append(("CLIENT", "SETNAME", name))  # for people who read CLIENT LIST; may be forbidden
    replies = await connection.ask(*commands)
    for command, reply in zip(commands, replies, strict=True):
        if isinstance(reply, Exception) and command[0] != "CLIENT":
            raise RedisRefused(f"{command[0]}: {reply}")
        if command[0] == "ROLE" and reply[0] != b"master":
            raise RedisRefused(f"{address}: the Sentinels' master says that it is a {reply[0].decode()}")


async def _find_master(address: Address) -> tuple[str, int]:
    """Ask one Sentinel after the other."""
    trouble: list[str] = []
    for sentinel in address.sentinels:
        try:
            async with asyncio.timeout(0.5):
                connection = await connect(sentinel, "rt-sentinel")
                try:
                    [reply] = await connection.ask(("SENTINEL", "GET-MASTER-ADDR-BY-NAME", address.master_name))
                finally:
                    connection.abort()
        except (OSError, TimeoutError) as error:
            trouble.append(f"{sentinel}: {error!r}")
            continue
        if isinstance(reply, list):
            return reply[0].decode(), int(reply[1])
        trouble.append(f"{sentinel}: knows no master {address.master_name!r}")
    raise RedisRefused("; ".join(trouble))
