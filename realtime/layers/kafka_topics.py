"""Which topic carries a name on the wire."""

from __future__ import annotations

from realtime.layers.kafka_address import Options
from realtime.layers.wire import channel_on_wire, group_on_wire
from realtime.protocol.names import BROADCAST_GROUP, NODES_GROUP

_USER_STEMS = ("rt.u.", "rt.v.")  # of `group_of_user`


class TopicNames:
    """Broadcasts (and what nodes tell each other), rooms and everybody else's groups, single recipients."""

    def __init__(self, prefix: str, options: Options) -> None:
        self._options = options
        self._to_all = {group_on_wire(prefix, group) for group in (BROADCAST_GROUP, NODES_GROUP)}
        users = [group_on_wire(prefix, stem) for stem in _USER_STEMS]
        self._to_one = (channel_on_wire(prefix, ""), *users)

    def topic_of(self, name: bytes) -> str:
        if name in self._to_all:
            return self._options.broadcast_topic
        if name.startswith(self._to_one):
            return self._options.direct_topic
        return self._options.room_topic
