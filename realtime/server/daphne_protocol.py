"""Daphne's WebSocket protocol, with what daphne leaves out: close reasons, denials, empty messages, bounds.

Over 400 lines, as all of it overrides methods of one class.
"""

from __future__ import annotations

import asyncio
import fcntl
import sys
import termios
import time
from collections import deque
from collections.abc import Callable
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from autobahn.websocket.protocol import TrafficStats
from daphne.ws_protocol import WebSocketProtocol
from twisted.internet import tcp
from twisted.web.http import HTTPChannel

from realtime.protocol.closing import INTERNAL_ERROR, POLICY_VIOLATION, SLOW_CONSUMER, TOO_BIG, truncate_reason
from realtime.protocol.frames import take_text_messages
from realtime.server.frame_limits import (
    CLOSING_MAX_BYTES,
    CONTROL_FRAMES,
    DEAF_MAX_BYTES,
    FRAGMENTS,
    HELD_BYTES,
    FrameCount,
)

if TYPE_CHECKING:
    from realtime.server.daphne_socket import DaphneSocket

TURN_STEPS = 100
"""Steps of autobahn's parser, two for each frame, before others get their turn: a millisecond."""

LINGER_SECONDS = 5.0
"""After the closing handshake the socket is cut, whether the client has read everything or not."""


CONTROL, CONTROL_MAX_BYTES = 8, 125
"""The lowest opcode of control frames, and the most that one of them may carry (RFC 6455 section 5.5)."""

HANDSHAKE_ATTRIBUTES = (
    "_raw_query_string",
    "_transport_details",
    "_wskey",
    "application_deferred",
    "clean_headers",
    "http_headers",
    "http_request_data",
    "http_request_host",
    "http_request_params",
    "http_request_path",
    "http_request_uri",
    "http_response_data",
    "http_status_line",
    "protocol_to_accept",
    "server_addr",
    "websocket_extensions",
    "websocket_origin",
)
"""What autobahn and daphne keep of a handshake and nobody reads after it."""


class HandshakeRequest:
    """Stands for the request of an open WebSocket: daphne's access log wants its path."""

    __slots__ = ("path",)

    def __init__(self, path: str) -> None:
        self.path = path


_request_of = lru_cache(maxsize=64)(HandshakeRequest)


SHARED_STATISTICS = TrafficStats()  # type: ignore[no-untyped-call]
"""Autobahn counts octets for each protocol; nobody reads them, ours are on the writer."""


