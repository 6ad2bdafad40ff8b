"""From the hub to the writers: publications of one batch are encoded once and joined once for each audience.

Nothing here awaits inside one slice of members, and there is no task or queue per delivery.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from realtime.hub import Member
from realtime.instrument import Instrument
from realtime.protocol.frames import FrameBatch


class Run:
    """Consecutive publications for one audience. ``skips``: by connection id, which of ``texts`` it does not get."""

    __slots__ = ("size", "skips", "texts")

    def __init__(self) -> None:
        self.texts: list[bytes] = []
        self.skips: dict[str, set[int]] = {}
        self.size = 0

    def add(self, text: bytes, skip: str | None) -> None:
        """One more publication, at the end."""
        if skip is not None:
            self.skips.setdefault(skip, set()).add(len(self.texts))
        self.texts.append(text)
        self.size += len(text)

    def is_full(self, max_messages: int, max_bytes: int) -> bool:
        """Whether the next publication starts another run."""
        return len(self.texts) >= max_messages or self.size >= max_bytes


class Deliverer:
    """Writes runs to members, slice by slice."""

    def __init__(self, instrument: Instrument, slice_members: int) -> None:
        self._instrument = instrument
        self._slice = slice_members

    async def deliver(self, members: Mapping[str, Member], run: Run) -> None:
        """Write ``run`` to every member of ``members``.

        A big audience is served in slices with other work between them; who has left meanwhile gets nothing any more,
        and who has joined meanwhile does not get these publications, which are older than its ``joined``.
        """
        if len(members) <= self._slice:
            self.deliver_now(members.values(), run)
            return
        batch = FrameBatch(run.texts)
        everyone = list(members.values())
        deliveries = 0
        for start in range(0, len(everyone), self._slice):
            if start:
                await asyncio.sleep(0)
            present = [member for member in everyone[start : start + self._slice] if member.id in members]
            deliveries += write_all(present, batch, run.skips)
        self._account(run, deliveries)

    def deliver_now(self, members: Iterable[Member], run: Run) -> None:
        """Write ``run`` to a few members, at once."""
        self._account(run, write_all(members, FrameBatch(run.texts), run.skips))

    def _account(self, run: Run, deliveries: int) -> None:
        self._instrument.batch_delivered(len(run.texts), deliveries, run.size * deliveries // len(run.texts))


def write_all(members: Iterable[Member], batch: FrameBatch, skips: Mapping[str, set[int]]) -> int:
    """Write a batch to each member without what it must not get; returns the number of messages handed over."""
    written = 0
    count = batch.count
    # A writer never calls back into the hub from `write`, so that the dict behind `members` cannot change here.
    if not skips:
        for member in members:
            member.writer.write(batch)
            written += count
        return written
    for member in members:
        skipped = skips.get(member.id)
        if skipped is None:
            member.writer.write(batch)
            written += count
        elif len(skipped) < count:
            own = FrameBatch([text for index, text in enumerate(batch.texts) if index not in skipped])
            member.writer.write(own)
            written += own.count
    return written
