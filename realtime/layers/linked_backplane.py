"""A node's door to a layer over connections: one inbox for everything it subscribes to, over all shards."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection, Iterable
from itertools import count
from typing import TYPE_CHECKING, Any

from realtime.exceptions import BackplaneUnavailable
from realtime.layers.backplane import Backplane, Listener
from realtime.layers.inbox import NodeInbox
from realtime.layers.linked_loop import LinkedLoop
from realtime.layers.wire import ENVELOPE_START, UnreadablePayload, as_envelope

if TYPE_CHECKING:
    from realtime.layers.linked_layer import LinkedLayer

logger = logging.getLogger(__name__)

OPEN_SECONDS = 2.0


class LinkedBackplane(Backplane):
    """`resumed` is called when all shards are up again, with the groups of those that were lost."""

    promises_ack = True

    def __init__(self, name: str, layer: LinkedLayer[Any]) -> None:
        self.name = name
        self.stats = layer.stats
        self._layer = layer
        self._loop: LinkedLoop | None = None
        self._is_closed = False
        self._inbox = NodeInbox(layer.node_waiting_bytes)
        self._listener: Listener | None = None
        self.channel = ""
        self._groups: set[str] = set()
        self._delivering: asyncio.Task[None] | None = None
        self._down: set[int] = set()  # shards that are not subscribed now
        self._touched: set[int] = set()  # shards that were lost since the last `resumed`
        self._is_late = False  # `open` has given up, or waits: the listener has not been told that we are up

    # Life

    async def open(self, channel: str, listener: Listener) -> None:
        self._is_closed = False
        loop = self._loop = self._layer.in_this_loop()
        self.channel, self._listener = channel, listener
        loop.nodes.append(self._inbox)
        loop.watchers.append(self)
        self._delivering = asyncio.get_running_loop().create_task(self._deliver(), name="rt-deliver")
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await loop.subscribe([loop.channel_on_wire(channel)], self._inbox)
                for link in loop.links:
                    await link.wait_until_up(OPEN_SECONDS)
        except (BackplaneUnavailable, TimeoutError) as error:
            self._is_late = True
            self._down = {number for number, each in enumerate(loop.subscribers) if not each.link.is_up}
            for link in loop.links:
                link.start()
            self._resume_if_up()
            raise BackplaneUnavailable(str(error) or f"no answer within {OPEN_SECONDS:g} s") from error

    async def close(self) -> None:
        self._is_closed = True
        loop, self._loop = self._loop, None
        task, self._delivering = self._delivering, None
        if loop is None:
            return
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
            loop.nodes.remove(self._inbox)
            loop.watchers.remove(self)
            names = [loop.group_on_wire(group) for group in self._groups]
            loop.unsubscribe([loop.channel_on_wire(self.channel), *names], self._inbox)
        if not loop.inboxes and not loop.nodes:
            await loop.close()
        else:
            loop.resume()

    @property
    def waiting_bytes(self) -> int:
        """Received and not yet delivered."""
        return self._inbox.size

    # Groups

    async def subscribe(self, groups: Collection[str]) -> None:
        loop = self._opened()
        self._groups.update(groups)
        await loop.subscribe([loop.group_on_wire(group) for group in groups], self._inbox)

    async def unsubscribe(self, groups: Collection[str]) -> None:
        loop = self._opened()
        self._groups.difference_update(groups)
        loop.unsubscribe([loop.group_on_wire(group) for group in groups], self._inbox)

    # Publishing

    def publish(self, group: str, envelope: bytes) -> asyncio.Future[int | None]:
        loop = self._opened()
        return loop.publish(loop.group_on_wire(group), envelope)

    def publish_to(self, channel: str, envelope: bytes) -> asyncio.Future[int | None]:
        loop = self._opened()
        return loop.publish(loop.channel_on_wire(channel), envelope)

    def probe_groups(self, stem: str) -> list[str]:
        loop = self._opened()
        found: dict[int, str] = {}
        for number in count():
            if len(found) == len(loop.subscribers):
                return [found[shard] for shard in sorted(found)]
            group = f"{stem}.{number}"
            found.setdefault(loop.shard_of(group), group)
        raise AssertionError("unreachable")

    # Shards (the loop's watcher)

    def shard_lost(self, shard: int) -> None:
        self._down.add(shard)
        self._touched.add(shard)
        if self._listener is not None:
            self._listener.interrupted()

    def shard_up(self, shard: int) -> None:
        self._down.discard(shard)
        self._resume_if_up()

    def publisher_up(self) -> None:
        self._resume_if_up()

    def dropped(self, count: int) -> None:
        if self._listener is not None:
            self._listener.dropped(count)

    def _resume_if_up(self) -> None:
        if self._down or self._listener is None or not self._opened().can_publish:
            return
        if self._is_late:
            self._is_late = False
            self._touched.clear()
            self._listener.resumed(None)
        elif self._touched:
            touched, self._touched = self._touched, set()
            self._listener.resumed(frozenset(self._on_shards(touched)))

    def _on_shards(self, shards: Collection[int]) -> Iterable[str]:
        """The node's channel, if it is on these shards, and its groups there."""
        loop = self._opened()
        if loop.shard_on_wire(loop.channel_on_wire(self.channel)) in shards:
            yield self.channel
        yield from (group for group in self._groups if loop.shard_of(group) in shards)

    # Delivering

    async def _deliver(self) -> None:
        """One batch after the other; the next one waits in the inbox, and when that is full, in the server."""
        loop, listener = self._opened(), self._listener
        assert listener is not None
        while True:
            batch = await self._inbox.take()
            try:
                await listener.deliver([self._envelope(payload) for payload in batch])
            except Exception:
                logger.exception("batch_not_delivered count=%d", len(batch))
                listener.dropped(len(batch))
            self._inbox.done()
            loop.resume()

    def _envelope(self, payload: bytes) -> bytes:
        """What another kind of publisher wrapped in a message; anything else as it came: the node judges it."""
        if payload.startswith(ENVELOPE_START):
            return payload
        try:
            return as_envelope(self._layer.codec.decode(payload)) or payload
        except UnreadablePayload:
            return payload

    def _opened(self) -> LinkedLoop:
        if self._loop is None:
            if self._is_closed:
                raise BackplaneUnavailable("the backplane is closed")
            self._loop = self._layer.in_this_loop()
        return self._loop
