"""Who said what to whom, who must have heard it, and who was told that something is missing.

All clients of a soak are in one process, so that one ledger knows everything in its true order. An *audience* is a
room, everybody, or one connection. What is sent to an audience is numbered, for each sender from 0.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

EVERYBODY = "everybody"


def room_audience(room: str) -> str:
    return f"room {room}"


def private_audience(connection_id: str) -> str:
    return f"private {connection_id}"


class BadDelivery(AssertionError):
    """A client got what it must not get, or did not get what it must."""


@dataclass(slots=True)
class Stream:
    """What one sender sends to one audience: how many so far, and which of them were acknowledged."""

    sent: int = 0
    acked: set[int] = field(default_factory=set)


class Ledger:
    """All streams, by audience and sender."""

    def __init__(self) -> None:
        self.streams: defaultdict[str, dict[str, Stream]] = defaultdict(dict)
        self.acked = 0
        self.came = 0

    def stream(self, audience: str, sender: str) -> Stream:
        return self.streams[audience].setdefault(sender, Stream())

    def forget(self, senders: set[str]) -> None:
        """Drop the streams of all but these senders. When nothing of the others is on its way."""
        for audience, streams in list(self.streams.items()):
            for sender in streams.keys() - senders:
                del streams[sender]
            if not streams and audience.startswith("private "):
                del self.streams[audience]


class Stay:
    """One client in one audience, from its `joined` (or `welcome`): what came, and whether it was told `missed`."""

    def __init__(self, ledger: Ledger, audience: str, member: str) -> None:
        self.audience = audience
        self.was_told = False
        self._ledger = ledger
        self._member = member
        self._last: dict[str, int] = {}
        self._seen: dict[str, set[int]] = {}
        self._from: dict[str, int] = {}
        self.begin()

    def begin(self) -> None:
        """From here on nothing may be missing."""
        self.was_told = False
        streams = self._ledger.streams[self.audience]
        self._from = {sender: stream.sent for sender, stream in streams.items()}
        self._seen = {}
        self._last = {sender: last for sender, last in self._last.items() if sender in streams}

    def came(self, sender: str, number: int) -> None:
        """A message arrived."""
        last = self._last.get(sender, -1)
        if sender == self._member:
            raise BadDelivery(f"{sender} got its own {number} in {self.audience}")
        if number <= last:
            raise BadDelivery(f"{self._member} in {self.audience} got {number} after {last} of {sender}")
        self._last[sender] = number
        self._seen.setdefault(sender, set()).add(number)
        self._ledger.came += 1

    def missing(self, *, is_over: bool) -> dict[str, list[int]]:
        """What was acknowledged and did not come, by sender; after the end of the stay only gaps can be told."""
        gaps: dict[str, list[int]] = {}
        for sender, stream in self._ledger.streams[self.audience].items():
            seen = self._seen.get(sender, set())
            end = max(seen, default=-1) if is_over else stream.sent
            start = self._from.get(sender, 0)
            if start < end and sender != self._member:
                lacking = [n for n in range(start, end) if n in stream.acked and n not in seen]
                if lacking:
                    gaps[sender] = lacking
        return gaps

    def judge(self, *, is_over: bool) -> None:
        """Raises BadDelivery when something is missing without a word."""
        if not self.was_told and (gaps := self.missing(is_over=is_over)):
            raise BadDelivery(f"{self._member} in {self.audience} was not told of {gaps}")
