"""Our own reading and writing of AMQP against pamqp's."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import body, commands, frame, header

from realtime.layers.rabbitmq_frames import (
    BODY_BYTES,
    DELIVER,
    FRAME_BYTES,
    RETURN,
    BrokenFrame,
    Confirm,
    Content,
    FrameReader,
    Reply,
    Said,
    acknowledgement,
    publication,
    publish_header,
)

Method = commands.Basic.Deliver | commands.Basic.Return


def content(channel: int, method: Method, payload: bytes, message_id: str | None = None) -> bytes:
    """A message as RabbitMQ writes it."""
    pieces = [payload[at : at + BODY_BYTES] for at in range(0, len(payload), BODY_BYTES)]
    head = header.ContentHeader(body_size=len(payload), properties=commands.Basic.Properties(message_id=message_id))
    frames = [method, head, *(body.ContentBody(piece) for piece in pieces)]
    return b"".join(frame.marshal(each, channel) for each in frames)


def deliver(tag: int, key: str) -> commands.Basic.Deliver:
    return commands.Basic.Deliver("node", tag, False, "websocket", key)


def read(data: bytes, cuts: list[int]) -> list[Reply]:
    """What a reader makes of the bytes, given in pieces."""
    reader, replies, start = FrameReader(), [], 0
    for end in [*sorted(cuts), len(data)]:
        replies += reader.feed(data[start:end])
        start = end
    return replies


def described(reply: Reply) -> tuple[object, ...]:
    if isinstance(reply, Content):
        return reply.channel, reply.method, reply.tag, reply.key, reply.body
    if isinstance(reply, Confirm):
        return reply.tag, reply.is_multiple, reply.is_taken
    return reply.channel, reply.method.name


@given(st.lists(st.integers(0, 3_000), max_size=12), st.binary(max_size=400))
def test_bytes_may_come_in_any_pieces(cuts: list[int], payload: bytes) -> None:
    """Deliveries, confirmations, heartbeats and other methods come out whole and in order, wherever reads end."""
    data = b"".join(
        [
            content(1, deliver(7, "room.a"), payload),
            frame.marshal(commands.Basic.Ack(3, True), 1),
            b"\x08\x00\x00\x00\x00\x00\x00\xce",
            frame.marshal(commands.Basic.Nack(4, False), 1),
            content(2, commands.Basic.Return(312, "NO_ROUTE", "websocket", "node.x"), payload, message_id="12"),
            frame.marshal(commands.Queue.BindOk(), 2),
            content(1, deliver(8, "k" * 255), b""),
        ]
    )
    assert [described(reply) for reply in read(data, [cut for cut in cuts if cut < len(data)])] == [
        (1, DELIVER, 7, b"room.a", payload),
        (3, True, True),
        (4, False, False),
        (2, RETURN, 0, b"node.x", payload),
        (2, "Queue.BindOk"),
        (1, DELIVER, 8, b"k" * 255, b""),
    ]


def test_a_large_message_comes_in_many_frames(rng: random.Random) -> None:
    """A mebibyte is put together from its pieces, with another channel's message in between."""
    payload = rng.randbytes(1024 * 1024)
    data = content(1, deliver(1, "a"), payload)
    first = frame.frame_parts(data)[2]
    assert first is not None
    other = content(3, deliver(1, "b"), b"small")
    at = first + 8
    replies = read(data[:at] + other + data[at:], [65_536 * number for number in range(1, 16)])
    assert [described(reply) for reply in replies] == [
        (3, DELIVER, 1, b"b", b"small"),
        (1, DELIVER, 1, b"a", payload),
    ]


def test_the_id_of_a_returned_message_can_be_read() -> None:
    """It is how a publisher knows which of its publications nobody was bound to."""
    [reply] = read(content(1, commands.Basic.Return(312, "NO_ROUTE", "e", "k"), b"x", message_id="42"), [])
    assert isinstance(reply, Content)
    assert reply.decoded_properties().message_id == "42"


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request\r\n", b"\x01\x00\x01\x00\x00\x00\x04\x00\x00\x00\x00\x00"])
def test_what_is_no_amqp_is_refused(data: bytes) -> None:
    """Neither waited for nor taken for something else."""
    with pytest.raises(BrokenFrame):
        FrameReader().feed(data + b"\x00" * 20)


@pytest.mark.parametrize("size", [0, 1, BODY_BYTES, BODY_BYTES + 1, 3 * BODY_BYTES + 5])
@pytest.mark.parametrize("is_answered", [False, True])
def test_a_publication_is_what_pamqp_reads(size: int, is_answered: bool) -> None:
    """Method, header and body in frames of the agreed size; transient, with its number if it is answered."""
    payload = b"x" * size
    data = publication(publish_header(1, b"websocket", b"room.a", is_answered=is_answered), 1, payload, 1234)
    frames: list[object] = []
    while data:
        used, channel, each = frame.unmarshal(data)
        assert channel == 1
        assert used <= FRAME_BYTES
        frames.append(each)
        data = data[used:]
    method, head, *pieces = frames
    assert isinstance(method, commands.Basic.Publish)
    assert (method.exchange, method.routing_key, method.mandatory) == ("websocket", "room.a", is_answered)
    assert isinstance(head, header.ContentHeader)
    assert head.body_size == size
    assert head.properties.delivery_mode == 1
    assert head.properties.message_id == ("1234" if is_answered else None)
    assert b"".join(piece.value for piece in pieces if isinstance(piece, body.ContentBody)) == payload


def test_an_acknowledgement_is_what_pamqp_reads() -> None:
    """It is for everything up to the tag."""
    _, channel, method = frame.unmarshal(acknowledgement(5, 2**40))
    assert channel == 5
    assert isinstance(method, commands.Basic.Ack)
    assert (method.delivery_tag, method.multiple) == (2**40, True)


def test_a_method_says_what_it_is() -> None:
    """For the log."""
    [reply] = read(frame.marshal(commands.Queue.BindOk(), 2), [])
    assert isinstance(reply, Said)
    assert repr(reply) == "Queue.BindOk on channel 2"
