"""Token buckets that decide who may go on and who must wait. No sockets, no clock: callers say what time it is.

A bucket is one number, the moment at which it will be full again: each token that is taken puts it off by the time in
which one comes back. One that is full already owes nothing, and need not be remembered. (The generic cell rate
algorithm of ATM, in its form of virtual scheduling.)
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol

IPV6_PREFIX_BITS = 64
"""What one customer gets at least: an address of its own for each connection costs nobody anything."""
FORGET_MOST = 10_000
"""Sources forgotten in one go: some milliseconds."""
DEBT_MAX_SECONDS = 60.0
"""What other nodes report never makes a user wait for longer than that: their figures may be wrong."""
LOTS_PER_BURST = 10
"""A node tells of a user's commands in lots of a tenth of the burst."""
ROUNDING = 0.01
"""Of a token: adding times up is not exact, and who waited as long as told must not be told again."""
BUSY_MAX = 10_000
"""Users that wait to be told of; those beyond have spent one lot that nobody hears of."""


class Rate:
    """So many tokens a second in the long run, and ``burst`` of them at once; ``per_second`` 0: any number."""

    __slots__ = ("burst", "interval", "reserve")

    def __init__(self, per_second: float, burst: int) -> None:
        self.burst = burst
        self.interval = 1 / per_second if per_second else 0.0
        """Seconds in which one token comes back."""
        self.reserve = (burst - 1 + ROUNDING) * self.interval if per_second else math.inf
        """How far from full a bucket may be that still has a token."""

    def wait(self, full_at: float, now: float) -> float:
        """Seconds until a bucket has a token; 0 when it has one."""
        return max(full_at - now - self.reserve, 0.0)

    def take(self, full_at: float, now: float, count: int = 1) -> float:
        """When a bucket will be full from which ``count`` tokens were taken."""
        return (full_at if full_at > now else now) + count * self.interval


class Source:
    """Whoever clients belong to, an address or a user: what all of them together have spent.

    ``spent``: commands since a user's other nodes were told last.
    """

    __slots__ = ("commands_full_at", "connections", "connects_full_at", "key", "spent")

    def __init__(self, key: str) -> None:
        self.key = key
        self.connections = 0
        self.commands_full_at = 0.0
        self.connects_full_at = 0.0
        self.spent = 0

    def is_full(self, now: float) -> bool:
        """Whether it owes nothing: a new one would be the same."""
        return self.commands_full_at <= now and self.connects_full_at <= now


class Sources:
    """By key. Those with a connection stay; of the others what they still owe is kept, and of ``idle_max`` at most.

    Beyond that the one that was here longest ago is forgotten: it gets a full bucket when it comes back. So neither the
    memory grows with the number of keys, nor is anybody refused because of it.
    """

    def __init__(self, idle_max: int) -> None:
        self._idle_max = idle_max
        self._held: dict[str, Source] = {}
        self._idle: OrderedDict[str, Source] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held) + len(self._idle)

    def __iter__(self) -> Iterator[Source]:
        yield from self._held.values()
        yield from self._idle.values()

    def of(self, key: str) -> Source:
        """The source of this key, as it is or as a new one; nobody's connection counts."""
        source = self._held.get(key)
        if source is not None:
            return source
        source = self._idle.get(key)
        if source is None:
            source = self._idle[key] = Source(key)
            if len(self._idle) > self._idle_max:
                self._idle.popitem(last=False)
        else:
            self._idle.move_to_end(key)
        return source

    def hold(self, key: str) -> Source:
        """One more connection belongs to this source; ``release`` it."""
        source = self.of(key)
        if not source.connections:
            self._idle.pop(key, None)
            self._held[key] = source
        source.connections += 1
        return source

    def release(self, source: Source, now: float) -> None:
        """One of its connections is gone."""
        source.connections -= 1
        if source.connections:
            return
        del self._held[source.key]
        if not source.is_full(now):
            self._idle[source.key] = source
            if len(self._idle) > self._idle_max:
                self._idle.popitem(last=False)

    def forget_full(self, now: float) -> None:
        """Let go of those without a connection that owe nothing any more, the longest away first."""
        for _ in range(FORGET_MOST):
            key = next(iter(self._idle), None)
            if key is None or not self._idle[key].is_full(now):
                return
            del self._idle[key]


