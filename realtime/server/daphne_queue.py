"""The queue between daphne and an ASGI application."""

from __future__ import annotations

import asyncio
from typing import Any


class AsgiQueue:
    """The messages for one ASGI application: what daphne needs of ``asyncio.Queue``, for one reader."""

    __slots__ = ("_messages", "_waiter")

    def __init__(self) -> None:
        self._messages: list[dict[str, Any]] = []
        self._waiter: asyncio.Future[None] | None = None

    def put_nowait(self, message: dict[str, Any]) -> None:
        """One more message; never full: what fills it is bounded elsewhere, or is daphne's own."""
        self._messages.append(message)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def get(self) -> dict[str, Any]:
        """The next message. A reader that is cancelled loses none."""
        while not self._messages:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._messages.pop(0)
