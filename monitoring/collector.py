"""Reads the catalog when Prometheus scrapes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import accumulate
from typing import cast

from prometheus_client import Metric as Family
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import REGISTRY, Collector, CollectorRegistry

from monitoring.catalog import METRICS, Metric, Sources
from monitoring.metrics import PrometheusInstrument
from realtime.runtime import runtime
from realtime.statistics import Histogram

LOOP_LAG_MAX_SECONDS = 1.0


class RealtimeCollector(Collector):
    """The metrics of this process. Scraped in any thread but the loop's own, or there without the loop's lag.

    It claims no names in the registry, where a second claim would end the start with a traceback. Of a name that
    another collector has, be it now or later, the scrape has that one's; a system check says so.
    """

    def __init__(self) -> None:
        self.instrument = PrometheusInstrument()
        self.is_registered = False

    def collect(self) -> Iterator[Family]:
        """Every metric of the catalog, as it is now."""
        process = runtime()
        sources = Sources(self.instrument, process.node, process.tracker.pending, loop_lag(process.loop))
        taken = taken_metrics()
        for metric in METRICS:
            if metric.name not in taken:
                yield _family(metric, sources)

    def describe(self) -> list[Family]:
        """No names."""
        return []


collector = RealtimeCollector()
"""The one of this process."""


class _Claim(Collector):
    """One metric, without a value."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def collect(self) -> list[Family]:
        """The metric; a registry reads its names from what ``describe`` returns."""
        return [_empty(self._metric)]

    describe = collect


def taken_metrics(registry: CollectorRegistry = REGISTRY) -> frozenset[str]:
    """Those of our metrics whose names another collector has claimed in the registry.

    Asked of what the registry holds, and not by claiming them: a claim of theirs at the same moment would fail.
    """
    claimed = registry._names_to_collectors
    names = _names(runtime().settings.metric_prefix)
    return frozenset(metric for metric, all_names in names.items() if any(n in claimed for n in all_names))


@cache
def _names(prefix: str) -> Mapping[str, frozenset[str]]:
    """Of each metric all names that a registry would claim for it: those of its samples, too."""
    found = {}
    for metric in METRICS:
        registry = CollectorRegistry()
        registry.register(_Claim(metric))
        found[metric.name] = frozenset(registry._names_to_collectors)
    return found


def loop_lag(loop: asyncio.AbstractEventLoop | None) -> float | None:
    """How long ``loop`` takes to run a callback; None when there is none, or when this is its own thread."""
    if loop is None or not loop.is_running() or _is_current(loop):
        return None
    answered = threading.Event()
    begun = time.perf_counter()
    try:
        loop.call_soon_threadsafe(answered.set)
    except RuntimeError:  # closed meanwhile
        return None
    answered.wait(LOOP_LAG_MAX_SECONDS)
    return min(time.perf_counter() - begun, LOOP_LAG_MAX_SECONDS)


def _is_current(loop: asyncio.AbstractEventLoop) -> bool:
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


def _family(metric: Metric, sources: Sources) -> Family:
    family = _empty(metric)
    value = metric.read(sources)
    if value is None:
        return family
    if isinstance(value, Histogram):
        counts = list(value.counts)
        bounds = [*(str(float(bound)) for bound in value.bounds), "+Inf"]
        buckets = list(zip(bounds, accumulate(counts), strict=True))
        cast(HistogramMetricFamily, family).add_metric([], buckets, value.sum)
    elif metric.kind == "info":
        cast(InfoMetricFamily, family).add_metric([], cast("dict[str, str]", value))
    elif isinstance(value, Mapping):
        for key, count in sorted(dict(value).items()):
            cast(CounterMetricFamily, family).add_metric([key], cast(float, count))
    else:
        cast(GaugeMetricFamily, family).add_metric([], value)
    return family


def _empty(metric: Metric) -> Family:
    name = f"{runtime().settings.metric_prefix}{metric.name}"
    labels = [metric.label] if metric.label else []
    if metric.kind == "counter":
        return CounterMetricFamily(name, metric.meaning, labels=labels)
    if metric.kind == "gauge":
        return GaugeMetricFamily(name, metric.meaning, labels=labels)
    if metric.kind == "histogram":
        return HistogramMetricFamily(name, metric.meaning, labels=labels)
    return InfoMetricFamily(name.removesuffix("_info"), metric.meaning)
