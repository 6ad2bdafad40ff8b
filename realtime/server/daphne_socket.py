"""Daphne: straight to the client's socket, around ASGI ``receive`` and ``send``.

``DaphneWriter`` sends on the non-blocking socket while Twisted's buffer for it is empty; what the kernel does not take
goes to Twisted, and so does everything after it until that buffer is empty again, so that the order holds. Only for
plain TCP: a TLS transport delegates these attributes, and is served by Twisted alone.

Private attributes of daphne, autobahn and Twisted are touched here and in the two sibling modules only;
``daphne_hooks.verify`` checks at start that they are what this code expects.
"""

from __future__ import annotations

import socket as sockets
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from autobahn.websocket.protocol import WebSocketProtocol as Autobahn
from twisted.internet import tcp

from realtime.limits import BacklogLimit
from realtime.protocol.closing import CloseCode
from realtime.protocol.frames import FrameBatch
from realtime.server.inbox import InboxSocket
from realtime.server.socket import Scope, Send
from realtime.server.writer import UNSENT_LOW_BYTES, FrameWriter

if TYPE_CHECKING:
    from realtime.server.daphne_protocol import RealtimeProtocol

STATE_CONNECTING = Autobahn.STATE_CONNECTING
STATE_OPEN = Autobahn.STATE_OPEN


class DaphneWriter(FrameWriter):
    """Writes frames on the socket that daphne accepted.

    ``_is_clear`` says that the WebSocket is open and nothing waits in Twisted's buffer; only then a frame goes straight
    to the kernel. Everything else that writes to the transport, or closes it, calls ``disturbed``; whether it is clear
    again is looked up at the next write. So a delivery touches this object and the socket, and nothing of Twisted.
    """

    __slots__ = ("_is_clear", "_is_direct", "_limit", "_protocol", "_send", "_tcp", "_transport")

    def __init__(self, protocol: RealtimeProtocol, limit: BacklogLimit) -> None:
        super().__init__(limit)
        self._protocol = protocol
        self._transport: Any = protocol.transport
        self._limit = limit
        self._is_clear = False
        self._is_direct = type(self._transport) is tcp.Server and not self._transport.TLS
        is_tcp = isinstance(self._transport, tcp.Server)
        # Whose buffer holds what waits: under TLS that of the wrapped transport.
        below = self._transport if is_tcp else getattr(self._transport, "transport", None)
        self._tcp: Any = below if isinstance(below, tcp.Server) else None
        self._send: Callable[[bytes], int] = self._transport.socket.send if self._is_direct else _never
        if self._is_direct and self._transport.socket.family in (sockets.AF_INET, sockets.AF_INET6):
            self._transport.socket.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NOTSENT_LOWAT, UNSENT_LOW_BYTES)

    @property
    def backlog(self) -> int:
        transport = self._tcp
        if transport is None:
            return 0
        waiting: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
        return waiting

    def write(self, batch: FrameBatch) -> None:
        frames = batch.joined
        if not self._is_clear:
            self._write_behind(batch)
            return
        try:
            sent = self._send(frames)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._is_clear = False
            self._transport.abortConnection()
            return
        self.tally += batch.tally
        if sent != len(frames):
            self._is_clear = False
            self._buffer(frames[sent:])

    def disturbed(self) -> None:
        """Something else wrote to the transport or closed it."""
        self._is_clear = False

    def close(self, close: CloseCode) -> None:
        if not self.is_closing:
            self.is_closing = True
            self._is_clear = False
            self._protocol.close_with(close.code, close.reason)

    def _write_behind(self, batch: FrameBatch) -> None:
        if self.is_closing or self._protocol.state != STATE_OPEN:
            return
        if self._is_direct and self.backlog == 0 and not self._protocol.send_queue:
            self._is_clear = True
            self.write(batch)
            return
        self.tally += batch.tally
        self._buffer(batch.joined)

    def _buffer(self, frames: bytes) -> None:
        self._transport.write(frames)
        if self.backlog > self._limit.max_bytes:
            self.on_backlog()


class DaphneSocket(InboxSocket):
    """A client of daphne; its messages come straight from autobahn's ``onMessage``."""

    __slots__ = ("_limit", "_protocol")

    def __init__(
        self, protocol: RealtimeProtocol, scope: Scope, send: Send, limit: BacklogLimit, inbox_max_bytes: int
    ) -> None:
        super().__init__(protocol, scope, send, inbox_max_bytes)
        self.writer: DaphneWriter
        self._protocol = protocol
        self._limit = limit

    async def accept(self, subprotocol: str | None = None) -> None:
        self.writer = DaphneWriter(self._protocol, self._limit)
        self._protocol.client_socket = self
        self._is_ended = self._protocol.state != STATE_CONNECTING  # the client may have gone before the answer
        await super().accept(subprotocol)

    def ended(self, code: int) -> None:
        """The socket is gone."""
        self.writer.disturbed()
        super().ended(code)


def _never(frames: bytes) -> int:
    raise BlockingIOError  # a transport that is not direct takes everything through Twisted
