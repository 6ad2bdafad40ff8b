"""`python -m benchmarks.backplanes`: the same three nodes on each backplane, and what each of them costs.

What a publication costs the nodes and the broker, and how long it takes, for many receivers and for one. The C load
generator measures one set of processes at a time, so each shape runs twice: once for the nodes, once for the broker.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.generator import Finding, generate
from benchmarks.peer import ours
from benchmarks.runner import Bench, Group
from benchmarks.scenario import DATA_BYTES, Options
from benchmarks.toolchain import HERE, Missing, compile_programs
from tests.support.kafka import KafkaServer
from tests.support.rabbitmq import RabbitServer
from tests.support.servers import RedisServer, Server

NODES = 3
BEGIN, END = (
    "<!-- backplanes: written by `python -m benchmarks.backplanes --write-readme` -->",
    "<!-- end of backplanes -->",
)
HEAD = (
    *("backplane", "CPU µs of the nodes per publication", "CPU µs of the broker per publication"),
    *("publications/s", "p50 ms", "p99 ms", "remarks"),
)

BROKERS: dict[str, Callable[[], Server]] = {
    "redis": lambda: RedisServer("--maxclients", "20000"),
    "rabbitmq": RabbitServer,
    "kafka": KafkaServer,
}


@dataclass(frozen=True)
class Shape:
    """One kind of traffic."""

    title: str
    options: Options


SHAPES = (
    Shape("a room of 300 over 3 nodes, 8 in flight", {"size": 300, "in_flight": 8}),
    Shape("private between 100 pairs over 3 nodes, 16 in flight", {"pairs": 100, "in_flight": 16}),
    Shape("one receiver on another node, 20 messages/s", {"size": 2, "rate": 20, "seconds": 4}),
)


@dataclass
class Row:
    """One backplane under one shape."""

    shape: Shape
    name: str
    of_nodes: list[Finding]
    of_broker: list[Finding]

    def cells(self) -> list[str]:
        both = [each for each in (*self.of_nodes, *self.of_broker) if each.messages]
        lost = sum(not each.is_complete for each in (*self.of_nodes, *self.of_broker))
        remarks = f"**incomplete** in {lost} of {len(self.of_nodes) + len(self.of_broker)}" if lost else ""
        if not both:
            return [self.name, *[""] * (len(HEAD) - 2), remarks or "nothing measured"]
        return [
            self.name,
            _cpu(self.of_nodes),
            _cpu(self.of_broker),
            f"{statistics.median(each.messages / each.seconds for each in both):,.0f}",
            f"{statistics.median(each.p50_us for each in both) / 1e3:.2f}",
            f"{statistics.median(each.p99_us for each in both) / 1e3:.2f}",
            remarks,
        ]


def _cpu(findings: Sequence[Finding]) -> str:
    """Of those runs in which anything was published."""
    each = [finding.cpu * 1e6 / finding.messages for finding in findings if finding.messages]
    return f"{statistics.median(each):.0f}" if each else ""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.backplanes", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each measured phase")
    parser.add_argument("--only", action="append", choices=BROKERS, help="a backplane (repeatable)")
    parser.add_argument("--write-readme", action="store_true", help="put the table into benchmarks/README.md")
    options = parser.parse_args(arguments)
    began = time.monotonic()
    try:
        compile_programs()
    except Missing as error:
        print(f"benchmarks: {error}", file=sys.stderr)
        return 1
    rows: list[Row] = []
    for name in options.only or BROKERS:
        rows += measure(name, options.rounds, options.seconds)
    text = f"{report.circumstances(options.rounds, time.monotonic() - began)}\n\n{table(rows)}"
    print(f"\n{text}", flush=True)
    if options.write_readme:
        write_readme(text)
    return 0 if rows else 1


def measure(name: str, rounds: int, seconds: float) -> list[Row]:
    """All shapes on one backplane; nothing where its server is missing."""
    rows = [Row(shape, name, [], []) for shape in SHAPES]
    try:
        broker = BROKERS[name]()
    except pytest.skip.Exception as reason:  # how the tests' servers say that they are not installed
        print(f"without {name}: {reason}", file=sys.stderr)
        return []
    with tempfile.TemporaryDirectory(prefix="benchmarks-") as directory:
        bench = Bench(
            peers=[ours()], rounds=rounds, seconds=seconds, deadline=0, directory=Path(directory), progress=print
        )
        [peer] = bench.prepare()
        with started(broker, bench.load_core), bench.group(peer, NODES, broker) as group:
            for _ in range(rounds):
                for row in rows:
                    options = {"payload": DATA_BYTES, "seconds": seconds, **row.shape.options}
                    row.of_nodes.append(run(group, options, [server.pid for server in group.servers]))
                    row.of_broker.append(run(group, options, [broker.pid]))
                    print(f"  {name}: {row.shape.title}: {' | '.join(row.cells()[1:])}", file=sys.stderr, flush=True)
    return rows


def run(group: Group, options: Options, pids: Sequence[int]) -> Finding:
    peer = group.peer
    finding, complaint = generate(
        options, dialect=peer.dialect, path=peer.path, ports=group.ports, pids=pids, core=group.core
    )
    if complaint:
        print(f"  {complaint.splitlines()[0]}", file=sys.stderr)
    return finding


@contextlib.contextmanager
def started(broker: Server, core: int) -> Iterator[None]:
    """The broker on the load's core, all its threads."""
    broker.start()
    try:
        for thread in os.listdir(f"/proc/{broker.pid}/task"):
            with contextlib.suppress(ProcessLookupError):
                os.sched_setaffinity(int(thread), {core})
        yield
    finally:
        broker.stop()


def table(rows: Sequence[Row]) -> str:
    lines = ["| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
    for shape in SHAPES:
        lines.append(f"| **{shape.title}** |" + " |" * (len(HEAD) - 1))
        lines += ["| " + " | ".join(row.cells()) + " |" for row in rows if row.shape is shape]
    return "\n".join(lines)


def write_readme(text: str, readme: Path = HERE / "README.md") -> None:
    """Put the table into its marked place."""
    pattern = f"{re.escape(BEGIN)}.*?{re.escape(END)}"
    replaced, count = re.subn(pattern, lambda _: f"{BEGIN}\n\n{text}\n\n{END}", readme.read_text(), flags=re.DOTALL)
    if count != 1:
        raise ValueError(f"{readme} has no place for the table: {BEGIN} … {END}")
    readme.write_text(replaced)


if __name__ == "__main__":
    sys.exit(main())
