"""The schedule: what is due when."""

from __future__ import annotations

import random

from realtime.schedule import Schedule


def test_the_earliest_is_due_first() -> None:
    """Those whose moment has come, in its order, each once, and no more than asked for."""
    schedule = Schedule()
    for name, due in (("c", 3), ("a", 1), ("b", 2), ("d", 9)):
        schedule.set(name, due)
    assert schedule.due(0.5, 10) == []
    assert schedule.due(3, 2) == ["a", "b"]
    assert schedule.due(3, 10) == ["c"]
    assert schedule.due(3, 10) == []
    assert len(schedule) == 1
    assert "d" in schedule


def test_only_the_last_moment_counts() -> None:
    """Later, earlier, or none."""
    schedule = Schedule()
    schedule.set("later", 1)
    schedule.set("later", 5)
    schedule.set("earlier", 5)
    schedule.set("earlier", 1)
    schedule.set("never", 1)
    schedule.drop("never")
    schedule.drop("unknown")
    assert schedule.due(2, 10) == ["earlier"]
    assert schedule.due(9, 10) == ["later"]


def test_memory_is_bounded_by_the_names(rng: random.Random) -> None:
    """Whoever renews a million times has one entry."""
    schedule = Schedule()
    for _ in range(10_000):
        schedule.set(str(rng.randrange(20)), rng.random())
    assert len(schedule) == 20
    assert len(schedule._heap) <= 2 * 20 + Schedule.SPARE
    assert len(schedule.due(1, 100)) == 20
