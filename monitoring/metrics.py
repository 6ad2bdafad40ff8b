"""The instrument that counts for Prometheus: plain integers that a scrape reads.

prometheus_client's own counters take a lock for every increment; these are written by the node's loop alone, and a
scrape in another thread may see one that is a moment old, never a wrong one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from realtime.instrument import MEMORY, Instrument
from realtime.protocol.closing import CLOSE_CODES, CloseCode
from realtime.protocol.errors import ERRORS

DURATION_BOUNDS = (1, 5, 10, 30, 60, 300, 600, 1800, 3600)
LATENCY_BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1)
BATCH_BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500)

OTHER = "other"
_KNOWN_CODES = frozenset({1000, 1001, 1002, 1005, 1006, 1007, 1011, *(close.code for close in CLOSE_CODES)})
"""A client may close with any of thousands of codes: the rest share one label."""


class Histogram:
    """Observations counted by upper bound; the last count is of those above all bounds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """One more; a value that equals a bound belongs under it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class PrometheusInstrument(Instrument):
    """Counts every fact. Attributes only grow; ``monitoring.catalog`` says which metric shows which."""

    def __init__(self) -> None:
        self.opened: Counter[str] = Counter()  # by transport
        # What is known beforehand begins at zero: a rate over a series that is not there yet would miss its first step.
        self.closed = Counter({str(code): 0 for code in sorted(_KNOWN_CODES)})  # by close code
        self.refused: Counter[str] = Counter()  # by reason
        # By the name of the close code; of those that are overloaded, by "memory" where memory was short.
        self.evicted = Counter({**{close.name: 0 for close in CLOSE_CODES}, MEMORY: 0})
        self.errors = Counter({error.code: 0 for error in ERRORS})  # by error code
        self.durations = Histogram(DURATION_BOUNDS)
        self.latencies = Histogram(LATENCY_BOUNDS)
        self.batches = Histogram(BATCH_BOUNDS)
        self.commands = 0
        self.received_bytes = 0
        self.other_sent = 0  # replies and pushes that are no publications
        self.sent_bytes = 0
        self.envelopes = 0
        self.delivered = 0  # publications that reached somebody here
        self.deliveries = 0  # messages that this made
        self.published = 0
        self.publish_failures = 0
        self.unreadable = 0
        self.dropped = 0
        self.interruptions = 0
        self.outage_seconds = 0.0
        self.missed_notices = 0
        self.died = 0
        self.rows_lost = 0
        self.failures = 0

    def connection_opened(self, transport: str) -> None:
        self.opened[transport] += 1

    def connection_closed(self, transport: str, code: int, seconds: float) -> None:
        self.closed[str(code) if code in _KNOWN_CODES else OTHER] += 1
        self.durations.observe(seconds)

    def connection_refused(self, reason: str) -> None:
        self.refused[reason] += 1

    def connection_evicted(self, close: CloseCode, reason: str = "") -> None:
        self.evicted[reason or close.name] += 1

    def command_handled(self, seconds: float, size: int) -> None:
        self.commands += 1
        self.received_bytes += size
        latencies = self.latencies
        latencies.counts[bisect_left(LATENCY_BOUNDS, seconds)] += 1
        latencies.sum += seconds

    def command_refused(self, code: str) -> None:
        self.errors[code] += 1

    def batch_received(self, count: int) -> None:
        self.envelopes += count
        self.batches.counts[bisect_left(BATCH_BOUNDS, count)] += 1
        self.batches.sum += count

    def batch_delivered(self, publications: int, deliveries: int, size: int) -> None:
        self.delivered += publications
        self.deliveries += deliveries
        self.sent_bytes += size

    def messages_sent(self, count: int, size: int) -> None:
        self.other_sent += count
        self.sent_bytes += size

    def publication_published(self) -> None:
        self.published += 1

    def publish_failed(self) -> None:
        self.publish_failures += 1

    def envelope_unreadable(self) -> None:
        self.unreadable += 1

    def backplane_dropped(self, count: int) -> None:
        self.dropped += count

    def backplane_interrupted(self) -> None:
        self.interruptions += 1

    def backplane_restored(self, seconds: float) -> None:
        self.outage_seconds += seconds

    def missed_told(self, connections: int) -> None:
        self.missed_notices += connections

    def node_died(self) -> None:
        self.died += 1

    def tracking_rows_lost(self, count: int) -> None:
        self.rows_lost += count

    def handler_failed(self) -> None:
        self.failures += 1
