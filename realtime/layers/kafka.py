"""A Channels layer over Kafka: every node reads every partition from its end on, and keeps what somebody here wants.

Three topics carry broadcasts, rooms (and all other groups), and single recipients. The key of a record is the group or
channel, so that each has one partition, and one order. A lost connection loses nothing: reading goes on where it
stopped, and where it cannot, that is told.

    CHANNEL_LAYERS = {"default": {
        "BACKEND": "realtime.layers.kafka.KafkaChannelLayer",
        "CONFIG": {"hosts": ["kafka://10.0.0.1:9092,10.0.0.2:9092"]},
    }}
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from realtime.layers.kafka_address import Options, parse_hosts
from realtime.layers.library import needed
from realtime.layers.linked_layer import (
    CAPACITY,
    MAX_PENDING_BYTES,
    MAX_WAITING_BYTES,
    NODE_WAITING_BYTES,
    LinkedLayer,
)

with needed("aiokafka", by="Kafka", requirements="requirements-kafka.txt"):
    from realtime.layers.kafka_backplane import KafkaBackplane
    from realtime.layers.kafka_loop import KafkaLoop


class KafkaChannelLayer(LinkedLayer[KafkaLoop]):
    """`hosts`: `kafka://host:9092,host:9092`, or several such; `options` as in kafka_address.Options; the others as in
    RedisChannelLayer."""

    name = "kafka"

    def __init__(
        self,
        hosts: Sequence[str] | None = None,
        prefix: str = "asgi",
        *,
        expiry: int = 60,
        group_expiry: int = 86_400,
        capacity: int = CAPACITY,
        channel_capacity: dict[Any, int] | None = None,
        symmetric_encryption_keys: Sequence[str | bytes] | None = None,
        node_waiting_bytes: int = NODE_WAITING_BYTES,
        max_pending_bytes: int = MAX_PENDING_BYTES,
        on_missed: Callable[[frozenset[str]], None] | None = None,
        on_drop: Callable[[str, int], None] | None = None,
        **options: Any,
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
        self.prefix = prefix
        self._address, of_the_url = parse_hosts(hosts)
        self._options = Options(**{**of_the_url, **options})
        self._max_pending_bytes = max_pending_bytes

    def backplane(self) -> KafkaBackplane:
        return KafkaBackplane(self)

    def _make_loop(self) -> KafkaLoop:
        return KafkaLoop(
            self._address,
            self._options,
            prefix=self.prefix,
            codec=self.codec,
            stats=self.stats,
            max_pending_bytes=self._max_pending_bytes,
            max_waiting_bytes=MAX_WAITING_BYTES,
            on_drop=self._dropped,
            on_missed=self._missed,
        )
