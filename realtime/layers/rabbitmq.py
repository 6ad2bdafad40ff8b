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

from collections.abc import Sequence
from typing import Unpack

from realtime.layers.library import needed
from realtime.layers.linked_layer import LayerOptions, LinkedLayer
from realtime.layers.rabbitmq_addresses import parse_urls

with needed("pamqp", by="RabbitMQ", extra="rabbitmq"):
    from realtime.layers.rabbitmq_loop import RabbitLoop
    from realtime.layers.rabbitmq_subscriber import QueueBounds

EXCHANGE = "websocket"
PREFIX = "asgi"  # the default one is left out of the exchange's name
QUEUE_LENGTH = 10_000  # messages that may wait in the broker for one node
QUEUE_BYTES = 64 * 1024 * 1024
PREFETCH = 1_000  # messages that may be under way to one node


class RabbitmqChannelLayer(LinkedLayer[RabbitLoop]):
    """`hosts` are the members of one RabbitMQ cluster, one of which is used. The others as in LayerOptions.

    Layers with another `prefix` than the default have an exchange of their own, `<prefix>.<exchange>`.
    """

    name = "rabbitmq"

    def __init__(
        self,
        hosts: Sequence[str] | None = None,
        prefix: str = PREFIX,
        *,
        exchange: str = EXCHANGE,
        queue_length: int = QUEUE_LENGTH,
        queue_bytes: int = QUEUE_BYTES,
        prefetch: int = PREFETCH,
        **options: Unpack[LayerOptions],
    ) -> None:
        super().__init__(**options)
        self.exchange = exchange if prefix == PREFIX else f"{prefix}.{exchange}"
        self._addresses = parse_urls(hosts)
        self._bounds = QueueBounds(queue_length, queue_bytes, prefetch)

    def _make_loop(self) -> RabbitLoop:
        return RabbitLoop(self._addresses, self.exchange, self._bounds, self.shared)
