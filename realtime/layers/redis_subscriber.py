"""The receiving half of a shard: subscriptions, their confirmations, and the way from a Redis channel to the
inboxes."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Iterable
from itertools import islice
from typing import Any

from realtime.exceptions import BackplaneUnavailable
from realtime.layers.addresses import Address
from realtime.layers.inbox import Inbox
from realtime.layers.link import Link
from realtime.layers.redis_connection import RedisConnection, connect, pack
from realtime.layers.stats import Stats
from realtime.layers.wire import UnreadablePayload

NAMES_PER_COMMAND = 1_000
CONFIRM_SECONDS = 1.9  # for one call, and one more for each NAMES_PER_SECOND names
NAMES_PER_SECOND = 5_000

_PING = b"*1\r\n$4\r\nPING\r\n"


class Command:
    """A SUBSCRIBE, UNSUBSCRIBE or PING under way. Redis confirms each of its names, in order."""

    __slots__ = ("done", "names", "remaining", "wants")

    def __init__(self, names: Collection[bytes] = (), *, wants: bool = False) -> None:
        self.names = names
        self.wants = wants  # it is a SUBSCRIBE
        self.remaining = len(names) or 1
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class RedisSubscriber:
    """Invariants: `routes` is what we want; `confirmed` is what Redis said that it does, with nothing under way for it.

    `on_lost` is called once for each loss of a subscription that was up, `on_up` when all is confirmed again.
    `unseal` turns a payload into plain bytes, None if they are the same.
    """

    def __init__(
        self,
        address: Address,
        stats: Stats,
        *,
        unseal: Callable[[bytes], bytes] | None,
        is_full: Callable[[], bool],
        on_lost: Callable[[RedisSubscriber], None],
        on_up: Callable[[RedisSubscriber], None],
        on_unreadable: Callable[[bytes], None],
    ) -> None:
        name = "rt-subscribe"
        self.link = Link("Redis", address, name, lambda: connect(address, name), self, stats)
        self.stats = stats
        self.routes: dict[bytes, tuple[Inbox, ...]] = {}
        self.confirmed: set[bytes] = set()
        self._unseal = unseal
        self._is_full = is_full
        self._on_lost = on_lost
        self._on_up = on_up
        self._on_unreadable = on_unreadable
        self._commands: deque[Command] = deque()  # written or in `_unsent`, not yet confirmed
        self._latest: dict[bytes, Command] = {}  # the last command that concerns a name, while it is under way
        self._unsent: list[bytes] = []
        self._was_up = False
        self._loop = asyncio.get_running_loop()

    # For the layer

    async def subscribe(self, names: Collection[bytes], inbox: Inbox) -> None:
        """Route `names` to `inbox`; returns when Redis has confirmed every one of them."""
        for name in names:
            inboxes = self.routes.get(name, ())
            if inbox not in inboxes:
                self.routes[name] = (*inboxes, inbox)
        seconds = CONFIRM_SECONDS + len(names) / NAMES_PER_SECOND
        if self.link.connection is None:
            await self.link.wait_until_up(seconds)  # coming up subscribes to all routes
        if self.link.connection is None:
            raise self.link.unavailable()
        self._send(b"SUBSCRIBE", [name for name in names if name in self.routes and not self._is_coming(name)])
        await self._settle({self._latest[name].done for name in names if name in self._latest}, seconds)

    def unsubscribe(self, names: Iterable[bytes], inbox: Inbox) -> None:
        """Nothing more reaches `inbox` through these names, from now on; Redis is told as soon as nobody
        wants them."""
        unwanted = []
        for name in names:
            inboxes = tuple(other for other in self.routes.get(name, ()) if other is not inbox)
            if inboxes:
                self.routes[name] = inboxes
            elif self.routes.pop(name, None) is not None:
                unwanted.append(name)
        self.confirmed.difference_update(unwanted)
        if self.link.connection is not None:
            self._send(b"UNSUBSCRIBE", unwanted)

    def pause(self) -> None:
        if self.link.connection is not None:
            self.link.connection.pause()

    def resume(self) -> None:
        if self.link.connection is not None:
            self.link.connection.resume()

    async def close(self) -> None:
        self._was_up = False
        await self.link.close()
        self.routes.clear()

    # Link's owner

    async def came_up(self, connection: RedisConnection) -> None:
        """Subscribe to everything again, and be up when Redis has confirmed it."""
        names = list(self.routes)
        commands = self._send(b"SUBSCRIBE", names)
        await self._settle({command.done for command in commands}, CONFIRM_SECONDS + len(names) / NAMES_PER_SECOND)

    def is_now_up(self) -> None:
        self._was_up = True
        self._on_up(self)

    def went_down(self, error: BackplaneUnavailable) -> None:
        self.confirmed.clear()
        self._latest.clear()
        self._unsent.clear()
        commands, self._commands = self._commands, deque()
        for command in commands:
            _fail(command, error)
        if self._was_up:
            self._was_up = False
            self._on_lost(self)

    def replies_arrived(self, replies: list[Any]) -> None:
        """The hot path: a few hundred nanoseconds for each message."""
        self.link.answered()
        routes = self.routes
        unseal = self._unseal
        received = 0
        for reply in replies:
            if type(reply) is list and reply[0] == b"message":
                received += 1
                inboxes = routes.get(reply[1])
                if inboxes is None:
                    continue  # unsubscribed a moment ago
                payload = reply[2]
                if unseal is not None:
                    try:
                        payload = unseal(payload)
                    except UnreadablePayload:
                        self._on_unreadable(reply[1])
                        continue
                for inbox in inboxes:
                    inbox.put(payload)
            else:
                self._confirm(reply)
        self.stats.received += received
        if received and self.link.is_up and self._is_full():  # not before: the confirmations must come through
            self.pause()

    def send_ping(self) -> None:
        self._commands.append(Command())
        self._queue(_PING)

    # Commands and their confirmations

    def _is_coming(self, name: bytes) -> bool:
        """Redis has confirmed the name, or is about to: the last command about a wanted name is a SUBSCRIBE
        or nothing."""
        if name in self.confirmed:
            return True
        command = self._latest.get(name)
        return command is not None and command.wants

    def _send(self, verb: bytes, names: Collection[bytes]) -> list[Command]:
        commands = []
        rest = iter(names)
        while chunk := tuple(islice(rest, NAMES_PER_COMMAND)):
            command = Command(chunk, wants=verb == b"SUBSCRIBE")
            commands.append(command)
            self._commands.append(command)
            self._latest.update(dict.fromkeys(chunk, command))
            self._queue(pack((verb, *chunk)))
        return commands

    def _queue(self, data: bytes) -> None:
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(data)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and self.link.connection is not None:
            self.link.connection.write(b"".join(unsent))

    def _confirm(self, reply: Any) -> None:
        """One reply that is not a message: it belongs to the oldest command."""
        if not self._commands:
            self.link.drop(f"Redis said what nobody asked for: {reply!r:.200}")
            return
        command = self._commands[0]
        is_refused = isinstance(reply, Exception)
        command.remaining = 0 if is_refused else command.remaining - 1
        if command.remaining:
            return
        self._commands.popleft()
        for name in command.names:
            if self._latest.get(name) is command:
                del self._latest[name]
                if command.wants and not is_refused:
                    self.confirmed.add(name)
        if is_refused:
            _fail(command, BackplaneUnavailable(f"Redis {self.link.address}: {reply}"))
        elif not command.done.done():
            command.done.set_result(None)

    async def _settle(self, futures: set[asyncio.Future[None]], seconds: float) -> None:
        """Wait for all of them; BackplaneUnavailable if one fails or the time is over."""
        if not futures:
            return
        done, late = await asyncio.wait(futures, timeout=seconds)
        for future in done:
            future.result()
        if late:
            raise self.link.unavailable()


def _fail(command: Command, error: BackplaneUnavailable) -> None:
    if not command.done.done():
        command.done.set_exception(error)
        command.done.exception()  # seen: not everybody waits for it
