"""Limits that decide: given what is and the time, what must happen. No sockets, no clock."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol


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


class Active(Protocol):
    """Whoever may be silent. ``last_active``: when it last did something, on the clock of ``now``."""

    last_active: float


class Capacity:
    """Decides who goes when a node is at its capacity: the longest inactive, of those inactive for long enough.

    Asked for every client that finds the node full, so that it must not look at all connections each time. One look
    keeps the longest inactive in a line, by name; a later question takes from the line, as whoever was not in it is
    active more lately, and passes over those that were active or have gone since. So a look is paid for by as many
    evictions, or by as many clients that did something.
    """

    def __init__(self, connections_max: int, evict_fraction: float, inactive_seconds: float) -> None:
        self.connections_max = connections_max
        self.evict_max = max(1, int(connections_max * evict_fraction))
        self._inactive_seconds = inactive_seconds
        self._line: list[tuple[float, str]] = []  # the longest inactive last

    def has_room(self, connections: int) -> bool:
        """Whether one more fits beside so many."""
        return connections < self.connections_max

    def surplus(self, connections: Mapping[str, Active], now: float) -> list[str]:
        """Whom to evict, the longest inactive first: ``evict_max`` of them, or fewer, or none."""
        chosen: list[str] = []
        has_looked = False
        while len(chosen) < self.evict_max:
            if not self._line:
                if has_looked:
                    break
                has_looked = True
                self._line = self._look(connections, set(chosen))
                continue
            since, name = self._line[-1]
            member = connections.get(name)
            if member is not None and member.last_active == since:
                if now - since < self._inactive_seconds:
                    break
                chosen.append(name)
            self._line.pop()
        return chosen

    def _look(self, connections: Mapping[str, Active], chosen: set[str]) -> list[tuple[float, str]]:
        ages = [(member.last_active, name) for name, member in connections.items()]
        line = [each for each in heapq.nsmallest(self.evict_max, ages) if each[1] not in chosen]
        line.reverse()
        return line


def longest_inactive(connections: Mapping[str, Active], count: int, inactive_since: float) -> list[str]:
    """The ``count`` longest inactive of those that did nothing after that moment, the longest inactive first."""
    ages = [(each.last_active, name) for name, each in connections.items() if each.last_active <= inactive_since]
    return [name for _, name in (heapq.nsmallest(count, ages) if count < len(ages) else sorted(ages))]


@dataclass(frozen=True, slots=True)
class MemoryState:
    """What a look at the memory of a node found."""

    resident_bytes: int
    max_bytes: int
    is_evicting: bool = True
    """Whether connections are closed for it; not any more once that has freed nothing."""

    @property
    def is_over(self) -> bool:
        """Whether the node holds more than it should."""
        return self.resident_bytes > self.max_bytes


class MemoryGuard:
    """Decides how many connections are closed for the sake of memory, one look at a time.

    Resident memory does not fall by what clients held, as parts of it stay with the allocator, and it may not be the
    clients who hold it. A guard that closed some at every look above the limit would empty the node: so it compares
    with the look before, and stops until memory is below the limit again.
    """

    FREED_LEAST_FRACTION = 0.005
    """Of the limit: less than that is noise, and counts as nothing."""

    def __init__(self, max_bytes: int, evict_fraction: float) -> None:
        self.max_bytes = max_bytes
        self.is_evicting = True
        self._evict_fraction = evict_fraction
        self._before: int | None = None

    def look(self, resident_bytes: int, connections: int) -> int:
        """How many of so many connections may be closed, at most. ``resident_bytes``: after what could be trimmed."""
        before, self._before = self._before, None
        if resident_bytes <= self.max_bytes:
            self.is_evicting = True
            return 0
        if before is not None and before - resident_bytes < self.max_bytes * self.FREED_LEAST_FRACTION:
            self.is_evicting = False
        return max(1, int(connections * self._evict_fraction)) if self.is_evicting and connections else 0

    def closed(self, resident_bytes: int) -> None:
        """Some connections were closed after a look that had found so much: the next one tells what it freed."""
        self._before = resident_bytes
