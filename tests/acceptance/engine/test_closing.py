"""Every close code with its reason reaches the client, and nothing follows it."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest

from realtime.protocol.closing import CLOSE_CODES, REASON_MAX_BYTES
from tests.acceptance.engine.conftest import NewPeer
from tests.acceptance.engine.peer import BINARY, CONTINUATION, TEXT, Peer, close, command, frame, text
from tests.support.cluster import DaphneNode

MIB = 1024 * 1024
TABLE = [(each.code, each.reason) for each in CLOSE_CODES]
CUT = {
    "as long as it may be": ("x" * 123, "x" * 123),
    "one byte longer": ("x" * 124, "x" * 123),
    "two bytes each": ("é" * 62, "é" * 61),
    "three bytes each": ("€" * 42, "€" * 41),
    "four bytes each": ("😀" * 40, "😀" * 30),
    "four bytes across the border": ("x" * 120 + "😀", "x" * 120),
    "empty": ("", ""),
}


def closed_by_application(node: DaphneNode, new_peer: NewPeer, code: int | str, reason: str) -> Peer:
    peer = new_peer(node, f"/close/?code={code}&reason={quote(reason)}")
    peer.send(text("now"))
    assert peer.payload() == b"last words"
    return peer


def assert_ends_well(peer: Peer) -> None:
    """The client answers the close frame; nothing comes any more, and the TCP connection goes away."""
    peer.send(close())
    assert peer.rest() == []


@pytest.mark.parametrize(("code", "reason"), [*TABLE, (1000, "Good bye"), (3000, ""), (4999, "last of its kind")])
def test_a_code_and_its_reason_reach_the_client(engine: DaphneNode, new_peer: NewPeer, code: int, reason: str) -> None:
    """What an application says with ASGI's `websocket.close` is what the client reads, after everything before it."""
    peer = closed_by_application(engine, new_peer, code, reason)
    assert peer.closed() == (code, reason)
    assert_ends_well(peer)


@pytest.mark.parametrize("name", CUT)
def test_a_long_reason_is_cut_at_a_character(engine: DaphneNode, new_peer: NewPeer, name: str) -> None:
    """A close frame carries 123 bytes of reason: a longer one is cut, never inside a character."""
    reason, arrives = CUT[name]
    peer = closed_by_application(engine, new_peer, 4000, reason)
    came = peer.closed()
    assert came == (4000, arrives)
    assert len(came[1].encode()) <= REASON_MAX_BYTES
    assert_ends_well(peer)


def test_an_application_that_fails(engine: DaphneNode, new_peer: NewPeer) -> None:
    """A consumer that raises ends its connection with 1011 and its reason."""
    peer = new_peer(engine, "/close/?code=crash&reason=")
    assert peer.closed() == (1011, "Internal error")
    assert_ends_well(peer)


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("path", ["/ws/", "/echo/direct/", "/echo/plain/"])
def test_a_message_that_is_too_big(engine: DaphneNode, new_peer: NewPeer, path: str, opcode: int) -> None:
    """A frame that announces more than 1 MiB is answered with 1009 before its payload has come."""
    peer = new_peer(engine, path)
    whole = frame(opcode, b"x" * (MIB + 1))
    peer.send(whole[:20])
    assert peer.closed() == (1009, "Message too big")
    peer.send(whole[20:])
    assert_ends_well(peer)


@pytest.mark.parametrize("path", ["/ws/", "/echo/direct/", "/echo/plain/"])
def test_fragments_that_are_too_big_together(engine: DaphneNode, new_peer: NewPeer, path: str) -> None:
    """The limit is on the message, in however many frames it comes."""
    peer = new_peer(engine, path)
    peer.send(frame(TEXT, b" " * 600_000, fin=False), frame(CONTINUATION, b" " * 500_000))
    assert peer.closed() == (1009, "Message too big")
    assert_ends_well(peer)


def test_a_message_as_big_as_it_may_be(engine: DaphneNode, new_peer: NewPeer) -> None:
    """1 MiB exactly is handled."""
    peer = new_peer(engine)
    empty = json.dumps({"type": "room", "room": "nowhere", "ref": 1, "data": ""})
    peer.send(text(empty[:-2] + "x" * (MIB - len(empty)) + empty[-2:]))
    assert peer.message()["code"] == "not_joined"
    peer.send(command("ping", ref="still"))
    assert peer.expect("pong", ref="still")
