"""The queue of Django signals: one thread, a bound, and receivers that do what they should not."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from django.dispatch import Signal

from realtime.instrument import Instrument
from realtime.signals import PENDING_MAX_BYTES, SignalQueue, joined, left

Connect = Callable[[Signal, Callable[..., Any]], None]


class Counting(Instrument):
    """Counts what the queue tells."""

    def __init__(self) -> None:
        self.dropped = 0
        self.failed = 0

    def signals_dropped(self, count: int) -> None:
        self.dropped += count

    def signal_receivers_failed(self, count: int) -> None:
        self.failed += count


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Connects receivers for one test."""
    connected: list[tuple[Signal, Callable[..., Any]]] = []

    def add(signal: Signal, receiver: Callable[..., Any]) -> None:
        signal.connect(receiver, weak=False)
        connected.append((signal, receiver))

    yield add
    for signal, receiver in connected:
        signal.disconnect(receiver)


class Gate:
    """A receiver that stands still until it is opened."""

    def __init__(self) -> None:
        self.entered = threading.Event()
        self.opened = threading.Event()
        self.came: list[Any] = []

    def __call__(self, **arguments: Any) -> None:
        self.entered.set()
        assert self.opened.wait(30)
        self.came.append(arguments["n"])


async def entered(gate: Gate) -> None:
    assert await asyncio.to_thread(gate.entered.wait, 10)


async def test_receivers_hear_in_order_and_in_another_thread(connect: Connect) -> None:
    """Also asynchronous ones; a client's data is decoded for them."""
    heard: list[Any] = []

    def sync(sender: object, n: int, data: object, **more: object) -> None:
        heard.append((n, data, sender, threading.current_thread().name))

    async def not_sync(n: int, **more: object) -> None:
        heard.append(n)

    connect(joined, sync)
    connect(joined, not_sync)
    queue = SignalQueue(10, Counting())
    for number in range(3):
        queue.put(joined, n=number, data=msgspec.Raw(b'{"a":[1]}'))
    await queue.stop(10)
    assert heard == [each for number in range(3) for each in ((number, {"a": [1]}, None, "realtime-signals"), number)]


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()])
async def test_a_receiver_that_raises_hurts_nobody(
    connect: Connect, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    """It is counted and logged; what comes after it is sent."""
    heard: list[int] = []

    def bad(n: int, **more: object) -> None:
        if n == 0:
            raise error

    connect(joined, bad)
    connect(left, lambda n, **more: heard.append(n))
    instrument = Counting()
    queue = SignalQueue(10, instrument)
    queue.put(joined, n=0)
    queue.put(left, n=1)
    await queue.stop(10)
    await asyncio.sleep(0)
    assert heard == [1]
    assert instrument.failed == 1
    assert [record.exc_info is not None for record in caplog.records if record.levelno == logging.ERROR] == [True]


async def test_a_stuck_receiver_fills_a_bounded_queue(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """Beyond the bound signals are dropped and counted, and the first of them is logged; then it goes on."""
    gate, instrument = Gate(), Counting()
    connect(joined, gate)
    queue = SignalQueue(3, instrument)
    queue.put(joined, n=0)
    await entered(gate)
    for number in range(1, 9):
        queue.put(joined, n=number)
    assert (queue.pending, instrument.dropped) == (3, 5)
    assert [record.message.split()[0] for record in caplog.records] == ["signals_dropped"]
    gate.opened.set()
    await queue.stop(10)
    assert gate.came == [0, 1, 2, 3]


async def test_the_data_that_waits_is_bounded_too(connect: Connect) -> None:
    """Large messages fill the queue before there are many of them; what has no data finds room."""
    gate, instrument = Gate(), Counting()
    connect(joined, gate)
    queue = SignalQueue(1_000, instrument)
    queue.put(joined, n=0)
    await entered(gate)
    for number in range(1, 4):
        queue.put(joined, size=PENDING_MAX_BYTES // 2, n=number)
    queue.put(joined, n=4)
    assert (queue.pending, instrument.dropped) == (3, 1)
    gate.opened.set()
    await queue.stop(10)
    assert gate.came == [0, 1, 2, 4]


async def test_the_end_does_not_wait_for_a_stuck_receiver(connect: Connect, caplog: pytest.LogCaptureFixture) -> None:
    """What was not sent in time is counted, and the log names the signal."""
    gate, instrument = Gate(), Counting()
    connect(joined, gate)
    queue = SignalQueue(10, instrument)
    for number in range(3):
        queue.put(joined, n=number)
    await entered(gate)
    await queue.stop(0.05)
    assert (queue.pending, instrument.dropped) == (0, 2)
    assert "signals_dropped count=2" in caplog.text
    assert "signal=joined" in caplog.text
    gate.opened.set()
    await queue.stop(10)
    assert gate.came == [0]


async def test_a_receiver_that_takes_long_is_named(
    connect: Connect, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the next signal that comes, once, although it never returns."""
    monkeypatch.setattr("realtime.signals.SLOW_SECONDS", 0.0)
    gate = Gate()
    connect(joined, gate)
    queue = SignalQueue(10, Counting())
    queue.put(joined, n=0)
    await entered(gate)
    queue.put(joined, n=1)
    queue.put(joined, n=2)
    assert [record.message.split(" seconds")[0] for record in caplog.records] == ["signal_receiver_slow signal=joined"]
    gate.opened.set()
    await queue.stop(10)


async def test_a_queue_that_was_not_used_has_no_thread() -> None:
    """And ends at once."""
    before = threading.active_count()
    queue = SignalQueue(10, Counting())
    await queue.stop()
    assert threading.active_count() == before
