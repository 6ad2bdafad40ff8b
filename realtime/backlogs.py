"""Who waits for a client that reads too slowly: nobody. Looks at the backlogs that grew, and ends slow consumers.

One dict and one task for the node; nothing belongs to a connection whose backlog is empty.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from realtime.conf import Settings
from realtime.hub import Member
from realtime.instrument import Instrument
from realtime.protocol.closing import SLOW_CONSUMER
from realtime.server.writer import nobody

LOOKS_PER_GRACE = 3.7


class Backlogs:
    """The members whose backlog is being watched. All methods belong to the loop of the node."""

    def __init__(self, settings: Settings, instrument: Instrument, clock: Callable[[], float]) -> None:
        self._hard_max_bytes = settings.backlog_hard_max_bytes
        self._pause = settings.backlog_grace_seconds / LOOKS_PER_GRACE
        self._instrument = instrument
        self._clock = clock
        self._watched: dict[str, Member] = {}

    def watch(self, member: Member) -> None:
        """From now on its writer says when its backlog grows."""
        member.writer.on_backlog = lambda: self._grew(member)

    def forget(self, member: Member) -> None:
        """It is gone."""
        member.writer.on_backlog = nobody  # it holds the member, which holds the writer
        self._watched.pop(member.id, None)

    async def look(self) -> None:
        """For ever: wait, and end those that were slow for too long."""
        while True:
            await asyncio.sleep(self._pause)
            self._evict_slow()

    def _grew(self, member: Member) -> None:
        """Called by a writer, inside a delivery: nothing may be closed here."""
        self._watched[member.id] = member
        if member.writer.backlog > self._hard_max_bytes:
            asyncio.get_running_loop().call_soon(self._evict_if_slow, member)

    def _evict_slow(self) -> None:
        """Apart from the loop above, which would keep the last of them in a variable while it sleeps."""
        for member in list(self._watched.values()):
            self._evict_if_slow(member)

    def _evict_if_slow(self, member: Member) -> None:
        if member.writer.is_closing:
            self._watched.pop(member.id, None)
        elif member.writer.is_slow(self._clock()):
            self._watched.pop(member.id, None)
            member.evict(SLOW_CONSUMER)
            self._instrument.connection_evicted(SLOW_CONSUMER)
        elif not member.writer.guard.is_watched:
            self._watched.pop(member.id, None)
