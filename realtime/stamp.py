"""Says on some publications when they were published: enough to measure the lag, too few to cost anything."""

from __future__ import annotations

import asyncio
import time

from msgspec.structs import replace

from realtime.protocol.envelope import BroadcastEnvelope, Envelope, RoomEnvelope

STAMP_SECONDS = 0.1
"""At most one publication in that time is stamped; an idle node has no timer."""


class Stamp:
    """``is_due`` is all that the other publications ask."""

    __slots__ = ("is_due",)

    def __init__(self) -> None:
        self.is_due = True

    def put(self, envelope: Envelope) -> Envelope:
        """The envelope with the time on it, if it is one that is delivered to an audience."""
        if not isinstance(envelope, (RoomEnvelope, BroadcastEnvelope)):
            return envelope
        self.is_due = False
        asyncio.get_running_loop().call_later(STAMP_SECONDS, self._next)
        return replace(envelope, at=time.time())

    def _next(self) -> None:
        self.is_due = True
