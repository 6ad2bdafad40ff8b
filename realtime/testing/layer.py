"""The memory layer, with the faults of a real backplane on command."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection
from typing import Any

from realtime.conf import current
from realtime.exceptions import BackplaneUnavailable
from realtime.layers.backplane import Listener
from realtime.layers.memory import MemoryChannelLayer
from realtime.layers.memory_backplane import MemoryBackplane
from realtime.protocol.envelope import BroadcastEnvelope, PrivateEnvelope, RoomEnvelope, UnreadableEnvelope, decode

Publishing = Callable[[], "asyncio.Future[int | None]"]


class FaultyLayer(MemoryChannelLayer):
    """Faults concern publications: what is for clients. What nodes tell each other about themselves passes, but while
    the layer is disconnected."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.is_connected = True
        self.delay_seconds = 0.0
        self.drops = 0
        """Publications that will be dropped."""
        self._backplanes: list[FaultyBackplane] = []

    def backplane(self) -> FaultyBackplane:
        made = FaultyBackplane(self)
        self._backplanes.append(made)
        return made

    def drop_next(self, count: int = 1) -> None:
        """Take the next publications and deliver none, as a layer does that has no room: clients get ``missed``."""
        self.drops += count

    def delay(self, seconds: float) -> None:
        """Deliver, and acknowledge, every publication from now on so much later. In order; 0 ends it."""
        self.delay_seconds = seconds

    def disconnect(self) -> None:
        """As if the backplane were gone: what is published is ``unavailable``."""
        if self.is_connected:
            self.is_connected = False
            for each in self._backplanes:
                each.interrupt()

    def reconnect(self) -> None:
        """It is back. The node trusts it again once it has heard itself; then clients get ``missed``."""
        if not self.is_connected:
            self.is_connected = True
            for each in self._backplanes:
                each.resume()

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        self._require_connection()
        await super().send(channel, message)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        self._require_connection()
        await super().group_send(group, message)

    def is_dropping(self, envelope: bytes) -> bool:
        """Whether this one is dropped; it counts."""
        if not self.drops or not is_publication(envelope):
            return False
        self.drops -= 1
        return True

    def tell_dropped(self, channels: Collection[str]) -> None:
        """Tell the nodes with these channels that something was dropped."""
        for each in self._backplanes:
            if each.channel in channels:
                each.lose()

    def _require_connection(self) -> None:
        if not self.is_connected:
            raise BackplaneUnavailable("the layer is disconnected")


class FaultyBackplane(MemoryBackplane):
    """A node's door to the layer."""

    def __init__(self, layer: FaultyLayer) -> None:
        super().__init__(layer)
        self._faults = layer
        self._listener: Listener | None = None
        self._late: deque[tuple[Publishing, asyncio.Future[int | None]]] = deque()
        self._due = 0.0  # when the last of them leaves

    async def open(self, channel: str, listener: Listener) -> None:
        self._listener = listener
        await super().open(channel, listener)
        self._require_connection()

    async def close(self) -> None:
        self._listener = None
        await super().close()

    async def subscribe(self, groups: Collection[str]) -> None:
        await super().subscribe(groups)
        self._require_connection()

    def publish(self, group: str, envelope: bytes) -> asyncio.Future[int | None]:
        if self._faults.is_dropping(envelope):
            channels = [mailbox.channel for mailbox in self._faults.members(group)]
            self._faults.tell_dropped(channels)
            return _done(len(channels))
        return self._publish(envelope, lambda: MemoryBackplane.publish(self, group, envelope))

    def publish_to(self, channel: str, envelope: bytes) -> asyncio.Future[int | None]:
        if self._faults.is_dropping(envelope):
            self._faults.tell_dropped([channel])
            return _done(1)
        return self._publish(envelope, lambda: MemoryBackplane.publish_to(self, channel, envelope))

    def interrupt(self) -> None:
        """The connection is gone."""
        if self._listener is not None:
            self._listener.interrupted()

    def resume(self) -> None:
        """It is back, and nobody knows what was published meanwhile."""
        if self._listener is not None:
            self._listener.resumed(None)

    def lose(self) -> None:
        """Something for this node was dropped."""
        if self._listener is not None:
            self._listener.dropped(1)

    def _publish(self, envelope: bytes, publishing: Publishing) -> asyncio.Future[int | None]:
        if not self._faults.is_connected:
            return _failed()
        if not is_publication(envelope) or not (self._faults.delay_seconds or self._late):
            return publishing()
        loop = asyncio.get_running_loop()
        published: asyncio.Future[int | None] = loop.create_future()
        self._due = max(self._due, loop.time() + self._faults.delay_seconds)
        self._late.append((publishing, published))
        loop.call_at(self._due, self._publish_late)
        loop.call_later(current().publish_timeout_seconds, _give_up, published)
        return published

    def _publish_late(self) -> None:
        publishing, published = self._late.popleft()
        if self._is_closed or not self._faults.is_connected:
            _give_up(published)
            return
        count = publishing().result()
        if not published.done():
            published.set_result(count)

    def _require_connection(self) -> None:
        if not self._faults.is_connected:
            raise BackplaneUnavailable("the layer is disconnected")


def is_publication(envelope: bytes) -> bool:
    """Whether it is for clients."""
    try:
        return isinstance(decode(envelope), (BroadcastEnvelope, RoomEnvelope, PrivateEnvelope))
    except UnreadableEnvelope:
        return False


def _done(count: int) -> asyncio.Future[int | None]:
    future: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
    future.set_result(count)
    return future


def _failed() -> asyncio.Future[int | None]:
    future: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
    _give_up(future)
    return future


def _give_up(published: asyncio.Future[int | None]) -> None:
    if not published.done():
        published.set_exception(BackplaneUnavailable("the layer is disconnected, or did not take it in time"))
        published.exception()  # whoever publishes may look at it, and need not
