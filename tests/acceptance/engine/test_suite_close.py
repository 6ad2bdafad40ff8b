"""Autobahn test suite, group 7: how a client may close, what it may say, and what is no longer looked at."""

from __future__ import annotations

import pytest

from tests.acceptance.engine.conftest import Echo, NewPeer
from tests.acceptance.engine.peer import CLOSE, CONTINUATION, PING, TEXT, close, command, frame, text
from tests.support.cluster import DaphneNode

VALID_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]
INVALID_CODES = [0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999, 5000, 65_535]


def test_messages_and_then_a_close(echo: Echo) -> None:
    """7.1.1-7.1.2: the answer comes first, then the close frame; a second close is ignored."""
    echo.send_behind_a_message(close(), close())
    assert echo.closed()[0] == 1000
    assert echo.rest() == []


@pytest.mark.parametrize(
    "late",
    [frame(PING, b"late"), text("late"), frame(CONTINUATION, b"late"), b"\xff" * 40],
    ids=["ping", "message", "continuation", "nonsense"],
)
def test_nothing_is_looked_at_after_a_close(echo: Echo, late: bytes) -> None:
    """7.1.3-7.1.5: neither a ping nor a message nor nonsense."""
    echo.send(frame(TEXT, b"begun", fin=False), close(), late)
    assert echo.closed()[0] == 1000
    assert echo.rest() == []


def test_a_lot_of_data_before_the_close(echo: Echo) -> None:
    """7.1.6: 256 KiB, a close and a ping: the message may come, the close must, the pong must not."""
    echo.send(text("x" * 262_144), close(), frame(PING))
    came = [came.opcode for came in echo.rest()]
    assert came in ([CLOSE], [TEXT, CLOSE])


def test_a_close_without_a_payload(echo: Echo) -> None:
    """7.3.1: answered."""
    echo.send(frame(CLOSE))
    assert echo.closed()[0] in (1000, 1005)
    assert echo.rest() == []


def test_a_close_of_one_byte(echo: Echo) -> None:
    """7.3.2: half a code is a protocol error."""
    echo.send(frame(CLOSE, b"a"))
    assert echo.closed()[0] == 1002


@pytest.mark.parametrize("reason", [b"", b"x", "Auf Wiedersehen, schönes Leben".encode(), b"*" * 123])
def test_a_close_with_a_reason(echo: Echo, reason: bytes) -> None:
    """7.3.3-7.3.5: of up to 123 bytes."""
    echo.send(close(1000, reason))
    assert echo.closed()[0] == 1000
    assert echo.rest() == []


def test_a_reason_of_124_bytes(echo: Echo) -> None:
    """7.3.6: a control frame that is too long."""
    echo.send(close(1000, b"*" * 124))
    assert echo.closed()[0] == 1002


def test_a_reason_that_is_not_utf8(echo: Echo) -> None:
    """7.5.1: 1007."""
    echo.send(close(1000, b"\xce\xba\xed\xa0\x80edited"))
    assert echo.closed()[0] == 1007


@pytest.mark.parametrize("code", VALID_CODES)
def test_a_code_that_a_client_may_send(echo: Echo, code: int) -> None:
    """7.7.1-7.7.13: the closing handshake is completed."""
    echo.send(close(code, "because"))
    assert echo.closed()[0] in (1000, code)
    assert echo.rest() == []


@pytest.mark.parametrize("code", INVALID_CODES)
def test_a_code_that_no_one_may_send(echo: Echo, code: int) -> None:
    """7.9.1-7.9.11: a protocol error."""
    echo.send(close(code, "because"))
    assert echo.closed()[0] == 1002


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
def test_commands_and_then_a_close(engine: DaphneNode, new_peer: NewPeer, code: int) -> None:
    """On `/ws/`: what was asked before the close and can be answered at once is; the log has the client's code."""
    peer = new_peer(engine)
    peer.do("join", room="closing")
    peer.send(command("ping", ref="last"))
    peer.expect("pong", ref="last")
    peer.send(close(code, "bye"), command("ping", ref="late"))
    assert peer.closed()[0] in (1000, code)
    assert peer.rest() == []
    ended = f"connection_closed id={peer.id} user=None code={code} "
    engine.wait_until(lambda: ended in engine.log, f"logging {ended}")
