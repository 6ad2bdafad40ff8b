"""Autobahn test suite, groups 2 (pings and pongs), 3 (reserved bits) and 4 (opcodes)."""

from __future__ import annotations

import pytest

from tests.acceptance.engine.conftest import Echo, NewPeer
from tests.acceptance.engine.peer import BINARY, CLOSE, PING, PONG, TEXT, close, command, frame, text
from tests.support.cluster import DaphneNode

EVERY_BYTE = bytes(range(256))[:125]


@pytest.mark.parametrize("payload", [b"", b"Hello, world!", b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff", b"\xfe" * 125])
def test_a_ping_is_answered(echo: Echo, payload: bytes) -> None:
    """2.1-2.4: with exactly its payload, text or not."""
    echo.send(frame(PING, payload))
    assert echo.payload(PONG) == payload


def test_a_ping_of_126_bytes(echo: Echo) -> None:
    """2.5: a control frame carries 125 bytes at most: 1002, and what follows is not looked at."""
    echo.send(frame(PING, b"\xfe" * 126), text("late"))
    assert echo.closed()[0] == 1002


def test_a_ping_written_byte_by_byte(echo: Echo) -> None:
    """2.6: the same ping, an octet at a time."""
    for byte in frame(PING, EVERY_BYTE):
        echo.send(bytes([byte]))
    assert echo.payload(PONG) == EVERY_BYTE


@pytest.mark.parametrize("payload", [b"", b"unsolicited"])
def test_an_unsolicited_pong_is_ignored(echo: Echo, payload: bytes) -> None:
    """2.7-2.9: nothing answers it, and the next ping is answered."""
    echo.send(frame(PONG, payload), frame(PING, b"next"), frame(PONG, payload), text("x"))
    assert echo.payload(PONG) == b"next"
    assert echo.payload() == b"x"


@pytest.mark.parametrize("in_one_segment", [True, False])
def test_ten_pings_are_answered_in_order(echo: Echo, in_one_segment: bool) -> None:
    """2.10-2.11: all ten."""
    pings = [frame(PING, b"payload-%d" % number) for number in range(10)]
    for segment in [b"".join(pings)] if in_one_segment else pings:
        echo.send(segment)
    assert [echo.payload(PONG) for _ in pings] == [b"payload-%d" % number for number in range(10)]


@pytest.mark.parametrize("rsv", range(1, 8))
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, CLOSE])
def test_reserved_bits(echo: Echo, opcode: int, rsv: int) -> None:
    """3.1-3.7: no extension is negotiated, so each of them is a protocol error; what came before is answered."""
    payload = b"\x03\xe8" if opcode == CLOSE else b"x"
    echo.send_behind_a_message(frame(opcode, payload, rsv=rsv), frame(PING))
    assert echo.closed()[0] == 1002


@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
@pytest.mark.parametrize("payload", [b"", b"x"])
def test_reserved_opcodes(echo: Echo, opcode: int, payload: bytes) -> None:
    """4.1.1-4.2.5: 1002 after what came before."""
    echo.send_behind_a_message(frame(opcode, payload), frame(PING))
    assert echo.closed()[0] == 1002


@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
def test_a_control_frame_in_fragments(echo: Echo, opcode: int) -> None:
    """5.1-5.2: a control frame that is not final is a protocol error."""
    echo.send(frame(opcode, b"\x03\xe8", fin=False), frame(0, b""))
    assert echo.closed()[0] == 1002


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (frame(TEXT, b'{"type":"ping"}', rsv=4), 1002),
        (frame(3), 1002),
        (frame(PING, b"x" * 126), 1002),
        (frame(TEXT, b'{"type":"\xff"}'), 1007),
        (close(1005), 1002),
    ],
    ids=["reserved bit", "reserved opcode", "long ping", "broken text", "reserved close code"],
)
def test_a_violation_under_our_own_protocol(engine: DaphneNode, new_peer: NewPeer, bad: bytes, code: int) -> None:
    """On `/ws/` as well: commands before it are answered, those after it are not, and the node lists one less."""
    peer = new_peer(engine)
    peer.send(command("ping", ref=1), command("ping", ref=2), bad, command("ping", ref=3))
    peer.expect("pong", ref=1)
    peer.expect("pong", ref=2)
    assert peer.closed()[0] == code
    peer.send(close())
    assert peer.rest() == []
