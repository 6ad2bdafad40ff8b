"""Write-behind of Node and Connection rows: one thread, its own database connection, off the delivery path.

The node's loop only puts facts into a dict. If the database is slow or down, rows wait there within a bound;
beyond it they are counted and lost, and messages flow as before.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import threading
import time
from collections.abc import Callable, Iterable

from realtime.facts import (
    ConnectionEnd,
    ConnectionFacts,
    ConnectionProgress,
    ConnectionRow,
    ConnectionUser,
    NodeFacts,
    NullTracker,
    PendingRows,
    Survey,
)
from realtime.instrument import Instrument

logger = logging.getLogger("realtime.tracking")

BACKOFF_MAX_SECONDS = 30.0
LAST_TRIES_SECONDS = 0.2
BATCH_ROWS = 5_000
"""Connections written in one transaction; others wait that long for the write lock of SQLite."""

__all__ = ["ConnectionEnd", "ConnectionFacts", "ConnectionProgress", "NodeFacts", "NullTracker", "Tracker"]


class Tracker(NullTracker):
    """Writes what the node tells it, in bulk, every ``flush_seconds``.

    Promises: a call from the loop never waits for I/O; an end overtakes no beginning; what opens and ends
    between two writes is one row written once; rows are lost only beyond ``pending_max``, when the database
    refuses the row itself, or at the deadline of ``stop``, and each is counted.
    """

    def __init__(
        self,
        *,
        flush_seconds: float,
        pending_max: int,
        instrument: Instrument,
        on_taken_for_dead: Callable[[], None] = lambda: None,
    ) -> None:
        self._flush_seconds = flush_seconds
        self._pending_max = pending_max
        self._instrument = instrument
        self._on_taken_for_dead = on_taken_for_dead  # called in the loop: tell which connections live
        self._lock = threading.Lock()  # around the exchange of _fresh; never held during I/O
        self._fresh = PendingRows()  # what the loop added since the thread looked
        self._carried = PendingRows()  # the thread's own: taken from _fresh, not written yet
        self._carried_count = 0
        self._lost = 0
        self._wake = threading.Event()
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._ended = asyncio.Event()
        self._given_up = threading.Event()
        self._failures = 0  # writes that failed since the last one that did not
        self._overflowed = False  # whether this outage's first lost row was logged

    @property
    def pending(self) -> int:
        """Rows that wait for the database."""
        return len(self._fresh) + self._carried_count

    @property
    def lost(self) -> int:
        """Rows that were given up since the start."""
        return self._lost

    @property
    def is_behind(self) -> bool:
        """Whether the database refuses, or half of what may wait waits."""
        return self._failures > 0 or self.pending > self._pending_max // 2

    async def start(self) -> None:
        """Begin to write."""
        loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, args=(loop,), name="realtime-tracking", daemon=True)
        self._thread.start()

    async def stop(self, within_seconds: float = 5.0) -> None:
        """Write what waits and end, giving up what is not written within that time."""
        if self._thread is None:
            return
        self._stopping = True
        self._wake.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_seconds):
                await self._ended.wait()
        self._given_up.set()
        if left := self.pending:
            self._lose(left)
            logger.error("tracking_rows_lost count=%d reason=%r", left, "the database did not take them in time")

    def connection_opened(self, facts: ConnectionFacts) -> None:
        """A connection was accepted."""
        self._add(facts.id, ConnectionRow(opened=facts))

    def connection_identified(self, connection_id: str, user: str | None, label: str) -> None:
        """A connection turned out to be a user's."""
        self._add(connection_id, ConnectionRow(user=ConnectionUser(user=user, user_label=label)))

    def connection_progressed(self, connection_id: str, progress: ConnectionProgress) -> bool:
        """A live connection did something since this was last said. False when there is no room: say it again later."""
        return self._put(connection_id, ConnectionRow(progress=progress))

    def connection_lives(self, connection_id: str) -> None:
        """A connection whose row may have been closed by mistake still lives; a row with its true end stays closed."""
        self._add(connection_id, ConnectionRow(is_reopened=True))

    def connection_closed(
        self,
        connection_id: str,
        *,
        code: int,
        reason: str,
        at: float,
        last_seen: float,
        messages_in: int = 0,
        messages_out: int = 0,
        bytes_in: int = 0,
        bytes_out: int = 0,
        rooms: int = 0,
    ) -> None:
        """A connection ended. If its row was lost, so is its end."""
        end = ConnectionEnd(
            code=code,
            reason=reason,
            at=at,
            last_seen=last_seen,
            messages_in=messages_in,
            messages_out=messages_out,
            bytes_in=bytes_in,
            bytes_out=bytes_out,
            rooms=rooms,
        )
        self._add(connection_id, ConnectionRow(ended=end))

    def node_seen(self, facts: NodeFacts) -> None:
        """The own node's heartbeat, or its change of state."""
        with self._lock:
            self._fresh.nodes[facts.id] = facts

    def node_died(self, node_id: str, at: float | None = None) -> None:
        """Another node was taken for dead: whoever writes that first closes its connections."""
        with self._lock:
            self._fresh.deaths[node_id] = time.time() if at is None else at

    def nodes_surveyed(self, own_id: str, heard: Iterable[str], since: float) -> None:
        """Rows of nodes that nobody heard, whose last heartbeat is older than ``since``, are those of dead ones."""
        with self._lock:
            self._fresh.surveys[own_id] = Survey(heard=frozenset(heard), since=since)

    def _put(self, connection_id: str, row: ConnectionRow) -> bool:
        with self._lock:
            has_room = connection_id in self._fresh.connections or self.pending < self._pending_max
            if has_room:
                self._fresh.add(connection_id, row)
        return has_room

    def _add(self, connection_id: str, row: ConnectionRow) -> None:
        if not self._put(connection_id, row):
            self._lose(1)
            if not self._overflowed:
                self._overflowed = True
                logger.error("tracking_rows_lost pending_max=%d reason=%r", self._pending_max, "too many wait")

    def _lose(self, count: int) -> None:
        """Count rows that are given up. In the loop only: nobody else touches the counters."""
        self._lost += count
        self._instrument.tracking_rows_lost(count)

    # From here on: the thread.

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        """Until stopped: 1. wait for the turn; 2. take what came; 3. write it, or keep it for the next."""
        try:
            while not self._given_up.is_set():
                self._wake.wait(self._pause())
                is_last = self._stopping  # read before taking: what was added before stop() is taken
                self._take()
                if self._flush(loop) and is_last:
                    return
                if is_last:
                    self._given_up.wait(LAST_TRIES_SECONDS)
        finally:
            _in_loop(loop, self._ended.set)

    def _pause(self) -> float:
        longest = max(BACKOFF_MAX_SECONDS, self._flush_seconds)
        seconds: float = min(self._flush_seconds * 2 ** min(self._failures, 10), longest)
        return seconds * random.uniform(0.85, 1.0)  # several nodes must not write in step

    def _take(self) -> None:
        with self._lock:
            taken, self._fresh = self._fresh, PendingRows()
            self._carried_count += len(taken)
        self._carried.absorb(taken)
        self._carried_count = len(self._carried)

    def _flush(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Write what is carried, in batches. False when the database is not there: the rest waits."""
        from realtime import rows  # imports the models, which is possible only once Django has started

        try:
            while self._carried:
                batch = self._carried.take(BATCH_ROWS)
                try:
                    refused = rows.write_what_is_accepted(batch, lambda: _in_loop(loop, self._on_taken_for_dead))
                except BaseException:
                    batch.absorb(self._carried)
                    self._carried = batch
                    raise
                if refused:
                    _in_loop(loop, self._lose, refused)
                self._carried_count = len(self._carried)
        except Exception as error:  # whatever the database or its driver raise: this thread outlives it
            self._failed(error, rows.missing_tables)
        else:
            self._succeeded()
        finally:
            rows.release(is_broken=self._failures > 0)
        return self._failures == 0

    def _failed(self, error: Exception, missing_tables: Callable[[], list[str]]) -> None:
        self._failures += 1
        if self._failures > 1:
            return
        missing: list[str] = []
        with contextlib.suppress(Exception):
            missing = missing_tables()
        if missing:
            logger.error("database_not_migrated: run `manage.py migrate`; messages flow, but nothing is recorded")
        else:
            logger.error("tracking_unavailable pending=%d error=%r", self.pending, f"{type(error).__name__}: {error}")

    def _succeeded(self) -> None:
        if self._failures:
            logger.info("tracking_restored lost=%d", self._lost)
        self._failures = 0
        self._overflowed = False


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *arguments: object) -> None:
    with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is interested any more
        loop.call_soon_threadsafe(call, *arguments)
