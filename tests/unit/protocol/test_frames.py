"""Frames as RFC 6455 wants them, checked by a parser that is not ours."""

from __future__ import annotations

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from realtime.protocol.frames import FrameBatch, text_frame


def parsed(data: bytes) -> list[bytes]:
    client = ClientProtocol(parse_uri("ws://localhost/"), state=State.OPEN, max_size=None)
    client.receive_data(data)
    frames = client.events_received()
    assert all(getattr(frame, "opcode", None) is Opcode.TEXT and getattr(frame, "fin", False) for frame in frames)
    return [getattr(frame, "data", b"") for frame in frames]


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 200_000])
def test_a_frame_of_any_size_is_read_by_a_foreign_client(size: int) -> None:
    """At the borders of the three length encodings too."""
    assert parsed(text_frame(b"x" * size)) == [b"x" * size]


def test_joined_frames_stay_separate_messages_in_order() -> None:
    """A client sees nothing of the joining."""
    texts = [b"a", b"", "é".encode(), b"x" * 70_000]
    assert parsed(FrameBatch(texts).joined) == texts


def test_a_batch_is_encoded_once() -> None:
    """Every writer gets the same bytes object."""
    batch = FrameBatch([b"a", b"b"])
    assert batch.joined is batch.joined
