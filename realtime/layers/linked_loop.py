"""A channel layer over connections to servers, in one event loop: shards, inboxes, and what belongs to whom."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from realtime.layers.inbox import ChannelInbox, Inbox, NodeInbox
from realtime.layers.stats import Stats
from realtime.layers.upkeep import Upkeep
from realtime.layers.wire import Codec

ABANDONED_SECONDS = 10.0  # a channel whose last receiver was cancelled so long ago belongs to nobody any more
HEADERS = 20_000  # remembered beginnings of commands that publish


class Watcher(Protocol):
    """Who is told about the shards of this loop: the node's backplane. All of it is called inside callbacks."""

    def shard_lost(self, shard: int) -> None: ...

    def shard_up(self, shard: int) -> None: ...

    def publisher_up(self) -> None: ...

    def dropped(self, count: int) -> None: ...


class Publisher(Protocol):
    """The publishing half of a shard."""

    @property
    def link(self) -> Upkeep: ...

    def header_for(self, name: bytes) -> bytes:
        """The constant beginning of a command that publishes to this name on the wire."""

    def publish(self, header: bytes, payload: bytes) -> asyncio.Future[int | None]:
        """See Backplane.publish for the promise."""

    async def close(self) -> None: ...


class Subscriber(Protocol):
    """The receiving half of a shard."""

    @property
    def link(self) -> Upkeep: ...

    async def subscribe(self, names: Collection[bytes], inbox: Inbox) -> None:
        """Route `names` to `inbox`; returns when the server has confirmed every one of them."""

    def unsubscribe(self, names: Collection[bytes], inbox: Inbox) -> None:
        """Nothing more reaches `inbox` through these names, from now on."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...

    async def close(self) -> None:
        """Close the connection and forget all routes."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What the loops of one layer have from it."""

    codec: Codec
    stats: Stats
    max_pending_bytes: int  # published and not yet answered, for each shard
    max_waiting_bytes: int  # of one channel
    on_drop: Callable[[str, int], None]  # of a channel, so many messages
    on_missed: Callable[[frozenset[str]], None]  # of these groups


