"""Autobahn test suite, group 5: a message in several frames, control frames in between, and wrong continuations."""

from __future__ import annotations

import json

import pytest

from realtime.conf import Settings
from tests.acceptance.engine.conftest import Echo, NewPeer
from tests.acceptance.engine.peer import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close, frame, text
from tests.support.cluster import DaphneNode

FIRST = frame(TEXT, b"fragment1", fin=False)
MIDDLE = frame(CONTINUATION, b"fragment2", fin=False)
LAST = frame(CONTINUATION, b"fragment3")
PAUSE = b""  # a border between two segments
GOOD = {
    "5.3 two, in one segment": ([FIRST + LAST], b"fragment1fragment3"),
    "5.4 two, in two segments": ([FIRST, LAST], b"fragment1fragment3"),
    "5.5 two, byte by byte": ([bytes([byte]) for byte in FIRST + LAST], b"fragment1fragment3"),
    "three": ([FIRST, MIDDLE, LAST], b"fragment1fragment2fragment3"),
    "first is empty": ([frame(TEXT, b"", fin=False), LAST], b"fragment3"),
    "last is empty": ([FIRST, frame(CONTINUATION, b"")], b"fragment1"),
    "6.1.2 all are empty": ([frame(TEXT, fin=False), frame(CONTINUATION, fin=False), frame(CONTINUATION)], b""),
    "6.1.3 the middle is not": ([frame(TEXT, fin=False), MIDDLE, frame(CONTINUATION)], b"fragment2"),
}
BAD = {
    "5.9 continuation, nothing to continue": [LAST],
    "5.10 the same, in pieces": [LAST[:3], LAST[3:]],
    "5.11 the same, not final": [MIDDLE],
    "5.12 continuation after a message": [text("whole"), LAST],
    "5.15 continuation after a fragmented one": [FIRST + LAST + MIDDLE],
    "5.18 another text message inside": [FIRST + text("whole")],
    "another binary message inside": [FIRST, frame(BINARY, b"whole")],
    "another first fragment inside": [FIRST, FIRST],
}


@pytest.mark.parametrize("name", GOOD)
def test_a_message_in_frames(echo: Echo, name: str) -> None:
    """It comes back as one message, and so does the whole one after it."""
    segments, message = GOOD[name]
    for segment in segments:
        echo.send(segment)
    echo.send(text("next"))
    assert echo.payload() == message
    assert echo.payload() == b"next"


@pytest.mark.parametrize("in_one_segment", [True, False])
def test_a_ping_between_fragments(echo: Echo, in_one_segment: bool) -> None:
    """5.6-5.8, 5.19-5.20: it is answered before the message, which is whole all the same."""
    frames = [FIRST, frame(PING, b"one"), MIDDLE, frame(PING, b"two"), frame(PONG, b"?"), LAST]
    for segment in [b"".join(frames)] if in_one_segment else frames:
        echo.send(segment)
    assert [echo.payload(PONG), echo.payload(PONG)] == [b"one", b"two"]
    assert echo.payload() == b"fragment1fragment2fragment3"


@pytest.mark.parametrize("name", BAD)
def test_a_bad_continuation(echo: Echo, name: str) -> None:
    """1002, and nothing of the message arrives."""
    for segment in BAD[name]:
        echo.send(segment)
    came = echo.frame()
    while came.opcode == TEXT:
        assert came.data in (b"whole", b"fragment1fragment3")
        came = echo.frame()
    assert came.opcode == CLOSE
    assert bytes(came.data)[:2] == (1002).to_bytes(2, "big")


def test_a_close_between_fragments(echo: Echo) -> None:
    """A client may give up in the middle of a message."""
    echo.send(FIRST, close(1001, "gone"))
    assert echo.closed()[0] in (1000, 1001)
    assert echo.rest() == []


@pytest.mark.parametrize("path", ["/ws/", "/echo/direct/", "/echo/plain/"])
def test_too_many_fragments(engine: DaphneNode, new_peer: NewPeer, path: str) -> None:
    """1,024 frames are a message; one more is a policy violation, 1008, before the message has ended."""
    peer = new_peer(engine, path)
    fragments = [frame(CONTINUATION, b" ", fin=False)] * (Settings().fragments_max - 2)
    peer.send(frame(TEXT, b'{"type":"ping"}', fin=False), *fragments, frame(CONTINUATION, b" "))
    answer = peer.payload()
    assert json.loads(answer)["type"] in ("ping", "pong")
    peer.send(frame(TEXT, b'{"type":"ping"}', fin=False), *fragments, frame(CONTINUATION, b"", fin=False))
    peer.send(frame(PING, b"still a message"))
    assert peer.payload(PONG) == b"still a message"
    peer.send(frame(CONTINUATION, b""))
    assert peer.closed() == (1008, "Policy violation")
    peer.send(close())
    assert peer.rest() == []
