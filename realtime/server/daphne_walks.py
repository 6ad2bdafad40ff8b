"""Daphne's walks over all its connections, every second or two, in parts between which others are served.

Its own walks are one call each: with 10,000 connections they keep the loop for 25 ms, and much longer when many of them
are to be pinged.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

PART_CONNECTIONS = 250

Walk = Callable[[Any], None]
Later = Callable[..., object]


def is_walk(walk: Walk) -> bool:
    """Whether a method of daphne's server goes over its ``connections``, and has itself called again."""
    return {"callLater", "connections", walk.__name__} <= set(_own(walk).__code__.co_names)


def in_parts(walk: Walk, later: Later) -> Walk:
    """The same walk in parts; ``later(seconds, function, …)`` calls a function in another turn of the loop.

    The walk itself is daphne's, and is given a server with some of the connections. It is called again, in its own
    time, after the last part. Connections that came meanwhile are for the next walk.
    """
    walk = _own(walk)

    @functools.wraps(walk)
    def walk_in_parts(server: Any) -> None:
        everyone = list(server.connections.items())
        go_on(
            server, [everyone[start : start + PART_CONNECTIONS] for start in range(0, len(everyone), PART_CONNECTIONS)]
        )

    def go_on(server: Any, parts: list[list[tuple[Any, Any]]]) -> None:
        part = parts.pop() if parts else []
        some = _Some(server.connections, [each for each in part if each[0] in server.connections])
        again = _nothing if parts else getattr(server, walk.__name__)
        try:
            walk(_ServerOfSome(server, some, walk.__name__, again))
        finally:
            if parts:
                later(0, go_on, server, parts)

    return walk_in_parts


def _own(walk: Walk) -> Any:
    return getattr(walk, "__wrapped__", walk)


class _Some(dict[Any, Any]):
    """Some of all connections; what is taken out here is taken out there."""

    def __init__(self, everyone: dict[Any, Any], some: list[tuple[Any, Any]]) -> None:
        super().__init__(some)
        self._everyone = everyone

    def __delitem__(self, protocol: Any) -> None:
        super().__delitem__(protocol)
        self._everyone.pop(protocol, None)


class _ServerOfSome:
    """A server that has some of its connections, and does another thing in place of one walk."""

    def __init__(self, server: Any, some: _Some, name: str, again: Callable[[], None]) -> None:
        self._server = server
        self.connections = some
        setattr(self, name, again)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._server, name)


def _nothing() -> None:
    """In place of the next walk: this one has not ended."""
