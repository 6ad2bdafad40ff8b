"""Who is a slow consumer."""

from __future__ import annotations

from realtime.limits import BacklogGuard, BacklogLimit

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
