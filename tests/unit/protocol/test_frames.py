"""Frames as RFC 6455 wants them, checked by a parser that is not ours."""

from __future__ import annotations

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Opcode
from websockets.protocol import State
from websockets.uri import parse_uri

from realtime.protocol.frames import (
    TAKEN_MOST,
    TALLY_BYTES_BITS,
    BinaryMessage,
    FrameBatch,
    MixedBatch,
    take_text_messages,
    text_frame,
)


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


def masked(payload: bytes, *, mask: bytes = b"\x01\x82\x03\xf4", first: int = 0x81) -> bytes:
    """A client's frame, built by hand."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else b"\xfe" + size.to_bytes(2, "big")
    return bytes((first,)) + length + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(payload))


@pytest.mark.parametrize("size", [0, 1, 3, 4, 5, 125, 126, 1_000, 65_535])
def test_a_plain_message_is_taken(size: int) -> None:
    """Of any length below 64 KiB, with nothing left."""
    payload = bytes(32 + i % 90 for i in range(size))
    assert take_text_messages(masked(payload), 1_000_000) == ([payload], b"")


def test_several_messages_in_one_read_are_taken_in_order_up_to_the_first_that_is_not_plain() -> None:
    """The rest is untouched, to the byte."""
    plain = masked(b"a") + masked("é".encode()) + masked(b"")
    for rest in (
        masked(b"ping", first=0x89),
        masked(b"fragment", first=0x01),
        masked(b"binary", first=0x82),
        masked(b"reserved", first=0xC1),
        masked(b"\xff\xfe"),
        b"\x81\x05plain",
        b"\x81\xfe\x00\x05" + b"mask" + b"short",
        b"\x81\xff" + (70_000).to_bytes(8, "big") + b"mask",
    ):
        assert take_text_messages(plain + rest + plain, 1_000) == ([b"a", "é".encode(), b""], rest + plain)


def test_a_message_over_the_limit_is_left_to_the_complete_parser() -> None:
    """Which closes with 1009."""
    assert take_text_messages(masked(b"x" * 11), 10) == ([], masked(b"x" * 11))


@pytest.mark.parametrize("piece", [b"", b"\x81", masked(b"cut off")[:-1], masked(b"x" * 200)[:5]])
def test_a_piece_of_a_frame_is_left_for_its_rest_to_come(piece: bytes) -> None:
    """However short."""
    assert take_text_messages(masked(b"a") + piece, 1_000) == ([b"a"], piece)


def test_another_dialect_is_made_once_for_all_who_speak_it() -> None:
    """Of what the texts were made of, and only if somebody asks."""
    asked: list[object] = []

    def speak(sources: list[object]) -> list[bytes]:
        asked.append(sources)
        return [b"4" + str(source).encode() for source in sources]

    batch = FrameBatch([b"a", b"b"], [1, 2])
    assert asked == []
    spoken = batch.spoken(speak)
    assert batch.spoken(speak) is spoken
    assert asked == [[1, 2]]
    assert (spoken.texts, spoken.count, spoken.joined) == ([b"41", b"42"], 2, b"\x81\x0241\x81\x0242")


def test_bytes_are_a_binary_frame() -> None:
    """Among text frames, in their order; the tally counts them."""
    batch = MixedBatch([b"45", BinaryMessage(b"\x00\xff"), BinaryMessage(b"x" * 126)])
    assert batch.joined == b"\x81\x0245" + b"\x82\x02\x00\xff" + b"\x82\x7e\x00\x7e" + b"x" * 126
    assert batch.tally & ((1 << TALLY_BYTES_BITS) - 1) == len(batch.joined)


def test_a_flood_of_small_messages_is_taken_in_parts() -> None:
    """No more than some hundred at once; the rest begins where they end, and is taken by the next calls."""
    flood, taken = masked(b"") * 1_000, 0
    while flood:
        messages, rest = take_text_messages(flood, 1_000)
        assert len(messages) == TAKEN_MOST
        assert rest == flood[len(masked(b"")) * TAKEN_MOST :]
        flood, taken = rest, taken + len(messages)
    assert taken == 1_000
