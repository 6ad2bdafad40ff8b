"""Whose time is over: deadlines of clients that say nothing, of tokens, and of sessions."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from realtime.conf import Settings
from realtime.expiry import BATCH_CONNECTIONS, Expiry
from realtime.hub import Hub, Member
from realtime.identity import ANONYMOUS, Identity, LiveSession
from realtime.instrument import Instrument
from realtime.protocol.closing import UNAUTHORIZED, CloseCode
from realtime.tasks import TaskGroup
from tests.unit.writers import RecordingWriter

NOW = 1_000.0


class Evictions(Instrument):
    """Records evictions."""

    def __init__(self) -> None:
        self.evicted: list[tuple[int, str]] = []

    def connection_evicted(self, close: CloseCode, reason: str = "") -> None:
        self.evicted.append((close.code, reason))


class Guest(Member):
    """A member with a credential, that leaves its hub when it is evicted."""

    def __init__(self, house: House, name: str, identity: Identity, *, is_admitted: bool = True) -> None:
        self.recorder = RecordingWriter()
        super().__init__(name, identity.user, self.recorder)
        self.identity, self.is_admitted = identity, is_admitted
        self._house = house
        house.hub.add(self)
        house.expiry.watch(self)

    def evict(self, close: CloseCode) -> None:
        super().evict(close)
        self._house.hub.remove(self)
        self._house.expiry.forget(self)

    @property
    def is_closed(self) -> bool:
        return self.recorder.closed_with is not None


class House:
    """A hub with the deadlines of its members; the time is told."""

    def __init__(self, **settings: Any) -> None:
        self.hub = Hub()
        self.evictions = Evictions()
        self.tasks = TaskGroup()
        self.expiry = Expiry("n1", self.hub, Settings(**settings), self.evictions, self.tasks, lambda: NOW)

    def token(self, name: str, seconds: float, user: str = "7") -> Guest:
        return Guest(self, name, Identity(user, expires_at=time.time() + seconds))


async def test_a_client_that_does_not_say_who_it_is() -> None:
    """Is closed when its time is over, and not before."""
    house = House(authenticate_seconds=10)
    guest = Guest(house, "a", ANONYMOUS, is_admitted=False)
    house.expiry.look(NOW + 9.9)
    assert not guest.is_closed
    house.expiry.look(NOW + 10)
    assert guest.recorder.closed_with is UNAUTHORIZED
    assert house.evictions.evicted == [(4001, "not_authenticated")]


async def test_anonymous_clients_that_may_be_have_no_deadline() -> None:
    """Nor has a credential that does not end."""
    house = House()
    guests = [Guest(house, "a", ANONYMOUS), Guest(house, "b", Identity("7"))]
    assert len(house.expiry) == 0
    house.expiry.look(NOW + 1e9)
    assert not any(guest.is_closed for guest in guests)


async def test_a_token_has_its_grace() -> None:
    """It is closed that much after its end."""
    house = House(token_grace_seconds=30)
    guest = house.token("a", 60)
    house.expiry.look(NOW + 89)
    assert not guest.is_closed
    house.expiry.look(NOW + 91)
    assert guest.is_closed
    assert house.evictions.evicted == [(4001, "token_expired")]


async def test_a_newer_token_counts() -> None:
    """From the moment that it was sent."""
    house = House(token_grace_seconds=0)
    guest = house.token("a", 60)
    guest.identity = Identity("7", expires_at=time.time() + 600)
    house.expiry.watch(guest)
    house.expiry.look(NOW + 599)
    assert not guest.is_closed
    house.expiry.look(NOW + 601)
    assert guest.is_closed


async def test_many_that_end_at_once_are_closed_in_batches() -> None:
    """Other work gets its turn between them."""
    house = House(token_grace_seconds=0)
    guests = [house.token(f"g{number}", 5) for number in range(BATCH_CONNECTIONS + 1)]
    assert house.expiry.look(NOW + 10) is True
    assert sum(guest.is_closed for guest in guests) == BATCH_CONNECTIONS
    assert house.expiry.look(NOW + 10) is False
    assert all(guest.is_closed for guest in guests)


async def test_who_left_is_forgotten() -> None:
    """Nothing is kept of it."""
    house = House()
    guest = house.token("a", 5)
    guest.evict(UNAUTHORIZED)
    assert len(house.expiry) == 0
    house.expiry.look(NOW + 100)
    assert house.evictions.evicted == []


async def test_a_session_without_a_key_ends_when_it_said() -> None:
    """It went on under a key that nobody told: it cannot be looked up."""
    house = House()
    guest = Guest(house, "a", Identity("7", "", time.time() + 5, LiveSession("tag", None)))
    house.expiry.look(NOW + 6)
    assert guest.is_closed
    assert house.evictions.evicted == [(4001, "session_ended")]


async def test_the_looks_are_two_tasks_whatever_comes() -> None:
    """No task belongs to a connection, and they close without being called."""
    house = House(authenticate_seconds=0.2)
    house.expiry.start()
    guests = [Guest(house, f"g{number}", ANONYMOUS, is_admitted=False) for number in range(50)]
    assert len(house.tasks) == 2
    house.expiry.look(NOW)
    for guest in guests:
        guest.is_admitted = True
        guest.identity = Identity("7", expires_at=time.time() - 100)
        house.expiry.watch(guest)
    async with asyncio.timeout(10):
        while not all(guest.is_closed for guest in guests):
            await asyncio.sleep(0.01)
    assert len(house.tasks) == 2
    await house.tasks.cancel()
