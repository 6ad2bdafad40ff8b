"""What a node says about its work: counters and histograms become the figures of a heartbeat. No I/O, no clock.

docs/metrics.md, "Statistics in heartbeats", has the name of each figure.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import accumulate

Figures = dict[str, float]


class Histogram:
    """Observations counted by upper bound; the last count is of those above all bounds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(self.bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """One more; a value that equals a bound belongs under it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


@dataclass(frozen=True, slots=True)
class Observed:
    """A histogram at one moment."""

    bounds: tuple[float, ...] = ()
    counts: tuple[int, ...] = ()
    sum: float = 0.0

    @classmethod
    def of(cls, histogram: Histogram) -> Observed:
        """As it is now."""
        return cls(histogram.bounds, tuple(histogram.counts), histogram.sum)

    @property
    def count(self) -> int:
        """How many there were."""
        return sum(self.counts)

    @property
    def mean(self) -> float | None:
        """None without observations."""
        return self.sum / self.count if self.count else None

    def since(self, earlier: Observed) -> Observed:
        """What came after ``earlier``."""
        if not earlier.counts:
            return self
        counts = tuple(now - before for now, before in zip(self.counts, earlier.counts, strict=True))
        return Observed(self.bounds, counts, self.sum - earlier.sum)

    def quantile(self, share: float) -> float | None:
        """The value that ``share`` of the observations do not exceed, interpolated within its bucket as Prometheus
        does; the highest bound for what is above it, None without observations."""
        rank = share * self.count
        if not self.count:
            return None
        for index, reached in enumerate(accumulate(self.counts)):
            if reached >= rank and self.counts[index]:
                if index == len(self.bounds):
                    break
                lower = self.bounds[index - 1] if index else 0.0
                part = (rank - (reached - self.counts[index])) / self.counts[index]
                return lower + (self.bounds[index] - lower) * part
        return self.bounds[-1]


@dataclass(frozen=True, kw_only=True, slots=True)
class Totals:
    """What an instrument has counted since the process started."""

    connections_opened: int = 0
    connections_refused: int = 0
    connections_evicted: int = 0
    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    publications_in: int = 0
    publications_out: int = 0
    deliveries: int = 0
    errors: int = 0
    publish_failures: int = 0
    missed_notices: int = 0
    rows_lost: int = 0
    latency: Observed = Observed()
    lag: Observed = Observed()
    echo: Observed = Observed()
    batch: Observed = Observed()


HISTOGRAMS = ("latency", "lag", "echo", "batch")
COUNTERS = tuple(each.name for each in fields(Totals) if each.name not in HISTOGRAMS)
RATES = (
    "connections_opened",
    "messages_in",
    "messages_out",
    "bytes_in",
    "bytes_out",
    "publications_in",
    "publications_out",
    "deliveries",
    "errors",
)
"""The counters that also have a rate."""


class Statistics:
    """Compares each look at the counters with the one before."""

    def __init__(self, totals: Totals, now: float) -> None:
        self._totals = totals
        self._at = now

    def look(self, totals: Totals, now: float) -> Figures:
        """Counters, and rates and quantiles of the time since the last look. What nothing was observed of has no
        quantile; the first figure of all is ``interval_seconds``."""
        before, seconds = self._totals, now - self._at
        self._totals, self._at = totals, now
        figures: Figures = {"interval_seconds": round(seconds, 3)}
        figures |= {name: getattr(totals, name) for name in COUNTERS}
        for name in RATES:
            grown = getattr(totals, name) - getattr(before, name)
            figures[f"{name}_per_second"] = round(grown / seconds, 3) if seconds > 0 else 0.0
        recent = {name: getattr(totals, name).since(getattr(before, name)) for name in HISTOGRAMS}
        return figures | _known(_quantiles(recent))


def _quantiles(recent: Mapping[str, Observed]) -> dict[str, float | None]:
    return {
        "latency_p50_seconds": recent["latency"].quantile(0.5),
        "latency_p99_seconds": recent["latency"].quantile(0.99),
        "lag_p50_seconds": recent["lag"].quantile(0.5),
        "lag_p99_seconds": recent["lag"].quantile(0.99),
        "echo_mean_seconds": recent["echo"].mean,
        "batch_mean": recent["batch"].mean,
        "batch_p99": recent["batch"].quantile(0.99),
    }


def _known(values: Mapping[str, float | None]) -> Figures:
    return {name: round(value, 6) for name, value in values.items() if value is not None}
