"""Runs the load generator and reads the one JSON object that it prints."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping, Sequence

import msgspec

from benchmarks.processes import pin_to
from benchmarks.toolchain import LOAD

RUN_SECONDS = 120.0


class Finding(msgspec.Struct, frozen=True):
    """What one run found. Processor times are seconds of all server processes together, memory is KiB of RSS."""

    clients: int
    ready: int
    closed: int
    connect_seconds: float
    connect_cpu: float
    rss_before: int
    rss_joined: int
    rss_2s: int
    rss_end: int
    seconds: float
    schedule_seconds: float
    cpu: float
    own_cpu: float
    messages: int
    deliveries: int
    bytes: int
    received: int
    expected: int
    surplus: int
    disorder: int
    strange: int
    p50_us: float
    p99_us: float

    @property
    def is_complete(self) -> bool:
        """Everybody joined, and everything arrived exactly once and in order."""
        return (
            self.ready == self.clients
            and not self.closed
            and self.received == self.expected
            and not (self.surplus or self.disorder)
        )

    @property
    def cpu_us_per_delivery(self) -> float:
        return self.cpu * 1e6 / self.deliveries if self.deliveries else 0.0

    @property
    def deliveries_per_second(self) -> float:
        return self.deliveries / self.seconds if self.seconds else 0.0

    @property
    def cpu_us_per_connect(self) -> float:
        return self.connect_cpu * 1e6 / max(self.ready, 1)

    @property
    def kib_per_connection(self) -> float:
        return (self.rss_joined - self.rss_before) / max(self.ready, 1)


class RunFailed(Exception):
    """The load generator printed nothing usable; the text is what it said."""


def generate(
    options: Mapping[str, str | int | float],
    *,
    dialect: str,
    path: str,
    ports: Sequence[int],
    pids: Sequence[int],
    core: int,
) -> tuple[Finding, str]:
    """Run it once. Returns what it found and what it complained about."""
    command = [str(LOAD), "--dialect", dialect, "--path", path]
    command += ["--ports", ",".join(map(str, ports)), "--pids", ",".join(map(str, pids)) or "0"]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=RUN_SECONDS, preexec_fn=pin_to(core)
        )
    except subprocess.TimeoutExpired as error:
        raise RunFailed(f"the load generator did not end within {RUN_SECONDS:.0f} s") from error
    try:
        return msgspec.json.decode(result.stdout, type=Finding), result.stderr.strip()
    except msgspec.DecodeError as error:
        raise RunFailed(result.stderr.strip() or f"exit status {result.returncode}") from error
