"""Daphne's side of HTTP/1.1: one deadline for a request's head and one for its body, and a bound for each.

Twisted's own timer begins anew with every piece that comes: a client that sends a line of its head now and then has its
connection for as long as it likes. Private attributes of Twisted are touched here and in the sibling modules only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.web import http

Channel: Any = http.HTTPChannel  # half of it has types

IDLE_SECONDS = 60.0
"""Between two requests of one connection; Twisted's own default."""
TOO_LARGE = b"HTTP/1.1 413 Content Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
TOO_LATE = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"


class BoundedChannel(Channel):  # type: ignore[misc]
    """One connection until it becomes a WebSocket. The timer is Twisted's; it is set here alone.

    The attributes below belong to the class: all connections of the process have the same.
    """

    head_seconds = 10.0
    body_seconds = 60.0
    body_max_bytes = 10 * 1024 * 1024
    on_cut: Callable[[str], None] = staticmethod(lambda reason: None)

    _is_between_requests = False
    _is_in_body = False
    _is_cut = False
    _body_bytes = 0

    def resetTimeout(self) -> None:
        """A piece came: no reason to wait any longer than before."""

    def dataReceived(self, data: bytes) -> None:
        """Bytes came."""
        if self._is_cut:
            return
        if self._is_between_requests:
            self._is_between_requests = False
            self.setTimeout(self.head_seconds)
        super().dataReceived(data)

    def allHeadersReceived(self) -> None:
        """The head is complete."""
        self._body_bytes = 0
        if self.length is not None and self.length > self.body_max_bytes:
            self._cut("large_body", TOO_LARGE)
            return
        self._is_in_body = self.length != 0
        if self._is_in_body:
            self.setTimeout(self.body_seconds)
        super().allHeadersReceived()

    def rawDataReceived(self, data: bytes) -> None:
        """A piece of the body, or what comes while a request is answered."""
        if self._is_cut:
            return
        if self._is_in_body:
            self._body_bytes += len(data)
            # A body in chunks does not say how long it is; what is around the chunks counts as well.
            if self.length is None and self._body_bytes > self.body_max_bytes:
                self._cut("large_body", TOO_LARGE)
                return
        super().rawDataReceived(data)

    def allContentReceived(self) -> None:
        """The request is complete."""
        if not self._is_cut:
            self._is_in_body = False
            super().allContentReceived()

    def requestDone(self, request: Any) -> None:
        """It has been answered: the next one may come."""
        self._is_between_requests = not self._dataBuffer
        self._savedTimeOut = IDLE_SECONDS if self._is_between_requests else self.head_seconds
        super().requestDone(request)

    def timeoutConnection(self) -> None:
        """The deadline has passed."""
        if not self._is_between_requests:
            self.on_cut("late_body" if self._is_in_body else "late_head")
            if self._is_in_body or self.requests:
                self.transport.write(TOO_LATE)
        super().timeoutConnection()

    def _respondToBadRequestAndDisconnect(self) -> None:
        if self._receivedHeaderSize > self.totalHeadersSize or self._receivedHeaderCount > self.maxHeaders:
            self.on_cut("large_head")
        self._is_cut = True
        super()._respondToBadRequestAndDisconnect()

    def lineLengthExceeded(self, line: bytes) -> Any:
        """One line alone is larger than a whole head may be."""
        self._is_cut = True
        self.on_cut("large_head")
        return super().lineLengthExceeded(line)

    def _cut(self, reason: str, answer: bytes) -> None:
        self._is_cut = True
        self.on_cut(reason)
        self.transport.write(answer)
        self.loseConnection()


def bounded_channel() -> Any:
    """What a factory makes for a connection; Twisted's wrapper changes to HTTP/2 where that was negotiated."""
    return http._GenericHTTPChannelProtocol(BoundedChannel())
