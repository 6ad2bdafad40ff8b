"""Telling clients that they may have missed something: once per connection and cause, and nobody else."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from realtime.hub import Hub, Member
from realtime.instrument import Instrument
from realtime.protocol import codec
from realtime.protocol.frames import FrameBatch
from realtime.protocol.messages import Missed
from realtime.protocol.names import BROADCAST_GROUP, group_of_room, group_of_user

logger = logging.getLogger("realtime.missed")


def _batch(missed: Missed) -> FrameBatch:
    return FrameBatch([codec.encode(missed)], [missed])


ANYWHERE = _batch(Missed(rooms=None))


class MissedNotices:
    """Pushes ``missed``. ``own_channel``: the channel that carries this node's private messages."""

    def __init__(self, hub: Hub, instrument: Instrument, own_channel: str, gather_seconds: float) -> None:
        self._hub = hub
        self._instrument = instrument
        self._everybody = frozenset({BROADCAST_GROUP, own_channel})
        self._gather = gather_seconds
        self._untold: set[str] | None = set()

    def tell(self, groups: frozenset[str] | None) -> None:
        """Tell every connection that hears one of ``groups`` (None: all of them), now."""
        told = size = 0
        for member in list(self._hub.connections.values()):
            batch = self._notice(member, groups)
            if batch is not None:
                member.notify(batch)
                told += 1
                size += len(batch.texts[0])
        if told:
            self._instrument.missed_told(told)
            self._instrument.messages_sent(told, size)
            logger.warning("missed_told connections=%d", told)

    def tell_soon(self, rooms: Iterable[str] | None) -> None:
        """Tell the members of ``rooms`` (None: everybody) in a moment, together with what else is missed until then."""
        if self._untold is None:
            return
        if not self._untold:
            asyncio.get_running_loop().call_later(self._gather, self._flush)
        self._untold = None if rooms is None else self._untold | {group_of_room(room) for room in rooms}

    def _flush(self) -> None:
        untold, self._untold = self._untold, set()
        self.tell(None if untold is None else frozenset(untold))

    def _notice(self, member: Member, groups: frozenset[str] | None) -> FrameBatch | None:
        if groups is None or groups & self._everybody:
            return ANYWHERE
        if member.user is not None and group_of_user(member.user) in groups:
            return ANYWHERE
        rooms = [room.name for room in member.rooms.values() if room.group in groups]
        return _batch(Missed(rooms=rooms)) if rooms else None
