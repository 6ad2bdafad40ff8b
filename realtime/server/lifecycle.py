"""What a server adapter may ask of the process: to start, to drain, to stop. ``runtime`` implements it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from realtime.conf import Settings

Address = tuple[str, int]
"""Host and port."""


class Lifecycle(Protocol):
    """The life of the one node of this process."""

    find_address: Callable[[], Address | None]
    """Where this process accepts clients without TLS; an adapter that can tell sets it."""

    @property
    def settings(self) -> Settings:
        """The settings of this process."""

    def misused(self, reason: str, who: str) -> None:
        """A server closed a connection from ``who`` for its frames, because of this limit."""

    def request_cut(self, reason: str) -> None:
        """A server did not wait for a request, or did not read all of it."""

    async def start(self) -> None:
        """Start the node; returns at once when it runs."""

    def begin_drain(self) -> None:
        """Readiness turns red; no new connections."""

    async def close_connections(self) -> None:
        """Close every client with 1012, in paced batches."""

    async def stop(self) -> None:
        """Stop the node and write what must be written."""


def reachable(host: str, port: int) -> Address:
    """How the process itself reaches what it listens on."""
    return {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host), port
