"""A Channels layer over RabbitMQ: a topic exchange, and one bounded queue for each node.

Everything that a node publishes in one turn of the loop leaves in one write and is confirmed by the broker, everything
that one read brings is one batch, what the queue had to drop is counted and told, and a lost connection is noticed,
told and made again.

    CHANNEL_LAYERS = {"default": {
        "BACKEND": "realtime.layers.rabbitmq.RabbitmqChannelLayer",
        "CONFIG": {"hosts": ["amqp://user:password@127.0.0.1:5672/"]},
    }}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from realtime.layers.library import needed
from realtime.layers.linked_layer import (
    CAPACITY,
    MAX_PENDING_BYTES,
    MAX_WAITING_BYTES,
    NODE_WAITING_BYTES,
    LinkedLayer,
)
from realtime.layers.rabbitmq_addresses import parse_urls

with needed("pamqp", by="RabbitMQ", requirements="requirements-rabbitmq.txt"):
    from realtime.layers.rabbitmq_loop import RabbitLoop
    from realtime.layers.rabbitmq_subscriber import QueueBounds

EXCHANGE = "websocket"
PREFIX = "asgi"  # the default one is left out of the exchange's name
QUEUE_LENGTH = 10_000  # messages that may wait in the broker for one node
QUEUE_BYTES = 64 * 1024 * 1024
PREFETCH = 1_000  # messages that may be under way to one node


class RabbitmqChannelLayer(LinkedLayer[RabbitLoop]):
    """`hosts` are the members of one RabbitMQ cluster, one of which is used. The others as in LinkedLayer.

    Layers with another `prefix` than the default have an exchange of their own, `<prefix>.<exchange>`.
    """

    name = "rabbitmq"

    def __init__(
        self,
        hosts: Sequence[str] | None = None,
        prefix: str = PREFIX,
        *,
        exchange: str = EXCHANGE,
        expiry: int = 60,
        group_expiry: int = 86_400,
        capacity: int = CAPACITY,
        channel_capacity: dict[Any, int] | None = None,
        symmetric_encryption_keys: Sequence[str | bytes] | None = None,
        node_waiting_bytes: int = NODE_WAITING_BYTES,
        max_pending_bytes: int = MAX_PENDING_BYTES,
        queue_length: int = QUEUE_LENGTH,
        queue_bytes: int = QUEUE_BYTES,
        prefetch: int = PREFETCH,
        on_missed: Callable[[frozenset[str]], None] | None = None,
        on_drop: Callable[[str, int], None] | None = None,
    ) -> None:
        super().__init__(
            expiry=expiry,
            group_expiry=group_expiry,
            capacity=capacity,
            channel_capacity=channel_capacity,
            symmetric_encryption_keys=symmetric_encryption_keys,
            node_waiting_bytes=node_waiting_bytes,
            on_missed=on_missed,
            on_drop=on_drop,
        )
        self.exchange = exchange if prefix == PREFIX else f"{prefix}.{exchange}"
        self._addresses = parse_urls(hosts)
        self._max_pending_bytes = max_pending_bytes
        self._bounds = QueueBounds(queue_length, queue_bytes, prefetch)

    def _make_loop(self) -> RabbitLoop:
        return RabbitLoop(
            self._addresses,
            self.exchange,
            bounds=self._bounds,
            codec=self.codec,
            stats=self.stats,
            max_pending_bytes=self._max_pending_bytes,
            max_waiting_bytes=MAX_WAITING_BYTES,
            on_drop=self._dropped,
            on_missed=self._missed,
        )
