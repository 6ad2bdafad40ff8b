"""WebSocket frames (RFC 6455 section 5.2): those that a server sends, and the plain ones that most clients send."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

_TEXT_FINAL = 0x81
_LENGTH_16 = 126
_SHORTEST_MASKED = 6


def text_frame(payload: bytes) -> bytes:
    """One complete text frame around UTF-8 ``payload`` (up to 2^63 - 1 bytes)."""
    length = len(payload)
    if length < 126:
        return bytes((_TEXT_FINAL, length)) + payload
    if length < 65536:
        return b"\x81\x7e" + length.to_bytes(2, "big") + payload
    return b"\x81\x7f" + length.to_bytes(8, "big") + payload


class BinaryMessage(bytes):
    """The payload of a binary message, wherever a text one is plain ``bytes``."""

    __slots__ = ()


def frame(message: bytes) -> bytes:
    """One complete frame around a text or a binary message."""
    framed = text_frame(message)
    return b"\x82" + framed[1:] if isinstance(message, BinaryMessage) else framed


TAKEN_MOST = 200
"""Messages taken in one go: below a millisecond, however small they are."""


def take_text_messages(data: bytes, max_bytes: int) -> tuple[list[bytes], bytes]:
    """The messages at the start of ``data`` that are plain: a client's whole, masked, unfragmented text frame each.

    Returns them unmasked, and the rest from the first frame that is anything else (a control frame, a fragment, a frame
    of 64 KiB or more or larger than ``max_bytes``, broken UTF-8, a piece): that is for a complete parser. After
    ``TAKEN_MOST`` of them there may be more in the rest.
    """
    messages: list[bytes] = []
    at, end = 0, len(data)
    while end - at >= _SHORTEST_MASKED and data[at] == _TEXT_FINAL and len(messages) < TAKEN_MOST:
        length, mask_at = data[at + 1] - 0x80, at + 2
        if length == _LENGTH_16:
            length, mask_at = int.from_bytes(data[at + 2 : at + 4], "big"), at + 4
            if length < _LENGTH_16:
                break
        elif not 0 <= length < _LENGTH_16:
            break
        start = mask_at + 4
        if start + length > end or length > max_bytes:
            break
        message = unmasked(data[start : start + length], data[mask_at:start])
        if not message.isascii():
            try:
                message.decode("utf-8")
            except UnicodeDecodeError:
                break
        messages.append(message)
        at = start + length
    return messages, data[at:] if at else data


def unmasked(payload: bytes, mask: bytes) -> bytes:
    """A payload without its mask (RFC 6455 section 5.3), as one operation on two long integers."""
    length = len(payload)
    key = (mask * (length // 4 + 1))[:length]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(length, "big")


TALLY_BYTES_BITS = 44
"""A tally is one number: messages above these bits, bytes below them (up to 16 TB). For a delivery to many members that
is one object less to fetch for each of them than two counters."""


Dialect = Callable[[Any], list[bytes]]
"""Makes the messages of another protocol of the publications in a batch."""


class FrameBatch:
    """Messages for one audience, encoded once and shared by all of its members.

    ``texts`` are the UTF-8 messages in order, ``count`` their number; ``joined`` is the bytes of all their frames one
    after another, so that a writer that owns the socket needs one write per member. ``tally`` is what a writer adds to
    its own. The idea is Phoenix's fastlane (``serializer.ex``).

    ``sources`` are what the texts were made of; members who speak another protocol get theirs made of them.
    """

    __slots__ = ("_spoken", "count", "joined", "sources", "tally", "texts")

    def __init__(self, texts: list[bytes], sources: Sequence[Any] = ()) -> None:
        self.texts = texts
        self.sources = sources
        self.count = len(texts)
        self.joined = text_frame(texts[0]) if len(texts) == 1 else b"".join(map(text_frame, texts))
        self.tally = (self.count << TALLY_BYTES_BITS) + len(self.joined)
        self._spoken: FrameBatch | None = None

    def spoken(self, dialect: Dialect) -> FrameBatch:
        """The same publications in the other protocol: made for the first who asks. There is one ``dialect`` so far."""
        spoken = self._spoken
        if spoken is None:
            spoken = self._spoken = MixedBatch(dialect(self.sources))
        return spoken


class MixedBatch(FrameBatch):
    """A batch with binary messages among the ``texts``."""

    __slots__ = ()

    def __init__(self, messages: list[bytes]) -> None:
        super().__init__(messages)
        if any(isinstance(message, BinaryMessage) for message in messages):
            self.joined = b"".join(map(frame, messages))
