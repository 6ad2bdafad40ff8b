"""The receiving half of a shard: subscriptions, their confirmations, and which inboxes a name leads to."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection
from itertools import islice
from typing import Any, Generic

from realtime.exceptions import BackplaneUnavailable
from realtime.layers.inbox import Inbox
from realtime.layers.link import C, Link
from realtime.layers.stats import Stats


class Command:
    """A command under way that the server confirms, with as many answers as `remaining` says."""

    __slots__ = ("done", "names", "remaining", "wants")

    def __init__(self, names: Collection[bytes] = (), *, wants: bool = False, answers: int = 1) -> None:
        self.names = names
        self.wants = wants  # it subscribes to the names
        self.remaining = answers
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class LinkedSubscriber(ABC, Generic[C]):
    """Invariants: `routes` is what we want; `confirmed` is what the server said that it does, with nothing under way
    for it. The server confirms commands in their order.

    `on_lost` is called once for each loss of a subscription that was up, `on_up` when all is confirmed again.
    """

    link: Link[C]  # made by the subclass
    confirm_seconds: float  # for one call, and one more for each `names_per_second` names, those ahead included
    names_per_command: int
    names_per_second: int

    def __init__(self, stats: Stats, *, on_lost: Callable[[Any], None], on_up: Callable[[Any], None]) -> None:
        self.stats = stats
        self.routes: dict[bytes, tuple[Inbox, ...]] = {}
        self.confirmed: set[bytes] = set()
        self._on_lost = on_lost
        self._on_up = on_up
        self._commands: deque[Command] = deque()  # written or in `_unsent`, not yet confirmed
        self._latest: dict[bytes, Command] = {}  # the last command that concerns a name, while it is under way
        self._unsent: list[bytes] = []
        self._was_up = False
        self._loop = asyncio.get_running_loop()

    # For the subclass

    @abstractmethod
    def _encode(self, names: Collection[bytes], *, wants: bool) -> tuple[bytes, int]:
        """The command that subscribes to these names, or unsubscribes; and how many answers it gets."""

    @abstractmethod
    def _write_to(self, connection: C, data: bytes) -> None: ...

    @abstractmethod
    def replies_arrived(self, replies: list[Any]) -> None:
        """Everything that came in one read."""

    @abstractmethod
    def send_ping(self) -> None: ...

    @abstractmethod
    def pause(self) -> None: ...

    @abstractmethod
    def resume(self) -> None: ...

    # For the layer

    async def subscribe(self, names: Collection[bytes], inbox: Inbox) -> None:
        """Route `names` to `inbox`; returns when the server has confirmed every one of them."""
        for name in names:
            inboxes = self.routes.get(name, ())
            if inbox not in inboxes:
                self.routes[name] = (*inboxes, inbox)
        seconds = self._seconds_for(len(names))
        if self.link.connection is None:
            await self.link.wait_until_up(seconds)  # coming up subscribes to all routes
        if self.link.connection is None:
            raise self.link.unavailable()
        self._send([name for name in names if name in self.routes and not self._is_coming(name)], wants=True)
        await self._settle({self._latest[name].done for name in names if name in self._latest}, seconds)

    def unsubscribe(self, names: Collection[bytes], inbox: Inbox) -> None:
        """Nothing more reaches `inbox` through these names, from now on; the server is told as soon as nobody
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
            self._send(unwanted, wants=False)

    async def close(self) -> None:
        self._was_up = False
        await self.link.close()
        self.routes.clear()

    # Link's owner

    async def came_up(self, connection: C) -> None:
        """Subscribe to everything again, and be up when the server has confirmed it."""
        names = list(self.routes)
        commands = self._send(names, wants=True)
        seconds = self._seconds_for(0)
        await self._settle({command.done for command in commands}, seconds)

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

    # Commands and their confirmations

    def _seconds_for(self, names: int) -> float:
        """How long so many names may take, behind those that are under way."""
        ahead = sum(len(command.names) for command in self._commands)
        return self.confirm_seconds + (ahead + names) / self.names_per_second

    def _is_coming(self, name: bytes) -> bool:
        """The server has confirmed the name, or is about to: the last command about a wanted name subscribes, or
        there is none."""
        if name in self.confirmed:
            return True
        command = self._latest.get(name)
        return command is not None and command.wants

    def _send(self, names: Collection[bytes], *, wants: bool) -> list[Command]:
        commands = []
        rest = iter(names)
        while chunk := tuple(islice(rest, self.names_per_command)):
            data, answers = self._encode(chunk, wants=wants)
            command = Command(chunk, wants=wants, answers=answers)
            commands.append(command)
            self._commands.append(command)
            self._latest.update(dict.fromkeys(chunk, command))
            self._queue(data)
        return commands

    def _queue(self, data: bytes) -> None:
        if not self._unsent:
            self._loop.call_soon(self._flush)
        self._unsent.append(data)

    def _flush(self) -> None:
        unsent, self._unsent = self._unsent, []
        if unsent and self.link.connection is not None:
            self._write_to(self.link.connection, b"".join(unsent))

    def _confirm(self, reply: Any) -> None:
        """One answer, an exception if the server refuses: it belongs to the oldest command."""
        if not self._commands:
            self.link.drop(f"{self.link.server} said what nobody asked for: {reply!r:.200}")
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
            _fail(command, BackplaneUnavailable(f"{self.link.server} {self.link.address}: {reply}"))
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
