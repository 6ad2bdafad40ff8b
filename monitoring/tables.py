"""A report of the cluster as text: a table for people, JSON for machines."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from monitoring.cluster import ClusterReport, NodeReport

UNKNOWN = "-"


def count(value: float) -> str:
    """12,345; one decimal while it is small and not whole."""
    return f"{value:,.1f}" if value != int(value) and value < 100 else f"{value:,.0f}"


def size(value: float) -> str:
    """In the largest unit that leaves at least 1 before the point."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if value < 1024 or unit == "GiB":
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def milliseconds(value: float) -> str:
    """Of a figure in seconds."""
    return f"{value * 1000:.1f}" if value < 0.1 else f"{value * 1000:,.0f}"


def span(value: float) -> str:
    """A time in its largest two units."""
    seconds = int(value)
    for name, length, below, part in (("d", 86_400, "h", 3600), ("h", 3600, "m", 60), ("m", 60, "s", 1)):
        if seconds >= length:
            return f"{seconds // length}{name} {seconds % length // part}{below}"
    return f"{seconds}s"


def shown(figure: float | None, unit: str) -> str:
    """A figure of a check, for people."""
    if figure is None:
        return "-"
    return size(figure) if unit == "bytes" else f"{count(figure)} {unit}".rstrip()


@dataclass(frozen=True, slots=True)
class Column:
    """One figure. ``title`` heads a narrow column, ``label`` says it in full. ``is_bound``: the sum over several nodes
    may be too high."""

    title: str
    label: str
    figure: str
    format: Callable[[float], str] = count
    is_bound: bool = False

    def of(self, figures: Mapping[str, float], nodes: int = 1) -> str:
        """The cell for one node, or for the total of several."""
        if self.figure not in figures:
            return UNKNOWN
        bound = "≤" if self.is_bound and nodes > 1 and figures[self.figure] else ""
        return bound + self.format(figures[self.figure])


COLUMNS = (
    Column("conns", "Connections", "connections"),
    Column("users", "Users", "users", is_bound=True),
    Column("rooms", "Rooms", "rooms", is_bound=True),
    Column("in/s", "In per s", "messages_in_per_second"),
    Column("out/s", "Out per s", "messages_out_per_second"),
    Column("sent/s", "Bytes out per s", "bytes_out_per_second", size),
    Column("memory", "Memory", "memory_bytes", size),
    Column("backlog", "Backlog", "backlog_bytes", size),
    Column("latency p50", "Latency p50, ms", "latency_p50_seconds", milliseconds),
    Column("p99", "Latency p99, ms", "latency_p99_seconds", milliseconds),
    Column("lag p50", "Lag p50, ms", "lag_p50_seconds", milliseconds),
    Column("p99", "Lag p99, ms", "lag_p99_seconds", milliseconds),
    Column("loop", "Loop late, ms", "loop_lag_max_seconds", milliseconds),
    Column("unwritten", "Rows unwritten", "tracking_pending"),
    Column("lost", "Rows lost", "rows_lost"),
)
HEAD = ("node", "state", "age", "up", *(column.title for column in COLUMNS))


def as_text(report: ClusterReport) -> str:
    """The table, and below it what is wrong."""
    lines = [HEAD, *(_line(node) for node in report.nodes)]
    if report.nodes:
        oldest = max(node.age_seconds for node in report.nodes)
        total, nodes = report.total, len(report.nodes)
        lines.append(("total", "", f"≤{span(oldest)}", "", *(column.of(total, nodes) for column in COLUMNS)))
    notes = [
        f"{report.at:%Y-%m-%d %H:%M:%S %Z}  age: since the figures were taken; latency, lag and loop in ms",
        *(f"UNHEALTHY {problem}" for problem in report.problems),
    ]
    return "\n".join([*_aligned(lines), *notes])


def as_json(report: ClusterReport) -> str:
    """Everything, as one line."""
    return json.dumps(
        {
            "at": report.at.isoformat(),
            "healthy": not report.problems,
            "problems": report.problems,
            "nodes": [_object(node) for node in report.nodes],
            "total": report.total,
        }
    )


def _line(node: NodeReport) -> tuple[str, ...]:
    cells = (column.of(node.figures) for column in COLUMNS)
    return (node.id, node.state, span(node.age_seconds), span(node.uptime_seconds), *cells)


def _object(node: NodeReport) -> dict[str, object]:
    return {
        "id": node.id,
        "address": node.address,
        "version": node.version,
        "state": node.state,
        "started": node.started.isoformat(),
        "last_heartbeat": node.last_heartbeat.isoformat(),
        "age_seconds": node.age_seconds,
        "problem": node.problem,
        "statistics": node.figures,
    }


def _aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Names to the left, figures to the right."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index < 2 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    ]
