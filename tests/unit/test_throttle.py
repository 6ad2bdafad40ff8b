"""What a node does with its rates: handshakes, connections of addresses and users, metrics, the log."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from realtime.conf import Settings
from realtime.hub import Member
from realtime.instrument import Instrument
from realtime.protocol.closing import POLICY_VIOLATION, CloseCode
from realtime.rates import Source
from realtime.throttle import LOGGED_SECONDS, Throttle, TurnedAway
from tests.unit.writers import RecordingWriter

HERE, THERE = "10.0.0.1", "10.0.0.2"


class Counts(Instrument):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []

    def command_limited(self, limit: str) -> None:
        self.told.append(("limited", limit))

    def connection_evicted(self, close: CloseCode, reason: str = "") -> None:
        self.told.append((close.name, reason))


class Guest(Member):
    """A member that says whether it was closed."""

    @property
    def is_evicted(self) -> bool:
        assert isinstance(self.writer, RecordingWriter)
        return self.writer.closed_with is POLICY_VIOLATION


class Gate:
    """A throttle at a time that the test sets."""

    def __init__(self, **settings: Any) -> None:
        self.now = 1_000.0
        self.counts = Counts()
        self.throttle = Throttle("n1", Settings(**settings), self.counts, lambda: self.now)

    def guest(self, user: str) -> Guest:
        """A connection of this user."""
        guest = Guest("c", user, RecordingWriter())
        self.throttle.open_account(guest, user)
        self.throttle.evict_if_over(guest)
        return guest

    def knocks(self, address: str, count: int) -> list[str]:
        """Why each of so many handshakes was turned away; empty for those that were not."""
        answers = [self.throttle.knock(address) for _ in range(count)]
        return [answer.reason if answer else "" for answer in answers]


def test_handshakes_of_one_address() -> None:
    """Beyond its burst an address waits, as long as it is told, and another one does not."""
    gate = Gate(address_connects_per_second=2.0, address_connects_burst=3)
    assert gate.knocks(HERE, 5) == ["", "", "", "address_rate", "address_rate"]
    assert gate.knocks(THERE, 1) == [""]
    answer = gate.throttle.knock(HERE)
    assert answer is not None
    assert answer.retry_after == pytest.approx(0.5, abs=0.01)
    gate.now += answer.retry_after
    assert gate.knocks(HERE, 2) == ["", "address_rate"]


def test_addresses_of_one_network_are_one() -> None:
    """A network of IPv6 cannot be used up to connect more often."""
    gate = Gate(address_connects_burst=2)
    assert gate.knocks("2001:db8::1", 1) + gate.knocks("2001:db8::2", 1) == ["", ""]
    assert gate.knocks("2001:db8::3", 1) == ["address_rate"]
    assert gate.knocks("2001:db8:0:1::3", 1) == [""]


def test_handshakes_of_a_node() -> None:
    """All addresses together; who is turned away by the node has spent nothing of its own."""
    gate = Gate(
        node_connects_per_second=10.0, node_connects_burst=4, address_connects_per_second=0.1, address_connects_burst=3
    )
    assert gate.knocks(HERE, 2) + gate.knocks(THERE, 3) == ["", "", "", "", "node_rate"]
    gate.now += 0.2
    assert gate.knocks(THERE, 2) == ["", "address_rate"]


def test_connections_of_one_address() -> None:
    """As many as it may have at a time; the place of one that goes is free."""
    gate = Gate(address_connections_max=2)
    first, second = gate.throttle.enter(HERE), gate.throttle.enter(HERE)
    assert isinstance(first, Source)
    assert first is second
    refused = gate.throttle.enter(HERE)
    assert isinstance(refused, TurnedAway)
    assert (refused.reason, refused.retry_after) == ("address_connections", 5)
    assert isinstance(gate.throttle.enter(THERE), Source)
    gate.throttle.leave(first)
    assert isinstance(gate.throttle.enter(HERE), Source)
    assert isinstance(gate.throttle.enter(HERE), TurnedAway)


def test_clients_without_an_address_are_not_one_client() -> None:
    """Through a Unix socket nobody is known by an address; the node's own rate holds."""
    gate = Gate(address_connections_max=1, address_connects_burst=1, node_connects_burst=3)
    assert gate.knocks("", 4) == ["", "", "", "node_rate"]
    for _ in range(3):
        source = gate.throttle.enter("")
        assert isinstance(source, Source)
        gate.throttle.leave(source)
    assert len(gate.throttle.addresses) == 0


def test_zero_means_off() -> None:
    """Any number of handshakes and connections; nothing is remembered of who is gone."""
    gate = Gate(
        address_connects_per_second=0.0, node_connects_per_second=0.0, address_connections_max=0, user_connections_max=0
    )
    assert set(gate.knocks(HERE, 5_000)) == {""}
    sources = [gate.throttle.enter(HERE) for _ in range(500)]
    guests = [gate.guest("7") for _ in range(500)]
    assert not any(guest.is_evicted for guest in guests)
    for source, guest in zip(sources, guests, strict=True):
        assert isinstance(source, Source)
        gate.throttle.leave(source)
        gate.throttle.close_account(guest)
    assert len(gate.throttle.addresses) == len(gate.throttle.users) == 0


def test_connections_of_one_user() -> None:
    """The one above the limit is closed with 1008, until another one has gone; other users are others."""
    gate = Gate(user_connections_max=2)
    first, second, third = (gate.guest("7") for _ in range(3))
    assert [guest.is_evicted for guest in (first, second, third)] == [False, False, True]
    assert gate.counts.told == [("policy_violation", "user_connections")]
    assert not gate.guest("8").is_evicted
    for guest in (third, first, first):  # an end may be told twice
        gate.throttle.close_account(guest)
    assert not gate.guest("7").is_evicted
    assert gate.guest("7").is_evicted


def test_what_is_owed_no_more_is_forgotten_with_the_next_heartbeat() -> None:
    """Memory follows the traffic down again, without anybody connecting."""
    gate = Gate(address_connects_per_second=10.0)
    for number in range(100):
        gate.knocks(f"10.0.1.{number}", 1)
    assert len(gate.throttle.addresses) == 100
    gate.now += 0.2
    assert gate.throttle.tell() == {}
    assert len(gate.throttle.addresses) == 0


def test_the_log_names_each_limit_once_a_second(caplog: pytest.LogCaptureFixture) -> None:
    """And says how many lines it left out; metrics count each."""
    gate = Gate()
    with caplog.at_level(logging.WARNING, "realtime.throttle"):
        for _ in range(1_000):
            gate.throttle.limited("connection", "n1.a")
        gate.throttle.closed("rate", "n1.a")
        gate.now += LOGGED_SECONDS
        gate.throttle.limited("connection", "n1.b")
    assert [record.getMessage() for record in caplog.records] == [
        "limit_reached node=n1 limit=rate_of_connection by='n1.a' unlogged_before=0",
        "limit_reached node=n1 limit=rate by='n1.a' unlogged_before=0",
        "limit_reached node=n1 limit=rate_of_connection by='n1.b' unlogged_before=999",
    ]
    assert gate.counts.told.count(("limited", "connection")) == 1_001
    assert gate.counts.told.count(("policy_violation", "rate")) == 1
