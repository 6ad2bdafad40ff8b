"""A tracker, and what tests tell it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from realtime.facts import ConnectionFacts, ConnectionProgress, NodeFacts
from realtime.instrument import Instrument
from realtime.models import Connection
from realtime.tracking import Tracker

NOW = 1_800_000_000.0


class CountingInstrument(Instrument):
    """Keeps what it is told of lost rows."""

    def __init__(self) -> None:
        self.lost = 0

    def tracking_rows_lost(self, count: int) -> None:
        self.lost += count


def tracker(**settings: Any) -> Tracker:
    return Tracker(**{"flush_seconds": 0.05, "pending_max": 100_000, "instrument": Instrument(), **settings})


def facts(number: int = 0, **values: Any) -> ConnectionFacts:
    return ConnectionFacts(
        **{"id": f"n1.{number:022d}", "node": "n1", "transport": "websocket", "connected": NOW, **values}
    )


def node_facts(node: str = "n1", **values: Any) -> NodeFacts:
    known = {"address": "ws://a", "version": "1", "started": NOW, "last_heartbeat": NOW, "state": "ready"}
    return NodeFacts(**{"id": node, **known, **values})


def end(subject: Tracker, connection_id: str, **values: Any) -> None:
    known = {"code": 1000, "reason": "bye", "at": NOW + 9, "last_seen": NOW + 8}
    subject.connection_closed(connection_id, **{**known, **values})


def run(scenario: Callable[[Tracker], Any], **settings: Any) -> Tracker:
    """Start a tracker, let ``scenario`` tell it things in the loop, and stop it."""

    async def body() -> Tracker:
        subject = tracker(**settings)
        await subject.start()
        result = scenario(subject)
        if asyncio.iscoroutine(result):
            await result
        await subject.stop()
        return subject

    return asyncio.run(body())


async def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def progress(**values: Any) -> ConnectionProgress:
    known = {"messages_in": 1, "messages_out": 2, "bytes_in": 3, "bytes_out": 2**40, "rooms": 5}
    return ConnectionProgress(**{"last_seen": NOW + 5, **known, **values})


def columns(row: Connection) -> ConnectionProgress:
    return progress(
        last_seen=row.last_seen.timestamp(),
        **{name: getattr(row, name) for name in ("messages_in", "messages_out", "bytes_in", "bytes_out", "rooms")},
    )
