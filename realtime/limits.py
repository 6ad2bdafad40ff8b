"""Limits that decide: given what is and the time, what must happen. No sockets, no clock."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BacklogLimit:
    """How much may wait for one client: ``max_bytes`` for ``grace_seconds``, never ``hard_max_bytes``."""

    max_bytes: int
    grace_seconds: float
    hard_max_bytes: int


class BacklogGuard:
    """Decides when a connection is a slow consumer. One per connection whose backlog grew; times in seconds."""

    __slots__ = ("_limit", "_since")

    def __init__(self, limit: BacklogLimit) -> None:
        self._limit = limit
        self._since: float | None = None

    def is_slow(self, backlog: int, now: float) -> bool:
        """Whether a connection with ``backlog`` bytes waiting must go; call again while ``is_watched``."""
        if backlog > self._limit.hard_max_bytes:
            return True
        if backlog <= self._limit.max_bytes:
            self._since = None
            return False
        if self._since is None:
            self._since = now
        return now - self._since >= self._limit.grace_seconds

    @property
    def is_watched(self) -> bool:
        """Whether the backlog was over its limit at the last look."""
        return self._since is not None
