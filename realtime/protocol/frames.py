"""WebSocket frames as a server sends them (RFC 6455 section 5.2): unmasked, whole, one text message each."""

from __future__ import annotations

_TEXT_FINAL = 0x81


def text_frame(payload: bytes) -> bytes:
    """One complete text frame around UTF-8 ``payload`` (up to 2^63 - 1 bytes)."""
    length = len(payload)
    if length < 126:
        return bytes((_TEXT_FINAL, length)) + payload
    if length < 65536:
        return b"\x81\x7e" + length.to_bytes(2, "big") + payload
    return b"\x81\x7f" + length.to_bytes(8, "big") + payload


class FrameBatch:
    """Messages for one audience, encoded once and shared by all of its members.

    ``texts`` are the UTF-8 messages in order, ``count`` their number; ``joined`` is the bytes of all their frames one
    after another, so that a writer that owns the socket needs one write per member. The idea is Phoenix's fastlane
    (``serializer.ex``).
    """

    __slots__ = ("count", "joined", "texts")

    def __init__(self, texts: list[bytes]) -> None:
        self.texts = texts
        self.count = len(texts)
        self.joined = text_frame(texts[0]) if len(texts) == 1 else b"".join(map(text_frame, texts))
