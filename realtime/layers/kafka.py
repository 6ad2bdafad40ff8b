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

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from realtime.layers.kafka_address import Options, parse_hosts
from realtime.layers.library import needed
from realtime.layers.linked_layer import LinkedLayer

with needed("aiokafka", by="Kafka", extra="kafka"):
    from realtime.layers.kafka_backplane import KafkaBackplane
    from realtime.layers.kafka_loop import KafkaLoop


class KafkaChannelLayer(LinkedLayer[KafkaLoop]):
    """`hosts`: `kafka://host:9092,host:9092`, or several such; `options` as in kafka_address.Options and in
    LayerOptions."""

    name = "kafka"

    def __init__(self, hosts: Sequence[str] | None = None, prefix: str = "asgi", **options: Any) -> None:
        own = {each.name: options.pop(each.name) for each in fields(Options) if each.name in options}
        super().__init__(**options)
        self.prefix = prefix
        self._address, of_the_url = parse_hosts(hosts)
        self._options = Options(**{**of_the_url, **own})

    def backplane(self) -> KafkaBackplane:
        return KafkaBackplane(self)

    def _make_loop(self) -> KafkaLoop:
        return KafkaLoop(self._address, self._options, self.prefix, self.shared)
