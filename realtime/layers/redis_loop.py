"""The Redis channel layer in one event loop: one publisher and one subscriber for each server."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from realtime.layers.addresses import Address
from realtime.layers.linked_loop import LinkedLoop
from realtime.layers.redis_publisher import RedisPublisher
from realtime.layers.redis_subscriber import RedisSubscriber
from realtime.layers.stats import Stats
from realtime.layers.wire import Codec, channel_on_wire, group_on_wire, shard_of


class RedisLoop(LinkedLoop):
    """A group lives on the shard that the name of its Redis channel says."""

    def __init__(
        self,
        addresses: Sequence[Address],
        *,
        prefix: str,
        codec: Codec,
        stats: Stats,
        max_pending_bytes: int,
        max_waiting_bytes: int,
        on_drop: Callable[[str, int], None],
        on_missed: Callable[[frozenset[str]], None],
    ) -> None:
        super().__init__(
            codec=codec, stats=stats, max_waiting_bytes=max_waiting_bytes, on_drop=on_drop, on_missed=on_missed
        )
        self._prefix = prefix
        self.publishers = [
            RedisPublisher(address, stats, max_bytes=max_pending_bytes, on_up=self._publisher_up)
            for address in addresses
        ]
        unseal = codec.unseal if codec.encrypts else None
        self.subscribers = [
            RedisSubscriber(
                address,
                stats,
                unseal=unseal,
                is_full=self._is_full,
                on_lost=self._shard_lost,
                on_up=self._shard_up,
                on_unreadable=self._unreadable,
            )
            for address in addresses
        ]

    def group_on_wire(self, group: str) -> bytes:
        return group_on_wire(self._prefix, group)

    def channel_on_wire(self, channel: str) -> bytes:
        return channel_on_wire(self._prefix, channel)

    def shard_on_wire(self, name: bytes) -> int:
        return shard_of(name, len(self.publishers))
