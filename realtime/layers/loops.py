"""State that belongs to one event loop each, and ends with it."""

from __future__ import annotations

import asyncio
import types
from collections.abc import Callable
from typing import Any, Generic, Protocol, TypeVar


class Closeable(Protocol):
    async def close(self) -> None: ...


T = TypeVar("T", bound=Closeable)


class PerLoop(Generic[T]):
    """`get()` is the state of the running loop, made when first asked for and closed just before the loop is."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._states: dict[asyncio.AbstractEventLoop, T] = {}

    def get(self) -> T:
        loop = asyncio.get_running_loop()
        try:
            return self._states[loop]
        except KeyError:
            state = self._states[loop] = self._make()
            self._close_with(loop)
            return state

    def _close_with(self, loop: asyncio.AbstractEventLoop) -> None:
        """Python has no hook for the end of a loop; channels_redis replaces `loop.close` as well."""
        original: Any = loop.close

        def close(closing: asyncio.AbstractEventLoop, *args: Any) -> None:
            state = self._states.pop(closing, None)
            if state is not None and not closing.is_closed():
                closing.run_until_complete(state.close())
            original(*args)

        loop.close = types.MethodType(close, loop)  # type: ignore[method-assign]
