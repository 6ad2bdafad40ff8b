"""From the hub to the writers: publications of one batch are encoded once and joined once for each audience.

Nothing here awaits inside one slice of members, and there is no task or queue per delivery.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping

from realtime.instrument import Instrument
from realtime.protocol.envelope import Envelope
from realtime.protocol.frames import FrameBatch
from realtime.server.writer import FrameWriter

STEP_MEMBERS = 100
"""Members of a big audience that are served between two looks at the clock."""
STEP_BYTES = 4 * 1024 * 1024
"""A step also ends after that many bytes to all of its members: copying them is what takes the time then."""


LAG_MAX_SECONDS = 60.0
"""A longer lag, and one below zero, is a wrong clock or a foreign publisher's: it must not spoil the sum."""


class Run:
    """Consecutive publications for one audience. ``skips``: by connection id, which of ``texts`` it does not get.

    ``sources`` are what the texts were made of, for members that speak another protocol. ``published_at``: when one of
    them was published, if one of them says so; seconds since the epoch.
    """

    __slots__ = ("published_at", "size", "skips", "sources", "texts")

    def __init__(self) -> None:
        self.texts: list[bytes] = []
        self.sources: list[Envelope | None] = []
        self.skips: dict[str, set[int]] = {}
        self.size = 0
        self.published_at: float | None = None

    def add(self, text: bytes, skip: str | None, source: Envelope | None = None) -> None:
        """One more publication, at the end."""
        if skip is not None:
            self.skips.setdefault(skip, set()).add(len(self.texts))
        self.texts.append(text)
        self.sources.append(source)
        self.size += len(text)

    def is_full(self, max_messages: int, max_bytes: int) -> bool:
        """Whether the next publication starts another run."""
        return len(self.texts) >= max_messages or self.size >= max_bytes


class Deliverer:
    """Writes runs to members. What takes long is done in slices of ``slice_seconds``, with other work in between."""

    def __init__(
        self, instrument: Instrument, slice_seconds: float, *, clock: Callable[[], float] = time.perf_counter
    ) -> None:
        self._instrument = instrument
        self._slice = slice_seconds
        self._clock = clock
        self._slice_began = 0.0

    def begin_batch(self) -> None:
        """The loop has just had its turn: a slice begins."""
        self._slice_began = self._clock()

    async def deliver(self, writers: Mapping[str, FrameWriter], run: Run) -> None:
        """Write ``run`` to every one of ``writers``, which are by connection id.

        A slice ends between two steps of a big audience, or between two runs. Who has left meanwhile gets nothing any
        more, and who has joined meanwhile does not get these publications, which are older than its ``joined``.
        """
        batch = FrameBatch(run.texts, run.sources)
        step = max(1, min(STEP_MEMBERS, STEP_BYTES // len(batch.joined)))
        if len(writers) <= step:
            deliveries = write_all(writers, batch, run.skips)
        else:
            deliveries = await self._in_steps(writers, batch, run.skips, step)
        self._account(run, deliveries)
        await self._let_others_work()

    async def _in_steps(
        self, writers: Mapping[str, FrameWriter], batch: FrameBatch, skips: Mapping[str, set[int]], step: int
    ) -> int:
        everyone = list(writers.items())
        deliveries, is_changed = 0, False
        for start in range(0, len(everyone), step):
            part = dict(everyone[start : start + step])
            if is_changed:
                part = {name: writer for name, writer in part.items() if name in writers}
            deliveries += write_all(part, batch, skips)
            is_changed = await self._let_others_work() or is_changed
        return deliveries

    async def _let_others_work(self) -> bool:
        """End the slice if it has lasted long enough; whether it has."""
        if self._clock() - self._slice_began < self._slice:
            return False
        await asyncio.sleep(0)
        self._slice_began = self._clock()
        return True

    def deliver_now(self, writers: Mapping[str, FrameWriter], run: Run) -> None:
        """Write ``run`` to a few writers, at once."""
        self._account(run, write_all(writers, FrameBatch(run.texts, run.sources), run.skips))

    def _account(self, run: Run, deliveries: int) -> None:
        lag = None if run.published_at is None else min(max(0.0, time.time() - run.published_at), LAG_MAX_SECONDS)
        self._instrument.batch_delivered(len(run.texts), deliveries, run.size * deliveries // len(run.texts), lag)


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
            kept = [index for index in range(batch.count) if index not in indexes]
            sources = [batch.sources[index] for index in kept] if batch.sources else ()
            own = FrameBatch([batch.texts[index] for index in kept], sources)
            writer.write(own)
            written += own.count
    return written
