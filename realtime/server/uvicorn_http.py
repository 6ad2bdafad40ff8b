"""uvicorn's side of HTTP/1.1: one deadline for a request's head and one for its body, and a bound for each.

uvicorn waits for both for ever, and holds heads of any size with ``httptools``. Private attributes of uvicorn are
touched here and in the sibling modules only; ``is_known`` looks at start whether they are what this code expects.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from realtime.conf import Settings

BAD = b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"


def is_known(base: Any) -> bool:
    """Whether a protocol's class is one that ``bounded`` can make another of."""
    return {"connection_made", "connection_lost", "data_received", "handle_websocket_upgrade"} <= set(dir(base)) and (
        "cycle" in base.__init__.__code__.co_names
    )


def bounded(base: Any, settings: Settings, on_cut: Callable[[str], None]) -> Any:
    """A class of uvicorn's HTTP protocol with our bounds. ``on_cut`` is told why a connection was cut."""

    class BoundedProtocol(base):  # type: ignore[misc]
        """One connection until it becomes a WebSocket."""

        _bytes = 0  # of the head, or of the body, that is under way
        _deadline: asyncio.TimerHandle | None = None
        _waits_for = ""
        _is_done = False

        def connection_made(self, transport: asyncio.Transport) -> None:
            super().connection_made(transport)
            self._wait_for("head", settings.handshake_seconds)

        def connection_lost(self, exc: Exception | None) -> None:
            self._stop_waiting()
            super().connection_lost(exc)

        def data_received(self, data: bytes) -> None:
            if self._is_done:
                return
            before = self.cycle
            if self._deadline is None and (before is None or before.response_complete):
                self._bytes = 0
                self._wait_for("head", settings.handshake_seconds)  # of one more request
            self._bytes += len(data)
            super().data_received(data)
            if not self._is_done:
                self._look(is_new=self.cycle is not before)

        def handle_websocket_upgrade(self, *arguments: Any) -> None:
            self._stop_waiting()
            self._is_done = True
            if _size_of(self.headers) > settings.head_max_bytes:
                self._cut("large_head", BAD)
            else:
                super().handle_websocket_upgrade(*arguments)

        def _look(self, *, is_new: bool) -> None:
            """1. the head is too large, complete or not; 2. it was the last piece; 3. the body is too large."""
            declared = 0
            if self._waits_for == "head":
                size = _size_of(self.headers) if is_new else self._bytes
                if size > settings.head_max_bytes:
                    self._cut("large_head", BAD)
                    return
                if not is_new:
                    return
                declared = _declared(self.headers)
                self._bytes = max(self._bytes - size, 0)  # what has come of the body with it, nearly
            if self.cycle is None or not self.cycle.more_body:
                self._stop_waiting()
            elif max(self._bytes, declared) > settings.body_max_bytes:
                self._cut("large_body", TOO_LARGE)
            elif self._waits_for != "body":
                self._wait_for("body", settings.body_seconds)

        def _wait_for(self, what: str, seconds: float) -> None:
            self._stop_waiting()
            self._waits_for = what
            self._deadline = self.loop.call_later(seconds, self._late)

        def _stop_waiting(self) -> None:
            self._waits_for = ""
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _late(self) -> None:
            self._cut(f"late_{self._waits_for}", TOO_LATE if self._bytes else b"")

        def _cut(self, reason: str, answer: bytes) -> None:
            self._is_done = True
            self._stop_waiting()
            on_cut(reason)
            if answer:
                self.transport.write(answer)
            self.transport.close()

    return BoundedProtocol


def _declared(headers: list[tuple[bytes, bytes]]) -> int:
    """The length of the body; 0 where the head does not say it."""
    return max((int(value) for name, value in headers if name == b"content-length" and value.isdigit()), default=0)


def _size_of(headers: list[tuple[bytes, bytes]]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)
