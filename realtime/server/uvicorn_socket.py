"""uvicorn: frames that were built once go straight to the client's transport, past ASGI ``send``.

The transports of asyncio and uvloop keep the order of all that is written to them, so that replies to pings, pings and
closes of uvicorn itself need no care, nor does TLS. Where a client negotiated compression each frame is made for that
client alone: no less right, but many times the work.
"""

from __future__ import annotations

import contextlib
import socket as sockets
from typing import TYPE_CHECKING

from realtime.limits import BacklogLimit
from realtime.protocol.closing import CloseCode
from realtime.protocol.frames import BinaryMessage, FrameBatch
from realtime.server.inbox import InboxSocket
from realtime.server.socket import Scope, Send
from realtime.server.writer import UNSENT_LOW_BYTES, FrameWriter

if TYPE_CHECKING:
    from realtime.server.uvicorn_protocol import RealtimeProtocol


class UvicornWriter(FrameWriter):
    """Writes frames on the transport of a WebSocket, while that is open.

    ``_is_open`` and ``_is_behind`` are kept by the protocol, so that a delivery touches this object and the transport,
    and nothing of uvicorn.
    """

    __slots__ = ("_conn", "_is_behind", "_is_compressed", "_is_open", "_protocol", "_transport")

    def __init__(self, protocol: RealtimeProtocol, limit: BacklogLimit) -> None:
        super().__init__(limit)
        self._protocol = protocol
        self._conn = protocol.conn
        self._transport = protocol.transport
        self._is_compressed = bool(protocol.conn.extensions)
        self._is_open = False
        self._is_behind = False
        # The transport says when more than that waits, and when it does no longer.
        self._transport.set_write_buffer_limits(high=limit.max_bytes, low=limit.max_bytes)

    @property
    def backlog(self) -> int:
        return self._transport.get_write_buffer_size()

    def write(self, batch: FrameBatch) -> None:
        if not self._is_open:
            return
        self._transport.write(self._compressed(batch) if self._is_compressed else batch.joined)
        self.tally += batch.tally
        if self._is_behind:
            self.on_backlog()

    def close(self, close: CloseCode) -> None:
        if not self.is_closing:
            self.is_closing = True
            self._protocol.close_with(close.code, close.reason)

    def opened(self) -> None:
        """Called by the protocol: the handshake is complete."""
        self._is_open = True

    def ended(self) -> None:
        """Called by the protocol: nothing may be written any more."""
        self._is_open = False

    def fell_behind(self) -> None:
        """Called by the protocol: more waits than may wait at rest, of frames or of anything else."""
        self._is_behind = True
        self.on_backlog()

    def caught_up(self) -> None:
        """Called by the protocol: it does no longer."""
        self._is_behind = False

    def _compressed(self, batch: FrameBatch) -> bytes:
        for text in batch.texts:
            if isinstance(text, BinaryMessage):
                self._conn.send_binary(text)
            else:
                self._conn.send_text(text)
        return b"".join(self._conn.data_to_send())


class UvicornSocket(InboxSocket):
    """A client of uvicorn; its messages come straight from the protocol."""

    __slots__ = ("_protocol",)

    def __init__(
        self, protocol: RealtimeProtocol, scope: Scope, send: Send, limit: BacklogLimit, inbox_max_bytes: int
    ) -> None:
        super().__init__(protocol, scope, send, inbox_max_bytes)
        self.writer: UvicornWriter = UvicornWriter(protocol, limit)
        self._protocol = protocol
        protocol.client_socket = self

    async def accept(self, subprotocol: str | None = None) -> None:
        await super().accept(subprotocol)
        if not self._protocol.is_open:
            return  # the client is gone already
        self.writer.opened()
        peer = self._protocol.transport.get_extra_info("socket")
        if peer is not None and peer.family in (sockets.AF_INET, sockets.AF_INET6):
            with contextlib.suppress(OSError):
                peer.setsockopt(sockets.IPPROTO_TCP, sockets.TCP_NOTSENT_LOWAT, UNSENT_LOW_BYTES)
