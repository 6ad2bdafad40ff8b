"""Counters become rates, histograms become quantiles."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from realtime.hub import Hub, Member
from realtime.instrument import Instrument
from realtime.meter import SLICE_WRITERS, Meter
from realtime.statistics import COUNTERS, RATES, Histogram, Observed, Statistics, Totals
from tests.support.tables import table
from tests.unit.writers import RecordingWriter


def observed(bounds: tuple[float, ...], *values: float) -> Observed:
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    return Observed.of(histogram)


def test_rates_are_of_the_time_since_the_last_look() -> None:
    """What was counted before does not count again; totals go on."""
    statistics = Statistics(Totals(messages_in=100), now=10.0)
    assert statistics.look(Totals(messages_in=150), now=15.0)["messages_in_per_second"] == 10
    figures = statistics.look(Totals(messages_in=150, deliveries=8), now=17.0)
    assert (figures["messages_in"], figures["messages_in_per_second"]) == (150, 0)
    assert (figures["deliveries"], figures["deliveries_per_second"], figures["interval_seconds"]) == (8, 4, 2)


def test_two_looks_at_one_moment_divide_by_nothing() -> None:
    """A clock that stands still makes a rate of zero."""
    figures = Statistics(Totals(), now=1.0).look(Totals(messages_in=5), now=1.0)
    assert figures["messages_in_per_second"] == 0


def test_quantiles_are_of_the_time_since_the_last_look() -> None:
    """An hour of quick answers does not hide that the last ones were slow; without any there is no quantile."""
    bounds = (0.001, 0.01, 0.1, 1.0)
    quick, slow = [0.0005] * 1000, [0.5] * 10
    statistics = Statistics(Totals(), now=0.0)
    statistics.look(Totals(latency=observed(bounds, *quick)), now=5.0)
    figures = statistics.look(Totals(latency=observed(bounds, *quick, *slow)), now=10.0)
    assert 0.1 <= figures["latency_p50_seconds"] <= 1.0
    figures = statistics.look(Totals(latency=observed(bounds, *quick, *slow)), now=15.0)
    assert "latency_p50_seconds" not in figures
    assert "lag_p99_seconds" not in figures


def test_quantiles_interpolate_like_prometheus() -> None:
    """Linear within the bucket, from 0 in the first; the highest bound for what is above all bounds."""
    assert observed((1, 2, 4), 0.5, 1.5, 3, 3).quantile(0.5) == 2.0
    assert observed((1, 2, 4), 3, 3, 3, 3).quantile(0.5) == 3.0
    assert observed((1, 2, 4), 0.9).quantile(0.5) == 0.5
    assert observed((1, 2, 4), 100, 100).quantile(0.99) == 4
    assert observed((1, 2, 4)).quantile(0.5) is None


@given(st.lists(st.floats(0, 10), min_size=1), st.floats(0.01, 0.99))
def test_a_quantile_is_in_the_bucket_of_the_true_one(values: list[float], share: float) -> None:
    """Whatever was observed: no bucket too high, none too low."""
    bounds = (0.1, 0.5, 1.0, 2.0, 5.0)
    rank = share * len(values)
    true = sorted(values)[max(0, min(len(values) - 1, int(rank) if rank != int(rank) else int(rank) - 1))]
    found = observed(bounds, *values).quantile(share)
    assert found is not None
    above = next((bound for bound in bounds if true <= bound), bounds[-1])
    below = max((bound for bound in bounds if bound < min(true, bounds[-1])), default=0.0)
    assert below <= found <= above


async def test_every_figure_of_a_heartbeat_is_documented() -> None:
    """docs/metrics.md lists each, in the order of the heartbeat."""
    counted = Totals(**{name: observed((1.0,), 0.5) for name in ("latency", "lag", "echo", "batch")})  # type: ignore[arg-type]

    class Counting(Instrument):
        is_asked = False

        def totals(self) -> Totals:
            before, self.is_asked = self.is_asked, True
            return counted if before else Totals()

    meter = Meter(Hub(), Counting(), iter([0.0, 5.0]).__next__, lambda: 0)
    await meter.look()
    documented = [row["figure"] for row in table("metrics.md", "figure", "meaning")]
    assert documented == list(meter.figures())
    assert set(RATES) < set(COUNTERS) < set(documented)


async def test_the_backlog_is_that_of_all_connections() -> None:
    """Also when there are more than one slice of them; and what the hub holds is counted at once."""
    hub, waiting = Hub(), 3
    for number in range(SLICE_WRITERS * 2 + 7):
        writer = RecordingWriter()
        writer.waiting = waiting
        hub.add(Member(str(number), f"user {number % 5}", writer))
    meter = Meter(hub, Instrument(), lambda: 0.0, lambda: 17)
    assert "backlog_bytes" not in meter.figures()
    await meter.look()
    figures = meter.figures()
    assert figures["backlog_bytes"] == waiting * len(hub)
    assert (figures["users"], figures["tracking_pending"]) == (5, 17)
    hub.remove(next(iter(hub.connections.values())))
    assert meter.figures()["connections"] == SLICE_WRITERS * 2 + 6


async def test_a_loop_that_stood_still_shows_once() -> None:
    """The longest delay of the interval; the next interval begins at zero."""
    late: list[float] = []

    class Recording(Instrument):
        def loop_woke_late(self, seconds: float) -> None:
            late.append(seconds)
            if len(late) == 2:
                raise StopIteration

    times = iter([0.0, 0.0, 0.6, 1.0, 1.1, 2.0, 3.0])
    meter = Meter(Hub(), Recording(), times.__next__, lambda: 0)
    with pytest.raises(RuntimeError):
        await meter.watch_loop()
    assert late == [pytest.approx(0.5), pytest.approx(0.0)]
    await meter.look()
    assert meter.figures()["loop_lag_max_seconds"] == pytest.approx(0.5)
    await meter.look()
    assert meter.figures()["loop_lag_max_seconds"] == 0
