"""Rounds: in each, every peer runs the scenario once, one after the other, so that a noisy minute hits all of them."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.generator import Finding, RunFailed, generate
from benchmarks.peer import Peer, Site, working_directory
from benchmarks.processes import ServerProcess, cores
from benchmarks.scenario import Kind, Options, Scenario
from devtools.ports import free_port
from tests.support.servers import RedisServer, Server

START_SECONDS = 20.0
Progress = Callable[[str], None]


@dataclass
class Row:
    """One peer in one scenario: what each round found, and why there may be less than asked for."""

    scenario: Scenario
    peer: Peer
    findings: list[Finding] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def note(self, text: str) -> None:
        if text and text not in self.notes:
            self.notes.append(text)


class Group:
    """The running nodes of one peer."""

    def __init__(self, peer: Peer, servers: Sequence[ServerProcess], ports: Sequence[int], core: int) -> None:
        self.peer = peer
        self.servers = servers
        self.ports = ports
        self.core = core  # where the load generator runs

    def run(self, options: Options) -> tuple[Finding, str]:
        pids = [server.pid for server in self.servers]
        return generate(
            options, dialect=self.peer.dialect, path=self.peer.path, ports=self.ports, pids=pids, core=self.core
        )

    def wait_until_serving(self) -> None:
        """Connect and join on every node, until that works; the first client also pays for what is imported late."""
        probe: Options = {"connect_only": 1, "size": len(self.ports), "patience": 1, "rooms": 1}
        deadline = time.monotonic() + START_SECONDS
        problem = ""
        while time.monotonic() < deadline:
            for server in self.servers:
                if not server.is_running:
                    raise RunFailed(f"{self.peer.name} ended: {server.log_tail()}")
            with contextlib.suppress(RunFailed):
                finding, problem = self.run(probe)
                if finding.is_complete:
                    return
            time.sleep(0.1)
        raise RunFailed(f"{self.peer.name} does not serve: {problem} {self.servers[0].log_tail()}")


class Bench:
    """Runs scenarios on peers until the time is up."""

    def __init__(
        self, *, peers: Sequence[Peer], rounds: int, seconds: float | None, deadline: float, directory: Path,
        progress: Progress,
    ) -> None:  # fmt: skip
        self.peers = peers
        self.rounds = rounds
        self.seconds = seconds  # of every measured phase; None: what the scenario says
        self.deadline = deadline
        self.directory = directory
        self.progress = progress
        self.server_core, self.load_core = cores()
        self.limit_rate = 0.0  # publications per second that the C limit reached in a room of 1,000

    def prepare(self) -> list[Peer]:
        """Let every peer make what it needs once."""
        for peer in self.peers:
            peer.prepare(self._site(free_port(), "", ""))
        return list(self.peers)

    def run(self, scenario: Scenario) -> list[Row]:
        """All rounds of one scenario."""
        if scenario.rate_share and not self._learn_limit_rate():
            return []
        rows = [
            Row(scenario, peer, notes=[note] if (note := scenario.note_for(peer)) else [])
            for peer in self.peers
            if scenario.options_for(peer) is not None
        ]
        rounds = min(self.rounds, scenario.rounds or self.rounds)
        with contextlib.ExitStack() as stack:
            redis = stack.enter_context(pinned_redis(self.load_core))
            if scenario.is_fresh:
                self._run_fresh(rows, rounds, redis)
            else:
                self._run_shared(rows, rounds, redis)
        return rows

    def _run_shared(self, rows: Sequence[Row], rounds: int, redis: RedisServer) -> None:
        with contextlib.ExitStack() as stack:
            running: list[tuple[Row, Group]] = []
            for row in rows:
                with self._failures(row):
                    running.append((row, stack.enter_context(self.group(row.peer, row.scenario.nodes, redis))))
            for number in range(rounds):
                for row, group in running:
                    self._run_once(row, group, number)

    def _run_fresh(self, rows: Sequence[Row], rounds: int, redis: RedisServer) -> None:
        for number in range(rounds):
            for row in rows:
                with self._failures(row), self.group(row.peer, row.scenario.nodes, redis) as group:
                    self._run_once(row, group, number)

    def _run_once(self, row: Row, group: Group, number: int) -> None:
        if time.monotonic() > self.deadline:
            row.note("out of time")
            return
        with self._failures(row):
            finding, complaint = group.run(self._options(row.scenario, row.peer))
            row.findings.append(finding)
            if complaint:
                row.note(complaint.splitlines()[0].removeprefix("load: ")[:120])
            self.progress(f"  {row.scenario.name} {number + 1}: {row.peer.name:16s} {describe(row.scenario, finding)}")

    @contextlib.contextmanager
    def _failures(self, row: Row) -> Iterator[None]:
        try:
            yield
        except RunFailed as error:
            row.note("failed")
            self.progress(f"  {row.scenario.name}: {row.peer.name} failed: {error}")

    def _options(self, scenario: Scenario, peer: Peer) -> Options:
        options = dict(scenario.options_for(peer) or {})
        if self.seconds is not None and scenario.kind is Kind.DELIVERY:
            options.setdefault("seconds", self.seconds)
        if scenario.rate_share:
            options["rate"] = round(self.limit_rate * scenario.rate_share, 2)
        return options

    def _learn_limit_rate(self) -> bool:
        limit = next((peer for peer in self.peers if peer.name == "limit"), None)
        if limit is None:
            self.progress("  left out: it needs the C limit among the peers")
            return False
        with pinned_redis(self.load_core) as redis, self.group(limit, 1, redis) as group:
            finding, _ = group.run({"size": 1000, "in_flight": 8, "payload": 38, "seconds": 3})
        self.limit_rate = finding.deliveries_per_second / 999
        self.progress(f"  the C limit's maximum: {self.limit_rate:.0f} messages/s to 1,000 members")
        return True

    @contextlib.contextmanager
    def group(self, peer: Peer, nodes: int, redis: Server) -> Iterator[Group]:
        """So many nodes of one peer, serving."""
        with contextlib.ExitStack() as stack:
            servers, ports = [], []
            prefix = f"bench-{uuid.uuid4().hex[:8]}"
            for _ in range(nodes):
                site = self._site(free_port(), redis.url, prefix)
                servers.append(
                    stack.enter_context(
                        ServerProcess(
                            peer.command(site),
                            cwd=working_directory(peer),
                            environment=peer.environment(site),
                            log=self.directory / f"{peer.name}-{site.port}.log",
                            core=self.server_core,
                        )
                    )
                )
                ports.append(site.port)
            group = Group(peer, servers, ports, self.load_core)
            group.wait_until_serving()
            yield group

    def _site(self, port: int, redis_url: str, prefix: str) -> Site:
        return Site(port=port, redis_url=redis_url, prefix=prefix, directory=self.directory)


@contextlib.contextmanager
def pinned_redis(core: int) -> Iterator[RedisServer]:
    """A Redis of our own on the load's core. Its threads inherit the core from ours, for as long as it starts."""
    import os

    allowed = os.sched_getaffinity(0)
    server = RedisServer("--maxclients", "20000")
    os.sched_setaffinity(0, {core})
    try:
        server.start()
    finally:
        os.sched_setaffinity(0, allowed)
    try:
        yield server
    finally:
        server.stop()


def describe(scenario: Scenario, finding: Finding) -> str:
    """One finding in one line of progress."""
    lost = "" if finding.is_complete else f"  LOST: {finding.received}/{finding.expected}, {finding.closed} closed"
    if scenario.kind is Kind.CONNECT:
        return f"{finding.cpu_us_per_connect:8.0f} us per connect{lost}"
    if scenario.kind is Kind.MEMORY:
        return f"{finding.kib_per_connection:8.1f} KiB per connection{lost}"
    return (
        f"{finding.cpu_us_per_delivery:8.2f} us, {finding.deliveries_per_second:10,.0f}/s, "
        f"p50 {finding.p50_us / 1e3:8.2f} ms, p99 {finding.p99_us / 1e3:8.2f} ms{lost}"
    )


def by_scenario(rows: Sequence[Row]) -> Mapping[str, list[Row]]:
    """Rows in their order, under the name of their scenario."""
    table: dict[str, list[Row]] = {}
    for row in rows:
        table.setdefault(row.scenario.name, []).append(row)
    return table
