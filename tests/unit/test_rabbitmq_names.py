"""Routing keys of the RabbitMQ layer; the vectors are a table of docs/backplanes.md, for authors in other languages."""

from __future__ import annotations

import pytest

from realtime.layers.rabbitmq_names import is_answered, key_of_channel, key_of_group
from realtime.protocol.names import (
    BROADCAST_GROUP,
    NODES_GROUP,
    echo_stem,
    group_of_room,
    group_of_user,
    node_channel,
)
from tests.support.tables import table

VECTORS = [
    (row["group or channel"].strip("`"), row["routing key"].strip("`"))
    for row in table("backplanes.md", "group or channel", "routing key", "of")
]


@pytest.mark.parametrize(("name", "key"), VECTORS)
def test_a_name_has_the_key_of_its_vector(name: str, key: str) -> None:
    """Each group or channel of the table maps to the routing key beside it."""
    is_channel = key.startswith(("node.", "channel."))
    assert (key_of_channel(name) if is_channel else key_of_group(name)) == key


def test_the_vectors_cover_every_family() -> None:
    """Every kind of name that our own functions build has a vector."""
    ours = [
        BROADCAST_GROUP,
        NODES_GROUP,
        f"{echo_stem('n')}.0",
        group_of_room("a"),
        group_of_room("ä"),
        group_of_user("a"),
        group_of_user("ä"),
        "chat",
    ]
    keys = [key_of_group(group) for group in ours] + [key_of_channel(node_channel("n")), key_of_channel("specific.x")]
    families = {key.split(".")[0] + ("#" if "sha256:" in key else "") for key in keys}
    assert families == {key.split(".")[0] + ("#" if "sha256:" in key else "") for _, key in VECTORS}


def test_no_room_meets_another_ones_key() -> None:
    """Rooms that are called like a digest, a family or another group have keys of their own."""
    digest = group_of_room("ä").removeprefix("rt.h.")
    rooms = ["ä", digest, f"h.{digest}", f"sha256:{digest}", "r.a", "a", "all", "message", "echo.n.0"]
    plain = [room for room in rooms if room.isascii() and ":" not in room]
    groups = [group_of_room(room) for room in rooms] + [f"rt.{room}" for room in plain] + plain
    keys = [key_of_group(group) for group in groups] + [key_of_channel(group) for group in groups]
    assert len(set(keys)) == 2 * len(set(groups))
    assert all(key.isascii() and len(key) < 256 and not {"#", "*"} & set(key.split(".")) for key in keys)


def test_only_what_addresses_somebody_is_answered() -> None:
    """A node or a user may be nowhere, and the publisher wants to know; a room may be empty."""
    assert is_answered(key_of_channel("rt.node.n").encode())
    assert is_answered(key_of_group("rt.u.7").encode())
    assert is_answered(key_of_group(group_of_user("ä")).encode())
    assert not is_answered(key_of_group("rt.r.node.n").encode())
    assert not is_answered(key_of_group(BROADCAST_GROUP).encode())
