"""A Channels layer for one process, for `memory://`: bounded, counted, and as cheap as a function call.

Any thread and any event loop of the process may publish; each channel is received in one loop at a time.
"""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from copy import deepcopy
from typing import Any

from channels.exceptions import ChannelFull
from channels.layers import BaseChannelLayer

from realtime.layers.memory_backplane import MemoryBackplane
from realtime.layers.names import require_channel, require_group
from realtime.layers.stats import Stats
from realtime.layers.wire import as_envelope, as_message

CAPACITY = 100_000  # messages on one channel; a burst within one turn of the loop must fit
MAX_BYTES = 64 * 1024 * 1024  # of envelopes on one channel

GROUP_EXPIRY = 86_400  # seconds after which a member that nobody receives for leaves its groups

Item = bytes | dict[str, Any]  # an envelope, or any other Channels message


class Mailbox:
    """One channel. Invariant: whoever waits in `take` is woken by the next `put`, from whatever thread."""

    def __init__(self, channel: str, capacity: int) -> None:
        self.channel = channel
        self.capacity = capacity
        self.groups: set[str] = set()
        self.size = 0  # bytes of the envelopes in it
        self.dropped = 0  # since `take_dropped`
        self.used_at = time.monotonic()  # when somebody last received, or it was made
        self._items: deque[Item] = deque()
        self._waiters: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()
        self._lock = threading.Lock()

    def put(self, item: Item) -> bool:
        """False if it is full: then the item is dropped and counted."""
        size = len(item) if isinstance(item, bytes) else 0
        with self._lock:
            if len(self._items) >= self.capacity or (size and self.size + size > MAX_BYTES):
                self.dropped += 1
                return False
            self._items.append(item)
            self.size += size
            self._wake()
        return True

    async def wait(self) -> None:
        """Returns when there is something to pop."""
        loop = asyncio.get_running_loop()
        self.used_at = time.monotonic()
        while True:
            with self._lock:
                if self._items:
                    return
                waiter: asyncio.Future[None] = loop.create_future()
                self._waiters.append((loop, waiter))
            try:
                await waiter
            except BaseException:
                self._withdraw(loop, waiter)
                raise
            finally:
                self.used_at = time.monotonic()

    def pop(self) -> Item | None:
        """The oldest item; None if another receiver was quicker."""
        with self._lock:
            if not self._items:
                return None
            item = self._items.popleft()
            self.size -= len(item) if isinstance(item, bytes) else 0
            if self._items:
                self._wake()
            return item

    def pop_all(self) -> list[Item]:
        with self._lock:
            items = list(self._items)
            self._items.clear()
            self.size = 0
            return items

    def take_dropped(self) -> int:
        with self._lock:
            dropped, self.dropped = self.dropped, 0
            return dropped

    def is_forgotten(self, now: float, expiry: float) -> bool:
        """Nobody has received for so long, and something waits, or no group needs it; or it has been
        GROUP_EXPIRY."""
        idle = 0 if self._waiters else now - self.used_at
        return idle > GROUP_EXPIRY or (idle > expiry and (bool(self._items) or not self.groups))

    def _wake(self) -> None:
        while self._waiters:
            loop, waiter = self._waiters.popleft()
            if waiter.done() or loop.is_closed():
                continue
            if loop is _running_loop():
                waiter.set_result(None)
            else:
                loop.call_soon_threadsafe(_set_done, waiter)
            return

    def _withdraw(self, loop: asyncio.AbstractEventLoop, waiter: asyncio.Future[None]) -> None:
        with self._lock:
            if (loop, waiter) in self._waiters:
                self._waiters.remove((loop, waiter))
            elif self._items:
                self._wake()


