"""When each of many things is due, each at a time of its own. Decides only; no clock, no task for anything."""

from __future__ import annotations

import heapq


class Schedule:
    """Names, each due at one moment. Setting a name again replaces its moment."""

    SPARE = 64
    """Moments that no longer hold may stay until they are as many as those that do, and this."""

    def __init__(self) -> None:
        self._due: dict[str, float] = {}
        self._heap: list[tuple[float, str]] = []  # has every moment of _due, and some that were replaced

    def __len__(self) -> int:
        return len(self._due)

    def __contains__(self, name: str) -> bool:
        return name in self._due

    def set(self, name: str, due: float) -> None:
        """``name`` is due then, and not when it was before."""
        self._due[name] = due
        heapq.heappush(self._heap, (due, name))
        if len(self._heap) > 2 * len(self._due) + self.SPARE:
            self._heap = [(moment, each) for each, moment in self._due.items()]
            heapq.heapify(self._heap)

    def drop(self, name: str) -> None:
        """It is not due any more. Safe for a name that is not there."""
        self._due.pop(name, None)

    def due(self, now: float, most: int) -> list[str]:
        """Up to ``most`` of those whose moment has come, the earliest first; they are no longer in the schedule."""
        come: list[str] = []
        while self._heap and len(come) < most and self._heap[0][0] <= now:
            moment, name = heapq.heappop(self._heap)
            if self._due.get(name) == moment:
                del self._due[name]
                come.append(name)
        return come