class RealtimeProtocol(FrameCount, WebSocketProtocol):  # type: ignore[misc]
    """One WebSocket of daphne. With a ``client_socket`` its messages bypass the ASGI queue."""

    on_misuse: Callable[[str, str], None] = staticmethod(lambda reason, who: None)
    """Called with the limit and the client's address when a connection is closed for its frames."""

    client_socket: DaphneSocket | None = None
    send_queue: Any = ()
    _fragments = 0
    _waiting_at_last_look = -1
    data: bytes
    _held = b""
    _is_held_back = False
    _closing_bytes = 0
    _deaf_bytes = 0
    _linger: Any = None
    _denial: dict[str, Any] | None = None

    def onOpen(self) -> None:
        """The handshake is complete: what only the handshake needed is let go, about 12 KB of a connection."""
        super().onOpen()
        # The HTTP channel with its request stays alive as the transport's producer. Whatever wraps the transport (TLS)
        # uses the producer itself.
        if type(self.transport) is tcp.Server:
            channel = self.transport.producer
            self.transport.unregisterProducer()  # type: ignore[no-untyped-call]
            if isinstance(channel, HTTPChannel):
                channel.requests = []  # it and its request would keep each other alive
        for name in HANDSHAKE_ATTRIBUTES:
            self.__dict__.pop(name, None)
        self.trafficStats = SHARED_STATISTICS
        if not self.send_queue:
            del self.send_queue  # 0.8 KB; `sendData` makes one when it is needed
        self.request: HandshakeRequest = _request_of(self.request.path)

    # -- from the client ---------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Bytes came. Whole text frames, nearly all that clients send, are taken here; autobahn does the rest.

        Its parser costs ten times as much per message. It stays in charge of everything but the plain case: what it
        has begun (a fragment, half a frame), what it waits for (a pong), and every violation.
        """
        if self._held:
            self._held += data
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        is_plain = (
            self.client_socket is not None
            and self.state == self.STATE_OPEN
            and not (self.data or self.current_frame or self.inside_message or self.autoPingTimeoutCall)
        )
        if is_plain:
            messages, data = take_text_messages(data, self.maxMessagePayloadSize)
            for message in messages:
                self.onMessage(message, False)
            if messages and data:
                # A close frame or a violation among them would end the connection before they are answered.
                self._hold(data)
                return
        if data:
            self._parse(data)

    def _hold(self, data: bytes) -> None:
        """The application, and everybody else, has a turn before the rest. What comes meanwhile waits behind it."""
        self._held = data
        if len(data) > HELD_BYTES:
            self._is_held_back = True
            self.transport.pauseProducing()
        asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        data, self._held = self._held, b""
        self._take(data)
        if self._is_held_back and not self._held:
            self._is_held_back = False
            if self.client_socket is None or not self.client_socket.is_paused:
                self.resume_reading()

    def _parse(self, data: bytes) -> None:
        if self._is_closed_for_misuse():
            self._closing_bytes += len(data)
            if self._closing_bytes > CLOSING_MAX_BYTES:
                self._turn_deaf()
                return
        super().dataReceived(data)

    def consumeData(self) -> None:
        """Autobahn's own parses all that it has: a client that sends nothing but frames would stop everybody else."""
        if self.state not in (self.STATE_OPEN, self.STATE_CLOSING):
            super().consumeData()
            return
        steps = 0
        while self.processData() and self.state != self.STATE_CLOSED:
            steps += 1
            if steps >= TURN_STEPS and self.data:
                rest: bytes = self.data
                self.data = b""
                self._hold(rest)
                return

    def _is_closed_for_misuse(self) -> bool:
        is_closing: bool = self.state == self.STATE_CLOSING and self.localCloseCode == POLICY_VIOLATION.code
        return is_closing

    def _misused(self, reason: str) -> None:
        """Too many frames: close, and parse no more of them."""
        if self._deaf_bytes:
            return
        self._turn_deaf()
        self._fail_connection(POLICY_VIOLATION.code, POLICY_VIOLATION.reason)
        address = getattr(self, "client_addr", None)
        self.on_misuse(reason, str(address[0]) if address else "")

    def _turn_deaf(self) -> None:
        """Whatever still comes is thrown away, until the time for the client's answer is over."""
        self._deaf_bytes = 1
        self.data = b""
        setattr(self, "dataReceived", self._throw_away)  # noqa: B010  mypy: a method of this object alone

    def _throw_away(self, data: bytes) -> None:
        self._deaf_bytes += len(data)
        if self._deaf_bytes > DEAF_MAX_BYTES:
            self.pause_reading()

    def onMessage(self, payload: bytes, isBinary: bool) -> None:
        """A whole message came."""
        if self.state != self.STATE_OPEN:
            return
        if self.client_socket is None:
            super().onMessage(payload, isBinary)
            return
        self.last_ping = time.time()
        self.client_socket.received(payload, isBinary)

    def onPing(self, payload: bytes) -> None:
        """The client pings."""
        if not self._may_control():
            self._misused(CONTROL_FRAMES)
            return
        super().onPing(payload)
        self._heard_control_frame()

    def onPong(self, payload: bytes) -> None:
        """The client answers a ping, or says something like it unasked."""
        if not self._may_control():
            self._misused(CONTROL_FRAMES)
            return
        super().onPong(payload)
        self._heard_control_frame()

    def _heard_control_frame(self) -> None:
        if self.client_socket is not None:
            self.client_socket.on_control_frame()

    def onMessageBegin(self, isBinary: bool) -> None:
        """The first frame of a message begins."""
        self._fragments = 0
        super().onMessageBegin(isBinary)

    def onMessageFrameBegin(self, length: int) -> None:
        """A frame of a message begins."""
        self._fragments += 1
        if not self._may_continue(self._fragments):
            self._misused(FRAGMENTS)
        super().onMessageFrameBegin(length)

    def onFrameData(self, payload: bytes) -> bool | None:
        """A piece of a frame came. Autobahn would collect a control frame of any length that it has refused."""
        if self.current_frame.opcode >= CONTROL and self.current_frame.length > CONTROL_MAX_BYTES:
            return None
        kept: bool | None = super().onFrameData(payload)
        return kept

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        """The socket is gone."""
        client_socket, self.client_socket = self.client_socket, None
        if self._linger is not None and self._linger.active():
            self._linger.cancel()  # it would keep all of this alive
        super().onClose(wasClean, code, reason)
        self.__dict__.pop("is_closed", None)  # its result is this object: only a collection would free the two
        if client_socket is not None:
            # autobahn reports what the client said; when the server closed, what it said itself is the truth.
            own = self.localCloseCode if self.closedByMe else None
            if own is not None and self.localCloseReason:
                client_socket.close_reason = self.localCloseReason.decode("utf-8", "replace")
            client_socket.ended(own or code or 1006)

    def _max_message_size_exceeded(self, msg_size: int, max_msg_size: int, reason: str) -> None:
        self._fail_connection(TOO_BIG.code, TOO_BIG.reason)

    def _fail_connection(self, code: int, reason: str) -> None:
        """A violation. What has come of a message is let go, up to a mebibyte: it would stay as long as this object,
        which waits for the client's answer and then for a collection."""
        super()._fail_connection(code, reason)
        self.message_data: list[bytes] = []
        self.frame_data: list[bytes] = []

    def _sendAutoPing(self) -> None:
        """A ping without an answer is not repeated: autobahn would lose the first one's timer, which then drops even
        a peer that answered."""
        if self.autoPingTimeoutCall is None:
            super()._sendAutoPing()

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        """Everything that autobahn writes by itself passes here: replies to pings and closes, pings, messages."""
        if self.client_socket is not None:
            self.client_socket.writer.disturbed()
        if (sync or chopsize) and "send_queue" not in self.__dict__:
            self.send_queue = deque()
        super().sendData(data, sync, chopsize)

    # -- from the application ----------------------------------------------------------------------------------------

    def handle_reply(self, message: dict[str, Any]) -> None:
        """An ASGI message of the application."""
        kind = message.get("type")
        if kind == "websocket.close" and self.state != self.STATE_CONNECTING:
            self.close_with(message.get("code") or 1000, message.get("reason") or "")
        elif kind == "websocket.send" and not (message.get("text") or message.get("bytes")):
            # An empty message is a message; daphne drops it.
            self.serverSend(message.get("text") or message.get("bytes") or b"", message.get("text") is None)
        elif kind == "websocket.http.response.start":
            self._denial = message
        elif kind == "websocket.http.response.body":
            self._deny(message)
        else:
            super().handle_reply(message)

    def serverSend(self, content: str | bytes, binary: bool = False) -> None:
        """Send one message; on a socket that is closing it is dropped, as ASGI asks, not raised."""
        if self.state == self.STATE_CONNECTING:
            self.serverAccept()
        if self.state == self.STATE_OPEN:
            self.sendMessage(content.encode() if isinstance(content, str) else content, binary)

    def handle_exception(self, exception: Exception) -> None:
        """The application failed."""
        if hasattr(self, "handshake_deferred"):
            super().handle_exception(exception)
        else:
            self.close_with(INTERNAL_ERROR.code, INTERNAL_ERROR.reason)

    def serverClose(self, code: int | None = None) -> None:
        """Daphne's own way to close."""
        self.close_with(code or 1000, "")

    def close_with(self, code: int, reason: str) -> None:
        """Send a close frame with any code and reason; autobahn's ``sendClose`` refuses most codes of RFC 6455."""
        if self.state == self.STATE_OPEN:
            self.resume_reading()  # the answer to the close frame must be seen
            self.sendCloseFrame(code=code, reasonUtf8=truncate_reason(reason), isReply=False)

    def onCloseHandshakeTimeout(self) -> None:
        """The peer has not answered our close frame. One that still reads what was written before it gets more time."""
        waiting = self._waiting_bytes()
        if self.localCloseCode != SLOW_CONSUMER.code and 0 < waiting != self._waiting_at_last_look:
            self._waiting_at_last_look = waiting
            again = self.factory._batched_timer.call_later(self.closeHandshakeTimeout, self.onCloseHandshakeTimeout)
            self.closeHandshakeTimeoutCall = again
        else:
            super().onCloseHandshakeTimeout()

    def _waiting_bytes(self) -> int:
        transport = self.transport
        if type(transport) is not tcp.Server:
            return 0
        waiting: int = len(transport.dataBuffer) - transport.offset + transport._tempDataLen
        in_kernel = (
            fcntl.ioctl(transport.socket.fileno(), termios.TIOCOUTQ, bytes(4)) if transport.connected else bytes(4)
        )
        return waiting + int.from_bytes(in_kernel, sys.byteorder)

    def dropConnection(self, abort: bool = False) -> None:
        """Close the TCP connection; a client that never reads is cut after a while.

        Once both sides have sent their close frames autobahn would abort, and lose ours if it has not left yet.
        """
        abort = abort and not self.wasClean
        if self.client_socket is not None:
            self.client_socket.writer.disturbed()
        super().dropConnection(abort)
        if not abort:
            self._linger = _reactor().callLater(LINGER_SECONDS, self._cut)

    def _cut(self) -> None:
        if self.transport is not None and self.transport.connected:
            self.transport.abortConnection()

    def _deny(self, body: dict[str, Any]) -> None:
        start, self._denial = self._denial, None
        if start is None or self.state != self.STATE_CONNECTING or not hasattr(self, "handshake_deferred"):
            return
        del self.handshake_deferred
        headers = [(name.decode("latin1"), value.decode("latin1")) for name, value in start.get("headers", [])]
        content = body.get("body", b"")
        headers = [(name, value) for name, value in headers if name.lower() != "content-length"]
        headers += [("Content-Length", str(len(content))), ("Connection", "close")]
        self.sendHttpErrorResponse(start["status"], HTTPStatus(start["status"]).phrase, headers)
        self.transport.write(content)
        self.wasNotCleanReason = "denied"
        self.server.protocol_disconnected(self)
        self.dropConnection(abort=False)

    # -- flow --------------------------------------------------------------------------------------------------------

    def pause_reading(self) -> None:
        """Stop reading the client's socket: its kernel holds the rest back."""
        self.transport.pauseProducing()

    def resume_reading(self) -> None:
        """Read again."""
        if self.transport is not None and self.transport.connected:
            self.transport.resumeProducing()


def _reactor() -> Any:
    """Twisted's stubs do not know that the module is an object."""
    from twisted.internet import reactor

    return reactor
