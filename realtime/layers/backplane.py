"""The contract between a node and whatever carries its publications.

An *envelope* is one publication as JSON text (its first byte is `{`); layers never look into it. A backplane belongs
to the event loop that opened it; all its methods are called in that loop. A process that only publishes need not open
one: `publish`, `publish_to` and `close` work without.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection
from typing import Any, Protocol

from realtime.layers.stats import Stats


class Listener(Protocol):
    """What a node does with what comes back. Only `deliver` may wait."""

    async def deliver(self, batch: list[bytes]) -> None:
        """Everything that arrived together, in order. Awaited before the next batch: that is the back-
        pressure."""

    def interrupted(self) -> None:
        """The subscription of at least one shard is lost. Called at once, once per loss of a shard."""

    def resumed(self, groups: frozenset[str] | None) -> None:
        """Every subscription is confirmed again. `groups` may have missed something (None: any group may have).

        The node's own channel is among them if its private messages may have been missed.
        """

    def dropped(self, count: int) -> None:
        """That many envelopes were dropped for want of room, or because they could not be read."""


class Backplane(ABC):
    """One node's subscription and its way to publish. Order: envelopes of one publisher to one group arrive in order
    where docs/backplanes.md promises it; every subscriber of a group then sees the same order."""

    name: str  # "redis", "memory", "channels_redis.core", ...
    promises_ack: bool  # a finished publish means that the backplane itself took the envelope
    channel: str  # the node's own, "" until it is opened
    stats: Stats

    @abstractmethod
    async def open(self, channel: str, listener: Listener) -> None:
        """Start receiving. Returns when subscribed.

        Raises BackplaneUnavailable after 2 s at most, and goes on trying: `listener.resumed(None)` then tells when
        it came up.
        """

    @abstractmethod
    async def close(self) -> None:
        """Stop receiving and close the connections. Never raises for a dead backplane."""

    @abstractmethod
    async def subscribe(self, groups: Collection[str]) -> None:
        """Returns when the backplane confirmed: what is published from now on arrives.

        Raises BackplaneUnavailable otherwise; the groups are remembered all the same, and subscribed with the next
        recovery. `unsubscribe` takes that back.
        """

    @abstractmethod
    async def unsubscribe(self, groups: Collection[str]) -> None:
        """Nothing published to these groups after this call is delivered. Never raises for a dead backplane."""

    @abstractmethod
    def publish(self, group: str, envelope: bytes) -> asyncio.Future[int | None]:
        """Publish to a group, without waiting. The result is the number of subscribers, None where nobody knows it.

        The future fails with BackplaneUnavailable within 2 s, and at once while the backplane is known to be down;
        nobody needs to look at it. All publishes of one turn of the loop leave in one write.
        """

    @abstractmethod
    def publish_to(self, channel: str, envelope: bytes) -> asyncio.Future[int | None]:
        """The same to one node's channel."""

    def probe_groups(self, stem: str) -> list[str]:
        """One group per shard: whoever hears an echo through all of them has all shards."""
        return [f"{stem}.0"]

    async def forget_node(self, channel: str) -> None:  # noqa: B027
        """Take a dead node out of this node's groups, where the backplane itself would keep it for long."""

    def was_forgotten(self) -> None:  # noqa: B027
        """Another node took this one for dead and may have called ``forget_node``: be in all groups again."""


def backplane_for(layer: Any) -> Backplane:
    """The backplane over a channel layer: the layer's own if it has one, else one for any Channels layer."""
    from realtime.layers.stock import StockBackplane

    native: Callable[[Any], Backplane] | None = getattr(type(layer), "backplane", None)
    if native is not None:
        return native(layer)

    return StockBackplane(layer)


def capacity_of(layer: Any) -> int | None:
    """How many messages may wait on one channel of this layer; None if it sets no such limit or does not say."""
    # Not plain getattr: that of channels_redis.pubsub needs a running loop.
    capacity = getattr(layer, "__dict__", {}).get("capacity")
    return capacity if isinstance(capacity, int) else None
