"""A siege: nodes, others who talk, one who attacks.

``Siege.withstand(attack, metric=…, log=…)`` runs the attack at least twice, in a process of its own, while the others
go on talking, and asserts what ``oracle.py`` says.
"""

from __future__ import annotations

import json
import os
import re
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Self

from realtime.auth import issue_token
from tests.acceptance.abuse.attacker import Target
from tests.acceptance.abuse.oracle import LOOP_SECONDS, Outcome, Round, surprise
from tests.acceptance.abuse.others import ANSWER, MESSAGE, Plan, Report
from tests.acceptance.engine.memory import cpu_seconds, resident_bytes
from tests.acceptance.nodes import get, metric
from tests.support.cluster import Cluster, DaphneNode
from tests.support.processes import CHECKOUT
from tests.support.servers import RedisServer, die_with_parent

SECRET_KEY = "a secret of nodes under siege, long enough for HS256"
PRODUCTION = {
    "REALTIME_DEFAULTS": "production",
    "DJANGO_SECRET_KEY": SECRET_KEY,
    "REALTIME_TRUSTED_PROXIES": "127.255.255.254",  # nobody
    # Large buffers go back to the kernel when they are freed, so that resident memory is what a node holds, and not
    # what its allocator keeps for the next one.
    "MALLOC_MMAP_THRESHOLD_": "65536",
    "MALLOC_TRIM_THRESHOLD_": "65536",
}
PAIRS = 16
ATTACKERS = 64
CALM_SECONDS = 0.8  # how long the others are watched before each attack
DEADLINE_SECONDS = 60.0
SAMPLES_MIN = 20

Attack = Callable[[Target], Any]


@dataclass(frozen=True)
class Cause:
    """What names the cause of the trouble: the metric that grows, and the words of a line in the log."""

    metric: str
    words: str

    def seen(self, before: Mapping[str, float], now: Mapping[str, float], news: str) -> tuple[float, str]:
        """By how much the metric has grown, and the first line with the words."""
        line = next((line for line in news.splitlines() if re.search(self.words, line)), "")
        return value(now, self.metric) - value(before, self.metric), line


class Siege:
    """Running nodes with the limits of production. Several attacks may come one after the other."""

    def __init__(self, cluster: Cluster, redis: RedisServer, seed: object) -> None:
        self.cluster = cluster
        self.redis = redis
        self.seed = seed
        # The nodes may look users up.
        names = [f"other-{number}" for number in range(2 * PAIRS)] + [f"attacker-{n}" for n in range(ATTACKERS)]
        users = add_users(cluster, names)
        tokens = [issue_token(user, keys=[SECRET_KEY]) for user in users]
        self.tokens, self.attackers = tokens[: 2 * PAIRS], tokens[2 * PAIRS :]

    def withstand(self, attack: Attack, *, metric: str, log: str, **options: Any) -> Outcome:
        """The attack changes nothing for the others. See ``oracle.py``, and ``endure`` for the options."""
        outcome = self.endure(attack, metric=metric, log=log, **options)
        assert not outcome.failures, "\n".join([*outcome.failures, str(outcome)])
        return outcome

    def endure(
        self,
        attack: Attack,
        *,
        metric: str,
        log: str,
        node: int = 0,
        seconds: float = 1.5,
        is_outage: bool = False,
        niceness: int = 10,
        meanwhile: Callable[[], None] = lambda: None,
        also: Sequence[tuple[str, str]] = (),
        **arguments: Any,
    ) -> Outcome:
        """Let somebody attack node number ``node``, and look.

        ``metric``: the sample that must grow on that node, `realtime_connections_closed_total{code="1009"}`, or a name
        for the sum over its labels. ``log``: a regular expression for a line of its log. ``seconds``: how long the
        attack should take. ``is_outage``: the attack takes the backplane away, so that others may be told that they
        missed something, and only answers have to be quick. ``meanwhile`` is called here when the attack begins.
        ``also``: other metrics that must grow, each with its line. ``arguments`` go to the attack.
        """
        nodes = self.cluster.nodes
        attacked = nodes[node]
        target = Target(
            port=attacked.port,
            ports=[each.port for each in nodes],
            tokens=self.attackers,
            seconds=seconds,
            seed=f"{self.seed} {attack.__module__}.{attack.__qualname__}",
            arguments=arguments,
            niceness=niceness,
        )
        outcome = Outcome(attack.__name__, is_outage)
        pids = [*(each.pid for each in nodes), self.redis.pid, *kernel_threads("ksoftirqd")]
        plan = Plan([each.port for each in nodes], self.tokens, pids)
        causes = [Cause(*each) for each in [(metric, log), *also]]
        programs = Program("attacker", f"{attack.__module__}:{attack.__qualname__}", target), Program("others", plan)
        with programs[0] as attacker, programs[1] as others:
            others.ask()  # the first ones warm everything up
            while not outcome.is_decided:
                outcome.rounds.append(self._round(attacked, attacker, others, causes, meanwhile))
        print(outcome)
        return outcome

    def _round(
        self, node: DaphneNode, attacker: Program, others: Program, causes: list[Cause], meanwhile: Callable[[], None]
    ) -> Round:
        for each in self.cluster.nodes:
            each.wait_ready()
        logs = {name: len(log) for name, log in self.cluster.logs()}
        clients = metric(node, "websocket_connected_clients")
        begun = time.monotonic()
        time.sleep(CALM_SECONDS)
        calm_until = time.monotonic()
        counts = samples(node)
        cpu, memory = cpu_seconds(node.pid), resident_bytes(node.pid)
        attacked_at = time.monotonic()
        with Peak(node.pid) as peak:
            attacker.begin()
            meanwhile()
            told = attacker.answer()
        ended = time.monotonic()
        cpu = cpu_seconds(node.pid) - cpu
        assert "error" not in told, told["error"]
        report = Report(**others.ask())
        node.wait_until(lambda: metric(node, "websocket_connected_clients") <= clients, "rid of the attacker", 60)
        now = samples(node)
        news = {name: log[logs[name] :] for name, log in self.cluster.logs()}
        return Round(
            before=p99s(report, begun, calm_until),
            during=p99s(report, attacked_at, ended),
            by_clock=p99s(report, attacked_at, ended, with_waits=True),
            worst_answer=max(times(report, ANSWER, attacked_at, ended)),
            late=late(now) - late(counts),
            report=report,
            seen=[cause.seen(counts, now, news[node.name]) for cause in causes],
            surprise=next((f"{name}: {surprise(log)}" for name, log in news.items() if surprise(log)), ""),
            memory_bytes=resident_bytes(node.pid),
            peak_bytes=peak.bytes - memory,
            cpu_seconds=cpu,
            seconds=ended - attacked_at,
            handling_seconds=mean(counts, now, "websocket_message_latency_seconds"),
            told=told.get("told"),
        )


