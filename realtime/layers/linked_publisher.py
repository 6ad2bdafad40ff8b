"""The publishing half of a shard: everything of one turn of the loop in one write, answers matched by number."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic

from realtime.exceptions import BackplaneUnavailable
from realtime.layers.link import LATE_SECONDS, C, Link
from realtime.layers.stats import Stats

PUBLISH_SECONDS = 1.9  # a publish fails within 2 s, whatever happens
GRACE_SECONDS = 0.1  # what a loop that stood still gets to read the answers that wait in its socket

Pending = tuple["asyncio.Future[int | None] | None", int, float]  # None: the answer to a PING; size; deadline


class LinkedPublisher(ABC, Generic[C]):
    """Invariant: `_pending` has one entry for each command that was written, or waits in `_unsent`, and is
    not answered, by its number on this connection, the oldest first."""

    link: Link[C]  # made by the subclass

    def __init__(self, stats: Stats, *, max_bytes: int, on_up: Callable[[], None]) -> None:
        self.stats = stats
        self.max_bytes = max_bytes  # of payloads not yet answered; beyond it publishes are refused
        self._on_up = on_up
        self._loop = asyncio.get_running_loop()
        self._unsent: list[bytes] = []
        self._pending: dict[int, Pending] = {}
        self._last = 0  # number of the last command
        self._pending_bytes = 0
        self._deadline = 0.0  # of what is published in this turn
        self._is_flushing = False
        self._watch: asyncio.TimerHandle | None = None
        self._grace_ends = 0.0  # when the last grace is over; an entry that had it is really late

    # For the subclass

    @abstractmethod
    def header_for(self, name: bytes) -> bytes:
        """The constant beginning of a command that publishes to this name on the wire."""

    @abstractmethod
    def _command(self, header: bytes, payload: bytes, number: int) -> bytes:
        """What goes on the wire to publish a payload."""

    @abstractmethod
    def _write_to(self, connection: C, data: bytes) -> None: ...

    @abstractmethod
    def replies_arrived(self, replies: list[Any]) -> None:
        """Everything that came in one read: call `_answered` or `_refused` for each number."""

    @abstractmethod
    def send_ping(self) -> None: ...

    def _refusal(self) -> str:
        """Why nothing can be published at present, although the link is up; "" if it can."""
        return ""

    def _answered(self, number: int, count: int | None) -> None:
        future, size, _ = self._pending.pop(number)
        self._pending_bytes -= size
        if future is not None and not future.done():
            future.set_result(count)

    def _refused(self, number: int, reason: object) -> None:
        future, size, _ = self._pending.pop(number)
        self._pending_bytes -= size
        if future is not None:
            fail(future, BackplaneUnavailable(f"{self.link.server} {self.link.address}: {reason}"))

    # For the layer

    def publish(self, header: bytes, payload: bytes) -> asyncio.Future[int | None]:
        """`header` from `header_for`. See Backplane.publish for the promise."""
        future: asyncio.Future[int | None] = self._loop.create_future()
        size = len(payload)
        self.stats.publishes += 1
        if self.link.is_down:
            return fail(future, self.link.unavailable())
        if refusal := self._refusal():
            return fail(future, BackplaneUnavailable(f"{self.link.server} {self.link.address}: {refusal}"))
        if self._pending_bytes + size > self.max_bytes and self._pending:
            reason = f"{self._pending_bytes} bytes wait for {self.link.server} already"
            return fail(future, BackplaneUnavailable(reason))
        if not self._is_flushing:
            self._begin_turn()
        self._last = number = self._last + 1
        self._unsent.append(self._command(header, payload, number))
        self._pending[number] = future, size, self._deadline
        self._pending_bytes += size
        return future

    async def close(self) -> None:
        await self.link.close()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    # Link's owner

    async def came_up(self, connection: C) -> None:
        self._write()

    def is_now_up(self) -> None:
        self._on_up()

    def went_down(self, error: BackplaneUnavailable) -> None:
        pending, self._pending = self._pending, {}
        self._last = 0
        self._unsent.clear()
        self._pending_bytes = 0
        for future, _, _ in pending.values():
            if future is not None:
                fail(future, error)

    # Within

    def _begin_turn(self) -> None:
        self._is_flushing = True
        self._deadline = self._loop.time() + PUBLISH_SECONDS
        self._loop.call_soon(self._flush)
        if self._watch is None:
            self._watch = self._loop.call_at(self._deadline, self._expire)
        self.link.start()

    def _flush(self) -> None:
        self._is_flushing = False
        if self.link.is_up:
            self._write()

    def _write(self) -> None:
        if self._unsent and self.link.connection is not None:
            unsent, self._unsent = self._unsent, []
            self._write_to(self.link.connection, b"".join(unsent))

    def _expire(self) -> None:
        """The oldest entry's time is over: then the connection is of no use, and nothing on it will be
        answered."""
        self._watch = None
        if not self._pending:
            return
        now, (_, _, deadline) = self._loop.time(), next(iter(self._pending.values()))
        if deadline > now:
            self._watch = self._loop.call_at(deadline, self._expire)
        elif deadline != self._grace_ends or now - deadline > LATE_SECONDS:
            self._give_grace(now)
        elif self.link.connection is not None:
            self.link.drop(f"a publication was not answered within {PUBLISH_SECONDS:g} s")
        else:
            self.went_down(self.link.unavailable())

    def _give_grace(self, now: float) -> None:
        """Our own loop stood still: the answers may be in the socket, unread."""
        self._grace_ends = now + GRACE_SECONDS
        self._set_deadlines(self._grace_ends)

    def _set_deadlines(self, deadline: float) -> None:
        """The same one for everything that is not answered."""
        self._pending = {number: (future, size, deadline) for number, (future, size, _) in self._pending.items()}
        if self._watch is not None:
            self._watch.cancel()
        self._watch = self._loop.call_at(deadline, self._expire)


def fail(future: asyncio.Future[int | None], error: BackplaneUnavailable) -> asyncio.Future[int | None]:
    """Fail it, and mark the error as seen: who does not look at the future does not want a traceback in the
    log."""
    if not future.done():
        future.set_exception(error)
        future.exception()
    return future
