"""Autobahn test suite, groups 1 (framing) and 10 (auto-fragmentation): messages of every size come back."""

from __future__ import annotations

import random
from itertools import accumulate

import pytest

from tests.acceptance.engine.application import BINARY_CAME
from tests.acceptance.engine.conftest import DIRECT, Echo
from tests.acceptance.engine.peer import BINARY, CONTINUATION, TEXT, close, frame, text

SIZES = [0, 1, 125, 126, 127, 128, 65_535, 65_536, 1_000_000]


def chopped(message: bytes, size: int) -> list[bytes]:
    """One message in fragments of so many bytes."""
    parts = [message[start : start + size] for start in range(0, len(message), size)]
    last = len(parts) - 1
    return [frame(CONTINUATION if index else TEXT, part, fin=index == last) for index, part in enumerate(parts)]


@pytest.mark.parametrize("size", SIZES)
def test_a_text_message(echo: Echo, size: int) -> None:
    """1.1.1-1.1.8: it comes back whole in one frame, the empty one, too."""
    message = bytes(32 + index % 95 for index in range(size))
    echo.send(frame(TEXT, message))
    assert echo.payload() == message


@pytest.mark.parametrize("size", SIZES)
def test_a_binary_message(echo: Echo, echo_path: str, size: int) -> None:
    """1.2.1-1.2.8: the same with every byte there is; our consumers do not look into it, but they are told."""
    message = bytes(index % 256 for index in range(size))
    echo.send(frame(BINARY, message))
    if echo_path == DIRECT:
        assert echo.payload() == BINARY_CAME
    else:
        assert echo.payload(BINARY) == message


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537])
@pytest.mark.parametrize("piece", [997, 65_536])
def test_a_text_message_written_in_pieces(echo: Echo, size: int, piece: int) -> None:
    """1.1.8: 64 KiB written in chops of 997 bytes is still one message."""
    whole = frame(TEXT, b"*" * size)
    for start in range(0, len(whole), piece):
        echo.send(whole[start : start + piece])
    assert echo.payload() == b"*" * size


@pytest.mark.parametrize("fragment", [1_300, 4_096, 65_535])
def test_a_fragmented_message(echo: Echo, fragment: int) -> None:
    """10.1.1: 65,536 bytes in fragments of 1,300 come back as one message."""
    message = bytes(32 + index % 95 for index in range(65_536))
    echo.send(*chopped(message, fragment))
    assert echo.payload() == message


@pytest.mark.parametrize("alphabet", ["abc", "äöü", "€-", "😀x", "\x00\x7f\u0080\u07ff\u0800\uffff\U0010ffff"])
def test_text_of_all_widths_in_one_stream(echo: Echo, rng: random.Random, alphabet: str) -> None:
    """Messages of random lengths around every border of the length field, all at once: each comes back, in order."""
    lengths = [rng.choice([0, 1, 30, 124, 125, 126, 127, 300, 4_000]) for _ in range(200)]
    messages = ["".join(rng.choices(alphabet, k=length)).encode() for length in lengths]
    echo.send(*(frame(TEXT, message) for message in messages))
    assert [echo.payload() for _ in messages] == messages
    echo.send(close())
    assert echo.closed() == (1000, "")


def test_masks_that_look_like_something_else(echo: Echo) -> None:
    """A mask of zeros, or of bytes that could be a frame's head, changes nothing."""
    masks = [b"\0\0\0\0", b"\x81\x85\x81\x85", b"\xff\xff\xff\xff", b"\0\0\0\1"]
    for mask in masks:
        echo.send(frame(TEXT, "\0déjà vu\0".encode(), mask=mask))
    assert [echo.payload() for _ in masks] == ["\0déjà vu\0".encode()] * len(masks)


def test_a_length_in_too_many_bytes_is_no_frame(echo: Echo) -> None:
    """A length that would fit into fewer bytes is a protocol error (RFC 6455, 5.2): 1002."""
    whole = text("x" * 100)
    echo.send(whole[:1] + b"\xfe\x00\x64" + whole[2:])
    assert echo.closed()[0] == 1002


def test_a_frame_without_a_mask(echo: Echo) -> None:
    """A client's frame must be masked (5.1): 1002, whatever it says."""
    echo.send_behind_a_message(b"\x81\x03bad", text("late"))
    assert echo.closed()[0] == 1002


def test_lengths_of_the_stream_add_up(echo: Echo, rng: random.Random) -> None:
    """A stream of 300 messages, cut anywhere: the segments' borders mean nothing."""
    messages = [bytes(rng.choices(range(32, 127), k=rng.randrange(200))) for _ in range(300)]
    stream = b"".join(text(message) for message in messages)
    cuts = sorted(rng.sample(range(1, len(stream)), 150))
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        echo.send(stream[start:end])
    assert list(accumulate(len(echo.payload()) for _ in messages)) == list(accumulate(map(len, messages)))
