"""Token buckets: who may go on, who waits how long, and what is remembered of whom."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.rates import BUSY_MAX, DEBT_MAX_SECONDS, ROUNDING, CommandRates, Rate, Source, Sources, source_of

OFF = Rate(0, 1)
NOW = 1_000.0


@dataclass(eq=False)
class Someone:
    """A connection, as far as rates know one."""

    commands_full_at: float = 0.0
    source: Source = field(default_factory=lambda: Source("10.0.0.1"))
    account: Source | None = None


def refusal(rates: CommandRates, someone: Someone) -> tuple[str, float]:
    """What refuses now, and for how long, in tenths of a second."""
    limit, wait = rates.refusal(someone, NOW)
    return limit, round(wait, 1)


@given(
    per_second=st.floats(0.1, 1_000),
    burst=st.integers(1, 500),
    gaps=st.lists(st.floats(0, 3), min_size=1, max_size=300),
)
def test_never_more_than_burst_and_rate(per_second: float, burst: int, gaps: list[float]) -> None:
    """In any span of time at most the burst and what comes back in it is taken, whenever anybody asks."""
    rate, full_at, now = Rate(per_second, burst), 0.0, NOW
    taken: list[float] = []
    for gap in gaps:
        now += gap
        if not rate.wait(full_at, now):
            full_at = rate.take(full_at, now)
            taken.append(now)
    for index, begin in enumerate(taken):
        for count, end in enumerate(taken[index:], 1):
            assert count <= burst + (end - begin) * per_second + ROUNDING + 1e-6


@given(per_second=st.floats(0.1, 1_000), burst=st.integers(1, 500), idle=st.floats(0, 100))
def test_a_full_bucket_gives_its_burst_at_once_and_then_the_wait_is_true(
    per_second: float, burst: int, idle: float
) -> None:
    """Whoever waits as long as told gets one token, and not a second one."""
    rate, full_at, now = Rate(per_second, burst), 0.0, NOW + idle
    for _ in range(burst):
        assert rate.wait(full_at, now) == 0
        full_at = rate.take(full_at, now)
    wait = rate.wait(full_at, now)
    assert wait == pytest.approx((1 - ROUNDING) / per_second, rel=1e-3)
    now += wait + 1e-9
    assert rate.wait(full_at, now) == 0
    assert rate.wait(rate.take(full_at, now), now) > 0


def test_a_rate_of_zero_is_none() -> None:
    """Any number at any time."""
    full_at = 0.0
    for _ in range(10_000):
        assert OFF.wait(full_at, NOW) == 0
        full_at = OFF.take(full_at, NOW)
    someone = Someone(account=Source("7"))
    rates = CommandRates(OFF, OFF, OFF)
    assert all(rates.take(someone, NOW) for _ in range(10_000))


def test_connections_of_an_address_and_of_a_user_share_a_bucket() -> None:
    """The connection's own is for it alone; what one of the three refuses costs nothing of the others."""
    rates = CommandRates(Rate(1, 3), Rate(1, 5), Rate(1, 4))
    address, user = Source("10.0.0.1"), Source("7")
    one, two = (Someone(source=address, account=user) for _ in range(2))
    other = Someone(source=address)
    assert [rates.take(one, NOW) for _ in range(4)] == [True, True, True, False]
    assert refusal(rates, one) == ("connection", 1.0)
    assert [rates.take(two, NOW) for _ in range(2)] == [True, False]
    assert refusal(rates, two) == ("user", 1.0)
    assert [rates.take(other, NOW) for _ in range(2)] == [True, False]
    assert refusal(rates, other) == ("address", 1.0)
    assert [rates.take(each, NOW + 1) for each in (one, two, other)] == [True, False, False]
    assert [rates.take(each, NOW + 2) for each in (two, other)] == [True, False]


def test_what_users_spend_elsewhere_counts_here() -> None:
    """Lots of a tenth of the burst are told; a node that hears them has that much less for the user, and may owe it."""
    here, there = (CommandRates(OFF, OFF, Rate(10, 100)) for _ in range(2))
    users = Sources(10)
    mine, theirs = Someone(account=users.hold("7")), Someone(account=Source("7"))
    assert all(there.take(theirs, NOW) for _ in range(9))
    assert there.take_busy(10) == {}
    assert all(there.take(theirs, NOW) for _ in range(86))
    told = there.take_busy(10)
    assert told == {"7": 95}
    assert there.take_busy(10) == {}
    here.spent_elsewhere(users, told, NOW)
    assert sum(here.take(mine, NOW) for _ in range(100)) == 5
    here.spent_elsewhere(users, {"7": 20}, NOW)
    assert refusal(here, mine) == ("user", 2.1)


