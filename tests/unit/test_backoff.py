"""How long a link waits before it tries again."""

from __future__ import annotations

import random

import pytest

from realtime.layers import backoff
from realtime.layers.backoff import FIRST_SECONDS, LONGEST_SECONDS, Backoff


@pytest.fixture(autouse=True)
def seeded(rng: random.Random, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "random", rng)


def test_waits_grow_up_to_two_seconds_and_differ() -> None:
    """Many that lost the same server try again soon, but not at the same moment, and less and less often."""
    nodes = [Backoff() for _ in range(200)]
    rounds = [[node.next() for node in nodes] for _ in range(10)]
    for number, waits in enumerate(rounds):
        ceiling = min(LONGEST_SECONDS, FIRST_SECONDS * 2 ** (number + 1))
        assert min(waits) >= FIRST_SECONDS
        assert ceiling * 0.8 < max(waits) <= ceiling
        assert len(set(waits)) == len(waits)


def test_a_success_begins_anew() -> None:
    """After it the first wait is short again; and it goes on for ever."""
    node = Backoff()
    for _ in range(5_000):
        assert node.next() <= LONGEST_SECONDS
    node.reset()
    assert node.next() <= 2 * FIRST_SECONDS
