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

from collections.abc import Callable, Sequence
from typing import Any

from realtime.layers.addresses import Host, parse_hosts
from realtime.layers.linked_layer import (
    CAPACITY,
    MAX_PENDING_BYTES,
    MAX_WAITING_BYTES,
    NODE_WAITING_BYTES,
    LinkedLayer,
)
from realtime.layers.redis_loop import RedisLoop


class RedisChannelLayer(LinkedLayer[RedisLoop]):
    """`hosts`, `prefix`, `capacity`, `channel_capacity` and `symmetric_encryption_keys` as in channels_redis.

    The others as in LinkedLayer.
    """

    name = "redis"

    def __init__(
        self,
        hosts: Sequence[Host] | None = None,
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
        self._addresses = parse_hosts(hosts)
        self._max_pending_bytes = max_pending_bytes

    def _make_loop(self) -> RedisLoop:
        return RedisLoop(
            self._addresses,
            prefix=self.prefix,
            codec=self.codec,
            stats=self.stats,
            max_pending_bytes=self._max_pending_bytes,
            max_waiting_bytes=MAX_WAITING_BYTES,
            on_drop=self._dropped,
            on_missed=self._missed,
        )
