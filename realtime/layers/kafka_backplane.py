"""A node's door to the Kafka layer."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from realtime.layers.kafka_loop import KafkaLoop
from realtime.layers.linked_backplane import LinkedBackplane

if TYPE_CHECKING:
    from realtime.layers.kafka import KafkaChannelLayer


class KafkaBackplane(LinkedBackplane):
    """`resumed` names the groups of those topics in which reading could not go on where it had stopped: mostly none."""

    def __init__(self, layer: KafkaChannelLayer) -> None:
        super().__init__(layer.name, layer)

    def probe_groups(self, stem: str) -> list[str]:
        return self._opened_here().probe_groups(stem)

    def _on_shards(self, shards: Collection[int]) -> Iterable[str]:
        loop = self._opened_here()
        if loop.is_in(loop.gaps, loop.channel_on_wire(self.channel)):
            yield self.channel
        yield from (group for group in self._groups if loop.is_in(loop.gaps, loop.group_on_wire(group)))

    def _opened_here(self) -> KafkaLoop:
        loop = self._opened()
        assert isinstance(loop, KafkaLoop)
        return loop
