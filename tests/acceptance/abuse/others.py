"""The others: well-behaved clients in a process of their own, who note how long all takes while somebody attacks.

``python -m tests.acceptance.abuse.others '{…}'``, the fields of ``Plan``. Pairs of clients, each in a room of its own:
one publishes numbered messages at an even pace, the other one receives, and pings in between. It writes one line when
it has begun, and one ``Report`` as JSON for each line that it reads, once all that was sent has been answered.

Beside each time they note how much of it the processes on the way (theirs, the nodes and Redis) were ready to run and
had no processor. That is the machine's part in it: other work that is done there, and too few processors.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import sys
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from websockets.frames import Opcode

from devtools.tied import end_with_parent
from tests.acceptance.engine.peer import PONG, Message, Peer, command, frame

SETTLE_SECONDS = 20.0
MESSAGE, ANSWER = "message", "answer"


@dataclass
class Plan:
    """Who the others are. Pair `i` is on `ports[i % n]` and `ports[(i + 1) % n]`; none shares an address or a user."""

    ports: list[int]
    tokens: list[str]  # two for each pair
    pids: list[int]  # of all processes on the way
    every_seconds: float = 0.1  # between two messages of one pair, and between two pings


@dataclass
class Report:
    """What came of everything that was sent since the last report. Times are those of `time.monotonic`, in seconds."""

    # By kind (from one client to the other, a ping's answer): when each was sent, how long it took, and how much of
    # that the processes waited for processors.
    samples: dict[str, list[tuple[float, float, float]]] = field(default_factory=lambda: {MESSAGE: [], ANSWER: []})
    lost: list[str] = field(default_factory=list)  # what was acknowledged and did not arrive, or not in order
    refused: int = 0  # messages answered with an error
    missed: int = 0  # notices that something may have been missed
    closed: list[str] = field(default_factory=list)  # connections that ended


class Processors:
    """How long the threads of some processes were ready to run and had no processor, as the kernel counts it."""

    def __init__(self, pids: list[int]) -> None:
        self._pids = pids
        self._known: dict[Path, int] = {}
        self._files: dict[Path, int] = {}
        self.find_threads()

    def find_threads(self) -> None:
        """All of them: one that holds the interpreter's lock and waits keeps the loop waiting. Call while nothing is
        timed."""
        for thread in (each for pid in self._pids for each in Path(f"/proc/{pid}/task").glob("*/schedstat")):
            if thread not in self._files:
                with contextlib.suppress(OSError):
                    self._files[thread] = os.open(thread, os.O_RDONLY)

    @property
    def waited_seconds(self) -> float:
        """All of them together, since they began."""
        for thread, file in self._files.items():
            with contextlib.suppress(OSError):  # one that has ended does not wait any more
                self._known[thread] = int(os.pread(file, 100, 0).split()[1])
        return sum(self._known.values()) / 1e9


class Pair:
    """A publisher and a receiver."""

    def __init__(self, name: str, publisher: Peer, receiver: Peer, processors: Processors) -> None:
        self.processors = processors
        self.room = name
        self.publisher = publisher
        self.receiver = receiver
        self.count = 0
        self.due = 0.0
        # When each was sent, and what the processes had waited until then.
        self.pinged: tuple[float, float] | None = None  # that is not answered yet
        self.sent: dict[int, tuple[float, float]] = {}  # that have not arrived
        self.unanswered: set[int] = set()
        self.acknowledged: set[int] = set()  # and not arrived
        self.arrived: set[int] = set()  # and not answered
        self.skipped: set[int] = set()  # not answered yet, and later ones have arrived
        self.last = -1
        self.told_until = 0  # of the messages before this one some may be missing: they were told

    @property
    def is_settled(self) -> bool:
        return not (self.unanswered or self.acknowledged or self.pinged)

    def talk(self) -> None:
        now = time.monotonic(), self.processors.waited_seconds
        self.sent[self.count] = now
        self.unanswered.add(self.count)
        self.publisher.send(command("room", room=self.room, data=self.count, ref=self.count))
        self.count += 1
        if self.pinged is None:
            self.pinged = now
            self.receiver.send(command("ping", ref="ping"))

    def _note(self, kind: str, sent: tuple[float, float], now: float, report: Report) -> None:
        sent_at, waited = sent
        report.samples[kind].append((sent_at, now - sent_at, self.processors.waited_seconds - waited))

    def hear(self, message: Message, now: float, report: Report) -> None:
        """A message for one of the two."""
        kind, number = message["type"], message.get("ref")
        if kind == "room":
            self._arrive(message["data"], now, report)
        elif kind == "pong" and self.pinged is not None:
            self._note(ANSWER, self.pinged, now, report)
            self.pinged = None
        elif kind == "missed":
            report.missed += 1
            self.told_until = self.count
            self.acknowledged.clear()
        elif kind in ("ack", "error") and isinstance(number, int):
            self.unanswered.discard(number)
            has_arrived = number in self.arrived
            self.arrived.discard(number)
            if kind == "error":
                report.refused += 1
            elif not has_arrived and number >= self.told_until:
                self._await_arrival(number, report)
        elif kind not in ("broadcast", "private"):  # those are the attacker's
            report.lost.append(f"{self.room}: {message!r:.200}")

    def _await_arrival(self, number: int, report: Report) -> None:
        if number in self.skipped:
            report.lost.append(f"{self.room}: {number}")
        else:
            self.acknowledged.add(number)

    def _arrive(self, number: int, now: float, report: Report) -> None:
        if number <= self.last:
            report.lost.append(f"{self.room}: {number} after {self.last}")
        for passed_over in range(self.last + 1, number):  # a room has one order: they will not come any more
            if passed_over in self.acknowledged:
                self.acknowledged.discard(passed_over)
                report.lost.append(f"{self.room}: {passed_over}")
            elif passed_over in self.unanswered:
                self.skipped.add(passed_over)
        self.last = number
        self._note(MESSAGE, self.sent.pop(number), now, report)
        self.acknowledged.discard(number)
        if number in self.unanswered:
            self.arrived.add(number)


class Others:
    """All pairs, in one loop."""

    def __init__(self, plan: Plan) -> None:
        self.processors = Processors([os.getpid(), *plan.pids])
        self.every = plan.every_seconds
        self.report = Report()
        self.selector = selectors.DefaultSelector()
        self.pairs = [self._pair(plan, number) for number in range(len(plan.tokens) // 2)]
        begun = time.monotonic()
        for number, pair in enumerate(self.pairs):
            pair.due = begun + self.every * number / len(self.pairs)

    def _pair(self, plan: Plan, number: int) -> Pair:
        peers = []
        for side in (0, 1):
            port = plan.ports[(number + side) % len(plan.ports)]
            peer = member(port, plan.tokens[2 * number + side], f"127.1.{number}.{side + 1}", f"pair-{number}")
            peers.append(peer)
        pair = Pair(f"pair-{number}", peers[0], peers[1], self.processors)
        for peer in peers:
            peer.socket.setblocking(False)
            self.selector.register(peer.socket, selectors.EVENT_READ, (pair, peer))
        return pair

    def go_on(self, is_talking: bool = True) -> bool:
        """One turn; whether a line is to be read."""
        due = min(pair.due for pair in self.pairs) if is_talking else time.monotonic() + 0.05
        is_asked = False
        for key, _ in self.selector.select(max(0.0, due - time.monotonic())):
            if key.data == "asked":
                is_asked = True
            else:
                self._read(*key.data)
        now = time.monotonic()
        for pair in self.pairs:
            if is_talking and pair.due <= now:
                pair.due += self.every
                pair.talk()
        return is_asked

    def _read(self, pair: Pair, peer: Peer) -> None:
        try:
            data = peer.socket.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        now = time.monotonic()
        peer.parser.feed(data)
        while peer.parser.frames:
            came = peer.parser.frames.popleft()
            if came.opcode is Opcode.TEXT:
                pair.hear(json.loads(bytes(came.data)), now, self.report)
            elif came.opcode is Opcode.PING:
                peer.send(frame(PONG, bytes(came.data)))
            elif came.opcode is Opcode.CLOSE:
                self.report.closed.append(f"{pair.room}: {bytes(came.data)!r}")
        if not data:
            self.report.closed.append(f"{pair.room}: the end")
            self.selector.unregister(peer.socket)

    def settled(self) -> Report:
        """Say nothing until everything is answered; what came of it."""
        deadline = time.monotonic() + SETTLE_SECONDS
        while not all(pair.is_settled for pair in self.pairs) and time.monotonic() < deadline:
            self.go_on(is_talking=False)
        for pair in self.pairs:
            if not pair.is_settled:
                what = f"{len(pair.acknowledged)} not arrived, {len(pair.unanswered)} not answered"
                self.report.lost.append(f"{pair.room}: {what}, ping {pair.pinged}")
        self.processors.find_threads()
        report, self.report = self.report, Report()
        return report

    def serve(self) -> None:
        """Talk, and report for each line; until there are no more."""
        self.selector.register(sys.stdin, selectors.EVENT_READ, "asked")
        print("begun", flush=True)
        while True:
            if self.go_on():
                if not sys.stdin.readline():
                    return
                print(json.dumps(asdict(self.settled())), flush=True)
                later = time.monotonic()
                for number, pair in enumerate(self.pairs):
                    pair.due = later + self.every * number / len(self.pairs)


def member(port: int, token: str, source: str, *rooms: str, **options: Any) -> Peer:
    """A client of its own address, as a page of this host, authenticated and in some rooms."""
    peer = Peer(port, source=source, headers={"Origin": f"http://127.0.0.1:{port}"}, **options)
    peer.do("authenticate", token=token)
    for room in rooms:
        peer.do("join", room=room)
    return peer


if __name__ == "__main__":
    end_with_parent(signal.SIGKILL, os.getppid())
    Others(Plan(**json.loads(sys.argv[1]))).serve()