class MemoryChannelLayer(BaseChannelLayer):
    """`capacity`, `channel_capacity` and `expiry` as in Channels' own in-memory layer.

    A message that nobody receives within `expiry` seconds goes, and its channel leaves its groups.
    """

    extensions = ("groups", "flush")

    def __init__(
        self,
        *,
        expiry: int = 60,
        capacity: int = CAPACITY,
        channel_capacity: dict[Any, int] | None = None,
        on_drop: Callable[[str, int], None] | None = None,
    ) -> None:
        super().__init__(expiry=expiry, capacity=capacity)
        self.capacities = self.compile_capacities(channel_capacity or {})
        self.on_drop = on_drop
        self.stats = Stats()
        self.mailboxes: dict[str, Mailbox] = {}
        self.groups: dict[str, dict[str, Mailbox]] = {}
        self._lock = threading.Lock()  # of the two dicts above
        self._swept_at = time.monotonic()

    def backplane(self) -> MemoryBackplane:
        """A node's own way to use this layer."""
        return MemoryBackplane(self)

    def get_capacity(self, channel: str) -> int:
        return next((size for pattern, size in self.capacities if pattern.match(channel)), self.capacity)

    # Channels

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """Raises ChannelFull, as Channels says."""
        require_channel(channel)
        if not self.put(self.mailbox(channel), _item(message)):
            raise ChannelFull(channel)

    async def receive(self, channel: str) -> dict[str, Any]:
        require_channel(channel)
        while True:
            mailbox = self.mailbox(channel)
            await mailbox.wait()
            if (item := mailbox.pop()) is not None:
                return as_message(item) if isinstance(item, bytes) else item

    async def receive_batch(self, channel: str) -> list[Item]:
        """Everything that waits on `channel`: envelopes as bytes, other messages as dicts."""
        require_channel(channel)
        while True:
            mailbox = self.mailbox(channel)
            await mailbox.wait()
            if batch := mailbox.pop_all():
                return batch

    async def new_channel(self, prefix: str = "specific") -> str:
        channel = f"{prefix}.{uuid.uuid4().hex}"
        require_channel(channel)
        return channel

    # Groups

    async def group_add(self, group: str, channel: str) -> None:
        require_group(group)
        require_channel(channel)
        self.join(group, self.mailbox(channel))

    async def group_discard(self, group: str, channel: str) -> None:
        require_group(group)
        require_channel(channel)
        self.leave(group, channel)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        """Each member gets a copy of its own; full channels miss it."""
        require_group(group)
        item = _item(message)
        for mailbox in self.members(group):
            self.put(mailbox, deepcopy(item))

    # Flush

    async def flush(self) -> None:
        """Forget all channels and groups, but those of nodes (their names begin with `rt.`)."""
        with self._lock:
            for channel in [channel for channel in self.mailboxes if not channel.startswith("rt.")]:
                self._forget(self.mailboxes[channel])

    async def close(self) -> None:
        """Nothing to close."""

    # For the backplane

    def mailbox(self, channel: str) -> Mailbox:
        try:
            return self.mailboxes[channel]
        except KeyError:
            with self._lock:
                self._sweep()
                return self.mailboxes.setdefault(channel, Mailbox(channel, self.get_capacity(channel)))

    def members(self, group: str) -> tuple[Mailbox, ...]:
        with self._lock:
            return tuple(self.groups.get(group, {}).values())

    def put(self, mailbox: Mailbox, item: Item) -> bool:
        self.stats.publishes += 1
        if mailbox.put(item):
            self.stats.received += 1
            return True
        self.stats.dropped += 1
        if self.on_drop is not None:
            self.on_drop(mailbox.channel, 1)
        return False

    def join(self, group: str, mailbox: Mailbox) -> None:
        with self._lock:
            self.groups.setdefault(group, {})[mailbox.channel] = mailbox
            mailbox.groups.add(group)

    def leave(self, group: str, channel: str) -> None:
        with self._lock:
            members = self.groups.get(group, {})
            mailbox = members.pop(channel, None)
            if mailbox is not None:
                mailbox.groups.discard(group)
            if not members:
                self.groups.pop(group, None)

    def forget(self, channel: str) -> None:
        with self._lock:
            if (mailbox := self.mailboxes.get(channel)) is not None:
                self._forget(mailbox)

    def _forget(self, mailbox: Mailbox) -> None:
        self.mailboxes.pop(mailbox.channel, None)
        for group in mailbox.groups:
            members = self.groups.get(group, {})
            members.pop(mailbox.channel, None)
            if not members:
                self.groups.pop(group, None)
        mailbox.groups = set()

    def _sweep(self) -> None:
        """Now and then, when a channel is made: let go of those that nobody receives from."""
        now = time.monotonic()
        if now - self._swept_at < self.expiry / 2:
            return
        self._swept_at = now
        for mailbox in [box for box in self.mailboxes.values() if box.is_forgotten(now, self.expiry)]:
            self._forget(mailbox)


def _item(message: dict[str, Any]) -> Item:
    """The message as it is kept: a copy, as its sender may go on using it; an envelope as its bytes."""
    if not isinstance(message, dict):
        raise TypeError(f"a message is a dict, not {type(message).__name__}")
    return as_envelope(message) or deepcopy(message)


def _running_loop() -> asyncio.AbstractEventLoop | None:
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def _set_done(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
