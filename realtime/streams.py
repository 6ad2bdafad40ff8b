"""Streams between two nodes: a request whose session is on another node is carried there, and its answer back.

1. The node that the client reached opens a stream: it is in the table before the first envelope leaves.
2. Messages go both ways as *pieces*, each small enough for any backplane, on the channel of the other node, in order.
3. Either side ends it; with the other node gone, or the backplane interrupted, nobody can know what is missing, and
   all streams concerned end.

What is not read yet has a bound; beyond it the stream ends.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import secrets
from collections.abc import Callable

from realtime.instrument import Instrument
from realtime.protocol.envelope import Envelope, StreamEnd, StreamOpen, StreamPiece
from realtime.protocol.frames import BinaryMessage
from realtime.server.inbox import MESSAGE_COST_BYTES

PIECE_CHARACTERS = 100_000
"""Of a message in one envelope: with its escapes it stays under the megabyte that some backplanes take."""
WAITING_MAX_BYTES = 8 * 1024 * 1024
"""Of one stream: received, and not taken yet."""

UNKNOWN = 404
INTERRUPTED = 503
OVERFLOWN = 413

Publish = Callable[[str, Envelope], "asyncio.Future[int | None]"]


class Stream:
    """One side of a stream. ``next`` gives what the other side sent."""

    def __init__(self, streams: Streams, stream_id: str, peer: str) -> None:
        self.id = stream_id
        self.peer = peer
        self.status: int | None = None
        """Why it has ended, once it has."""
        self.reason = ""
        self._streams = streams
        self._pieces: list[str] = []
        self._messages: list[bytes] = []
        self._waiting_bytes = 0
        self._waiter: asyncio.Future[None] | None = None

    async def next(self) -> bytes | None:
        """The next message; None when the stream has ended and everything before that was taken."""
        while not self._messages:
            if self.status is not None:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        message = self._messages.pop(0)
        self._waiting_bytes -= len(message) + MESSAGE_COST_BYTES
        return message

    def send(self, message: bytes) -> None:
        """One message for the other side."""
        if self.status is not None:
            return
        is_binary = isinstance(message, BinaryMessage)
        text = base64.b64encode(message).decode() if is_binary else message.decode("utf-8", "replace")
        pieces = [text[at : at + PIECE_CHARACTERS] for at in range(0, len(text), PIECE_CHARACTERS)] or [""]
        for piece in pieces[:-1]:
            self._streams.say(self, piece, is_binary, continues=True)
        self._streams.say(self, pieces[-1], is_binary, continues=False)

    def end(self, status: int, reason: str = "") -> None:
        """Nothing more comes from this side, and nothing is wanted."""
        if self.status is None:
            self._streams.say_end(self, status, reason)
            self.ended(status, reason)

    def came(self, piece: StreamPiece) -> None:
        """A piece of a message."""
        self._pieces.append(piece.data)
        self._waiting_bytes += len(piece.data)
        if self._waiting_bytes > WAITING_MAX_BYTES:
            self._streams.overflown(self)
        elif not piece.continues:
            text = "".join(self._pieces)
            self._waiting_bytes -= len(text)
            self._pieces.clear()
            self._add(text, piece.binary)

    def ended(self, status: int, reason: str) -> None:
        """The other side has ended it, or nobody knows of it any more."""
        if self.status is None:
            self.status, self.reason = status, reason
            self._streams.forget(self)
            self._wake()

    def _add(self, text: str, is_binary: bool) -> None:
        try:
            message = BinaryMessage(base64.b64decode(text, validate=True)) if is_binary else text.encode("utf-8")
        except (binascii.Error, UnicodeEncodeError):
            self.end(OVERFLOWN, "unreadable")
            return
        self._messages.append(message)
        self._waiting_bytes += len(message) + MESSAGE_COST_BYTES
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Streams:
    """The streams of one node. ``publish`` reaches another node; ``accept`` is called for each that was opened here."""

    def __init__(self, node_id: str, version: Callable[[], int], publish: Publish, instrument: Instrument) -> None:
        self.accept: Callable[[Stream, str, str], None] | None = None
        """``(stream, kind, session)``: called before anything of the stream can come."""
        self._node_id = node_id
        self._version = version
        self._publish = publish
        self._instrument = instrument
        self._streams: dict[str, Stream] = {}

    def __len__(self) -> int:
        return len(self._streams)

    def open(self, peer: str, kind: str, session: str) -> Stream:
        """Begin to carry a request to the node ``peer``."""
        stream = Stream(self, secrets.token_urlsafe(12), peer)
        self._streams[stream.id] = stream
        opening = StreamOpen(v=self._version(), node=self._node_id, stream=stream.id, kind=kind, session=session)
        self._send(stream, opening)
        self._instrument.request_carried(kind)
        return stream

    def came(self, envelope: StreamOpen | StreamPiece | StreamEnd) -> None:
        """Something of a stream came from another node."""
        if isinstance(envelope, StreamOpen):
            self._accept(envelope)
            return
        stream = self._streams.get(envelope.stream)
        if stream is None:
            return  # it has ended here, and the other side was told so
        if isinstance(envelope, StreamPiece):
            stream.came(envelope)
        else:
            stream.ended(envelope.status, envelope.reason)

    def node_gone(self, node_id: str) -> None:
        """Another node is gone, and its ends with it."""
        for stream in [each for each in self._streams.values() if each.peer == node_id]:
            stream.ended(INTERRUPTED, "node gone")

    def look(self, may_be_alive: Callable[[str], bool]) -> None:
        """End those to nodes that cannot be alive: a young node carries to whoever a session's id names, and where the
        backplane does not say that nobody listens no answer comes."""
        for stream in [each for each in self._streams.values() if not may_be_alive(each.peer)]:
            stream.end(UNKNOWN, "nobody has heard of the node")

    def interrupted(self) -> None:
        """Something may be missing: in which stream, nobody knows."""
        for stream in list(self._streams.values()):
            stream.ended(INTERRUPTED, "interrupted")

    def overflown(self, stream: Stream) -> None:
        """More waits than may wait."""
        self._instrument.stream_overflown()
        stream.end(OVERFLOWN, "too much waits")

    def say(self, stream: Stream, piece: str, is_binary: bool, *, continues: bool) -> None:
        """Send a piece."""
        envelope = StreamPiece(v=self._version(), stream=stream.id, data=piece, binary=is_binary, continues=continues)
        self._send(stream, envelope)

    def say_end(self, stream: Stream, status: int, reason: str) -> None:
        """Send the end."""
        self._publish(stream.peer, StreamEnd(v=self._version(), stream=stream.id, status=status, reason=reason))

    def forget(self, stream: Stream) -> None:
        """It has ended."""
        self._streams.pop(stream.id, None)

    def _accept(self, envelope: StreamOpen) -> None:
        stream = Stream(self, envelope.stream, envelope.node)
        if self.accept is None:
            stream.end(UNKNOWN)
            return
        self._streams[stream.id] = stream
        self.accept(stream, envelope.kind, envelope.session)

    def _send(self, stream: Stream, envelope: Envelope) -> None:
        def published(done: asyncio.Future[int | None]) -> None:
            if done.cancelled() or done.exception() is not None:
                stream.ended(INTERRUPTED, "not published")
            elif done.result() == 0:
                stream.ended(UNKNOWN, "the backplane knows that no node listens")

        self._publish(stream.peer, envelope).add_done_callback(published)
