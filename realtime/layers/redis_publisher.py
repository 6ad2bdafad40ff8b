"""The publishing half of a Redis shard: PUBLISH commands, answered in order."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from realtime.layers.addresses import Address
from realtime.layers.link import Link
from realtime.layers.linked_publisher import LinkedPublisher
from realtime.layers.redis_connection import RedisConnection, connect
from realtime.layers.stats import Stats

_PING = b"*1\r\n$4\r\nPING\r\n"
_NAME = "rt-publish"


class RedisPublisher(LinkedPublisher[RedisConnection]):
    """Every command has a number, a PING as well: Redis answers all of them in turn."""

    def __init__(self, address: Address, stats: Stats, *, max_bytes: int, on_up: Callable[[], None]) -> None:
        super().__init__(stats, max_bytes=max_bytes, on_up=on_up)
        self.link = Link("Redis", address, _NAME, lambda: connect(address, _NAME), self, stats)
        self._answers = 0  # number of the last command that was answered

    def header_for(self, name: bytes) -> bytes:
        return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$" % (len(name), name)

    def _command(self, header: bytes, payload: bytes, number: int) -> bytes:
        return b"%b%d\r\n%b\r\n" % (header, len(payload), payload)

    def _write_to(self, connection: RedisConnection, data: bytes) -> None:
        connection.write(data)

    async def came_up(self, connection: RedisConnection) -> None:
        self._answers = 0
        await super().came_up(connection)

    def replies_arrived(self, replies: list[Any]) -> None:
        self.link.answered()
        if len(replies) > len(self._pending):
            self.link.drop(f"Redis said what nobody asked for: {replies[-1]!r:.200}")
            return
        for reply in replies:
            self._answers += 1
            if isinstance(reply, Exception):
                self._refused(self._answers, reply)
            else:
                self._answered(self._answers, reply if isinstance(reply, int) else None)

    def send_ping(self) -> None:
        if not self._is_flushing:
            self._begin_turn()
        self._last += 1
        self._unsent.append(_PING)
        self._pending[self._last] = None, 0, self._deadline
