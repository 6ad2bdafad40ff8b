"""Who is a slow consumer."""

from __future__ import annotations

from typing import Any

import pytest

from realtime.limits import BacklogGuard, BacklogLimit, Capacity, MemoryGuard, MemoryState, longest_inactive

LIMIT = BacklogLimit(max_bytes=1000, grace_seconds=1.0, hard_max_bytes=4000)


def test_a_backlog_may_exceed_its_limit_for_the_grace_time() -> None:
    """And not longer."""
    guard = BacklogGuard(LIMIT)
    assert not guard.is_slow(1001, now=10.0)
    assert not guard.is_slow(1001, now=10.9)
    assert guard.is_slow(1001, now=11.0)


def test_a_client_that_catches_up_starts_anew() -> None:
    """The time counts from when the limit was first exceeded again."""
    guard = BacklogGuard(LIMIT)
    guard.is_slow(2000, now=10.0)
    assert not guard.is_slow(1000, now=10.5)
    assert not guard.is_watched
    assert not guard.is_slow(2000, now=11.2)
    assert guard.is_watched


def test_the_hard_limit_gives_no_time() -> None:
    """At any moment."""
    guard = BacklogGuard(LIMIT)
    assert not guard.is_slow(4000, now=10.0)
    assert guard.is_slow(4001, now=10.0)


class Silent:
    """Somebody who was active last at that moment."""

    def __init__(self, last_active: float) -> None:
        self.last_active = last_active


class Counted(dict[str, Silent]):
    """Connections by name that count how often somebody looks at all of them."""

    looks = 0

    def items(self) -> Any:
        self.looks += 1
        return super().items()


def silent(count: int, *, since: float = 0.0, apart: float = 0.001) -> Counted:
    """Connections c0, c1, …, each active a little later than the one before."""
    return Counted({f"c{index}": Silent(since + index * apart) for index in range(count)})


def capacity(connections_max: int = 100, inactive_seconds: float = 10.0) -> Capacity:
    return Capacity(connections_max, 0.1, inactive_seconds)


@pytest.mark.parametrize(("connections", "has_room"), [(0, True), (99, True), (100, False), (101, False)])
def test_a_node_has_room_below_its_maximum(connections: int, has_room: bool) -> None:
    """The last place is taken by the hundredth."""
    assert capacity(100).has_room(connections) is has_room


def test_the_longest_inactive_tenth_goes() -> None:
    """In the order of their silence, whatever the order in which they came."""
    members = silent(100)
    ordered = sorted(members, key=lambda name: int(name[1:]) * 37 % 100)
    shuffled = Counted({name: members[name] for name in ordered})
    assert capacity().surplus(shuffled, now=60.0) == [f"c{index}" for index in range(10)]


def test_who_was_active_lately_stays() -> None:
    """Ten seconds are the border; fewer than a tenth go, or nobody."""
    members = silent(100, since=50.0, apart=1.0)
    assert capacity().surplus(members, now=59.9) == []
    assert capacity().surplus(members, now=62.0) == ["c0", "c1", "c2"]


def test_one_goes_even_when_a_tenth_is_less() -> None:
    """A node of five connections evicts one."""
    assert capacity(5).surplus(silent(5), now=60.0) == ["c0"]


def test_who_became_active_or_left_meanwhile_is_passed_over() -> None:
    """A later question sees what happened since the last look, and still finds a whole tenth."""
    members, full = silent(100), capacity()
    assert full.surplus(members, now=9.0) == []
    for name in ("c0", "c3"):
        members[name].last_active = 30.0
    del members["c1"]
    assert full.surplus(members, now=60.0) == ["c2", *(f"c{index}" for index in range(4, 13))]


def test_a_storm_on_a_full_node_costs_one_look() -> None:
    """10,000 questions while everybody is active look at all connections once."""
    members, full = silent(10_000, since=50.0), capacity(10_000)
    assert all(full.surplus(members, now=59.0) == [] for _ in range(10_000))
    assert members.looks == 1


def test_a_slow_trickle_costs_a_look_for_every_tenth() -> None:
    """One becomes evictable at a time: 1,000 evictions one by one cost two looks, not 1,000."""
    members, full = silent(10_000, since=0.0, apart=1.0), capacity(10_000)
    for index in range(1_000):
        (gone,) = full.surplus(members, now=10.0 + index)
        assert gone == f"c{index}"
        del members[gone]
    assert members.looks <= 2


def test_the_silent_are_those_since_a_moment() -> None:
    """The moment belongs to them; the longest inactive come first, and not more than asked for."""
    members = {"b": Silent(2.0), "a": Silent(1.0), "d": Silent(4.0), "c": Silent(3.0)}
    assert longest_inactive(members, 4, inactive_since=3.0) == ["a", "b", "c"]
    assert longest_inactive(members, 2, inactive_since=3.0) == ["a", "b"]
    assert longest_inactive(members, 4, inactive_since=0.5) == []


MAX = 1_000_000


def test_memory_within_its_limit_costs_nobody() -> None:
    """The limit itself is still within."""
    guard = MemoryGuard(MAX, 0.1)
    assert guard.look(MAX, connections=500) == 0
    assert not MemoryState(MAX, MAX).is_over
    assert MemoryState(MAX + 1, MAX).is_over


def test_memory_above_its_limit_costs_a_tenth_at_each_look() -> None:
    """As long as each look finds less than the one before."""
    guard = MemoryGuard(MAX, 0.1)
    for resident, connections, allowed in ((1_300_000, 500, 50), (1_200_000, 450, 45), (1_100_000, 405, 40)):
        assert guard.look(resident, connections) == allowed
        guard.closed(resident)
    assert guard.is_evicting


@pytest.mark.parametrize("then", [1_300_000, 1_299_000, 1_400_000])
def test_the_guard_stops_when_a_look_freed_nothing(then: int) -> None:
    """Less than half a percent of the limit is nothing. It stays stopped above the limit, and begins anew after it."""
    guard = MemoryGuard(MAX, 0.1)
    assert guard.look(1_300_000, 500) == 50
    guard.closed(1_300_000)
    assert guard.look(then, 450) == 0
    assert not guard.is_evicting
    assert guard.look(1_200_000, 450) == 0
    assert guard.look(900_000, 450) == 0
    assert guard.look(1_300_000, 450) == 45


def test_a_look_that_closed_nobody_proves_nothing() -> None:
    """When everybody was active the next look may still close some."""
    guard = MemoryGuard(MAX, 0.1)
    assert guard.look(1_300_000, 500) == 50
    assert guard.look(1_300_000, 500) == 50


def test_memory_with_few_connections_or_none() -> None:
    """One of five may go; of none, none."""
    guard = MemoryGuard(MAX, 0.1)
    assert guard.look(1_300_000, 5) == 1
    assert guard.look(1_300_000, 0) == 0
