"""How long to wait before trying again: exponential, jittered, for ever."""

from __future__ import annotations

import random

FIRST_SECONDS = 0.05
LONGEST_SECONDS = 2.0


class Backoff:
    """`next()` is the wait before the next attempt; `reset()` after a success that lasted."""

    def __init__(self) -> None:
        self._attempts = 0

    def next(self) -> float:
        ceiling = min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** min(self._attempts + 1, 10))
        self._attempts += 1
        return random.uniform(FIRST_SECONDS, ceiling)

    def reset(self) -> None:
        self._attempts = 0
