"""Packets of Socket.IO, both ways, and our publications in its words."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from realtime.protocol import errors, socketio
from realtime.protocol.envelope import BroadcastEnvelope, PrivateEnvelope, RoomEnvelope
from realtime.protocol.frames import BinaryMessage
from realtime.protocol.messages import Left, MemberInfo, MembersChanged, Missed
from realtime.protocol.names import room_in_namespace, split_room
from realtime.protocol.socketio import BadPacket, Packet, decode_packet, event_of, speak


@pytest.mark.parametrize(
    ("text", "packet"),
    [
        (b"0", Packet(0, "/")),
        (b'0{"a":1}', Packet(0, "/", data=b'{"a":1}')),
        (b"0/shop,", Packet(0, "/shop")),
        (b"0/shop", Packet(0, "/shop")),
        (b"0/shop?token=1,{}", Packet(0, "/shop", data=b"{}")),
        (b"1/shop,", Packet(1, "/shop")),
        (b'2["e"]', Packet(2, "/", data=b'["e"]')),
        (b'2/shop,12["e","/a,b"]', Packet(2, "/shop", 12, b'["e","/a,b"]')),
        (b"312[]", Packet(3, "/", 12, b"[]")),
        (b'52-["e"]', Packet(5, "/", data=b'["e"]', attachment_count=2)),
        (b'51-/shop,7["e"]', Packet(5, "/shop", 7, b'["e"]', 1)),
    ],
)
def test_a_packet_is_read(text: bytes, packet: Packet) -> None:
    """With and without each of its parts."""
    assert decode_packet(text) == packet


@pytest.mark.parametrize(
    "text",
    [
        b"", b"7", b"abc", b"2", b"2{}", b"2[]", b"2[1]", b'2["connect"]', b'2["disconnect",1]', b'2["e"', b"2[1e]",
        b'2abc["e"]', b'5["e"]', b'21-["e"]', b'5999-["e"]', b"3{}", b"4{}", b"0[]", b"0nonsense", b"1{}",
        b'2["\xff"]', b"0/\xff,", b'2["' + b"x" * 200 + b'"]', b"2" + b"[" * 5_000,
    ],
)  # fmt: skip
def test_what_is_no_packet_is_refused(text: bytes) -> None:
    """Whoever sends that does not speak Socket.IO."""
    with pytest.raises(BadPacket):
        decode_packet(text)


@given(st.binary(max_size=40))
def test_any_bytes_are_a_packet_or_refused(text: bytes) -> None:
    """No other exception, and what is a packet has readable content."""
    try:
        packet = decode_packet(text)
    except BadPacket:
        return
    assert 0 <= packet.kind <= 6


def completed(text: bytes, *attachments: bytes) -> Packet:
    packet = decode_packet(text)
    for attachment in attachments:
        assert not packet.is_complete
        packet = packet.with_attachment(attachment)
    assert packet.is_complete
    return packet


def test_attachments_take_their_places() -> None:
    """At any depth; for other members they are base64."""
    text = b'52-["e",{"deep":[{"_placeholder":true,"num":1}]},{"_placeholder":true,"num":0}]'
    event = event_of(completed(text, b"\x00", b"\xff"))
    assert event.values() == [{"deep": [b"\xff"]}, b"\x00"]
    assert event.data(0, "data") == (Raw(b'{"deep":[{"$base64":"/w=="}]}'), True)


@pytest.mark.parametrize("number", ["1", "-1", '"0"', "true", "null", "9e9"])
def test_a_placeholder_without_its_attachment_is_refused(number: str) -> None:
    """With an error: the client lives on."""
    text = f'51-["e",{{"_placeholder":true,"num":{number}}}]'
    with pytest.raises(errors.BadMessage):
        event_of(completed(text.encode(), b"x")).values()


@pytest.mark.parametrize(("text", "reason"), [('2["e"]', "missing"), ('2["e",1]', "must be text")])
def test_an_argument_that_must_be_text(text: str, reason: str) -> None:
    """The error names it."""
    with pytest.raises(errors.BadMessage, match=f"`room`.*{reason}"):
        event_of(decode_packet(text.encode())).text(0, "room")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text() | st.binary(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(st.lists(json_values))
def test_what_is_emitted_is_what_comes(arguments: list[Any]) -> None:
    """Bytes anywhere in the arguments included."""
    text, *attachments = socketio.emitted("/shop", "e", arguments)
    packet = decode_packet(text[1:])
    for attachment in attachments:
        assert isinstance(attachment, BinaryMessage)
        packet = packet.with_attachment(attachment)
    assert packet.namespace == "/shop"
    assert event_of(packet).values() == arguments


@given(json_values)
def test_bytes_travel_between_nodes_as_base64(value: Any) -> None:
    """And come out as bytes for Socket.IO members."""
    json, is_binary = socketio.as_json(value)
    packets = speak([RoomEnvelope(v=1, room="r", data=Raw(json), sender="n.c", event="e", binary=is_binary)])
    packet = decode_packet(packets[0][1:])
    for attachment in packets[1:]:
        packet = packet.with_attachment(attachment)
    assert event_of(packet).values() == [value]


ANN = MemberInfo("n.ann", None)


@pytest.mark.parametrize(
    ("publication", "packet"),
    [
        (
            RoomEnvelope(v=1, room='a"b', data=Raw(b'{"n": 1}'), sender="n.c"),
            b'42["message",{"room":"a\\"b","user":"n.c","message":{"n": 1}}]',
        ),
        (RoomEnvelope(v=1, room="r", data=Raw(b"1")), b'42["message",{"room":"r","user":null,"message":1}]'),
        (RoomEnvelope(v=1, room="r", data=Raw(b"1"), sender="n.c", event='p"'), b'42["p\\"",1]'),
        (
            RoomEnvelope(v=1, room=room_in_namespace("/shop", "r"), data=Raw(b"1"), sender="n.c"),
            b'42/shop,["message",{"room":"r","user":"n.c","message":1}]',
        ),
        (
            RoomEnvelope(v=1, room=room_in_namespace("/shop", ""), data=Raw(b"1"), sender="n.c"),
            b'42/shop,["broadcast",{"user":"n.c","message":1}]',
        ),
        (BroadcastEnvelope(v=1, data=Raw(b"[]"), sender="n.c"), b'42["broadcast",{"user":"n.c","message":[]}]'),
        (PrivateEnvelope(v=1, to="n.d", data=Raw(b'""')), b'42["private",{"user":null,"message":""}]'),
        (Left(room="r"), b'42["left",{"room":"r"}]'),
        (Missed(rooms=None), b'42["missed",{"rooms":null}]'),
        (
            MembersChanged(room="r", joined=[ANN], left=[]),
            b'42["members",{"room":"r","joined":[{"id":"n.ann","user":null}],"left":[]}]',
        ),
    ],
)
def test_a_publication_in_the_words_of_socketio(publication: Any, packet: bytes) -> None:
    """Its data as the bytes that came."""
    assert speak([publication]) == [packet]


@pytest.mark.parametrize("namespace", ["/", "/shop", "/a/b"])
@pytest.mark.parametrize("room", ["r", "", "/shop,r", "日本"])
def test_rooms_of_namespaces_are_apart(namespace: str, room: str) -> None:
    """The name in the hub says both, and no room of ours can have it."""
    assert split_room(room_in_namespace(namespace, room)) == (namespace, room)
    assert (room_in_namespace(namespace, room) == room) is (namespace == "/")
