"""Django signals for other code: who came and went, who is in which room, and what clients said.

They are sent by one thread, off the way of commands and deliveries: a receiver that is slow, blocks or raises holds up
nobody but other receivers. What waits for the thread is bounded; what finds no room is dropped, counted and logged.
Nothing is queued for a signal that has no receivers. docs/publishing.md has the arguments.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from typing import Any

import msgspec
from django.db import close_old_connections, connections, reset_queries
from django.dispatch import Signal

from realtime.instrument import Instrument

logger = logging.getLogger("realtime.signals")

connected = Signal()
disconnected = Signal()
joined = Signal()
left = Signal()
message_received = Signal()

SIGNALS = {
    "connected": connected,
    "disconnected": disconnected,
    "joined": joined,
    "left": left,
    "message_received": message_received,
}
_NAMES = {id(signal): name for name, signal in SIGNALS.items()}

PENDING_MAX_BYTES = 16 * 1024 * 1024
"""Of clients' data, which may be a megabyte in one message."""
SLOW_SECONDS = 5.0
"""A receiver that takes longer is logged."""


class SignalQueue:
    """What waits to be sent, and the thread that sends it. ``put`` and ``stop`` belong to one event loop.

    The caller looks first whether anybody listens: ``if joined.receivers: queue.put(joined, …)``.
    """

    def __init__(self, pending_max: int, instrument: Instrument) -> None:
        self._pending_max = pending_max
        self._instrument = instrument
        self._waiting: deque[tuple[Signal, int, dict[str, Any]]] = deque()
        self._bytes = 0
        self._changed = threading.Condition()  # around the two above and the next
        self._is_stopping = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Event | None = None
        self._overflowed = False  # whether the first drop since the queue was last empty was logged
        self._sending: tuple[str, float] | None = None  # what the thread does, and since when
        self._told_slow: tuple[str, float] | None = None  # the one that was logged as slow

    @property
    def pending(self) -> int:
        """Signals that wait."""
        return len(self._waiting)

    def put(self, signal: Signal, *, size: int = 0, **arguments: Any) -> None:
        """Send ``signal`` soon; ``size`` is what its arguments weigh, in bytes. Never waits, never raises."""
        self._look_at_receiver()
        if len(self._waiting) >= self._pending_max or (size and self._bytes + size > PENDING_MAX_BYTES):
            self._drop(signal)
            return
        if self._thread is None:
            self._start()
        with self._changed:
            self._waiting.append((signal, size, arguments))
            self._bytes += size
            self._changed.notify()

    async def stop(self, within_seconds: float = 2.0) -> None:
        """Send what waits and end; what is not sent within that time is dropped."""
        if self._thread is None or self._ended is None:
            return
        with self._changed:
            self._is_stopping = True
            self._changed.notify()
        try:
            async with asyncio.timeout(within_seconds):
                await self._ended.wait()
        except TimeoutError:
            with self._changed:
                dropped = len(self._waiting)
                self._waiting.clear()
            self._instrument.signals_dropped(dropped)
            what = self._sending[0] if self._sending else ""
            logger.error("signals_dropped count=%d reason=%r signal=%s", dropped, "the end of the node", what)

    def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="realtime-signals", daemon=True)
        self._thread.start()

    def _drop(self, signal: Signal) -> None:
        self._instrument.signals_dropped(1)
        if not self._overflowed:
            self._overflowed = True
            logger.error(
                "signals_dropped signal=%s pending=%d reason=%r", _name(signal), self.pending, "receivers are too slow"
            )

    def _look_at_receiver(self) -> None:
        """A receiver that never returns cannot say so itself."""
        sending = self._sending
        if sending is not None and sending is not self._told_slow and time.monotonic() - sending[1] > SLOW_SECONDS:
            self._told_slow = sending
            logger.warning("signal_receiver_slow signal=%s seconds=%.0f", sending[0], time.monotonic() - sending[1])

    # From here on: the thread.

    def _run(self) -> None:
        try:
            while (item := self._take()) is not None:
                self._send(*item)
        finally:
            connections.close_all()
            self._in_loop(self._end)

    def _take(self) -> tuple[Signal, dict[str, Any]] | None:
        with self._changed:
            while not self._waiting:
                self._overflowed = False
                if self._is_stopping:
                    return None
                self._changed.wait()
            signal, size, arguments = self._waiting.popleft()
            self._bytes -= size
            return signal, arguments

    def _send(self, signal: Signal, arguments: dict[str, Any]) -> None:
        """Like a request: each signal finds usable database connections, and leaves none that is not."""
        name, began = self._sending = _name(signal), time.monotonic()
        try:
            close_old_connections()
            decoded = {key: _decoded(value) for key, value in arguments.items()}
            results = signal.send_robust(sender=None, **decoded)
            close_old_connections()
            reset_queries()
            failed = sum(isinstance(result, Exception) for _, result in results)  # Django has logged each of them
        except BaseException:  # a receiver that means to end its thread does not mean this one
            logger.exception("signal_receiver_failed signal=%s", name)
            failed = 1
        finally:
            self._sending = None
        if failed:
            self._in_loop(self._instrument.signal_receivers_failed, failed)
        seconds = time.monotonic() - began
        if seconds > SLOW_SECONDS:
            logger.warning("signal_receiver_slow signal=%s seconds=%.0f", name, seconds)

    def _in_loop(self, call: Any, *arguments: object) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(call, *arguments)
        except RuntimeError:  # the loop is closed: nobody is interested any more
            return

    def _end(self) -> None:
        assert self._ended is not None
        self._ended.set()


def _decoded(value: object) -> object:
    """A client's JSON as Python objects; looked at here, where it holds up nobody."""
    return msgspec.json.decode(value) if isinstance(value, msgspec.Raw) else value


def _name(signal: Signal) -> str:
    return _NAMES.get(id(signal), "unknown")
