"""Receipts: who waits for the confirmation that a private message was handed over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Receipts:
    """Pending confirmations by number; each is answered once, or times out as not delivered."""

    def __init__(self, timeout_seconds: float) -> None:
        self._timeout = timeout_seconds
        self._pending: dict[int, tuple[Callable[[bool], None], asyncio.TimerHandle]] = {}
        self._last = 0

    def __len__(self) -> int:
        return len(self._pending)

    def expect(self, answered: Callable[[bool], None]) -> int:
        """A number to ask a confirmation for; ``answered`` is called with whether it came in time and said yes."""
        self._last += 1
        timer = asyncio.get_running_loop().call_later(self._timeout, self.settle, self._last, False)
        self._pending[self._last] = (answered, timer)
        return self._last

    def settle(self, number: int, is_delivered: bool) -> None:
        """The confirmation came (or its time is over). A second one for the same number changes nothing."""
        entry = self._pending.pop(number, None)
        if entry is None:
            return
        answered, timer = entry
        timer.cancel()
        answered(is_delivered)

    def cancel(self, number: int) -> bool:
        """Nobody waits any more; False when nobody did."""
        entry = self._pending.pop(number, None)
        if entry is not None:
            entry[1].cancel()
        return entry is not None
