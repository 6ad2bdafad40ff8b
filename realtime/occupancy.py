"""Who may come and who must go: capacity, silence, and short memory. The decisions are those of ``limits``.

Whoever goes is closed in paced batches, one task for all of them, and stays after all when it sends something before
its turn. No timer, task or object belongs to a single connection.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from realtime.conf import Settings
from realtime.hub import Hub, Member
from realtime.instrument import MEMORY, Instrument
from realtime.limits import Capacity, MemoryGuard, MemoryState, longest_inactive
from realtime.memory import collect, resident_bytes, trim
from realtime.protocol.closing import IDLE, OVERLOADED, CloseCode
from realtime.tasks import TaskGroup

logger = logging.getLogger("realtime.occupancy")

BATCH_CONNECTIONS = 100
"""Closed in one go; 100 take some milliseconds."""
BATCH_PAUSE_SECONDS = 0.02
"""Between two batches: others get their turn, and clients do not all reconnect at the same moment."""
LOOKS_PER_TIMEOUT = 23.7
"""Looks for silent clients within one idle timeout: one is closed 4 % too late at most. An odd number."""
REFUSALS_LOGGED_SECONDS = 60.0
"""A node that refuses says so in its log once in that time; the metric counts all of them."""


@dataclass(frozen=True, slots=True)
class Leaver:
    """A connection that is to be closed, unless it has been active after ``since``."""

    name: str
    since: float
    close: CloseCode
    reason: str


class Occupancy:
    """The places of one node. All methods belong to its loop."""

    def __init__(
        self,
        node_id: str,
        hub: Hub,
        settings: Settings,
        instrument: Instrument,
        tasks: TaskGroup,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.memory = MemoryState(resident_bytes(), settings.memory_max_bytes)
        """As the last look found it."""
        self._node_id = node_id
        self._hub = hub
        self._settings = settings
        self._instrument = instrument
        self._tasks = tasks
        self._clock = clock
        self._capacity = Capacity(
            settings.connections_max, settings.evict_fraction, inactive_seconds=settings.evict_inactive_seconds
        )
        self._guard = MemoryGuard(settings.memory_max_bytes, settings.evict_fraction)
        self._arriving = 0  # handshakes under way
        self._leavers: deque[Leaver] = deque()  # no more than there are connections
        self._closing: asyncio.Task[None] | None = None
        self._refused_at = float("-inf")

    def start(self) -> None:
        """Begin to look for silent clients, and at the memory."""
        if self._settings.idle_timeout_seconds:
            self._tasks.start("idle", self._look_for_idle())
        self._tasks.start("memory", self._look_at_memory())

    # -- capacity ----------------------------------------------------------------------------------------------------

    def arrive(self) -> bool:
        """Whether one more client is let in. If so it takes a place: call ``arrived`` when it is in the hub or gone."""
        if not self._has_room():
            self._make_room()
            if not self._has_room():
                self._log_refusal()
                return False
        self._arriving += 1
        return True

    def arrived(self) -> None:
        """A handshake is over. Its connection enters the hub in the same turn of the loop."""
        self._arriving -= 1

    def _has_room(self) -> bool:
        return self._capacity.has_room(len(self._hub) + self._arriving)

    def _make_room(self) -> None:
        if self._close_next():  # one of those that are about to go
            return
        names = self._capacity.surplus(self._hub.connections, self._clock())
        if names:
            count = len(self._hub)
            logger.warning("capacity_reached node=%s connections=%d evicting=%d", self._node_id, count, len(names))
            self._let_go(names, OVERLOADED)
            self._close_next()

    def _log_refusal(self) -> None:
        now = self._clock()
        if now - self._refused_at >= REFUSALS_LOGGED_SECONDS:
            self._refused_at = now
            count = len(self._hub)
            logger.warning("capacity_refuses node=%s connections=%d arriving=%d", self._node_id, count, self._arriving)

    # -- closing -----------------------------------------------------------------------------------------------------

    def _let_go(self, names: Iterable[str], close: CloseCode, reason: str = "") -> None:
        members = self._hub.connections
        self._leavers += (Leaver(name, members[name].last_active, close, reason) for name in names)
        if self._leavers and (self._closing is None or self._closing.done()):
            self._closing = self._tasks.start("evictions", self._close_leavers())

    async def _close_leavers(self) -> None:
        while self._leavers:
            for _ in range(BATCH_CONNECTIONS):
                self._close_next()
            await asyncio.sleep(BATCH_PAUSE_SECONDS)

    def _close_next(self) -> bool:
        """Close the next leaver that is still here and still silent; False when there is none."""
        while self._leavers:
            leaver = self._leavers.popleft()
            member: Member | None = self._hub.connections.get(leaver.name)
            if member is not None and member.last_active == leaver.since:
                member.evict(leaver.close)
                self._instrument.connection_evicted(leaver.close, leaver.reason)
                return True
        return False

    # -- silence -----------------------------------------------------------------------------------------------------

    async def _look_for_idle(self) -> None:
        timeout = self._settings.idle_timeout_seconds
        while True:
            await asyncio.sleep(timeout / LOOKS_PER_TIMEOUT)
            if not self._leavers:
                members = self._hub.connections
                self._let_go(longest_inactive(members, len(members), self._clock() - timeout), IDLE)

    # -- memory ------------------------------------------------------------------------------------------------------

    async def _look_at_memory(self) -> None:
        while True:
            await asyncio.sleep(self._settings.memory_check_seconds)
            await self.look_at_memory()

    async def look_at_memory(self) -> None:
        """1. measure; above the limit 2. free what can be freed, and measure again; 3. close some; 4. say so."""
        guard, found = self._guard, resident_bytes()
        line = "memory node=%s connections=%d resident_bytes=%d max_bytes=%d"
        logger.info(line, self._node_id, len(self._hub), found, guard.max_bytes)
        stopped = 0.0
        if found > guard.max_bytes:
            if guard.is_evicting:  # else it would stop the loop at every look, for nothing
                stopped = collect()
            await asyncio.to_thread(trim)
        was_evicting, resident = guard.is_evicting, resident_bytes()
        count = guard.look(resident, len(self._hub))
        self.memory = MemoryState(resident, guard.max_bytes, guard.is_evicting)
        if not self.memory.is_over:
            return
        closing = self._close_for_memory(count)
        line = f"memory_over{line[6:]} freed_bytes=%d loop_stopped_seconds=%.3f closing=%d"
        freed = found - resident
        logger.warning(line, self._node_id, len(self._hub), resident, guard.max_bytes, freed, stopped, closing)
        if was_evicting and not guard.is_evicting:
            reason, hint = "closing connections has freed nothing", "raise MEMORY_MAX_BYTES, or restart the node"
            logger.warning("memory_evictions_stopped node=%s reason=%r hint=%r", self._node_id, reason, hint)

    def _close_for_memory(self, count: int) -> int:
        if not count or self._leavers:
            return 0
        inactive_since = self._clock() - self._settings.evict_inactive_seconds
        names = longest_inactive(self._hub.connections, count, inactive_since)
        if names:
            self._guard.closed(self.memory.resident_bytes)
            self._let_go(names, OVERLOADED, MEMORY)
        return len(names)
