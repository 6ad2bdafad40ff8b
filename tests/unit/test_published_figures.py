"""Figures of the measurements that other pages repeat are those of benchmarks/README.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
DAPHNE, UVICORN = "**ours** on daphne", "**ours** on uvicorn"
CHANNELS, SOCKETIO = "stock Channels, channels_redis.pubsub", "Socket.IO + Redis adapter"
DELIVERY, MEMORY, CONNECT = "CPU µs per delivery", "KiB per connection", "CPU µs per connect"
ONE, EIGHT, MANY = (f"room of 1,000, {number} in flight" for number in (1, 8, 64))
SMALL, PRIVATE = "500 rooms of 4, 64 in flight", "private between 200 pairs, 64 in flight"
COMING, IDLE = "1,000 connect at once and join one room", "10,000 idle, in one room"


def measured(scenario: str, server: str, column: str) -> float:
    """One cell of the table."""
    lines = BENCHMARKS[BENCHMARKS.index(f"| **{scenario}** |") :].splitlines()
    names = next(line for line in BENCHMARKS.splitlines() if line.startswith("| server |")).split(" | ")
    row = next(line for line in lines if line.startswith(f"| {server} |"))
    return float(row.split("|")[names.index(column) + 1].strip().replace(",", ""))


def figures(text: str) -> list[str]:
    return re.findall(r"\d[\d,]*(?:\.\d+)?", text)


def assert_rounded(said: list[str], true: list[float]) -> None:
    assert len(said) == len(true)
    for text, value in zip(said, true, strict=True):
        digits = len(text.partition(".")[2])
        assert float(text.replace(",", "")) == round(value, digits), (text, value)


def row_of(page: str, beginning: str) -> list[str]:
    """The cells behind the first one of a row."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return next(line for line in text.splitlines() if line.startswith(f"| {beginning}")).strip("|").split("|")[1:]


@pytest.mark.parametrize(
    ("row", "scenarios"), [("CPU of a delivery in a room of 1,000", (ONE, MANY)), ("the same in 500 rooms", (SMALL,))]
)
def test_the_comparison_of_deliveries(row: str, scenarios: tuple[str, ...]) -> None:
    """README compares what was measured in one run. README.zh.md has the same figures, by a test of its own."""
    for cell, server in zip(row_of("README.md", row), (DAPHNE, CHANNELS, SOCKETIO), strict=False):
        assert_rounded(figures(cell), [measured(each, server, DELIVERY) for each in scenarios])


def test_the_comparison_of_connections() -> None:
    """Where others need less, too."""
    ours, channels, socketio, _ = (figures(cell) for cell in row_of("README.md", "CPU to connect and join"))
    connects = {server: measured(COMING, server, CONNECT) / 1_000 for server in (DAPHNE, CHANNELS, SOCKETIO)}
    assert_rounded(ours, [connects[DAPHNE], measured(IDLE, DAPHNE, MEMORY)])
    assert_rounded(channels, [connects[CHANNELS], measured(IDLE, CHANNELS, MEMORY)])
    assert_rounded(socketio, [connects[SOCKETIO], measured(IDLE, SOCKETIO, MEMORY)])


@pytest.mark.parametrize(
    ("row", "cells"),
    [
        ("memory of an idle connection", [(IDLE, DAPHNE, MEMORY), (IDLE, UVICORN, MEMORY)]),
        ("CPU of a delivery in a room of 1,000", [(ONE, DAPHNE, DELIVERY)]),
        ("the same with 8 and with 64", [(EIGHT, DAPHNE, DELIVERY), (MANY, DAPHNE, DELIVERY)]),
        ("the same in 500 rooms", [(SMALL, DAPHNE, DELIVERY)]),
        ("CPU of a private message", [(PRIVATE, DAPHNE, DELIVERY)]),
    ],
)
def test_the_arithmetic_of_capacity(row: str, cells: list[tuple[str, str, str]]) -> None:
    """What operators reckon with."""
    assert_rounded(figures(row_of("docs/operations.md", row)[0]), [measured(*cell) for cell in cells])


def test_the_arithmetic_of_connections() -> None:
    """In milliseconds there."""
    [said] = figures(row_of("docs/operations.md", "CPU to connect")[0])
    assert_rounded([said], [measured(COMING, DAPHNE, CONNECT) / 1_000])
