"""The hub keeps connections, rooms and users in step."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from realtime.hub import Hub, Member
from tests.unit.writers import RecordingWriter


def member(name: str, user: str | None = None) -> Member:
    return Member(name, user, RecordingWriter())


def test_a_room_exists_while_it_has_a_member() -> None:
    """And is gone with the last one."""
    hub, alice, bob = Hub(), member("a"), member("b")
    for each in (alice, bob):
        hub.add(each)
        hub.join(each, "lobby")
    hub.leave(alice, "lobby")
    assert list(hub.rooms["lobby"].members) == ["b"]
    hub.leave(bob, "lobby")
    assert hub.room_count == 0
    assert hub.leave(bob, "lobby") is None


def test_a_user_is_known_while_one_of_their_connections_is_here() -> None:
    """Removing twice is harmless."""
    hub, phone, desk = Hub(), member("a", "7"), member("b")
    hub.add(phone)
    hub.add(desk)
    hub.identify(desk, "7")
    assert set(hub.users["7"]) == {"a", "b"}
    hub.remove(phone)
    hub.remove(phone)
    assert set(hub.users["7"]) == {"b"}
    hub.remove(desk)
    assert (hub.users, len(hub)) == ({}, 0)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["x", "y"]), st.booleans()), max_size=60))
def test_rooms_and_members_always_agree(steps: list[tuple[str, str, bool]]) -> None:
    """Whatever the order of joins and leaves."""
    hub = Hub()
    members = {name: member(name) for name in "abc"}
    for each in members.values():
        hub.add(each)
    for name, room, joins in steps:
        (hub.join if joins else hub.leave)(members[name], room)
    for name, each in members.items():
        assert set(each.rooms) == {room for room, audience in hub.rooms.items() if name in audience.members}
    assert all(audience.members for audience in hub.rooms.values())
    assert all(audience.members.keys() == audience.writers.keys() for audience in hub.rooms.values())
    assert hub.connections.keys() == hub.writers.keys()
