"""One connection to one server, whatever is spoken on it: sockets, pausing, and the end."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any, cast

Replies = Callable[[list[Any]], None]

# A dead peer is noticed by TCP itself after 5 + 3 * 2 s, or when something sent stays unacknowledged for 10
# s.
_KEEPALIVE = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 10_000}


class LinkedConnection(asyncio.Protocol):
    """Everything that came in one read is handed over as one list. `lost` is done when the connection is
    gone."""

    def __init__(self, on_replies: Replies | None = None) -> None:
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self.on_replies = on_replies
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is no subclass
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family != socket.AF_UNIX:
            _keep_alive(sock)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if not self.lost.done():
            self.lost.set_result(exc)

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def pause(self) -> None:
        """Stop reading: TCP then holds the server back."""
        if self._transport is not None and not self._paused:
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if self._transport is not None and self._paused:
            self._paused = False
            self._transport.resume_reading()

    @property
    def is_paused(self) -> bool:
        return self._paused

    @property
    def is_lost(self) -> bool:
        return self.lost.done()

    def abort(self, error: Exception | None = None) -> None:
        """Give the connection up now; nothing more is read from it."""
        if not self.lost.done():
            self.lost.set_result(error)
        self.on_replies = None
        transport, self._transport = self._transport, None
        if transport is not None:
            transport.abort()

    def close(self) -> None:
        """The same in good order, without waiting; `lost` then holds ConnectionError("closed")."""
        self.abort(ConnectionError("closed"))


def _keep_alive(sock: socket.socket) -> None:
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for option, value in _KEEPALIVE.items():
            if hasattr(socket, option):
                sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, option), value)
