"""A node in the process of a test, over a memory layer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from typing import Any, Self

from realtime.node import Node
from realtime.runtime import Runtime, runtime, stand_in
from realtime.testing.clock import FakeClock
from realtime.testing.database import shared, transactions
from realtime.testing.layer import FaultyLayer

READY_SECONDS = 5.0


class RealtimeNode:
    """``async with RealtimeNode() as node``: within it clients connect, and Django code publishes to them.

    ``settings`` replace those of ``settings.REALTIME``. No rows of connections are written, whatever they say. Of
    transactions that the test is in already every thread takes part.
    """

    def __init__(
        self,
        settings: Mapping[str, object] | None = None,
        *,
        layer: FaultyLayer | None = None,
        clock: FakeClock | None = None,
    ) -> None:
        self.layer = layer or FaultyLayer()
        self.clock = clock or FakeClock()
        self._settings = settings or {}
        self._process = Runtime()
        self._exits = AsyncExitStack()

    @property
    def id(self) -> str:
        """The node's id."""
        return self._node.id

    @property
    def is_ready(self) -> bool:
        """Whether it trusts its layer."""
        return self._node.is_ready

    async def ready(self) -> None:
        """Wait until it trusts its layer, at the beginning and after a ``reconnect``."""
        async with asyncio.timeout(READY_SECONDS):
            while not self.is_ready:  # noqa: ASYNC110  the node has no event for it
                await asyncio.sleep(0.001)

    async def __aenter__(self) -> Self:
        if runtime().node is not None:
            raise RuntimeError("a node runs in this process already")
        async with AsyncExitStack() as exits:
            exits.enter_context(shared(await transactions()))
            exits.enter_context(_settings(self._settings))
            exits.enter_context(_layer(self._process.settings.layer, self.layer))
            exits.enter_context(stand_in(self._process))
            self._prepare()
            exits.push_async_callback(self._process.stop)
            await self._process.start()
            if self.layer.is_connected:
                await self.ready()
            self._exits = exits.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._exits.aclose()

    def _prepare(self) -> None:
        process = self._process
        self.clock.rule(asyncio.get_running_loop())
        process.clock = self.clock
        process.owns_process = False
        process.on_drain = process.begin_drain

    @property
    def _node(self) -> Node:
        node = self._process.node
        if node is None:
            raise RuntimeError("this node does not run: async with RealtimeNode() as node")
        return node


@contextmanager
def _settings(own: Mapping[str, object]) -> Iterator[None]:
    from django.conf import settings
    from django.test import override_settings

    with override_settings(REALTIME={**getattr(settings, "REALTIME", {}), **own, "TRACKING_IS_ON": False}):
        yield


@contextmanager
def _layer(alias: str, layer: FaultyLayer) -> Iterator[None]:
    from channels.layers import channel_layers

    before: Any = channel_layers.set(alias, layer)
    try:
        yield
    finally:
        channel_layers.backends.pop(alias)
        if before is not None:
            channel_layers.set(alias, before)