def test_a_wrong_figure_blocks_nobody_for_long() -> None:
    """Whatever other nodes say, negative figures included."""
    rates, users = CommandRates(OFF, OFF, Rate(10, 100)), Sources(10)
    mine = Someone(account=users.hold("7"))
    rates.spent_elsewhere(users, {"7": -1_000}, NOW)
    assert rates.take(mine, NOW)
    rates.spent_elsewhere(users, {"7": 10**12}, NOW)
    assert refusal(rates, mine) == ("user", DEBT_MAX_SECONDS)


def test_users_that_nobody_is_told_of_do_not_pile_up() -> None:
    """A node alone forgets them beyond a bound; the next lot of such a user is told again."""
    rates = CommandRates(OFF, OFF, Rate(10, 100))
    for number in range(BUSY_MAX + 100):
        someone = Someone(account=Source(str(number)))
        assert all(rates.take(someone, NOW) for _ in range(10))
    assert len(rates.busy) == BUSY_MAX
    assert len(rates.take_busy(1_000)) == 1_000
    assert all(rates.take(someone, NOW) for _ in range(10))
    assert rates.busy[-1] is someone.account


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::1", "2001:db8:1:3::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("a socket", "a socket"),
    ],
)
def test_what_counts_as_one_address(address: str, source: str) -> None:
    """An IPv4 address, in whatever form; of IPv6 the network that one customer has at least."""
    assert source_of(address) == source


def test_sources_with_a_connection_stay_and_those_that_owe_nothing_go() -> None:
    """What a source owes is remembered after its last connection; what a new one would be as well is not."""
    sources, rate = Sources(10), Rate(1, 10)
    source = sources.hold("a")
    assert sources.hold("a") is source
    sources.release(source, NOW)
    assert sources.of("a") is source
    source.commands_full_at = rate.take(0, NOW, 5)
    sources.release(source, NOW)
    assert sources.of("a") is source
    sources.forget_full(NOW + 4)
    assert len(sources) == 1
    sources.forget_full(NOW + 5)
    assert len(sources) == 0
    idle = sources.hold("b")
    sources.release(idle, NOW)
    assert len(sources) == 0


def test_the_longest_away_is_forgotten_first_and_nobody_who_is_here() -> None:
    """At the bound room is made for the newest; a source that comes again is new among them."""
    sources = Sources(2)
    held = sources.hold("held")
    for key in ("a", "b"):
        sources.of(key).connects_full_at = NOW + 60
    first = sources.of("a")
    sources.of("c")
    assert sources.of("a") is first
    assert [source.key for source in sources] == ["held", "c", "a"]
    assert sources.hold("held") is held
    leaving = sources.hold("d")
    leaving.connects_full_at = NOW + 60
    sources.release(leaving, NOW)
    assert [source.key for source in sources] == ["held", "a", "d"]


def size_of(sources: Sources) -> int:
    """The bytes of all that is remembered."""
    tables = sys.getsizeof(sources._held) + sys.getsizeof(sources._idle)
    each = ("key", "commands_full_at", "connects_full_at", "spent")
    return tables + sum(
        sys.getsizeof(source) + sum(sys.getsizeof(getattr(source, name)) for name in each) for source in sources
    )


def test_a_million_addresses_take_no_more_memory_than_the_bound() -> None:
    """The memory after a million distinct keys is that after as many as the bound, and the last ones are remembered."""
    bound = 50_000
    sources, rate = Sources(bound), Rate(10, 200)
    sizes = []
    for number in range(1_000_000):
        source = sources.of(f"2001:db8:{number >> 16:x}:{number & 0xFFFF:x}::/64")
        source.connects_full_at = rate.take(source.connects_full_at, NOW, 200)
        if number + 1 in (2 * bound, 1_000_000):
            assert len(sources) == bound
            sizes.append(size_of(sources))
    assert sizes[1] < 1.1 * sizes[0]
    assert sizes[1] < 400 * bound
    assert rate.wait(sources.of("2001:db8:f:423f::/64").connects_full_at, NOW) > 0
    assert rate.wait(sources.of("2001:db8:0:0::/64").connects_full_at, NOW) == 0