class Spender(Protocol):
    """A connection: its own bucket, and the two that it shares."""

    commands_full_at: float
    source: Source
    account: Source | None


class CommandRates:
    """Commands of a connection, of all from its address, and of all of its user. Taken from all three or from none."""

    def __init__(self, connection: Rate, address: Rate, user: Rate) -> None:
        self.connection = connection
        self.address = address
        self.user = user
        self.busy: list[Source] = []
        """Users that have spent a lot here, of which other nodes do not know yet."""
        self._lot = max(user.burst // LOTS_PER_BURST, 1)

    def take(self, spender: Spender, now: float) -> bool:
        """Whether one more command may be read. Called for every command: nothing here that need not be."""
        rate = self.connection
        own = spender.commands_full_at
        if own < now:
            own = now
        elif own - now > rate.reserve:
            return False
        address_rate = self.address
        source = spender.source
        shared = source.commands_full_at
        if shared < now:
            shared = now
        elif shared - now > address_rate.reserve:
            return False
        account = spender.account
        if account is not None:
            user_rate = self.user
            of_user = account.commands_full_at
            if of_user < now:
                of_user = now
            elif of_user - now > user_rate.reserve:
                return False
            account.commands_full_at = of_user + user_rate.interval
            account.spent += 1
            if account.spent == self._lot:
                self._is_busy(account)
        spender.commands_full_at = own + rate.interval
        source.commands_full_at = shared + address_rate.interval
        return True

    def _is_busy(self, account: Source) -> None:
        if len(self.busy) < BUSY_MAX:
            self.busy.append(account)
        else:
            account.spent = 0

    def refusal(self, spender: Spender, now: float) -> tuple[str, float]:
        """Which of the three is empty, and how long until all have a token again."""
        waits = {
            "connection": self.connection.wait(spender.commands_full_at, now),
            "address": self.address.wait(spender.source.commands_full_at, now),
        }
        if spender.account is not None:
            waits["user"] = self.user.wait(spender.account.commands_full_at, now)
        limit = max(waits, key=lambda each: waits[each])
        return limit, waits[limit]

    def take_busy(self, most: int) -> dict[str, int]:
        """What up to ``most`` users have spent here since it was told last."""
        told, self.busy = self.busy[:most], self.busy[most:]
        spent = {}
        for source in told:
            spent[source.key] = source.spent
            source.spent = 0
        return spent

    def spent_elsewhere(self, users: Sources, spent: Mapping[str, int], now: float) -> None:
        """Another node says what users have spent there: their buckets here have that much less, and may owe it."""
        rate = self.user
        if not rate.interval:
            return
        most = now + rate.reserve + DEBT_MAX_SECONDS
        for key, count in spent.items():
            source = users.of(key)
            source.commands_full_at = min(rate.take(source.commands_full_at, now, max(count, 0)), most)


def source_of(address: str) -> str:
    """What is limited as one: an IPv4 address, or the network of 64 bits that an IPv6 address is in."""
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(parsed, IPv6Address):
        mapped: IPv4Address | None = parsed.ipv4_mapped
        if mapped is not None:
            return str(mapped)
        network = int(parsed) >> (128 - IPV6_PREFIX_BITS) << (128 - IPV6_PREFIX_BITS)
        return f"{IPv6Address(network)}/{IPV6_PREFIX_BITS}"
    return str(parsed)


def rounded_up(seconds: float) -> float:
    """As clients are told: whole milliseconds, never too few."""
    return math.ceil(seconds * 1000) / 1000
