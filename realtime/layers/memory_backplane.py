"""A node's door to the memory layer: publishing is a call, and the bytes are never copied."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

import msgspec

from realtime.exceptions import BackplaneUnavailable
from realtime.layers.backplane import Backplane, Listener
from realtime.layers.wire import as_envelope

if TYPE_CHECKING:
    from realtime.layers.memory import Mailbox, MemoryChannelLayer

logger = logging.getLogger(__name__)


class MemoryBackplane(Backplane):
    """Nothing can interrupt it; what finds no room is told by `dropped`."""

    name = "memory"
    promises_ack = True

    def __init__(self, layer: MemoryChannelLayer) -> None:
        self.stats = layer.stats
        self._layer = layer
        self.channel = ""
        self._mailbox: Mailbox | None = None
        self._delivering: asyncio.Task[None] | None = None
        self._is_closed = False

    async def open(self, channel: str, listener: Listener) -> None:
        self.channel = channel
        self._is_closed = False
        self._mailbox = self._layer.mailbox(channel)
        self._delivering = asyncio.get_running_loop().create_task(
            self._deliver(self._mailbox, listener), name="rt-deliver"
        )

    async def close(self) -> None:
        self._is_closed = True
        task, self._delivering = self._delivering, None
        mailbox, self._mailbox = self._mailbox, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        if mailbox is not None:
            self._layer.forget(mailbox.channel)

    async def subscribe(self, groups: Collection[str]) -> None:
        mailbox = self._opened()
        for group in groups:
            self._layer.join(group, mailbox)

    async def unsubscribe(self, groups: Collection[str]) -> None:
        mailbox = self._opened()
        for group in groups:
            self._layer.leave(group, mailbox.channel)

    def publish(self, group: str, envelope: bytes) -> asyncio.Future[int | None]:
        self._refuse_if_closed()
        put = self._layer.put
        return _done(sum([put(mailbox, envelope) for mailbox in self._layer.members(group)]))

    def publish_to(self, channel: str, envelope: bytes) -> asyncio.Future[int | None]:
        self._refuse_if_closed()
        mailbox = self._layer.mailboxes.get(channel)
        return _done(0 if mailbox is None else int(self._layer.put(mailbox, envelope)))

    def _refuse_if_closed(self) -> None:
        if self._is_closed:
            raise BackplaneUnavailable("the backplane is closed")

    def _opened(self) -> Mailbox:
        if self._mailbox is None:
            raise BackplaneUnavailable("the backplane is not open")
        return self._mailbox

    async def _deliver(self, mailbox: Mailbox, listener: Listener) -> None:
        while True:
            await mailbox.wait()
            batch = [_envelope(item) for item in mailbox.pop_all()]
            if dropped := mailbox.take_dropped():
                listener.dropped(dropped)
            try:
                await listener.deliver(batch)
            except Exception:
                logger.exception("batch_not_delivered count=%d", len(batch))
                listener.dropped(len(batch))


def _envelope(item: bytes | dict[str, Any]) -> bytes:
    """A Channels message that is no envelope goes to the node as JSON text all the same: the node judges it."""
    if isinstance(item, bytes):
        return item
    return as_envelope(item) or msgspec.json.encode(item)


def _done(count: int) -> asyncio.Future[int | None]:
    future: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
    future.set_result(count)
    return future
