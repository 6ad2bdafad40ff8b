"""The instrument that counts for Prometheus: plain integers that a scrape reads.

prometheus_client's own counters take a lock for every increment; these are written by the node's loop alone, and a
scrape in another thread may see one that is a moment old, never a wrong one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter

from realtime.instrument import MEMORY, UNAUTHORIZED_CAUSES, Instrument
from realtime.protocol.closing import CLOSE_CODES, ORDERED, CloseCode
from realtime.protocol.errors import ERRORS
from realtime.server.frame_limits import CONTROL_FRAMES, FRAGMENTS
from realtime.statistics import Histogram, Observed, Totals
from realtime.throttle import ADDRESS_CONNECTIONS, ADDRESS_RATE, NODE_RATE, RATE, USER_CONNECTIONS
from realtime.tokens import REASONS

DURATION_BOUNDS = (1, 5, 10, 30, 60, 300, 600, 1800, 3600)
LATENCY_BOUNDS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1)
BATCH_BOUNDS = (1, 2, 5, 10, 20, 50, 100, 200, 500)
LAG_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5)
LOOP_BOUNDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.25, 0.5, 1, 2.5, 5)

REFUSALS = (
    *("origin", "path", "not_started", "draining", "capacity", "token", "identity"),
    *(ADDRESS_RATE, NODE_RATE, ADDRESS_CONNECTIONS),
)
"""Why clients are refused, as far as it is known beforehand."""
AUTHENTICATION_REFUSALS = (*REASONS, "user", "other_user")
"""Why tokens are not taken."""
OPERATOR_PAGES = ("metrics", "health", "feed")
MISUSES = (RATE, USER_CONNECTIONS, CONTROL_FRAMES, FRAGMENTS)
"""Why connections are closed with 1008."""
COMMAND_LIMITS = ("connection", "user", "address", "joins", "broadcasts")
CUTS = ("late_head", "late_body", "large_head", "large_body")
OTHER = "other"
_KNOWN_CODES = frozenset({1000, 1001, 1002, 1005, 1006, 1007, 1011, *(close.code for close in CLOSE_CODES)})
"""A client may close with any of thousands of codes: the rest share one label."""


class PrometheusInstrument(Instrument):
    """Counts every fact. Attributes only grow; ``monitoring.catalog`` says which metric shows which."""

    def __init__(self) -> None:
        # What is known beforehand begins at zero: a rate over a series that is not there yet would miss its first step.
        self.opened = Counter({"websocket": 0})  # by transport
        self.closed = Counter({str(code): 0 for code in sorted(_KNOWN_CODES)})  # by close code
        self.refused = Counter(dict.fromkeys(REFUSALS, 0))  # by reason
        self.operator_pages_refused = Counter(dict.fromkeys(OPERATOR_PAGES, 0))  # by page
        # By the name of the close code; of those that are overloaded, by "memory" where memory was short.
        self.evicted = Counter({**{close.name: 0 for close in CLOSE_CODES}, ORDERED: 0, MEMORY: 0})
        self.evicted.update(dict.fromkeys((*UNAUTHORIZED_CAUSES, *MISUSES), 0))
        self.unbelieved = Counter(dict.fromkeys(AUTHENTICATION_REFUSALS, 0))  # tokens, by reason
        self.session_checks_failed = 0
        self.revocations_failed = 0
        self.limited = Counter(dict.fromkeys(COMMAND_LIMITS, 0))  # by limit
        self.cut = Counter(dict.fromkeys(CUTS, 0))  # by reason
        self.errors = Counter({error.code: 0 for error in ERRORS})  # by error code
        self.durations = Histogram(DURATION_BOUNDS)
        self.latencies = Histogram(LATENCY_BOUNDS)
        self.batches = Histogram(BATCH_BOUNDS)
        self.lags = Histogram(LAG_BOUNDS)
        self.echoes = Histogram(LAG_BOUNDS)
        self.loop_delays = Histogram(LOOP_BOUNDS)
        self.held_back = 0
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
        self.sessions: Counter[str] = Counter()  # by transport
        self.carried: Counter[str] = Counter()  # by kind
        self.streams_overflown = 0
        self.died = 0
        self.rows_lost = 0
        self.signals_lost = 0
        self.signal_failures = 0
        self.failures = 0
        self._worst_wake = 0.0

    def connection_opened(self, transport: str) -> None:
        self.opened[transport] += 1

    def connection_closed(self, transport: str, code: int, seconds: float) -> None:
        self.closed[str(code) if code in _KNOWN_CODES else OTHER] += 1
        self.durations.observe(seconds)

    def connection_refused(self, reason: str) -> None:
        self.refused[reason] += 1

    def operator_page_refused(self, page: str) -> None:
        self.operator_pages_refused[page] += 1

    def connection_evicted(self, close: CloseCode, reason: str = "") -> None:
        self.evicted[reason or close.name] += 1

    def authentication_refused(self, reason: str) -> None:
        self.unbelieved[reason] += 1

    def session_check_failed(self) -> None:
        self.session_checks_failed += 1

    def revocation_failed(self) -> None:
        self.revocations_failed += 1

    def command_handled(self, seconds: float, size: int) -> None:
        self.commands += 1
        self.received_bytes += size
        latencies = self.latencies
        latencies.counts[bisect_left(LATENCY_BOUNDS, seconds)] += 1
        latencies.sum += seconds

    def client_held_back(self) -> None:
        self.held_back += 1

    def command_refused(self, code: str) -> None:
        self.errors[code] += 1

    def command_limited(self, limit: str) -> None:
        self.limited[limit] += 1

    def request_cut(self, reason: str) -> None:
        self.cut[reason] += 1

    def batch_received(self, count: int) -> None:
        self.envelopes += count
        self.batches.counts[bisect_left(BATCH_BOUNDS, count)] += 1
        self.batches.sum += count

    def batch_delivered(self, publications: int, deliveries: int, size: int, lag_seconds: float | None) -> None:
        self.delivered += publications
        self.deliveries += deliveries
        self.sent_bytes += size
        if lag_seconds is not None:
            self.lags.observe(lag_seconds)

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

    def echo_heard(self, seconds: float) -> None:
        self.echoes.observe(seconds)

    def backplane_interrupted(self) -> None:
        self.interruptions += 1

    def backplane_restored(self, seconds: float) -> None:
        self.outage_seconds += seconds

    def missed_told(self, connections: int) -> None:
        self.missed_notices += connections

    def request_carried(self, kind: str) -> None:
        self.carried[kind] += 1

    def stream_overflown(self) -> None:
        self.streams_overflown += 1

    def session_opened(self, transport: str) -> None:
        self.sessions[transport] += 1

    def node_died(self) -> None:
        self.died += 1

    def tracking_rows_lost(self, count: int) -> None:
        self.rows_lost += count

    def signals_dropped(self, count: int) -> None:
        self.signals_lost += count

    def signal_receivers_failed(self, count: int) -> None:
        self.signal_failures += count

    def handler_failed(self) -> None:
        self.failures += 1

    def loop_woke_late(self, seconds: float) -> None:
        self.loop_delays.observe(seconds)
        self._worst_wake = max(self._worst_wake, seconds)

    def take_worst_wake(self) -> float:
        """The latest that the loop was since this was asked last, seconds."""
        worst, self._worst_wake = self._worst_wake, 0.0
        return worst

    def totals(self) -> Totals:
        return Totals(
            connections_opened=sum(self.opened.values()),
            connections_refused=sum(self.refused.values()),
            connections_evicted=sum(self.evicted.values()),
            messages_in=self.commands,
            messages_out=self.deliveries + self.other_sent,
            bytes_in=self.received_bytes,
            bytes_out=self.sent_bytes,
            publications_in=self.delivered,
            publications_out=self.published,
            deliveries=self.deliveries,
            errors=sum(self.errors.values()),
            publish_failures=self.publish_failures,
            missed_notices=self.missed_notices,
            rows_lost=self.rows_lost,
            latency=Observed.of(self.latencies),
            lag=Observed.of(self.lags),
            echo=Observed.of(self.echoes),
            batch=Observed.of(self.batches),
        )
