"""The oracle of every attack: what was seen, and whether anybody else was harmed.

In this order of certainty:

1. **Whatever the machine does.** Nothing of the others is lost, out of order, refused or closed; no node logs a
   traceback or an "Unhandled" error; in each round the metric has grown and a new line of the log has the words of the
   cause; the node's resident memory after the second attack is at most 1.1 times that after the first (each time when
   the attacker has gone).
2. **As far as the machine lets one see.** In one round of three at most: the others' p99 is within 1.5 times or 5 ms
   of their p99 just before the attack, for messages from client to client and for a ping's answer; and the node's own
   loop was never 200 ms late, by `realtime_loop_delay_seconds`, which it measures ten times a second.

A machine that is busy with something else delays everybody, so the second part has two remedies and no more. From each
time of the others that part is taken which the kernel says that the threads on the way (of the nodes, Redis and the
others, and its own that carry packets) were ready to run and had no processor. What a node does for the attacker while
they wait is not among that. Where several waited at the same time too much is taken off: a very busy machine hides harm
of some milliseconds, a quiet one none. A loop that was late by the clock was so by its own work only if one of the
others' pings, a hundred in a second, has waited nearly as long for that work. And what an attack really does it does
each time, so the best round counts. `test_oracle.py` shows that real harm is noticed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from tests.acceptance.abuse.others import ANSWER, MESSAGE, Report

ROUNDS_MIN, ROUNDS_MAX = 2, 3
FACTOR, MARGIN_SECONDS = 1.5, 0.005
LOOP_SECONDS = 0.2
SEEN_BY_PINGS = 0.75  # of what the loop is late
MEMORY_FACTOR = 1.1
MIB = 1024 * 1024
SURPRISES = re.compile(r"Traceback|Unhandled|Task exception was never retrieved")


@dataclass
class Round:
    """One attack, and what was seen of it. Times are in seconds."""

    before: dict[str, float]  # the others' p99, by kind, without what the machine did
    during: dict[str, float]
    by_clock: dict[str, float]  # the same during the attack, with all
    worst_answer: float  # of a ping during the attack, without what the machine did
    late: float  # how often the loop was late by over LOOP_SECONDS
    report: Report
    seen: list[tuple[float, str]]  # of each cause, by how much its metric has grown, and its line of the log
    surprise: str
    memory_bytes: int
    peak_bytes: int  # above what the node held before
    cpu_seconds: float
    seconds: float
    handling_seconds: float  # the mean of the node's own `websocket_message_latency_seconds`
    told: Any = None

    @property
    def grown(self) -> float:
        """The metric of the first cause."""
        return self.seen[0][0]

    def disturbed(self, calm: dict[str, float]) -> list[str]:
        """What the attack did to the speed of the others, in words. ``calm``: their p99 by kind without it."""
        failures = [
            f"p99 of {kind}: {before * 1000:.1f} ms before, {self.during[kind] * 1000:.1f} ms during"
            for kind, before in calm.items()
            if self.during[kind] > max(before * FACTOR, before + MARGIN_SECONDS)
        ]
        is_late = self.late and self.worst_answer > LOOP_SECONDS * SEEN_BY_PINGS
        return failures + ([f"the loop was late {self.late:.0f} times"] if is_late else [])

    def broken(self, is_outage: bool) -> list[str]:
        """What must not be in any round, in words."""
        report = self.report
        failures = [f"lost: {each}" for each in report.lost] + [f"closed: {each}" for each in report.closed]
        if not is_outage and (report.refused or report.missed):
            failures.append(f"{report.refused} refused, {report.missed} told that they may have missed something")
        for number, (grown, line) in enumerate(self.seen):
            failures += [] if grown else [f"metric {number} has not grown"]
            failures += [] if line else [f"no line of the log names cause {number}"]
        return failures + ([f"the log has {self.surprise}"] if self.surprise else [])

    def __str__(self) -> str:
        times = ", ".join(
            f"{kind} {self.before[kind] * 1000:.1f} > {during * 1000:.1f} (clock {self.by_clock[kind] * 1000:.1f})"
            for kind, during in self.during.items()
        )
        return (
            f"{self.seconds:.1f} s; p99 in ms: {times}; node: cpu {self.cpu_seconds:.2f} s, handling "
            f"{self.handling_seconds * 1000:.2f} ms, memory {self.memory_bytes / MIB:.1f} MiB, "
            f"peak +{self.peak_bytes / MIB:.1f}; metric +{self.grown:g}; log {self.seen[0][1][:150]!r}; {self.told}"
        )


@dataclass
class Outcome:
    """All rounds of an attack."""

    name: str
    is_outage: bool = False
    rounds: list[Round] = field(default_factory=list)

    @property
    def calm(self) -> dict[str, float]:
        """The others' p99 before an attack, at its best; of what must stay as quick as it was: messages have to wait
        for a backplane that is not there."""
        kinds = (ANSWER,) if self.is_outage else (MESSAGE, ANSWER)
        return {kind: min(each.before[kind] for each in self.rounds) for kind in kinds}

    @property
    def is_decided(self) -> bool:
        """Whether no further round is wanted."""
        count = len(self.rounds)
        return count >= ROUNDS_MAX or (count >= ROUNDS_MIN and self.has_good_round)

    @property
    def has_good_round(self) -> bool:
        return any(not each.disturbed(self.calm) for each in self.rounds)

    @property
    def failures(self) -> list[str]:
        """Why the nodes did not withstand it; empty when they did."""
        failures = [
            f"round {number}: {what}"
            for number, each in enumerate(self.rounds, 1)
            for what in each.broken(self.is_outage)
        ]
        if not self.has_good_round:
            for number, each in enumerate(self.rounds, 1):
                failures += [f"round {number}: {what}" for what in each.disturbed(self.calm)]
        first, second = (each.memory_bytes for each in self.rounds[:2])
        if second > first * MEMORY_FACTOR:
            failures.append(f"memory: {first / MIB:.1f} MiB after the first, {second / MIB:.1f} after the second")
        return failures

    @property
    def told(self) -> list[Any]:
        """What the attack returned, by round."""
        return [each.told for each in self.rounds]

    @property
    def peak_bytes(self) -> int:
        """The most that the attacked node held above what it had before, in the second round: the first one also loads
        code and fills caches."""
        return self.rounds[1].peak_bytes

    def __str__(self) -> str:
        return "\n".join([self.name, *(f"  {number}: {each}" for number, each in enumerate(self.rounds, 1))])


def surprise(log: str) -> str:
    """The first sign in a log that something was not expected, with what follows."""
    found = SURPRISES.search(log)
    return log[found.start() :][:3000] if found else ""
