"""The contract of a FrameWriter: bytes to one client's socket, with a bounded backlog."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

from realtime.limits import BacklogGuard, BacklogLimit
from realtime.protocol.closing import CloseCode
from realtime.protocol.frames import TALLY_BYTES_BITS, FrameBatch

UNSENT_LOW_BYTES = 131_072
"""TCP_NOTSENT_LOWAT: what the kernel may hold unsent for a client that does not read (it would take 2.8 MB more)."""


class FrameWriter(ABC):
    """Puts messages on one client's socket.

    Guarantees: what is written leaves in the order of the calls, whole; nothing leaves after ``close``; no call waits
    or raises because of the client. ``on_backlog`` is called when more waits than may wait at rest: the owner then asks
    ``is_slow`` from time to time while ``is_watched``.
    """

    __slots__ = ("guard", "is_closing", "on_backlog", "tally")

    def __init__(self, limit: BacklogLimit) -> None:
        self.tally = 0
        """What was handed over since the connection opened, as ``FrameBatch.tally`` says it."""
        self.is_closing = False
        """Whether ``close`` was called."""
        self.guard = BacklogGuard(limit)
        self.on_backlog: Callable[[], None] = nobody

    @property
    def messages_out(self) -> int:
        """Messages handed over since the connection opened."""
        return self.tally >> TALLY_BYTES_BITS

    @property
    def bytes_out(self) -> int:
        """Their bytes, frame headers included."""
        return self.tally & ((1 << TALLY_BYTES_BITS) - 1)

    @property
    @abstractmethod
    def backlog(self) -> int:
        """Bytes that wait in this process for the client to read."""

    @abstractmethod
    def write(self, batch: FrameBatch) -> None:
        """Send all messages of a batch. The hot path: no task, no queue, no await."""

    def write_text(self, text: bytes) -> None:
        """Send one message, UTF-8."""
        self.write(FrameBatch([text]))

    @abstractmethod
    def close(self, close: CloseCode) -> None:
        """Send what waits if the client reads, then the close frame; whatever the client does, the socket ends soon."""

    def is_slow(self, now: float) -> bool:
        """Whether the client reads too slowly to stay connected."""
        return self.guard.is_slow(self.backlog, now)


def nobody() -> None:
    """Nobody listens yet."""
