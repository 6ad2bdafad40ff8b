"""The RabbitMQ channel layer in one event loop: one connection to publish, one to receive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from realtime.layers.inbox import ChannelInbox
from realtime.layers.linked_loop import LinkedLoop, Shared
from realtime.layers.rabbitmq_addresses import RabbitAddress
from realtime.layers.rabbitmq_names import key_of_channel, key_of_group
from realtime.layers.rabbitmq_publisher import RabbitPublisher
from realtime.layers.rabbitmq_subscriber import QueueBounds, RabbitSubscriber


class RabbitLoop(LinkedLoop):
    """A single shard: a RabbitMQ cluster is one broker to its clients."""

    def __init__(self, addresses: Sequence[RabbitAddress], exchange: str, bounds: QueueBounds, shared: Shared) -> None:
        super().__init__(shared)
        self.subscriber = RabbitSubscriber(
            addresses,
            exchange,
            self.stats,
            bounds=bounds,
            unseal=self._unseal,
            is_full=self._is_full,
            on_lost=self._shard_lost,
            on_up=self._shard_up,
            on_unreadable=self._unreadable,
            on_overflow=self._overflowed,
        )
        self.subscribers = [self.subscriber]
        self.publishers = [
            RabbitPublisher(
                addresses, exchange, self.stats, max_bytes=shared.max_pending_bytes, on_up=self._publisher_up
            )
        ]

    def group_on_wire(self, group: str) -> bytes:
        return key_of_group(group).encode()

    def channel_on_wire(self, channel: str) -> bytes:
        return key_of_channel(channel).encode()

    def _overflowed(self, counts: Counter[bytes]) -> None:
        """The queue dropped messages: tell whoever would have got them."""
        for_the_node = 0
        for key, count in counts.items():
            for inbox in self.subscriber.routes.get(key, ()):
                if isinstance(inbox, ChannelInbox):
                    self._dropped(inbox.channel, count)
                else:
                    for_the_node += count
        if for_the_node:
            self._unreadable(for_the_node)
