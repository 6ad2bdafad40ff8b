"""What keeps connections up, for ever, and those who wait until they are."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

from realtime.exceptions import BackplaneUnavailable


class Upkeep(ABC):
    """Invariant: at most one of `is_up` and `is_down`; neither before the first attempt has ended."""

    def __init__(self) -> None:
        self.is_up = False
        self.is_down = False  # known not to work, and trying on
        self._waiters: list[asyncio.Future[None]] = []

    @abstractmethod
    def start(self) -> None:
        """Begin to connect, unless that has begun already."""

    @abstractmethod
    def unavailable(self) -> BackplaneUnavailable:
        """Why it is not up."""

    async def wait_until_up(self, seconds: float) -> None:
        """Returns when up; raises BackplaneUnavailable at once if known to be down, else after `seconds`."""
        self.start()
        if self.is_up:
            return
        if self.is_down:
            raise self.unavailable()
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            async with asyncio.timeout(seconds):
                await waiter
        except TimeoutError:
            raise self.unavailable() from None

    def _tell_waiters(self) -> None:
        """It has come up, or gone down."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if waiter.done():
                continue
            if self.is_up:
                waiter.set_result(None)
            else:
                waiter.set_exception(self.unavailable())
