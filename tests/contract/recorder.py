"""A listener that writes everything down and can be waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

PATIENCE_SECONDS = 60.0  # nobody waits so long, unless something is wrong


class Recorder:
    """`envelopes` in the order of arrival, `batches` as they came, `events` in order."""

    def __init__(self) -> None:
        self.envelopes: list[bytes] = []
        self.batches: list[int] = []
        self.events: list[str] = []
        self.groups: list[frozenset[str] | None] = []  # of each `resumed`
        self.dropped_count = 0
        self.gate: asyncio.Event | None = None  # `deliver` waits for it
        self._changed = asyncio.Event()

    async def deliver(self, batch: list[bytes]) -> None:
        if self.gate is not None:
            await self.gate.wait()
        self.envelopes += batch
        self.batches.append(len(batch))
        self._changed.set()

    def interrupted(self) -> None:
        self.events.append("interrupted")
        self._changed.set()

    def resumed(self, groups: frozenset[str] | None) -> None:
        self.events.append("resumed")
        self.groups.append(groups)
        self._changed.set()

    def dropped(self, count: int) -> None:
        self.dropped_count += count
        self._changed.set()

    async def until(self, condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
        """Returns as soon as `condition()` holds."""
        async with asyncio.timeout(seconds):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_count(self, count: int) -> None:
        """Returns when so many envelopes have arrived, at least."""
        await self.until(lambda: len(self.envelopes) >= count)

    async def until_envelope(self, envelope: bytes, seconds: float = PATIENCE_SECONDS) -> None:
        await self.until(lambda: envelope in self.envelopes, seconds)

    async def until_event(self, event: str, seconds: float = PATIENCE_SECONDS) -> None:
        await self.until(lambda: event in self.events, seconds)