class LinkedLoop(ABC):
    """Everything of one layer that lives in one event loop; a subclass makes the shards and names things."""

    publishers: Sequence[Publisher]
    subscribers: Sequence[Subscriber]

    def __init__(self, shared: Shared) -> None:
        self.stats = shared.stats
        self.max_waiting_bytes = shared.max_waiting_bytes
        self.inboxes: dict[str, ChannelInbox] = {}
        self.groups: dict[str, set[str]] = {}  # names of groups that a channel is in
        self.nodes: list[NodeInbox] = []
        self.watchers: list[Watcher] = []
        self._on_drop = shared.on_drop
        self._on_missed = shared.on_missed
        self._lost: set[int] = set()  # shards whose subscriptions were up once and are not now
        self._headers: dict[bytes, tuple[Publisher, bytes]] = {}
        codec = shared.codec
        self._seal = codec.seal if codec.encrypts else None
        self._unseal = codec.unseal if codec.encrypts else None  # for the subscribers

    @abstractmethod
    def group_on_wire(self, group: str) -> bytes: ...

    @abstractmethod
    def channel_on_wire(self, channel: str) -> bytes: ...

    def shard_on_wire(self, name: bytes) -> int:
        """The number of the shard that carries a name."""
        return 0

    # Publishing

    def publish(self, name: bytes, plain: bytes) -> asyncio.Future[int | None]:
        """To a group or channel, by its name on the wire."""
        try:
            publisher, header = self._headers[name]
        except KeyError:
            publisher, header = self._remember(name)
        if self._seal is not None:
            plain = self._seal(plain)
        return publisher.publish(header, plain)

    def _remember(self, name: bytes) -> tuple[Publisher, bytes]:
        if len(self._headers) >= HEADERS:
            self._headers.clear()
        publisher = self.publishers[self.shard_on_wire(name)]
        self._headers[name] = publisher, publisher.header_for(name)
        return self._headers[name]

    # Subscribing

    async def subscribe(self, names: Collection[bytes], inbox: Inbox) -> None:
        """Route names on the wire to an inbox; returns when all shards have confirmed."""
        calls = [
            subscriber.subscribe(part, inbox)
            for subscriber, part in zip(self.subscribers, self._by_shard(names), strict=True)
            if part
        ]
        results = await asyncio.gather(*calls, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result

    def unsubscribe(self, names: Collection[bytes], inbox: Inbox) -> None:
        for subscriber, part in zip(self.subscribers, self._by_shard(names), strict=True):
            if part:
                subscriber.unsubscribe(part, inbox)

    @property
    def links(self) -> list[Upkeep]:
        return [half.link for shard in zip(self.subscribers, self.publishers, strict=True) for half in shard]

    def resume(self) -> None:
        """Read on, if every node has room again."""
        if not all(node.has_room for node in self.nodes):
            return
        for subscriber in self.subscribers:
            subscriber.resume()

    def _by_shard(self, names: Collection[bytes]) -> list[list[bytes]]:
        parts: list[list[bytes]] = [[] for _ in self.subscribers]
        for name in names:
            parts[self.shard_on_wire(name)].append(name)
        return parts

    # Channels of other people's consumers

    async def open_channel(self, channel: str, capacity: int) -> ChannelInbox:
        """The inbox of a channel, subscribed. If that fails it is kept, and subscribed when the server is back."""
        inbox = ChannelInbox(channel, capacity, self.max_waiting_bytes, self._dropped)
        self.inboxes[channel] = inbox
        self.groups[channel] = set()
        await self.subscribe([self.channel_on_wire(channel)], inbox)
        return inbox

    def close_channel(self, channel: str) -> None:
        inbox = self.inboxes.pop(channel, None)
        groups = self.groups.pop(channel, set())
        if inbox is not None:
            names = [self.group_on_wire(group) for group in groups]
            self.unsubscribe([self.channel_on_wire(channel), *names], inbox)

    def abandon(self, channel: str) -> None:
        """A receiver was cancelled. Channels has no other way to say that a consumer ended; but it may have been a
        time limit as well, so wait whether anybody receives again."""
        inbox = self.inboxes.get(channel)
        if inbox is not None and not inbox.receivers:
            loop = asyncio.get_running_loop()
            inbox.idle_since = loop.time()
            loop.call_later(ABANDONED_SECONDS, self._close_if_abandoned, channel, inbox)

    def _close_if_abandoned(self, channel: str, inbox: ChannelInbox) -> None:
        if self.inboxes.get(channel) is not inbox or inbox.receivers or inbox.idle_since is None:
            return
        if asyncio.get_running_loop().time() - inbox.idle_since >= ABANDONED_SECONDS * 0.99:
            self.close_channel(channel)

    # What happens to the shards

    def _is_full(self) -> bool:
        return any(node.is_full for node in self.nodes)

    def _shard_lost(self, subscriber: Subscriber) -> None:
        shard = self.subscribers.index(subscriber)
        self._lost.add(shard)
        for watcher in self.watchers:
            watcher.shard_lost(shard)

    def _shard_up(self, subscriber: Subscriber) -> None:
        shard = self.subscribers.index(subscriber)
        if shard in self._lost:
            self._lost.discard(shard)
            self.stats.missed += 1
            self._on_missed(
                frozenset(group for groups in self.groups.values() for group in groups if self.shard_of(group) == shard)
            )
        for watcher in self.watchers:
            watcher.shard_up(shard)

    def _publisher_up(self) -> None:
        for watcher in self.watchers:
            watcher.publisher_up()

    @property
    def can_publish(self) -> bool:
        """On every shard."""
        return all(publisher.link.is_up for publisher in self.publishers)

    def shard_of(self, group: str) -> int:
        return self.shard_on_wire(self.group_on_wire(group))

    def _unreadable(self, count: int) -> None:
        """That many messages for the node could not be read, or were dropped before they came."""
        self.stats.dropped += count
        for watcher in self.watchers:
            watcher.dropped(count)

    def _dropped(self, channel: str, count: int) -> None:
        self.stats.dropped += count
        self._on_drop(channel, count)

    # The end

    async def flush(self) -> None:
        """Forget every channel and group of other people's consumers; a node that is open stays so."""
        for channel in list(self.inboxes):
            self.close_channel(channel)
        if not self.nodes:
            await self.close()

    async def close(self) -> None:
        """Close all connections. The layer may be used again: they are made anew."""
        self.inboxes.clear()
        self.groups.clear()
        await asyncio.gather(*(publisher.close() for publisher in self.publishers))
        await asyncio.gather(*(subscriber.close() for subscriber in self.subscribers))
        self._lost.clear()
