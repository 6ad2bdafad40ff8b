"""The receiving half of a Redis shard: SUBSCRIBE, and the way from a Redis channel to the inboxes."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from realtime.layers.addresses import Address
from realtime.layers.link import Link
from realtime.layers.linked_subscriber import Command, LinkedSubscriber
from realtime.layers.redis_connection import RedisConnection, connect, pack
from realtime.layers.stats import Stats
from realtime.layers.wire import UnreadablePayload

_PING = b"*1\r\n$4\r\nPING\r\n"
_NAME = "rt-subscribe"


class RedisSubscriber(LinkedSubscriber[RedisConnection]):
    """`unseal` turns a payload into plain bytes, None if they are the same."""

    confirm_seconds = 1.9
    names_per_command = 1_000
    names_per_second = 5_000

    def __init__(
        self,
        address: Address,
        stats: Stats,
        *,
        unseal: Callable[[bytes], bytes] | None,
        is_full: Callable[[], bool],
        on_lost: Callable[[RedisSubscriber], None],
        on_up: Callable[[RedisSubscriber], None],
        on_unreadable: Callable[[int], None],
    ) -> None:
        super().__init__(stats, on_lost=on_lost, on_up=on_up)
        self.link = Link("Redis", address, _NAME, lambda: connect(address, _NAME), self, stats)
        self._unseal = unseal
        self._is_full = is_full
        self._on_unreadable = on_unreadable

    def pause(self) -> None:
        if self.link.connection is not None:
            self.link.connection.pause()

    def resume(self) -> None:
        if self.link.connection is not None:
            self.link.connection.resume()

    def replies_arrived(self, replies: list[Any]) -> None:
        """The hot path: a few hundred nanoseconds for each message."""
        self.link.answered()
        routes = self.routes
        unseal = self._unseal
        received = 0
        for reply in replies:
            if type(reply) is list and reply[0] == b"message":
                received += 1
                inboxes = routes.get(reply[1])
                if inboxes is None:
                    continue  # unsubscribed a moment ago
                payload = reply[2]
                if unseal is not None:
                    try:
                        payload = unseal(payload)
                    except UnreadablePayload:
                        self._on_unreadable(1)
                        continue
                for inbox in inboxes:
                    inbox.put(payload)
            else:
                self._confirm(reply)
        self.stats.received += received
        if received and self.link.is_up and self._is_full():  # not before: the confirmations must come through
            self.pause()

    def send_ping(self) -> None:
        self._commands.append(Command())
        self._queue(_PING)

    def _encode(self, names: Collection[bytes], *, wants: bool) -> tuple[bytes, int]:
        return pack((b"SUBSCRIBE" if wants else b"UNSUBSCRIBE", *names)), len(names)

    def _write_to(self, connection: RedisConnection, data: bytes) -> None:
        connection.write(data)
