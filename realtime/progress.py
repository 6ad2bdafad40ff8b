"""What live connections have done is told to the tracker from time to time, so that their rows do not go stale.

Nothing is counted for it: the figures are there already, and a look compares them with those of the last look. The
looks at a node's connections are spread over the interval, a hundred in a turn of the loop.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from realtime.connection import Connection
from realtime.facts import ConnectionProgress

if TYPE_CHECKING:
    from realtime.facts import NullTracker
    from realtime.hub import Hub

SLICE_CONNECTIONS = 100
"""Looked at in one turn of the loop: under a millisecond, if all of them did something."""


async def keep_rows_fresh(hub: Hub, tracker: NullTracker, every_seconds: float) -> None:
    """Look at all connections once in ``every_seconds``, for ever; not while the database is behind."""
    while True:
        slices = _slices(list(hub.connections))
        for ids in slices or [[]]:
            await asyncio.sleep(every_seconds / max(len(slices), 1) * random.uniform(0.9, 1.0))
            if not tracker.is_behind:
                tell_progress(hub, tracker, ids)


def tell_progress(hub: Hub, tracker: NullTracker, ids: Sequence[str]) -> None:
    """Tell of those of the connections that did something since this was last told."""
    now, clock = time.time(), time.monotonic()
    for connection_id in ids:
        connection = hub.connections.get(connection_id)
        if not isinstance(connection, Connection):
            continue  # it is gone
        mark = connection.progress_mark()
        if mark == connection.told_mark:
            continue
        progress = ConnectionProgress(
            last_seen=now - (clock - connection.last_active),
            messages_in=connection.messages_in,
            messages_out=connection.writer.messages_out,
            bytes_in=connection.bytes_in,
            bytes_out=connection.writer.bytes_out,
            rooms=len(connection.rooms),
        )
        if not tracker.connection_progressed(connection_id, progress):
            return  # no room: what is left is found again at the next look
        connection.told_mark = mark


async def tell_who_lives(hub: Hub, tracker: NullTracker) -> None:
    """This node was taken for dead: say which of its connections live, in slices."""
    for ids in _slices(list(hub.connections)):
        for connection_id in ids:
            if connection_id in hub.connections:
                tracker.connection_lives(connection_id)
        await asyncio.sleep(0)


def _slices(ids: list[str]) -> list[list[str]]:
    return [ids[start : start + SLICE_CONNECTIONS] for start in range(0, len(ids), SLICE_CONNECTIONS)]
