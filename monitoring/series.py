"""Time series for the charts, from the samples that nodes leave every 30 s."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from realtime.models import NodeSample
from realtime.rows import SAMPLE_SECONDS

SUMMED = ("connections", "messages_in_per_second", "messages_out_per_second", "memory_bytes")
WORST = ("lag_p50_seconds", "lag_p99_seconds")


@dataclass(frozen=True, slots=True)
class Span:
    """How far a chart looks back, and the distance of its points, both in seconds."""

    seconds: int
    step_seconds: int


SPANS: Mapping[str, Span] = {"hour": Span(3_600, SAMPLE_SECONDS), "day": Span(86_400, 10 * SAMPLE_SECONDS)}

Series = dict[str, list[float | None]]


def series(span: Span, now: float) -> Series:
    """For each figure one value per point, None where no node left a sample; ``at`` has the moments.

    Of a day only every tenth sample is read: each is a figure of its moment, not a mean of the time between.
    """
    last = int(now) // span.step_seconds * span.step_seconds
    moments = list(range(last - span.seconds + span.step_seconds, last + 1, span.step_seconds))
    found: dict[float, list[Mapping[str, float]]] = defaultdict(list)
    wanted = [datetime.fromtimestamp(moment, UTC) for moment in moments]
    for at, figures in NodeSample.objects.filter(at__in=wanted).values_list("at", "statistics"):
        found[at.timestamp()].append(figures)
    points: Series = {"at": [float(moment) for moment in moments]}
    for name in SUMMED:
        points[name] = [_combined(found.get(moment, []), name, is_sum=True) for moment in moments]
    for name in WORST:
        points[name] = [_combined(found.get(moment, []), name, is_sum=False) for moment in moments]
    return points


def _combined(samples: list[Mapping[str, float]], name: str, *, is_sum: bool) -> float | None:
    values = [sample[name] for sample in samples if name in sample]
    if not values:
        return None
    return round(sum(values), 3) if is_sum else max(values)
