"""The table: medians over the rounds, the spread between them, ratios to ours."""

from __future__ import annotations

import datetime
import os
import platform
import re
import statistics
import subprocess
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec

from benchmarks.generator import Finding
from benchmarks.runner import Row, by_scenario
from benchmarks.scenario import Kind
from benchmarks.toolchain import HERE

HEAD = (
    *("server", "CPU µs per delivery", "spread", "ours = 1", "deliveries/s", "p50 ms", "p99 ms"),
    *("KiB per connection", "CPU µs per connect", "remarks"),
)
BEGIN, END = "<!-- table: written by `python -m benchmarks --write-readme` -->", "<!-- end of the table -->"
BUSY_GENERATOR = 0.9  # share of its core above which the rate says more about the generator than about the server


def table(rows: Sequence[Row]) -> str:
    """All scenarios in one Markdown table, each under a line of its own."""
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for group in by_scenario(rows).values():
        lines.append(f"| **{group[0].scenario.title}** |" + " |" * (len(HEAD) - 1))
        ours = next((_headline(row) for row in group if row.peer.name == "ours" and row.findings), None)
        lines += ["| " + " | ".join(_cells(row, ours)) + " |" for row in group]
    return "\n".join(lines)


def circumstances(rounds: int, seconds: float) -> str:
    """When, where and with which versions: the sentence over a published table."""
    today = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")
    return (
        f"{today}, {rounds} rounds, {seconds / 60:.0f} minutes. {_processor()}, {os.cpu_count()} cores, "
        f"Linux {platform.release()}. {', '.join(_versions())}."
    )


def write_readme(rows: Sequence[Row], sentence: str, readme: Path = HERE / "README.md") -> None:
    """Put the table into its marked place."""
    text = readme.read_text()
    replaced, count = re.subn(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}",
        lambda _: f"{BEGIN}\n\n{sentence}\n\n{table(rows)}\n\n{END}",
        text,
        flags=re.DOTALL,
    )
    if count != 1:
        raise ValueError(f"{readme} has no place for the table: {BEGIN} … {END}")
    readme.write_text(replaced)


def raw(rows: Sequence[Row]) -> bytes:
    """Every finding of every round, for people who want to look closer (--json)."""
    return msgspec.json.format(
        msgspec.json.encode(
            [
                {"scenario": row.scenario.name, "peer": row.peer.name, "notes": row.notes, "rounds": row.findings}
                for row in rows
            ]
        )
    )


def _cells(row: Row, ours: float | None) -> list[str]:
    title, kind = row.peer.title, row.scenario.kind
    if not row.findings:
        return [title, *[""] * (len(HEAD) - 2), _remarks(row)]
    cells = dict.fromkeys(HEAD, "")
    cells["server"] = title
    if ours and kind is not Kind.MEMORY:
        cells["ours = 1"] = f"{_headline(row) / ours:.2f}"
    elif ours:
        cells["ours = 1"] = f"{_headline(row) / ours:.1f}"
    if kind in (Kind.DELIVERY, Kind.STALLED):
        cells["CPU µs per delivery"] = _number(_median(row, lambda each: each.cpu_us_per_delivery))
        cells["spread"] = _spread(row, lambda each: each.cpu_us_per_delivery)
        cells["deliveries/s"] = f"{_median(row, lambda each: each.deliveries_per_second):,.0f}"
    if kind in (Kind.DELIVERY, Kind.STALLED, Kind.LATENCY):
        cells["p50 ms"] = _number(_median(row, lambda each: each.p50_us) / 1e3)
        cells["p99 ms"] = _number(_median(row, lambda each: each.p99_us) / 1e3)
    if kind is Kind.MEMORY:
        cells["KiB per connection"] = f"{_median(row, lambda each: each.kib_per_connection):.1f}"
    if kind in (Kind.CONNECT, Kind.MEMORY):
        cells["CPU µs per connect"] = f"{_median(row, lambda each: each.cpu_us_per_connect):.0f}"
        cells["spread"] = _spread(row, lambda each: each.cpu_us_per_connect)
    cells["remarks"] = _remarks(row)
    return list(cells.values())


def _headline(row: Row) -> float:
    """The number of a row that ratios compare."""
    read: dict[Kind, Callable[[Finding], float]] = {
        Kind.DELIVERY: lambda each: each.cpu_us_per_delivery,
        Kind.STALLED: lambda each: each.cpu_us_per_delivery,
        Kind.LATENCY: lambda each: each.p50_us,
        Kind.CONNECT: lambda each: each.cpu_us_per_connect,
        Kind.MEMORY: lambda each: each.kib_per_connection,
    }
    return _median(row, read[row.scenario.kind])


def _remarks(row: Row) -> str:
    remarks = list(row.notes)
    incomplete = [each for each in row.findings if not each.is_complete]
    if incomplete:
        missing = sum(each.expected - each.received for each in incomplete)
        expected = sum(each.expected for each in incomplete)
        share = f" ({missing / expected:.1%} of {expected:,})" if expected and missing > 0 else ""
        remarks.insert(0, f"**lost**{share} in {len(incomplete)} of {len(row.findings)}")
    if _is_late(row):
        remarks.append("could not keep the schedule")
    if row.findings and _median(row, lambda each: each.own_cpu / each.seconds if each.seconds else 0) > BUSY_GENERATOR:
        remarks.append("load generator busy: the rate is its, not the server's")
    if row.scenario.kind is Kind.STALLED and row.findings:
        at_2s = _median(row, lambda each: (each.rss_2s - each.rss_joined) / 1024)
        at_end = _median(row, lambda each: (each.rss_end - each.rss_joined) / 1024)
        remarks.append(f"memory {at_2s:+.0f} MiB after 2 s, {at_end:+.0f} at the end")
    return "; ".join(remarks)


def _is_late(row: Row) -> bool:
    """An open loop whose drain took long was fed faster than the server can go."""
    if "rate" not in row.scenario.options and not row.scenario.rate_share:
        return False
    return any(each.seconds > each.schedule_seconds * 1.2 for each in row.findings)


def _median(row: Row, read: Callable[[Finding], float]) -> float:
    return statistics.median(read(finding) for finding in row.findings)


def _spread(row: Row, read: Callable[[Finding], float]) -> str:
    values = [read(finding) for finding in row.findings]
    return f"{_number(min(values))}-{_number(max(values))}" if len(values) > 1 else ""


def _number(value: float) -> str:
    """Three digits that matter."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _processor() -> str:
    found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    return found[1] if found else platform.machine()


def _versions() -> list[str]:
    found = [f"Python {platform.python_version()}"]
    for name in ("Django", "channels", "channels_redis", "daphne", "autobahn", "Twisted", "uvicorn", "redis"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    for command in (["node", "--version"], ["redis-server", "--version"]):
        try:
            text = subprocess.run(command, capture_output=True, text=True, timeout=10).stdout
        except OSError:
            continue
        if match := re.search(r"v=?(\d+\.\d+\.\d+)", text):
            found.append(f"{command[0]} {match[1]}")
    packages = {**msgspec.json.decode((HERE / "package.json").read_bytes())["dependencies"]}
    found += [f"{name} {number}" for name, number in packages.items()]
    wanted = (HERE / "requirements.txt").read_text()
    if match := re.search(r"python-socketio==(\S+)", wanted):
        found.append(f"python-socketio {match[1]}")
    return found
