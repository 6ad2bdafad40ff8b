"""Who is let in, who is closed, and what is counted: the decisions of the limits, carried out on a hub."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from realtime.conf import MIB, Settings
from realtime.hub import Hub, Member
from realtime.instrument import Instrument
from realtime.occupancy import BATCH_CONNECTIONS, Occupancy
from realtime.protocol.closing import IDLE, OVERLOADED, CloseCode
from realtime.tasks import TaskGroup
from tests.unit.writers import RecordingWriter

NOW = 1_000.0


class Evictions(Instrument):
    """Records evictions."""

    def __init__(self) -> None:
        self.evicted: list[tuple[str, str]] = []

    def connection_evicted(self, close: CloseCode, reason: str = "") -> None:
        self.evicted.append((close.name, reason))


class Guest(Member):
    """A member that leaves its hub when it is evicted, as connections do."""

    def __init__(self, hub: Hub, name: str, silent_for: float) -> None:
        self.recorder = RecordingWriter()
        super().__init__(name, None, self.recorder)
        self.last_active = NOW - silent_for
        self._hub = hub
        hub.add(self)

    def evict(self, close: CloseCode) -> None:
        super().evict(close)
        self._hub.remove(self)


class House:
    """A hub with its occupancy at a moment that stands still."""

    def __init__(self, **settings: Any) -> None:
        self.hub = Hub()
        self.evictions = Evictions()
        self.tasks = TaskGroup()
        self.guests: list[Guest] = []
        self.occupancy = Occupancy("n1", self.hub, Settings(**settings), self.evictions, self.tasks, lambda: NOW)

    def add(self, *silences: float) -> None:
        for silence in silences:
            self.guests.append(Guest(self.hub, f"c{len(self.guests)}", silence))

    @property
    def closed(self) -> dict[str, CloseCode]:
        """Who was closed, and how."""
        codes = {guest.id: guest.recorder.closed_with for guest in self.guests}
        return {name: code for name, code in codes.items() if code is not None}

    async def settle(self) -> None:
        """Wait until nobody is about to be closed."""
        while len(self.tasks):
            await asyncio.sleep(0)


async def test_below_its_maximum_a_node_lets_everybody_in() -> None:
    """Nobody is closed for that."""
    house = House(connections_max=3)
    house.add(60, 60)
    assert house.occupancy.arrive()
    assert house.closed == {}


async def test_handshakes_under_way_take_places() -> None:
    """Two more while one place is free: the second has to wait for an answer of the first."""
    house = House(connections_max=3)
    house.add(0, 0)
    assert house.occupancy.arrive()
    assert not house.occupancy.arrive()
    house.occupancy.arrived()  # and did not come
    assert house.occupancy.arrive()
    house.occupancy.arrived()
    house.add(0)
    assert not house.occupancy.arrive()


async def test_a_full_node_evicts_the_longest_inactive() -> None:
    """A fifth of ten: the two longest inactive, one of them before the newcomer is let in."""
    house = House(connections_max=10, evict_fraction=0.2)
    house.add(11, 14, 5, 12, 13, 0, 0, 0, 0, 0)
    assert house.occupancy.arrive()
    assert house.closed == {"c1": OVERLOADED}
    await house.settle()
    assert house.closed == {"c1": OVERLOADED, "c4": OVERLOADED}
    assert house.evictions.evicted == [("overloaded", "")] * 2


async def test_a_full_node_of_active_clients_refuses() -> None:
    """Nobody is closed; a place that becomes free is given away."""
    house = House(connections_max=3)
    house.add(9, 5, 0)
    assert not house.occupancy.arrive()
    assert house.closed == {}
    house.hub.remove(house.guests[0])
    assert house.occupancy.arrive()


async def test_a_storm_never_exceeds_the_maximum() -> None:
    """Whoever is let in takes a place that was free, or was made free before; the others are refused."""
    house = House(connections_max=300)
    house.add(*(60 for _ in range(200)), *(0 for _ in range(100)))
    admitted = 0
    for _ in range(1_000):
        if house.occupancy.arrive():
            admitted += 1
        assert len(house.hub) + admitted <= 300
    assert admitted == 200
    assert {guest.last_active for guest in house.hub.connections.values() if isinstance(guest, Guest)} == {NOW}


async def test_who_speaks_before_its_turn_stays() -> None:
    """The others go in their order."""
    house = House(connections_max=10, evict_fraction=0.3)
    house.add(40, 30, 20, 0, 0, 0, 0, 0, 0, 0)
    assert house.occupancy.arrive()
    house.guests[1].last_active = NOW
    await house.settle()
    assert list(house.closed) == ["c0", "c2"]


async def test_many_are_closed_in_batches() -> None:
    """Others get their turn between two batches."""
    house = House(idle_timeout_seconds=2.0)
    house.add(*(60 for _ in range(2 * BATCH_CONNECTIONS)))
    house.occupancy.start()
    seen = set()
    while len(house.closed) < 2 * BATCH_CONNECTIONS:
        seen.add(len(house.closed))
        await asyncio.sleep(0)
    assert BATCH_CONNECTIONS in seen
    await house.tasks.cancel()


async def test_the_silent_are_closed() -> None:
    """Those who were silent for the timeout, and nobody else."""
    house = House(idle_timeout_seconds=5.0)
    house.add(60, 4.9, 5, 0)
    house.occupancy.start()
    while len(house.closed) < 2:
        await asyncio.sleep(0.01)
    assert house.closed == {"c0": IDLE, "c2": IDLE}
    assert house.evictions.evicted == [("idle", "")] * 2
    await house.tasks.cancel()


async def test_without_an_idle_timeout_silence_is_allowed() -> None:
    """No task looks for it."""
    house = House(idle_timeout_seconds=0)
    house.add(100_000)
    house.occupancy.start()
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert "memory" in names
    assert "idle" not in names
    await house.tasks.cancel()


async def test_short_memory_costs_the_idlest_tenth(caplog: pytest.LogCaptureFixture) -> None:
    """Above the limit: one line with the figures, one warning, and the idlest of those inactive for long enough."""
    house = House(memory_max_bytes=MIB)
    house.add(*(20 + index for index in range(20)), *(0 for _ in range(10)))
    with caplog.at_level(logging.INFO, "realtime.occupancy"):
        await house.occupancy.look_at_memory()
    await house.settle()
    assert sorted(house.closed) == ["c17", "c18", "c19"]
    assert set(house.closed.values()) == {OVERLOADED}
    assert house.evictions.evicted == [("overloaded", "memory")] * 3
    assert house.occupancy.memory.is_over
    info, warning = (record.getMessage() for record in caplog.records)
    assert info.startswith("memory node=n1 connections=30 resident_bytes=")
    assert warning.startswith("memory_over node=n1 connections=30 resident_bytes=")
    assert warning.endswith("closing=3")


async def test_the_guard_stops_when_closing_frees_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It says so once; the warning goes on, and nobody else is closed."""
    house = House(memory_max_bytes=MIB)
    house.add(*(20 + index for index in range(30)))
    ballast: list[bytearray] = []
    while house.occupancy.memory.is_evicting and len(ballast) < 10:
        ballast.append(await _looked(house))
    closed = len(house.closed)
    assert 3 <= closed < 20
    await _looked(house)
    assert len(house.closed) == closed
    events = [record.getMessage().split()[0] for record in caplog.records if record.levelno == logging.WARNING]
    assert events.count("memory_evictions_stopped") == 1
    assert events[-1] == "memory_over"


async def _looked(house: House) -> bytearray:
    """One look, and then more memory than it freed."""
    await house.occupancy.look_at_memory()
    await house.settle()
    return bytearray(b"x" * (4 * MIB))


async def test_enough_memory_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """No warning, no eviction, nothing collected."""
    house = House(memory_max_bytes=1 << 50)
    house.add(1_000)
    with caplog.at_level(logging.INFO, "realtime.occupancy"):
        await house.occupancy.look_at_memory()
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert not house.occupancy.memory.is_over
    assert house.closed == {}
