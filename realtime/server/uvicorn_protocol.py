"""uvicorn's WebSocket protocol, with what uvicorn leaves out: our reasons, bounds, and an end for those who never read.

Attributes of uvicorn and of ``websockets`` are touched here and in the two sibling modules only;
``uvicorn_hooks.verify`` checks at start that they are what this code expects.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import State
from websockets.streams import StreamReader

from realtime.protocol.closing import (
    INTERNAL_ERROR,
    POLICY_VIOLATION,
    SERVICE_RESTART,
    SLOW_CONSUMER,
    TOO_BIG,
    truncate_reason,
)
from realtime.protocol.frames import take_text_messages
from realtime.server.frame_limits import (
    CLOSING_MAX_BYTES,
    CONTROL_FRAMES,
    DEAF_MAX_BYTES,
    FRAGMENTS,
    HELD_BYTES,
    FrameCount,
)
from realtime.server.socket import CLOSED_ABNORMALLY, Receive, Scope, Send

if TYPE_CHECKING:
    from realtime.server.uvicorn_socket import UvicornSocket

CLOSE_SECONDS = 2.0
"""A client that has not answered a close frame by then is cut, unless it still reads what was written before."""

DEAF_SECONDS = 0.01
"""Between two reads of a client whose bytes are thrown away."""

SLICE_BYTES = 1_024
"""What ``websockets`` parses in one go: it parses, and answers, all that it is given before anybody may say no. More
only of the inside of one frame, in which there is nothing to answer."""
TURN_FRAMES = 100
"""Frames in that, after which others get their turn."""
TURN_BYTES = 65_536
"""Bytes after which they do. uvloop reads up to 8 MiB of one client before it looks at anybody else."""

INVALID_TEXT = 1007
"""The close code for a text message that is not UTF-8."""

BETWEEN_FRAMES = StreamReader.at_eof.__code__
"""Where the parser of ``websockets`` waits while it has begun no frame."""
WITHIN_A_FRAME = StreamReader.read_exact.__code__
"""Where it waits for the rest of one, or of its header; the argument ``n`` is all of what it waits for."""


class RealtimeProtocol(FrameCount, WebSocketsSansIOProtocol):
    """One WebSocket of uvicorn. With a ``client_socket`` its messages bypass the ASGI queue."""

    on_misuse: Callable[[str, str], None] = staticmethod(lambda reason, who: None)
    """Called with the limit and the client's address when a connection is closed for its frames."""

    _is_held_back = False
    _closing_bytes = 0
    _deaf_bytes = 0
    client_socket: UvicornSocket | None = None
    _held = b""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._application, self.app = self.app, self._run

    # -- from the client ---------------------------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes came. Whole text frames, nearly all that clients send, are taken here; ``websockets`` does the rest.

        Its parser costs many times as much per message. It stays in charge of everything but the plain case: what it
        has begun (a fragment, half a frame), and every violation.
        """
        if self._held:
            self._held += data
        else:
            self._take(data)

    def _take(self, data: bytes) -> None:
        if self.client_socket is not None and self.conn.state is State.OPEN and self._is_between_messages():
            messages, data = take_text_messages(data, self.config.ws_max_size)
            for message in messages:
                self.client_socket.received(message, False)
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
            self.pause_reading()
        self.loop.call_soon(self._go_on)

    def _go_on(self) -> None:
        data, self._held = self._held, b""
        self._take(data)
        if self._is_held_back and not self._held:
            self._is_held_back = False
            if self.client_socket is None or not self.client_socket.is_paused:
                self.resume_reading()

    def _parse(self, data: bytes) -> None:
        start = 0
        while start < len(data):
            if self._is_closed_for_misuse():
                self._closing_bytes += len(data) - start
                if self._closing_bytes > CLOSING_MAX_BYTES:
                    self._deaf_bytes = self._deaf_bytes or 1
            if self._has_failed() or self._deaf_bytes:
                self._throw_away(len(data) - start)
                return
            frames, end = self._frames, start + SLICE_BYTES
            if end < len(data):
                end = max(end, start + self._lacking_bytes())
            self.conn.receive_data(data[start:end])
            self.handle_events()  # also what came before a violation
            if self._has_failed():
                self.handle_parser_exception()
            start = end
            if (self._frames - frames > TURN_FRAMES or end >= TURN_BYTES) and end < len(data):
                self._hold(data[end:])
                return

    def _is_closed_for_misuse(self) -> bool:
        closed = self.conn.close_sent
        return closed is not None and closed.code == POLICY_VIOLATION.code

    def _misused(self, reason: str) -> None:
        """Too many frames: close, and parse no more of them."""
        if not self._deaf_bytes and not self.close_sent:
            self._deaf_bytes = 1
            self.close_with(POLICY_VIOLATION.code, POLICY_VIOLATION.reason)
            self.on_misuse(reason, self.client[0] if self.client else "")

    def _throw_away(self, count: int) -> None:
        """What comes after the close frame was sent: the client gets some time to see that.

        At the pace of a network: one read, a quarter of a megabyte at most, for each DEAF_SECONDS. As fast as it comes
        over a loopback, all turns of the loop would be reads of such clients.
        """
        self._deaf_bytes += count
        self.pause_reading()
        if self._deaf_bytes <= DEAF_MAX_BYTES:
            self.loop.call_later(DEAF_SECONDS, self.resume_reading)

    def _has_failed(self) -> bool:
        return self.conn.parser_exc is not None

    def send_receive_event_to_app(self) -> None:
        """A whole message came."""
        self._frames += 1
        is_text = self.curr_msg_data_type == "text"
        message = b"".join(self.frames)
        if is_text and not self.close_sent and not _is_utf8(message):
            self.close_with(INVALID_TEXT, "")
        if self.client_socket is None:
            super().send_receive_event_to_app()
            return
        self.frames = []
        if not self.close_sent:
            self.client_socket.received(message, not is_text)

    def handle_cont(self, event: Frame) -> None:
        """One more frame of a message."""
        if not self._may_continue(len(self.frames) + 1):
            self._misused(FRAGMENTS)
        if not self.close_sent:
            super().handle_cont(event)

    def handle_ping(self) -> None:
        """The client pings."""
        if self.close_sent:
            self.conn.data_to_send()  # nothing follows a close frame
            return
        if not self._may_control():
            self._misused(CONTROL_FRAMES)
            return
        self._flush()
        self._heard_control_frame()

    def handle_pong(self, event: Frame) -> None:
        """The client answers a ping, or says something like it unasked."""
        if not self._may_control():
            self._misused(CONTROL_FRAMES)
            return
        super().handle_pong(event)
        self._heard_control_frame()

    def _heard_control_frame(self) -> None:
        if self.client_socket is not None:
            self.client_socket.on_control_frame()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        super().connection_lost(exc)
        client_socket, self.client_socket = self.client_socket, None
        if client_socket is not None:
            client_socket.writer.ended()
            closed = self.conn.close_sent
            if closed is not None and not self.conn.close_rcvd_then_sent:
                client_socket.close_reason = TOO_BIG.reason if closed.code == TOO_BIG.code else closed.reason
            client_socket.ended(self._close_code())

    def pause_reading(self) -> None:
        """Stop reading the client's socket: its kernel holds the rest back."""
        if not self.transport.is_closing():
            self.transport.pause_reading()

    def resume_reading(self) -> None:
        """Read again."""
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def pause_writing(self) -> None:
        """More waits for the client than may wait at rest."""
        super().pause_writing()
        if self.client_socket is not None:
            self.client_socket.writer.fell_behind()

    def resume_writing(self) -> None:
        """It has read enough of it."""
        super().resume_writing()
        if self.client_socket is not None:
            self.client_socket.writer.caught_up()

    # -- from the application ----------------------------------------------------------------------------------------

    async def send(self, message: Any) -> None:
        """An ASGI message of the application."""
        if message["type"] == "websocket.close" and self.conn.state is State.OPEN:
            # uvicorn's own would wait for a client that does not read, and raise for a long reason.
            code, reason = message.get("code") or 1000, message.get("reason") or ""
            self.queue.put_nowait({"type": "websocket.disconnect", "code": code, "reason": reason})
            self.close_with(code, reason)
            return
        await super().send(message)
        if self.initial_response is not None and self.close_sent:
            # A refusal ends the handshake as well; uvicorn forgets that, and logs that it was never completed.
            self.handshake_complete = True

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self._application(scope, receive, send)
        except Exception:
            self.close_with(INTERNAL_ERROR.code, INTERNAL_ERROR.reason)  # uvicorn would cut the connection
            raise

    @property
    def is_open(self) -> bool:
        """Whether the handshake is complete and nobody has begun to close."""
        return self.conn.state is State.OPEN and not self.transport.is_closing()

    # -- the end -----------------------------------------------------------------------------------------------------

    def close_with(self, code: int, reason: str) -> None:
        """Send a close frame behind all that waits. Whatever the client does, the socket ends soon."""
        if not self.is_open:
            return
        self.conn.send_close(code, truncate_reason(reason).decode("utf-8"))
        self._flush()
        self.close_sent = True
        self.resume_reading()  # the answer to the close frame must be seen
        self._end_soon()

    def handle_close(self, event: Frame) -> None:
        """The client sent a close frame, of its own accord or as an answer."""
        super().handle_close(event)
        self._end_soon()

    def handle_parser_exception(self) -> None:
        """The client violated the protocol or a limit. It is told, and not by a reset: what it still sends is read."""
        self.frames = []  # of a message that will never be complete
        if self.conn.parser_exc is not None:
            self.conn.parser_exc.__traceback__ = None  # refers to all that was parsed; only a collection would free it
        closed = self.conn.close_sent
        if closed is None:  # not even open
            self.transport.abort()
            return
        self.queue.put_nowait({"type": "websocket.disconnect", "code": closed.code, "reason": closed.reason})
        self._flush()
        self.close_sent = True
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.resume_reading()
        self._end_soon()

    def keepalive_timeout(self) -> None:
        """A ping was not answered: nobody is there who would read a close frame, or what waits before it."""
        if self.client_socket is not None and not self.close_sent:
            self.transport.abort()
            return
        super().keepalive_timeout()
        self._end_soon()

    def shutdown(self) -> None:
        """The server ends. After a drain only those are here that do not answer, and consumers other than ours."""
        if self.client_socket is not None:
            self.close_with(SERVICE_RESTART.code, SERVICE_RESTART.reason)
        super().shutdown()
        self._end_soon()

    def _flush(self) -> None:
        """Write what ``websockets`` has to say by itself, with our reason where a message is too big."""
        frames = self.conn.data_to_send()
        closed = self.conn.close_sent
        if closed is not None and closed.code == TOO_BIG.code:
            frames = [_TOO_BIG_FRAME if frame[:1] == _TOO_BIG_FRAME[:1] else frame for frame in frames]
        self.transport.write(b"".join(frames))

    def _end_soon(self) -> None:
        """The last frame was written; whatever the client does, the socket ends."""
        if self.client_socket is not None:
            self.client_socket.writer.ended()
        if self.close_timer is None and not self.disconnected:
            self.close_timer = self.loop.call_later(CLOSE_SECONDS, self._cut, -1)

    def _cut(self, waiting_before: int) -> None:
        waiting = self.transport.get_write_buffer_size()
        closed = self.conn.close_sent
        is_slow = closed is not None and closed.code == SLOW_CONSUMER.code
        if is_slow or waiting in (0, waiting_before):
            self.transport.abort()
        else:
            self.close_timer = self.loop.call_later(CLOSE_SECONDS, self._cut, waiting)

    def _close_code(self) -> int:
        """When the server closed first, what it said is the truth, else what the client said."""
        conn = self.conn
        if conn.close_sent is not None and not conn.close_rcvd_then_sent:
            return conn.close_sent.code
        return CLOSED_ABNORMALLY if conn.close_rcvd is None else conn.close_rcvd.code

    def _is_between_messages(self) -> bool:
        """Whether the parser has begun neither a frame nor a message."""
        return self._parsing().gi_code is BETWEEN_FRAMES and self.conn.current_size is None

    def _lacking_bytes(self) -> int:
        """How much the parser waits for, of a frame or its header; 0 while it has begun none."""
        parsing = self._parsing()
        if parsing.gi_code is not WITHIN_A_FRAME:
            return 0
        wanted: int = parsing.gi_frame.f_locals["n"]
        return wanted - len(self.conn.reader.buffer)

    def _parsing(self) -> Any:
        """The innermost generator of the parser."""
        innermost: Any = self.conn.parser
        while innermost.gi_yieldfrom is not None:
            innermost = innermost.gi_yieldfrom
        return innermost


def _is_utf8(message: bytes) -> bool:
    try:
        message.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


_TOO_BIG_FRAME = Frame(Opcode.CLOSE, Close(TOO_BIG.code, TOO_BIG.reason).serialize()).serialize(mask=False)
