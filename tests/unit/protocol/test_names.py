"""Names: no collisions, and always what Channels accepts."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.protocol import names

GROUP = re.compile(r"[a-zA-Z0-9_.-]{1,99}")
rooms = st.text(min_size=1, max_size=64).filter(names.is_room_name)


@given(rooms)
def test_every_room_has_a_valid_group(room: str) -> None:
    """ASCII, under 100 characters."""
    assert GROUP.fullmatch(names.group_of_room(room))


@given(rooms, rooms)
def test_two_rooms_never_share_a_group(one: str, other: str) -> None:
    """Nor do names that only look like the hashed form of another."""
    assert (names.group_of_room(one) == names.group_of_room(other)) == (one == other)


def test_a_room_named_like_a_hashed_group_is_another_room() -> None:
    """The two forms have different prefixes."""
    hashed = names.group_of_room("é")
    assert names.group_of_room(hashed) != hashed


@pytest.mark.parametrize("room", ["a", "é" * 64, "*", "../", "x y", "大厅", "👩‍👩‍👧", "a" * 64])
def test_rooms_of_any_script_are_taken(room: str) -> None:
    """1 to 64 characters, whatever they mean elsewhere."""
    assert names.is_room_name(room)


@pytest.mark.parametrize("room", ["", "a" * 65, "a\x00", "a\r\nb", "\x7f", "\x85", "\u2028", "\u2029", "é\x1b"])
def test_control_characters_and_wrong_lengths_are_refused(room: str) -> None:
    """Also the invisible line separators of Unicode."""
    assert not names.is_room_name(room)


def test_a_connection_id_names_its_node() -> None:
    """And nothing else passes for one."""
    assert names.node_of_connection("n1-abc." + "x" * 22) == "n1-abc"
    for bad in ("n1", "n1.short", "n1." + "x" * 22 + "\n", "a.b." + "x" * 22, "." + "x" * 22, "user:1"):
        assert names.node_of_connection(bad) is None


def test_a_node_id_is_made_safe() -> None:
    """Whatever the host is called."""
    assert names.node_id_of("web 1.example", "ab12") == "web-1-example-ab12"
    assert names.is_node_id(names.node_id_of("héllo/" * 30, "ab12"))
    assert names.node_id_of("///", "ab12") == "node-ab12"


def test_user_recipients() -> None:
    """``user:`` alone is nobody."""
    assert names.user_of_recipient("user:7") == "7"
    assert names.user_of_recipient("user:") is None
    assert names.user_of_recipient("n1.x") is None
    assert names.group_of_user("7") != names.group_of_user("é")
