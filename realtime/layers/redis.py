"""A Channels layer over Redis publish/subscribe, for many messages a second.

It speaks the wire format of `channels_redis.pubsub` for groups, so both may share a Redis; beyond it, everything that a
node publishes in one turn of the loop leaves in one write, everything that one read brings is one batch, a lost
connection is noticed, told and made again, and nothing waits without a bound.

    CHANNEL_LAYERS = {"default": {
        "BACKEND": "realtime.layers.redis.RedisChannelLayer",
        "CONFIG": {"hosts": ["redis://127.0.0.1:6379/0"]},
    }}
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from realtime.layers.addresses import Host, parse_hosts
from realtime.layers.linked_layer import LayerOptions, LinkedLayer
from realtime.layers.redis_loop import RedisLoop


class RedisChannelLayer(LinkedLayer[RedisLoop]):
    """`hosts`, `prefix`, `capacity`, `channel_capacity` and `symmetric_encryption_keys` as in channels_redis.

    The others as in LayerOptions.
    """

    name = "redis"

    def __init__(
        self, hosts: Sequence[Host] | None = None, prefix: str = "asgi", **options: Unpack[LayerOptions]
    ) -> None:
        super().__init__(**options)
        self.prefix = prefix
        self._addresses = parse_hosts(hosts)

    def _make_loop(self) -> RedisLoop:
        return RedisLoop(self._addresses, self.prefix, self.shared)
