"""The meter: once per heartbeat it reads what the node holds and has counted, and it watches how late the loop is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from realtime.hub import Hub
from realtime.instrument import Instrument
from realtime.memory import resident_bytes
from realtime.statistics import Figures, Statistics

WAKE_SECONDS = 0.1
"""How often the loop is asked to wake the watch: what it is late by is what everybody else waited."""
SLICE_WRITERS = 1_000
"""Backlogs looked at before other work gets its turn."""


class Meter:
    """The figures of one node. ``rows_pending`` says how many rows wait for the database."""

    def __init__(
        self,
        hub: Hub,
        instrument: Instrument,
        clock: Callable[[], float],
        rows_pending: Callable[[], int],
    ) -> None:
        self._hub = hub
        self._instrument = instrument
        self._clock = clock
        self._rows_pending = rows_pending
        self._statistics = Statistics(instrument.totals(), clock())
        self._last: Figures = {}
        self._latest_wake = 0.0  # the most that the loop was late since the last look, seconds

    def figures(self) -> Figures:
        """Those of the last look; what the hub holds as it is now."""
        hub = self._hub
        return {"connections": len(hub), "users": len(hub.users), "rooms": hub.room_count, **self._last}

    async def look(self) -> None:
        """Take the figures of the time since the last look."""
        backlog = await self._backlog()
        late, self._latest_wake = self._latest_wake, 0.0
        self._last = {
            "memory_bytes": resident_bytes(),
            "backlog_bytes": backlog,
            "tracking_pending": self._rows_pending(),
            "loop_lag_max_seconds": round(late, 6),
            **self._statistics.look(self._instrument.totals(), self._clock()),
        }

    async def watch_loop(self) -> None:
        """For ever: measure how late the loop is."""
        while True:
            asked = self._clock() + WAKE_SECONDS
            await asyncio.sleep(WAKE_SECONDS)
            late = max(0.0, self._clock() - asked)
            self._latest_wake = max(self._latest_wake, late)
            self._instrument.loop_woke_late(late)

    async def _backlog(self) -> int:
        writers = list(self._hub.writers.values())
        total = 0
        for start in range(0, len(writers), SLICE_WRITERS):
            if start:
                await asyncio.sleep(0)
            total += sum(writer.backlog for writer in writers[start : start + SLICE_WRITERS])
        return total
