"""Time that a test moves on."""

from __future__ import annotations

import asyncio
import time

TURNS = 5
"""Turns of the loop that are let pass when the time was moved: what is due wakes in the first."""


class FakeClock:
    """The clock of a node, and of the event loop that it runs in: real time, and what a test has added to it.

    Whatever waits in the loop for a time that has passed by then wakes at once, timeouts of the test itself included.
    """

    def __init__(self) -> None:
        self._ahead = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None

    def __call__(self) -> float:
        """The time now, in seconds, from some moment on; what ``time.monotonic`` is elsewhere."""
        return time.monotonic() + self._ahead

    async def advance(self, seconds: float) -> None:
        """Let so much time have passed."""
        if seconds < 0:
            raise ValueError("time does not go back")
        if self._loop is None:
            raise RuntimeError("this clock belongs to no node yet: RealtimeNode(clock=clock)")
        self._ahead += seconds
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def rule(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let the timers of this loop follow this clock, for the rest of its life: for a loop time never goes back."""
        if loop is self._loop:
            return
        before = loop.time
        try:
            loop.time = lambda: before() + self._ahead  # type: ignore[method-assign]
        except AttributeError as error:
            raise RuntimeError(f"a FakeClock needs asyncio's own event loop, not {type(loop).__name__}") from error
        self._loop = loop
