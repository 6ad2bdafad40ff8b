"""Streams between two nodes, without a backplane: what one publishes is given to the other."""

from __future__ import annotations

import asyncio

import pytest

from realtime.exceptions import BackplaneUnavailable
from realtime.instrument import Instrument
from realtime.protocol.envelope import Envelope, StreamEnd, StreamOpen, StreamPiece, decode, encode
from realtime.protocol.frames import BinaryMessage
from realtime.streams import INTERRUPTED, OVERFLOWN, PIECE_CHARACTERS, UNKNOWN, WAITING_MAX_BYTES, Stream, Streams


class CountingInstrument(Instrument):
    def __init__(self) -> None:
        self.overflown = 0

    def stream_overflown(self) -> None:
        self.overflown += 1


class Pair:
    """Two nodes. ``result`` is what the backplane says of each publication: how many listen, or that it is away."""

    def __init__(self) -> None:
        self.result: int | BackplaneUnavailable = 1
        self.is_open = True
        self.published: list[Envelope] = []
        self.instrument = CountingInstrument()
        self.nodes = {name: Streams(name, lambda: 1, self.publish, self.instrument) for name in ("near", "far")}
        self.accepted: list[tuple[Stream, str, str]] = []
        self.nodes["far"].accept = lambda *request: self.accepted.append(request)

    def publish(self, node_id: str, envelope: Envelope) -> asyncio.Future[int | None]:
        self.published.append(envelope)
        done: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        if isinstance(self.result, int):
            done.set_result(self.result)
        else:
            done.set_exception(self.result)
        if self.is_open and self.result == 1:
            came = decode(encode(envelope))
            assert isinstance(came, (StreamOpen, StreamPiece, StreamEnd))
            self.nodes[node_id].came(came)
        return done

    def open(self) -> tuple[Stream, Stream]:
        near = self.nodes["near"].open("far", "post", "session")
        far, kind, session = self.accepted[-1]
        assert (kind, session) == ("post", "session")
        return near, far


@pytest.fixture
def pair() -> Pair:
    return Pair()


@pytest.mark.parametrize(
    "message",
    [b"", "é\"\\".encode() * PIECE_CHARACTERS, BinaryMessage(b"\x00\xff" * PIECE_CHARACTERS), BinaryMessage(b"")],
    ids=["empty", "text", "bytes", "no bytes"],
)  # fmt: skip
async def test_a_message_arrives_as_it_was(pair: Pair, message: bytes) -> None:
    """In pieces that every backplane takes, with what follows behind it; both ways."""
    for one, other in (pair.open(), reversed(pair.open())):
        one.send(message)
        one.send(b"next")
        came = await other.next()
        assert came == message
        assert type(came) is type(message)
        assert await other.next() == b"next"
    assert max(len(encode(envelope)) for envelope in pair.published) < 1_000_000


async def test_what_came_before_the_end_is_read(pair: Pair) -> None:
    """Then the end says why; both sides have forgotten the stream."""
    near, far = pair.open()
    far.send(b"last")
    far.end(200)
    assert [await near.next(), await near.next(), near.status] == [b"last", None, 200]
    assert (len(pair.nodes["near"]), len(pair.nodes["far"])) == (0, 0)


async def test_whoever_waits_learns_of_the_end(pair: Pair) -> None:
    """Of the other node's death, and of an interruption."""
    for happens in (lambda: pair.nodes["near"].node_gone("far"), pair.nodes["near"].interrupted):
        near, _ = pair.open()
        waiting = asyncio.create_task(near.next())
        await asyncio.sleep(0)
        happens()
        assert (await waiting, near.status) == (None, INTERRUPTED)


@pytest.mark.parametrize(("result", "status"), [(0, UNKNOWN), (BackplaneUnavailable("away"), INTERRUPTED)])
async def test_what_is_not_published_ends_the_stream(
    pair: Pair, result: int | BackplaneUnavailable, status: int
) -> None:
    """With the reason: nobody listens, or nobody knows."""
    pair.result = result
    near = pair.nodes["near"].open("far", "poll", "session")
    assert (await near.next(), near.status) == (None, status)


async def test_what_waits_has_a_bound(pair: Pair) -> None:
    """Whole messages, many small ones, and one that never ends; each is counted, and both sides know."""
    for continues in (False, True):
        near, far = pair.open()
        count = 0
        while far.status is None:
            piece = StreamPiece(v=1, stream=far.id, data="x" * PIECE_CHARACTERS, continues=continues)
            pair.nodes["far"].came(piece)
            count += 1
        assert WAITING_MAX_BYTES / PIECE_CHARACTERS - 1 < count <= WAITING_MAX_BYTES / PIECE_CHARACTERS + 2
        assert (far.status, near.status) == (OVERFLOWN, OVERFLOWN)
    near, far = pair.open()
    count = 0
    while far.status is None:
        near.send(b"")
        count += 1
    assert count < WAITING_MAX_BYTES / 200
    assert pair.instrument.overflown == 3


async def test_a_node_that_serves_no_sessions_knows_none(pair: Pair) -> None:
    """Until its first client has come."""
    pair.nodes["far"].accept = None
    near = pair.nodes["near"].open("far", "poll", "session")
    assert (await near.next(), near.status) == (None, UNKNOWN)


async def test_pieces_of_a_stream_that_has_ended_are_nobodys(pair: Pair) -> None:
    """They may have been on their way."""
    near, far = pair.open()
    far.ended(INTERRUPTED, "")
    near.send(b"late")
    assert await far.next() is None
