"""Daphne's walks over its connections, in parts."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

import pytest
from daphne.server import Server

from realtime.server.daphne_walks import PART_CONNECTIONS, in_parts, is_walk

COUNT = 2 * PART_CONNECTIONS + 1


class Loop:
    """Calls one function in each turn."""

    def __init__(self) -> None:
        self.due: deque[tuple[float, Callable[..., None], tuple[Any, ...]]] = deque()

    def later(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        self.due.append((seconds, call, arguments))

    def turn(self) -> float:
        """Call the next one; what it was to wait for."""
        seconds, call, arguments = self.due.popleft()
        call(*arguments)
        return seconds


class Walker:
    """A server that notes whom it has looked at, as daphne's does its walks."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.connections = {number: {"disconnected": None} for number in range(COUNT)}
        self.seen: list[list[int]] = []

    def walk(self) -> None:
        self.seen.append([])
        for number, details in list(self.connections.items()):
            self.seen[-1].append(number)
            if details["disconnected"]:
                del self.connections[number]
        self.loop.later(1, self.walk)


@pytest.fixture
def walker(monkeypatch: pytest.MonkeyPatch) -> Walker:
    subject = Walker(Loop())
    monkeypatch.setattr(Walker, "walk", in_parts(Walker.walk, subject.loop.later))
    return subject


def walk_through(walker: Walker) -> list[float]:
    """One walk, and what its turns were to wait for until it is to be called again."""
    walker.walk()
    waited = []
    while walker.loop.due[-1][1] != walker.walk:
        waited.append(walker.loop.turn())
    return waited


def test_each_is_looked_at_once_in_several_turns(walker: Walker) -> None:
    """And the walk is called again once, in its own time."""
    assert 0 in walk_through(walker)
    assert sorted(number for part in walker.seen for number in part) == list(range(COUNT))
    assert max(len(part) for part in walker.seen) == PART_CONNECTIONS
    again = [(seconds, call) for seconds, call, _ in walker.loop.due if call == walker.walk]
    assert again == [(1, walker.walk)]


def test_what_a_part_takes_out_is_out(walker: Walker) -> None:
    """Of the server as well, and another one that went meanwhile is not looked at."""
    walker.connections[COUNT - 1]["disconnected"] = True  # type: ignore[assignment]
    walker.walk()
    assert COUNT - 1 not in walker.connections
    del walker.connections[0]
    while walker.loop.due[-1][1] != walker.walk:
        walker.loop.turn()
    assert 0 not in [number for part in walker.seen for number in part]
    assert len(walker.connections) == COUNT - 2


def test_a_part_that_fails_does_not_end_the_walk(walker: Walker) -> None:
    """The others are looked at."""
    walker.connections[COUNT - 1] = {}
    with pytest.raises(KeyError):
        walker.walk()
    while walker.loop.due[-1][1] != walker.walk:
        walker.loop.turn()
    assert len({number for part in walker.seen for number in part}) == COUNT


def test_nobody_to_look_at(walker: Walker) -> None:
    """The walk goes on."""
    walker.connections = {}
    walker.walk()
    assert [(seconds, call) for seconds, call, _ in walker.loop.due] == [(1, walker.walk)]


def test_daphnes_walks_are_known() -> None:
    """Both of them, also when they are in parts already; and nothing else is taken for one."""
    for walk in (Server.application_checker, Server.timeout_checker):
        assert is_walk(walk)
        assert is_walk(in_parts(walk, Loop().later))
    assert not is_walk(Server.handle_reply)
