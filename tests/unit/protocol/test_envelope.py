"""What nodes tell each other."""

from __future__ import annotations

import msgspec
import pytest

from realtime.protocol import codec, envelope, messages
from realtime.protocol.envelope import RoomEnvelope, UnreadableEnvelope


def test_an_envelope_comes_back_as_it_was() -> None:
    """With the payload byte for byte."""
    sent = RoomEnvelope(v=1, room="é", data=msgspec.Raw(b'{ "a":1 }'), sender="n.c", skip="n.c")
    assert envelope.decode(envelope.encode(sent)) == sent


def test_a_foreign_service_needs_four_fields() -> None:
    """The example of the documentation."""
    decoded = envelope.decode(b'{"v":1,"type":"room","room":"lobby","data":{"any":"json"}}')
    assert isinstance(decoded, RoomEnvelope)
    assert (decoded.sender, decoded.skip) == (None, None)


@pytest.mark.parametrize(
    ("text", "room"),
    [
        (b'{"v":2,"type":"room","room":"lobby","data":1}', "lobby"),
        (b'{"v":1,"type":"hologram","room":"lobby"}', "lobby"),
        (b'{"v":1,"type":"hologram"}', None),
        (b'{"v":1,"type":"room","room":"lobby"}', "lobby"),
        (b"{", None),
        (b'{"v":1,"type":"room","room":"a","data":"\xff"}', "a"),
        (b"[" * 100_000, None),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_a_node_cannot_read_names_its_room_where_it_can(text: bytes, room: str | None) -> None:
    """So that only the members of that room are told that they missed something."""
    with pytest.raises(UnreadableEnvelope) as caught:
        envelope.decode(text)
    assert caught.value.room == room


def test_nodes_publish_in_the_highest_version_that_all_read() -> None:
    """And in the own one when nothing is shared: those nodes then count what they cannot read."""
    assert envelope.common_version([], [1, 2]) == 2
    assert envelope.common_version([[1, 2], [1]], [1, 2]) == 1
    assert envelope.common_version([[2, 3], [1, 2, 3]], [1, 2]) == 2
    assert envelope.common_version([[2], [3]], [1, 2]) == 1


@pytest.mark.parametrize("kind", [each for each in envelope.AnyEnvelope.__args__ if issubclass(each, envelope.Order)])
def test_no_command_of_a_client_is_an_order(kind: type[envelope.Order]) -> None:
    """What nodes obey cannot be said by a client: its commands have other names."""
    tag = kind.__struct_config__.tag
    assert tag not in {command.__struct_config__.tag for command in messages.COMMANDS}
    with pytest.raises(codec.RefusedText) as refused:
        codec.decode_command(f'{{"type":"{tag}","request":"1","reply_to":"x"}}'.encode())
    assert refused.value.refusal.code == "unknown_type"
