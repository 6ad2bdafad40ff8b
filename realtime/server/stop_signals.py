"""SIGTERM and SIGINT: the first one stops the server in order, the second one ends the process at once."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import threading
from collections.abc import Callable

logger = logging.getLogger("realtime.server")

EXIT_FORCED = 1


class StopSignals:
    """Calls ``begin`` in the loop at the first signal; ``deadline_seconds`` later the process is gone anyway."""

    def __init__(self, begin: Callable[[], None], deadline_seconds: float) -> None:
        self._begin = begin
        self._deadline_seconds = deadline_seconds
        self._loop = asyncio.get_running_loop()
        self._is_stopping = False

    def install(self) -> None:
        """Take the signals over. In the main thread, while the loop runs."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, frame: object) -> None:
        if self._is_stopping:
            os._exit(128 + number)
        self._is_stopping = True
        self._loop.call_soon_threadsafe(self._first, signal.Signals(number).name)

    def _first(self, cause: str) -> None:
        logger.info("stopping cause=%s", cause)
        exit_by(self._deadline_seconds)
        self._begin()


def exit_by(seconds: float) -> None:
    """End the process after that time, whatever it waits for."""
    deadline = threading.Timer(seconds, os._exit, (EXIT_FORCED,))
    deadline.daemon = True
    deadline.start()
