"""What channel layers over connections to servers share: the Channels API over inboxes, in any event loop."""

from __future__ import annotations

import asyncio
import uuid
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, TypedDict, TypeVar

from channels.layers import BaseChannelLayer

from realtime.layers.inbox import ChannelInbox
from realtime.layers.linked_backplane import LinkedBackplane
from realtime.layers.linked_loop import LinkedLoop, Shared
from realtime.layers.loops import PerLoop
from realtime.layers.names import require_channel, require_group
from realtime.layers.stats import Stats
from realtime.layers.wire import Codec, UnreadablePayload

CAPACITY = 10_000  # messages that may wait for one receiver
MAX_WAITING_BYTES = 64 * 1024 * 1024  # bytes that may wait for one receiver
NODE_WAITING_BYTES = 8 * 1024 * 1024  # beyond it the node's sockets are not read
MAX_PENDING_BYTES = 32 * 1024 * 1024  # bytes published and not yet answered, for each shard

L = TypeVar("L", bound=LinkedLoop)


class LayerOptions(TypedDict, total=False):
    """What every such layer takes beside the places of its servers; LinkedLayer has the defaults."""

    expiry: int
    group_expiry: int
    capacity: int
    channel_capacity: dict[Any, int] | None
    symmetric_encryption_keys: Sequence[str | bytes] | None
    node_waiting_bytes: int
    max_pending_bytes: int
    on_missed: Callable[[frozenset[str]], None] | None
    on_drop: Callable[[str, int], None] | None


class LinkedLayer(BaseChannelLayer, Generic[L]):
    """`expiry` and `group_expiry` are taken for compatibility and mean nothing: nothing is kept for anybody.

    `on_missed(groups)` is called in the loop concerned when its consumers may have missed something of these groups,
    `on_drop(channel, count)` when a channel was full. One object serves any number of event loops.
    """

    extensions = ("groups", "flush")
    name: str  # of the backplane

    def __init__(
        self,
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
        super().__init__(expiry=expiry, capacity=capacity)
        self.capacities = self.compile_capacities(channel_capacity or {})
        self.group_expiry = group_expiry
        self.stats = Stats()
        self.on_missed = on_missed
        self.on_drop = on_drop
        self.codec = Codec(symmetric_encryption_keys)
        self.node_waiting_bytes = node_waiting_bytes
        self.shared = Shared(
            codec=self.codec,
            stats=self.stats,
            max_pending_bytes=max_pending_bytes,
            max_waiting_bytes=MAX_WAITING_BYTES,
            on_drop=self._dropped,
            on_missed=self._missed,
        )
        self._loops: PerLoop[L] = PerLoop(self._make_loop)

    def backplane(self) -> LinkedBackplane:
        """A node's own way to use this layer."""
        return LinkedBackplane(self.name, self)

    def in_this_loop(self) -> L:
        return self._loops.get()

    def get_capacity(self, channel: str) -> int:
        return next((size for pattern, size in self.capacities if pattern.match(channel)), self.capacity)

    # Channels

    async def send(self, channel: str, message: dict[str, Any]) -> None:
        """To whoever receives on `channel`, in any process; nobody may."""
        require_channel(channel)
        await self._publish(self.in_this_loop().channel_on_wire(channel), message)

    async def receive(self, channel: str) -> dict[str, Any]:
        """The next message of `channel`. Several receivers in this loop share its messages."""
        inbox, loop = await self._inbox(channel)
        while True:
            await self._wait(inbox, loop)
            try:
                return self.codec.decode(inbox.pop())
            except UnreadablePayload:
                self.stats.dropped += 1

    async def receive_batch(self, channel: str) -> list[bytes | dict[str, Any]]:
        """Everything that waits on `channel`, as soon as there is something: envelopes as bytes, other
        messages as dicts."""
        inbox, loop = await self._inbox(channel)
        while True:
            await self._wait(inbox, loop)
            if batch := self._decode_all(inbox.pop_all()):
                return batch

    async def new_channel(self, prefix: str = "specific") -> str:
        """A channel of its own for a consumer in this loop, subscribed."""
        loop = self.in_this_loop()
        channel = f"{prefix}.{uuid.uuid4().hex}"
        require_channel(channel)
        try:
            await loop.open_channel(channel, self.get_capacity(channel))
        except BaseException:
            loop.close_channel(channel)
            raise
        return channel

    # Groups

    async def group_add(self, group: str, channel: str) -> None:
        """Returns when the server has confirmed: what is sent to the group from now on arrives."""
        require_group(group)
        require_channel(channel)
        loop = self.in_this_loop()
        inbox = loop.inboxes.get(channel)
        if inbox is None:
            raise RuntimeError(f"group_add() takes channels of this event loop only, and {channel!r} is none")
        loop.groups[channel].add(group)
        await loop.subscribe([loop.group_on_wire(group)], inbox)

    async def group_discard(self, group: str, channel: str) -> None:
        require_group(group)
        require_channel(channel)
        loop = self.in_this_loop()
        inbox = loop.inboxes.get(channel)
        if inbox is not None and group in loop.groups[channel]:
            loop.groups[channel].discard(group)
            loop.unsubscribe([loop.group_on_wire(group)], inbox)

    async def group_send(self, group: str, message: dict[str, Any]) -> None:
        require_group(group)
        await self._publish(self.in_this_loop().group_on_wire(group), message)

    # Flush

    async def flush(self) -> None:
        """Forget this loop's channels and groups, and close its connections unless a node uses them."""
        await self.in_this_loop().flush()

    async def close(self) -> None:
        """Close this loop's connections; they are made again when needed."""
        await self.in_this_loop().close()

    # Within

    async def _publish(self, name: bytes, message: dict[str, Any]) -> None:
        if not isinstance(message, dict):
            raise TypeError(f"a message is a dict, not {type(message).__name__}")
        await self.in_this_loop().publish(name, self.codec.encode(message))

    async def _inbox(self, channel: str) -> tuple[ChannelInbox, L]:
        require_channel(channel)
        loop = self.in_this_loop()
        inbox = loop.inboxes.get(channel)
        if inbox is None:
            inbox = await loop.open_channel(channel, self.get_capacity(channel))
        return inbox, loop

    async def _wait(self, inbox: ChannelInbox, loop: L) -> None:
        """Until there is something to pop; yields once even if there is, so that a full channel starves
        nobody."""
        inbox.receivers += 1
        inbox.idle_since = None
        try:
            await asyncio.sleep(0)
            await inbox.wait()
        except asyncio.CancelledError:
            inbox.receivers -= 1
            loop.abandon(inbox.channel)
            raise
        inbox.receivers -= 1

    def _decode_all(self, payloads: list[bytes]) -> list[bytes | dict[str, Any]]:
        batch = []
        for payload in payloads:
            try:
                batch.append(self.codec.decode_batched(payload))
            except UnreadablePayload:
                self.stats.dropped += 1
        return batch

    @abstractmethod
    def _make_loop(self) -> L: ...

    def _dropped(self, channel: str, count: int) -> None:
        if self.on_drop is not None:
            self.on_drop(channel, count)

    def _missed(self, groups: frozenset[str]) -> None:
        if self.on_missed is not None:
            self.on_missed(groups)
