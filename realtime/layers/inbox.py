"""Where payloads wait between the reader of a socket and whoever wants them; both kinds are bounded."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Protocol

logger = logging.getLogger(__name__)


ITEM_BYTES = 64  # what a payload costs beyond its own bytes


class Inbox(Protocol):
    """`put` is on the hot path: called for each message, inside the reader's callback."""

    def put(self, payload: bytes) -> None: ...


class NodeInbox:
    """The node's own: never drops. When it holds more than `max_bytes` the readers must pause until it has
    not."""

    __slots__ = ("_items", "_waiter", "max_bytes", "size", "taken")

    def __init__(self, max_bytes: int) -> None:
        self._items: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self.max_bytes = max_bytes
        self.size = 0  # bytes waiting here, or taken and not yet done with
        self.taken = 0  # bytes of the batch being worked on

    def put(self, payload: bytes) -> None:
        self._items.append(payload)
        self.size += len(payload) + ITEM_BYTES
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                waiter.set_result(None)

    async def take(self) -> list[bytes]:
        """Everything that has arrived, as soon as there is something. One taker at a time; call `done` after
        it."""
        while not self._items:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        batch, self._items = self._items, []
        self.taken = self.size
        return batch

    def done(self) -> None:
        """The batch last taken is dealt with."""
        self.size -= self.taken
        self.taken = 0

    @property
    def is_full(self) -> bool:
        return self.size > self.max_bytes

    @property
    def has_room(self) -> bool:
        return self.size * 2 <= self.max_bytes


class ChannelInbox:
    """One Channels channel: holds `capacity` messages and `max_bytes`; what comes beyond is dropped, counted
    and told."""

    __slots__ = (
        "_items",
        "_waiters",
        "capacity",
        "channel",
        "dropped",
        "idle_since",
        "max_bytes",
        "on_drop",
        "receivers",
        "size",
    )

    def __init__(self, channel: str, capacity: int, max_bytes: int, on_drop: Callable[[str, int], None]) -> None:
        self._items: deque[bytes] = deque()
        self._waiters: deque[asyncio.Future[None]] = deque()
        self.channel = channel
        self.capacity = capacity
        self.max_bytes = max_bytes
        self.on_drop = on_drop
        self.size = 0  # bytes waiting
        self.dropped = 0  # since it was last empty; one line is logged for each such time
        self.receivers = 0  # calls of receive() under way
        self.idle_since: float | None = None  # loop time since when there are none

    def put(self, payload: bytes) -> None:
        if len(self._items) >= self.capacity or self.size + len(payload) > self.max_bytes:
            self._drop()
            return
        self._items.append(payload)
        self.size += len(payload)
        self._wake()

    async def wait(self) -> None:
        """Returns when there is something to `pop`. Several may wait; each payload goes to one of them."""
        while not self._items:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            try:
                await waiter
            except BaseException:
                self._withdraw(waiter)
                raise

    def pop(self) -> bytes:
        payload = self._items.popleft()
        self.size -= len(payload)
        if self._items:
            self._wake()
        else:
            self.dropped = 0
        return payload

    def pop_all(self) -> list[bytes]:
        payloads = list(self._items)
        self._items.clear()
        self.size = self.dropped = 0
        return payloads

    def __len__(self) -> int:
        return len(self._items)

    def _wake(self) -> None:
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return

    def _withdraw(self, waiter: asyncio.Future[None]) -> None:
        """A waiter was cancelled: if it had already been woken, the next one must have its turn."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        elif self._items:
            self._wake()

    def _drop(self) -> None:
        if not self.dropped:
            logger.warning("channel_full channel=%s capacity=%d", self.channel, self.capacity)
        self.dropped += 1
        self.on_drop(self.channel, 1)
