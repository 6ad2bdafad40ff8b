"""A writer that keeps what it was given, for tests of everything above the socket."""

from __future__ import annotations

import json
from typing import Any

from realtime.limits import BacklogLimit
from realtime.protocol.closing import CloseCode
from realtime.protocol.frames import FrameBatch
from realtime.server.writer import FrameWriter


class RecordingWriter(FrameWriter):
    """Records texts in order, and how the connection was closed. ``waiting`` is what ``backlog`` says."""

    def __init__(self, limit: BacklogLimit | None = None) -> None:
        super().__init__(limit or BacklogLimit(1000, 1.0, 4000))
        self.texts: list[bytes] = []
        self.batches: list[FrameBatch] = []
        self.closed_with: CloseCode | None = None
        self.waiting = 0

    @property
    def backlog(self) -> int:
        return self.waiting

    def write(self, batch: FrameBatch) -> None:
        self.batches.append(batch)
        self.texts += batch.texts

    def close(self, close: CloseCode) -> None:
        self.closed_with = close
        self.is_closing = True

    @property
    def messages(self) -> list[Any]:
        """What the client would have read."""
        return [json.loads(text) for text in self.texts]
