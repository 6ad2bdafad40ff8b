"""A node over any Channels layer, by nothing but the Channels API: one channel, one message at a time.

What such layers do not promise (docs/backplanes.md) is proved here where it can be: a subscription by an echo of
`rt.probe`, the life of the receiving side by another one every few seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import Any

from realtime.exceptions import BackplaneUnavailable
from realtime.layers.backoff import Backoff
from realtime.layers.backplane import Backplane, Listener
from realtime.layers.inbox import NodeInbox
from realtime.layers.stats import Stats
from realtime.layers.stock_probe import PROBE_TYPE, Probes
from realtime.layers.stock_publisher import StockPublisher
from realtime.layers.wire import as_envelope, as_message

logger = logging.getLogger(__name__)

OPEN_SECONDS = 2.0
WATCH_SECONDS = 2.3  # between two echoes that prove that we still receive
WAITING_BYTES = 32 * 1024 * 1024  # beyond it `receive` is not called: the layer's own queue must take it
YIELD_EVERY = 50  # messages: `receive` of some layers returns without a break while its queue is filled
CLOSE_SECONDS = 2.0


class StockBackplane(Backplane):
    """States: closed, open and up, open and interrupted (a task of its own recovers)."""

    promises_ack = False

    def __init__(self, layer: Any) -> None:
        self.name = name_of(layer)
        self.stats = Stats()
        self._layer = layer
        self.channel = ""
        self._listener: Listener | None = None
        self._groups: set[str] = set()
        self._is_closed = False
        self._is_up = False  # the listener believes that everything it subscribed to arrives
        self._inbox = NodeInbox(WAITING_BYTES)
        self._room = asyncio.Event()  # the inbox is not full
        self._tasks: list[asyncio.Task[None]] = []
        self._receiving: asyncio.Task[None] | None = None
        self._recovering: asyncio.Task[None] | None = None
        self._publisher = StockPublisher(layer, self.stats, self._suspect)
        self._probes = Probes(self._publisher)
        # Groups that forget their members after a while: all but channels_redis.pubsub, which has no such
        # attribute.
        self._group_expiry: float | None = getattr(layer, "__dict__", {}).get("group_expiry")

    # Life

    async def open(self, channel: str, listener: Listener) -> None:
        self.channel, self._listener, self._is_closed = channel, listener, False
        self._room.set()
        self._receiving = asyncio.create_task(self._receive(), name="rt-receive")
        self._start(self._deliver(), "rt-deliver")
        await asyncio.sleep(0)  # `receive` must have begun: channels_redis.pubsub makes the channel in it
        if self._group_expiry:
            self._start(self._renew(self._group_expiry / 3), "rt-renew")
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                await self._probes.prove_channel(channel)
            self._is_up = True
        except (BackplaneUnavailable, TimeoutError) as error:
            self._recover()
            raise BackplaneUnavailable(f"{self.name}: {error!r}") from error
        finally:
            self._start(self._watch(), "rt-watch")

    async def close(self) -> None:
        self._is_closed = True
        was_open, self._listener = self._listener is not None, None
        await self._publisher.close()
        if not was_open:
            return
        try:
            async with asyncio.timeout(CLOSE_SECONDS):
                for group in list(self._groups):  # a dead member would stay in channels_redis.core for a day
                    await self._layer.group_discard(group, self.channel)
        except Exception as error:
            logger.info("groups_not_left layer=%s error=%r", self.name, error)
        tasks = [task for task in (*self._tasks, self._receiving, self._recovering) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks, timeout=CLOSE_SECONDS)
        self._tasks, self._receiving, self._recovering = [], None, None

    # Groups

    async def subscribe(self, groups: Collection[str]) -> None:
        """Add the node's channel, then wait until an echo came through each group: the only portable proof."""
        self._opened()
        self._groups.update(groups)
        await self._add(groups)

    async def unsubscribe(self, groups: Collection[str]) -> None:
        self._opened()
        self._groups.difference_update(groups)
        try:
            async with asyncio.timeout(CLOSE_SECONDS + len(groups) / 500):
                for group in groups:
                    await self._layer.group_discard(group, self.channel)
        except Exception as error:
            logger.info("groups_not_left layer=%s error=%r", self.name, error)

    async def forget_node(self, channel: str) -> None:
        """channels_redis.core and the in-memory layer keep a dead node in its groups for `group_expiry` (a
        day)."""
        for group in list(self._groups):
            try:
                await self._layer.group_discard(group, channel)
            except Exception as error:
                logger.info("dead_node_not_forgotten channel=%s error=%r", channel, error)
                return

    def was_forgotten(self) -> None:
        """Whoever was taken out of its groups without its knowledge hears nothing, and may have missed something."""
        self._recover()

    async def _add(self, groups: Collection[str]) -> None:
        try:
            for group in groups:
                async with asyncio.timeout(OPEN_SECONDS):
                    await self._layer.group_add(group, self.channel)
        except Exception as error:
            raise BackplaneUnavailable(f"{self.name}: {error!r}") from error
        await self._probes.prove(groups)

    # Publishing

    def publish(self, group: str, envelope: bytes) -> asyncio.Future[int | None]:
        self._refuse_if_closed()
        return self._publisher.group_send(group, as_message(envelope), len(envelope))

    def publish_to(self, channel: str, envelope: bytes) -> asyncio.Future[int | None]:
        self._refuse_if_closed()
        return self._publisher.send(channel, as_message(envelope), len(envelope))

    # Receiving

    async def _receive(self) -> None:
        """Never cancelled but by `close`: channels_redis.pubsub unsubscribes on it."""
        backoff = Backoff()
        received = 0
        while True:
            try:
                message = await self._layer.receive(self.channel)
            except Exception as error:
                level = logging.WARNING if self._is_up else logging.DEBUG
                logger.log(level, "receive_failed layer=%s error=%r", self.name, error)
                self._recover()
                await asyncio.sleep(backoff.next())
                continue
            backoff.reset()
            self._take(message)
            received += 1
            if received % YIELD_EVERY == 0:
                await asyncio.sleep(0)
            if self._inbox.is_full:
                self._room.clear()
                await self._room.wait()

    def _take(self, message: Any) -> None:
        if isinstance(message, dict) and message.get("type") == PROBE_TYPE:
            self._probes.echoed(message.get("id"))
            return
        self.stats.received += 1
        envelope = as_envelope(message)
        if envelope is None:
            self.stats.dropped += 1
            if self._listener is not None:
                self._listener.dropped(1)
        else:
            self._inbox.put(envelope)

    async def _deliver(self) -> None:
        while True:
            batch = await self._inbox.take()
            if self._listener is None:
                return
            try:
                await self._listener.deliver(batch)
            except Exception:
                logger.exception("batch_not_delivered count=%d", len(batch))
                self._listener.dropped(len(batch))
            self._inbox.done()
            if self._inbox.has_room:
                self._room.set()

    # Keeping it alive

    async def _renew(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                for group in list(self._groups):
                    await self._layer.group_add(group, self.channel)
            except Exception as error:
                self._suspect(error)

    async def _watch(self) -> None:
        """A message to our own channel must come back, unless so much else comes that it has to wait."""
        while True:
            await asyncio.sleep(WATCH_SECONDS)
            received = self.stats.received
            try:
                await self._probes.prove_channel(self.channel)
            except BackplaneUnavailable as error:
                if self.stats.received == received:
                    self._suspect(error)

    def _suspect(self, error: Exception) -> None:
        """Something failed that should not: whatever else was on its way may be lost as well."""
        logger.debug("backplane_suspected layer=%s error=%r", self.name, error)
        self._recover()

    def _recover(self) -> None:
        if self._listener is None or (self._recovering is not None and not self._recovering.done()):
            return
        if self._is_up:
            self._is_up = False
            self.stats.reconnects += 1
            self._listener.interrupted()
        self._recovering = asyncio.get_running_loop().create_task(self._recovered(), name="rt-recover")

    async def _recovered(self) -> None:
        """Until every group is added again and an echo has come through each; then say so."""
        backoff = Backoff()
        while True:
            try:
                await self._probes.prove_channel(self.channel)
                await self._add(list(self._groups))
            except BackplaneUnavailable:
                await asyncio.sleep(backoff.next())
                await self._receive_anew()
                continue
            self.stats.missed += 1
            self._is_up = True
            if self._listener is not None:
                self._listener.resumed(None)
            return

    async def _receive_anew(self) -> None:
        """A first `receive` that failed leaves channels_redis.pubsub waiting on a channel that it never subscribed to,
        and only its cancellation undoes that. Nothing is lost that `resumed(None)` does not tell."""
        if self._receiving is not None:
            self._receiving.cancel()
            await asyncio.wait([self._receiving], timeout=CLOSE_SECONDS)
            if not self._receiving.done():
                return
        self._room.set()
        self._receiving = asyncio.create_task(self._receive(), name="rt-receive")
        await asyncio.sleep(0)

    def _start(self, work: Any, name: str) -> None:
        self._tasks.append(asyncio.get_running_loop().create_task(work, name=name))

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise BackplaneUnavailable("the backplane is closed")

    def _opened(self) -> Listener:
        if self._listener is None:
            raise BackplaneUnavailable("the backplane is not open")
        return self._listener


def name_of(layer: Any) -> str:
    """The module of a layer, as people write it in CHANNEL_LAYERS."""
    module = type(layer).__module__
    return "in-memory" if module == "channels.layers" else module
