"""The writer of a Socket.IO session: straight to its WebSocket, or into what the next poll takes."""

from __future__ import annotations

from collections.abc import Callable

from realtime.limits import BacklogLimit
from realtime.protocol.closing import CloseCode
from realtime.protocol.frames import FrameBatch, MixedBatch
from realtime.protocol.socketio import speak
from realtime.server.writer import FrameWriter, nobody


class SessionWriter(FrameWriter):
    """Outlives the transport of its session. What a batch says in Socket.IO's words is made once for all sessions.

    ``on_waiting`` is called when a poll can be answered, ``on_close`` when the session must end.
    """

    __slots__ = ("_below", "_limit", "_size", "_waiting", "on_close", "on_waiting")

    def __init__(self, limit: BacklogLimit) -> None:
        super().__init__(limit)
        self._limit = limit
        self._below: FrameWriter | None = None
        self._waiting: list[bytes] = []
        self._size = 0
        self.on_waiting: Callable[[], None] = nobody
        self.on_close: Callable[[CloseCode], None] = lambda close: None

    @property
    def messages_out(self) -> int:
        return super().messages_out + (self._below.messages_out if self._below is not None else 0)

    @property
    def bytes_out(self) -> int:
        return super().bytes_out + (self._below.bytes_out if self._below is not None else 0)

    @property
    def backlog(self) -> int:
        return self._size if self._below is None else self._below.backlog

    @property
    def is_on_websocket(self) -> bool:
        """Whether a WebSocket carries the session."""
        return self._below is not None

    @property
    def has_waiting(self) -> bool:
        """Whether a poll would be answered at once."""
        return bool(self._waiting)

    def write(self, batch: FrameBatch) -> None:
        if self._below is not None:
            self._below.write(batch.spoken(speak))
        else:
            self._hold(batch.spoken(speak))

    def send(self, packets: list[bytes]) -> None:
        """Packets for this session alone."""
        if self._below is not None:
            self._below.write(MixedBatch(packets))
        else:
            self._hold(MixedBatch(packets))

    def take(self) -> list[bytes]:
        """What waits, for a poll."""
        taken, self._waiting, self._size = self._waiting, [], 0
        return taken

    def move_to(self, below: FrameWriter) -> None:
        """A WebSocket carries the session from now on; what waits goes first."""
        below.on_backlog = self._below_grew
        waiting = self.take()
        self._below = below
        if waiting:
            below.write(MixedBatch(waiting))

    def close(self, close: CloseCode) -> None:
        if self.is_closing:
            return
        self.is_closing = True
        if self._below is not None:
            self._below.close(close)
        self.on_close(close)

    def cut(self) -> None:
        """The session is over: nothing can be sent any more."""
        self.is_closing = True
        self.take()
        self.on_waiting = nobody
        self.on_close = lambda close: None
        if self._below is not None:
            self._below.on_backlog = nobody

    def _hold(self, batch: FrameBatch) -> None:
        if self.is_closing:
            return
        self._waiting += batch.texts
        self._size += len(batch.joined)
        self.tally += batch.tally
        self.on_waiting()
        if self._size > self._limit.max_bytes:
            self.on_backlog()

    def _below_grew(self) -> None:
        self.on_backlog()
