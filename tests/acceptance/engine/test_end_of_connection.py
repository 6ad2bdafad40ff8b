"""After the closing handshake the TCP connection goes away, whatever the client does."""

from __future__ import annotations

import time

import pytest
from websockets.frames import Opcode

from realtime.server.daphne_protocol import LINGER_SECONDS
from tests.acceptance.engine.conftest import NewPeer, NewWire
from tests.acceptance.engine.peer import close, command, text
from tests.acceptance.engine.wire import ping, pump
from tests.acceptance.nodes import metric
from tests.support.cluster import DaphneNode


@pytest.mark.parametrize("path", ["/ws/", "/echo/direct/", "/echo/plain/"])
def test_who_says_goodbye_is_answered(engine: DaphneNode, new_peer: NewPeer, path: str) -> None:
    """The client's close frame is answered, and the server ends the TCP connection."""
    peer = new_peer(engine, path)
    began = time.monotonic()
    peer.send(close(1000, "bye"))
    assert peer.closed()[0] == 1000
    assert peer.rest() == []
    assert time.monotonic() - began < 1


def test_who_hangs_up_is_gone(engine: DaphneNode, new_peer: NewPeer) -> None:
    """A client that cuts its connection, or half of it, without a word is counted out at once."""
    before = metric(engine, "websocket_connected_clients")
    cut, half = new_peer(engine), new_peer(engine)
    assert metric(engine, "websocket_connected_clients") == before + 2
    cut.abort()
    half.socket.shutdown(1)
    assert half.rest() == []
    engine.wait_until(lambda: metric(engine, "websocket_connected_clients") == before, "rid of both", 5)
    closed = f"connection_closed id={half.id} user=None code=1006"
    engine.wait_until(lambda: closed in engine.log, "saying so", 5)


def test_who_sends_a_close_and_never_reads(engine: DaphneNode, new_wire: NewWire) -> None:
    """A client with a backlog that says goodbye and reads nothing is cut off after five seconds, not kept for ever."""
    mute, other = new_wire(engine, "mute"), new_wire(engine, "mute")
    mute.appetite = 0
    other.send(*(command("room", room="mute", data="x" * 100_000) for _ in range(9)))
    ping(other)
    pump([other], lambda: metric(engine, "realtime_backlog_bytes") > 300_000, "a backlog")
    began = time.monotonic()
    mute.send(close())
    ended = f"connection_closed id={mute.peer.id} "
    pump([mute, other], lambda: ended in engine.log, "the end of the mute one", LINGER_SECONDS + 3)
    assert time.monotonic() - began > LINGER_SECONDS - 1
    mute.appetite = None
    pump([mute], lambda: mute.has_ended, "a cut connection")
    assert all(each.opcode is Opcode.TEXT for each in mute.frames)


def test_who_says_goodbye_behind_a_backlog(engine: DaphneNode, new_wire: NewWire) -> None:
    """A client that says goodbye before it has read everything, and then reads, gets all of it and the answer last."""
    late, other = new_wire(engine, "late", receive_buffer=4096), new_wire(engine, "late")
    late.appetite = 0
    other.send(*(command("room", room="late", data=[number, "x" * 100_000]) for number in range(9)))
    ping(other)
    pump([other], lambda: metric(engine, "realtime_backlog_bytes") > 300_000, "a backlog")
    late.send(close())
    pump([late], lambda: not late.unsent, "a close frame under way")
    ping(other)
    other.send(command("room", room="late", data=[9, "never seen"]))
    ping(other)
    late.appetite = None
    pump([late], lambda: late.has_ended, "the end")
    late.assert_whole()
    assert [each["data"][0] for each in late.messages("room")] == list(range(9))
    assert late.frames[-1].opcode is Opcode.CLOSE


@pytest.mark.parametrize("path", ["/close/?code=4000&reason=x"])
def test_who_never_answers_a_close(engine: DaphneNode, new_peer: NewPeer, path: str) -> None:
    """A client that does not answer the server's close frame is cut off after two seconds."""
    peer = new_peer(engine, path)
    peer.send(text("now"))
    assert peer.payload() == b"last words"
    assert peer.closed() == (4000, "x")
    began = time.monotonic()
    assert peer.rest(5) == []
    assert time.monotonic() - began > 1
