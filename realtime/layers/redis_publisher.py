"""The publishing half of a shard: everything of one turn of the loop in one write, replies matched in order."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from realtime.exceptions import BackplaneUnavailable
from realtime.layers.addresses import Address
from realtime.layers.link import LATE_SECONDS, Link
from realtime.layers.redis_connection import RedisConnection, connect
from realtime.layers.stats import Stats

PUBLISH_SECONDS = 1.9  # a publish fails within 2 s, whatever happens
GRACE_SECONDS = 0.1  # what a loop that stood still gets to read the answers that wait in its socket

_PING = b"*1\r\n$4\r\nPING\r\n"

Pending = tuple["asyncio.Future[int | None] | None", int, float]  # None: the answer to a PING


class RedisPublisher:
    """Invariant: `_pending` has one entry for each command that was written, or waits in `_unsent`, and is
    not answered."""

    def __init__(self, address: Address, stats: Stats, *, max_bytes: int, on_up: Callable[[], None]) -> None:
        name = "rt-publish"
        self.link = Link("Redis", address, name, lambda: connect(address, name), self, stats)
        self.stats = stats
        self.max_bytes = max_bytes  # of payloads not yet answered; beyond it publishes are refused
        self._on_up = on_up
        self._loop = asyncio.get_running_loop()
        self._unsent: list[bytes] = []
        self._pending: deque[Pending] = deque()
        self._pending_bytes = 0
        self._deadline = 0.0  # of what is published in this turn
        self._is_flushing = False
        self._watch: asyncio.TimerHandle | None = None
        self._grace_ends = 0.0  # when the last grace is over; an entry that had it is really late

    def header_for(self, name: bytes) -> bytes:
        """The constant beginning of a PUBLISH to this Redis channel."""
        return b"*3\r\n$7\r\nPUBLISH\r\n$%d\r\n%b\r\n$" % (len(name), name)

    def publish(self, header: bytes, payload: bytes) -> asyncio.Future[int | None]:
        """`header` from `header_for`. See Backplane.publish for the promise."""
        future: asyncio.Future[int | None] = self._loop.create_future()
        size = len(payload)
        self.stats.publishes += 1
        if self.link.is_down:
            return _fail(future, self.link.unavailable())
        if self._pending_bytes + size > self.max_bytes and self._pending:
            return _fail(future, BackplaneUnavailable(f"{self._pending_bytes} bytes wait for Redis already"))
        if not self._is_flushing:
            self._begin_turn()
        self._unsent.append(b"%b%d\r\n%b\r\n" % (header, size, payload))
        self._pending.append((future, size, self._deadline))
        self._pending_bytes += size
        return future

    async def close(self) -> None:
        await self.link.close()
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    # Link's owner

    async def came_up(self, connection: RedisConnection) -> None:
        self._write()

    def is_now_up(self) -> None:
        self._on_up()

    def went_down(self, error: BackplaneUnavailable) -> None:
        pending, self._pending = self._pending, deque()
        self._unsent.clear()
        self._pending_bytes = 0
        for future, _, _ in pending:
            if future is not None:
                _fail(future, error)

    def replies_arrived(self, replies: list[Any]) -> None:
        self.link.answered()
        pending = self._pending
        if len(replies) > len(pending):
            self.link.drop(f"Redis said what nobody asked for: {replies[-1]!r:.200}")
            return
        for reply in replies:
            future, size, _ = pending.popleft()
            self._pending_bytes -= size
            if future is None or future.done():
                continue
            if isinstance(reply, int):
                future.set_result(reply)
            else:
                _fail(future, BackplaneUnavailable(f"Redis {self.link.address}: {reply}"))

    def send_ping(self) -> None:
        if not self._is_flushing:
            self._begin_turn()
        self._unsent.append(_PING)
        self._pending.append((None, 0, self._deadline))

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
            self.link.connection.write(b"".join(unsent))

    def _expire(self) -> None:
        """The oldest entry's time is over: then the connection is of no use, and nothing on it will be
        answered."""
        self._watch = None
        if not self._pending:
            return
        now, deadline = self._loop.time(), self._pending[0][2]
        if deadline > now:
            self._watch = self._loop.call_at(deadline, self._expire)
        elif deadline != self._grace_ends or now - deadline > LATE_SECONDS:
            self._give_grace(now)
        elif self.link.connection is not None:
            self.link.drop(f"a PUBLISH was not answered within {PUBLISH_SECONDS:g} s")
        else:
            self.went_down(self.link.unavailable())

    def _give_grace(self, now: float) -> None:
        """Our own loop stood still: the answers may be in the socket, unread."""
        ends = self._grace_ends = now + GRACE_SECONDS
        self._pending = deque((future, size, ends) for future, size, _ in self._pending)
        self._watch = self._loop.call_at(ends, self._expire)


def _fail(future: asyncio.Future[int | None], error: BackplaneUnavailable) -> asyncio.Future[int | None]:
    """Fail it, and mark the error as seen: who does not look at the future does not want a traceback in the
    log."""
    if not future.done():
        future.set_exception(error)
        future.exception()
    return future