class Program:
    """One of our programs, which answers each line with one of JSON."""

    def __init__(self, name: str, *arguments: Any) -> None:
        words = [each if isinstance(each, str) else json.dumps(asdict(each)) for each in arguments]
        self.name = name
        self.process = subprocess.Popen(
            [sys.executable, "-m", f"tests.acceptance.abuse.{name}", *words],
            cwd=CHECKOUT,
            env={**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            preexec_fn=die_with_parent(),
        )

    def ask(self) -> dict[str, Any]:
        self.begin()
        return self.answer()

    def begin(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        answer: dict[str, Any] = json.loads(self._line())
        return answer

    def _line(self) -> str:
        assert self.process.stdout is not None
        watchdog = threading.Timer(DEADLINE_SECONDS, self.process.kill)
        watchdog.start()
        line = self.process.stdout.readline()
        watchdog.cancel()
        assert line, f"the process of the {self.name} has ended, or did not answer within {DEADLINE_SECONDS:g} s"
        return line

    def __enter__(self) -> Self:
        self._line()
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()


class Peak:
    """The most memory that a process held meanwhile."""

    def __init__(self, pid: int) -> None:
        self.bytes = 0
        self._pid = pid
        self._has_ended = threading.Event()
        self._thread = threading.Thread(target=self._look, name="peak")

    def _look(self) -> None:
        while not self._has_ended.wait(0.02):
            self.bytes = max(self.bytes, resident_bytes(self._pid))

    def __enter__(self) -> Self:
        self.bytes = resident_bytes(self._pid)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._has_ended.set()
        self._thread.join()


def add_users(cluster: Cluster, names: list[str]) -> list[int]:
    """Rows of users who cannot log in by a password; their ids."""
    row = "INSERT INTO auth_user (username, password, is_active, is_staff, is_superuser, first_name, last_name, email,"
    row += " date_joined) VALUES (?, '!', 1, 0, 0, '', '', '', '2026-01-01 00:00:00')"
    with closing(sqlite3.connect(cluster.database, timeout=30)) as database, database:
        return [int(database.execute(row, [name]).lastrowid or 0) for name in names]


def kernel_threads(name: str) -> list[int]:
    """The ids of the kernel's threads of this name, as far as one may see them: `ksoftirqd` carries packets."""
    found = (each for each in Path("/proc").glob("[0-9]*/comm"))
    return [int(each.parent.name) for each in found if is_named(each, name)]


def is_named(comm: Path, name: str) -> bool:
    try:
        return comm.read_text().startswith(f"{name}/")
    except OSError:  # it has ended meanwhile
        return False


def samples(node: DaphneNode) -> dict[str, float]:
    """Every sample that a node shows now, by its name and labels."""
    lines = (line.rpartition(" ") for line in get(f"{node.http_url}/metrics").splitlines() if line[:1] != "#")
    return {name: float(number) for name, _, number in lines}


def value(now: Mapping[str, float], name: str) -> float:
    """One sample; or with a bare name the sum over its labels."""
    return sum(number for sample, number in now.items() if name in (sample, sample.partition("{")[0]))


def late(now: Mapping[str, float]) -> float:
    """How often the loop was late by over LOOP_SECONDS."""
    name = "realtime_loop_delay_seconds"
    return now[f"{name}_count"] - now[f'{name}_bucket{{le="{LOOP_SECONDS:g}"}}']


def mean(before: Mapping[str, float], now: Mapping[str, float], name: str) -> float:
    """The mean of what a histogram observed in between."""
    count = now[f"{name}_count"] - before[f"{name}_count"]
    return (now[f"{name}_sum"] - before[f"{name}_sum"]) / count if count else 0.0


def times(report: Report, kind: str, begun: float, ended: float, *, with_waits: bool = False) -> list[float]:
    """What each took that was sent in that time, sorted; waits for processors are no part, unless they are wanted."""
    return sorted(
        took if with_waits else max(0.0, took - waited)
        for sent_at, took, waited in report.samples[kind]
        if begun <= sent_at < ended
    )


def p99s(report: Report, begun: float, ended: float, *, with_waits: bool = False) -> dict[str, float]:
    """By kind, what 99 of 100 did not exceed of those that were sent in that time; waits for processors are no part."""
    found = {}
    for kind in report.samples:
        seconds = times(report, kind, begun, ended, with_waits=with_waits)
        assert len(seconds) >= SAMPLES_MIN or report.lost or kind == MESSAGE, f"{len(seconds)} samples of {kind}"
        found[kind] = seconds[int(len(seconds) * 0.99)] if seconds else float("inf")
    return found
