"""What a server adapter may ask of the process: to start, to drain, to stop. ``runtime`` implements it."""

from __future__ import annotations

from typing import Protocol

from realtime.conf import Settings


class Lifecycle(Protocol):
    """The life of the one node of this process."""

    @property
    def settings(self) -> Settings:
        """The settings of this process."""

    async def start(self) -> None:
        """Start the node; returns at once when it runs."""

    def begin_drain(self) -> None:
        """Readiness turns red; no new connections."""

    async def close_connections(self) -> None:
        """Close every client with 1012, in paced batches."""

    async def stop(self) -> None:
        """Stop the node and write what must be written."""
