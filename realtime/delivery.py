"""From the hub to the writers: publications of one batch are encoded once and joined once for each audience.

Nothing here awaits inside one slice of members, and there is no task or queue per delivery.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from realtime.instrument import Instrument
from realtime.protocol.frames import FrameBatch
from realtime.server.writer import FrameWriter

SLICE_BYTES = 16 * 1024 * 1024
"""A slice also ends after that many bytes to all of its members: copying them is what takes the time then."""


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

    async def deliver(self, writers: Mapping[str, FrameWriter], run: Run) -> None:
        """Write ``run`` to every one of ``writers``, which are by connection id.

        A big audience is served in slices with other work between them; who has left meanwhile gets nothing any more,
        and who has joined meanwhile does not get these publications, which are older than its ``joined``.
        """
        batch = FrameBatch(run.texts)
        step = max(1, min(self._slice, SLICE_BYTES // len(batch.joined)))
        if len(writers) <= step:
            self._account(run, write_all(writers, batch, run.skips))
            return
        everyone = list(writers.items())
        deliveries = 0
        for start in range(0, len(everyone), step):
            if start:
                await asyncio.sleep(0)
            present = {name: writer for name, writer in everyone[start : start + step] if name in writers}
            deliveries += write_all(present, batch, run.skips)
        self._account(run, deliveries)

    def deliver_now(self, writers: Mapping[str, FrameWriter], run: Run) -> None:
        """Write ``run`` to a few writers, at once."""
        self._account(run, write_all(writers, FrameBatch(run.texts), run.skips))

    def _account(self, run: Run, deliveries: int) -> None:
        self._instrument.batch_delivered(len(run.texts), deliveries, run.size * deliveries // len(run.texts))


def write_all(writers: Mapping[str, FrameWriter], batch: FrameBatch, skips: Mapping[str, set[int]]) -> int:
    """Write a batch to each writer without what it must not get; returns the number of messages handed over.

    The loops touch nothing of a member but its writer: for a big room, fetching one more object for each costs more
    than the code does. A writer never calls back into the hub from ``write``, so that the dict cannot change here.
    """
    skipping = {writers[name]: indexes for name, indexes in skips.items() if name in writers}
    if not skipping:
        for writer in writers.values():
            writer.write(batch)
        return len(writers) * batch.count
    if len(skipping) == 1:
        alone = next(iter(skipping))
        for writer in writers.values():
            if writer is not alone:
                writer.write(batch)
    else:
        for writer in writers.values():
            if writer not in skipping:
                writer.write(batch)
    written = (len(writers) - len(skipping)) * batch.count
    for writer, indexes in skipping.items():
        if len(indexes) < batch.count:
            own = FrameBatch([text for index, text in enumerate(batch.texts) if index not in indexes])
            writer.write(own)
            written += own.count
    return written
