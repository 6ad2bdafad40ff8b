"""The cluster as its rows tell it: every node with its figures, their age, and what is wrong with it.

Read from the database, so that it can be asked when the backplane is down, and in any process. A process with a node
also has what that node heard from the others: it counts where it is newer than their rows, which come late or not at
all while the database takes no writes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from django.db.models import Q
from msgspec import convert

from monitoring.health import REASONS
from realtime.facts import NodeFacts
from realtime.models import Node, NodeState
from realtime.protocol.envelope import Health
from realtime.rows import row_of, seconds_of

DIED_LATELY = timedelta(minutes=10)
"""A node that died is shown for that long: whoever looks afterwards sees what is, not what was."""
WORST = frozenset(
    {
        "interval_seconds",
        "loop_lag_max_seconds",
        "latency_p50_seconds",
        "latency_p99_seconds",
        "lag_p50_seconds",
        "lag_p99_seconds",
        "echo_mean_seconds",
        "batch_mean",
        "batch_p99",
    }
)
"""Figures that cannot be added up: the cluster has that of its worst node."""


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeReport:
    """One node. ``problem`` is empty when it is healthy; ``age_seconds`` is how old all of ``figures`` are."""

    id: str
    address: str
    version: str
    state: str
    started: datetime
    last_heartbeat: datetime
    age_seconds: float
    problem: str
    figures: Mapping[str, float] = field(default_factory=dict)
    health: tuple[Health, ...] = ()
    at: datetime

    def age_of(self, found: Health) -> float:
        """How long ago a check found that, seconds."""
        return max(0.0, round(self.at.timestamp() - found.at, 1))

    @property
    def uptime_seconds(self) -> float:
        """From its start to its last heartbeat."""
        return max(0.0, (self.last_heartbeat - self.started).total_seconds())


@dataclass(frozen=True, slots=True)
class ClusterReport:
    """All nodes that are, or should be, alive."""

    at: datetime
    nodes: tuple[NodeReport, ...]

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong, one sentence each."""
        if not self.nodes:
            return ("no node has written its row: none runs, or TRACKING_IS_ON is False",)
        return tuple(f"{node.id}: {node.problem}" for node in self.nodes if node.problem)

    @property
    def total(self) -> dict[str, float]:
        """Sums over the nodes that live, or of the worst of them where a sum says nothing.

        A user or a room on several nodes counts on each: for these two the sum is an upper bound.
        """
        total: dict[str, float] = {}
        for node in self.nodes:
            if node.state != NodeState.DEAD:
                for name, value in node.figures.items():
                    so_far = total.get(name, 0)
                    total[name] = max(so_far, value) if name in WORST else round(so_far + value, 3)
        return total


def cluster_report(now: datetime, timeout_seconds: float, heard: Iterable[NodeFacts] = ()) -> ClusterReport:
    """As the rows are, and the nodes that were ``heard`` later than that. A node without a heartbeat for
    ``timeout_seconds`` is silent, whatever it said last."""
    wanted = ~Q(state__in=(NodeState.STOPPED, NodeState.DEAD)) | Q(
        state=NodeState.DEAD, last_heartbeat__gt=now - DIED_LATELY
    )
    found = {row.id: row for row in Node.objects.filter(wanted)}
    for facts in heard:
        row = found.get(facts.id)
        if row is None or seconds_of(row.last_heartbeat) < facts.last_heartbeat:
            found[facts.id] = row_of(facts)
    rows = sorted(found.values(), key=lambda row: row.id)
    return ClusterReport(now, tuple(_report(row, now, timeout_seconds) for row in rows))


def _report(row: Node, now: datetime, timeout_seconds: float) -> NodeReport:
    health = convert(row.health, tuple[Health, ...])
    age = max(0.0, (now - row.last_heartbeat).total_seconds())
    return NodeReport(
        id=row.id,
        address=row.address,
        version=row.version,
        state=row.state,
        started=row.started,
        last_heartbeat=row.last_heartbeat,
        age_seconds=round(age, 1),
        problem=problem_of(row.state, age, timeout_seconds) or "; ".join(each.reason for each in health if each.reason),
        figures=row.statistics,
        health=health,
        at=now,
    )


def problem_of(state: str, age_seconds: float, timeout_seconds: float) -> str:
    """What is wrong with a node in that state; empty when nothing is. One that drains does so on purpose."""
    if state == NodeState.DEAD:
        return f"died; last heard of {age_seconds:.0f} s ago"
    if age_seconds > timeout_seconds:
        return f"silent for {age_seconds:.0f} s"
    return "" if state in (NodeState.READY, NodeState.DRAINING) else REASONS.get(state, state)
