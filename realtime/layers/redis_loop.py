"""The Redis channel layer in one event loop: one publisher and one subscriber for each server."""

from __future__ import annotations

from collections.abc import Sequence

from realtime.layers.addresses import Address
from realtime.layers.linked_loop import LinkedLoop, Shared
from realtime.layers.redis_publisher import RedisPublisher
from realtime.layers.redis_subscriber import RedisSubscriber
from realtime.layers.wire import channel_on_wire, group_on_wire, shard_of


class RedisLoop(LinkedLoop):
    """A group lives on the shard that the name of its Redis channel says."""

    def __init__(self, addresses: Sequence[Address], prefix: str, shared: Shared) -> None:
        super().__init__(shared)
        self._prefix = prefix
        self.publishers = [
            RedisPublisher(address, self.stats, max_bytes=shared.max_pending_bytes, on_up=self._publisher_up)
            for address in addresses
        ]
        self.subscribers = [
            RedisSubscriber(
                address,
                self.stats,
                unseal=self._unseal,
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
