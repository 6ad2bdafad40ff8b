"""Whether the backplane can be trusted at this moment: the node must hear its own echo on every shard.

A connection that answers a PING while nothing is delivered is a dead backplane, so that only the node's own
publications prove anything. While trust is lost, publishes are refused, and what may have been missed is remembered.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable

from realtime.echo import EchoProbe
from realtime.tasks import TaskGroup

logger = logging.getLogger("realtime.trust")

Gap = frozenset[str] | None
"""Groups that may have missed something; None: any."""


class Trust:
    """Lost by an interrupted subscription, a failed publish or a missing echo; won back by a full round of echoes.

    ``send_probe(shard, nonce)`` publishes one echo; ``on_lost()`` and ``on_restored(gap, seconds)`` tell the node;
    ``on_echo(seconds)`` says how long a full round took.
    """

    def __init__(
        self,
        tasks: TaskGroup,
        *,
        send_probe: Callable[[int, int], None],
        on_lost: Callable[[], None],
        on_restored: Callable[[Gap, float], None],
        on_echo: Callable[[float], None] = lambda seconds: None,
        echo_timeout_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tasks = tasks
        self._send_probe = send_probe
        self._on_lost = on_lost
        self._on_restored = on_restored
        self._on_echo = on_echo
        self._probed_at = clock()
        self._echo_timeout = echo_timeout_seconds
        self._clock = clock
        self._shards = 1
        self._echo = EchoProbe(1)
        self._is_subscribed = asyncio.Event()
        self._echo_is_back = asyncio.Event()
        self._lost_at = clock()
        self._gap: Gap = frozenset()
        self._restoring: asyncio.Task[None] | None = None
        self.heard_at: float | None = None
        """When the node last heard itself on every shard, by ``clock``."""
        self.is_trusted = False

    def begin(self, shards: int, *, is_subscribed: bool) -> None:
        """The node has opened the backplane (or it goes on trying): win trust."""
        self._shards = shards
        self._echo = EchoProbe(shards)
        if is_subscribed:
            self._is_subscribed.set()
        self.lose()

    def end(self) -> None:
        """The node stops."""
        self.is_trusted = False
        if self._restoring is not None:
            self._restoring.cancel()

    def subscription_lost(self) -> None:
        """A shard's subscription is gone."""
        self._is_subscribed.clear()
        self.lose()

    def subscription_resumed(self, groups: Iterable[str] | None) -> None:
        """All subscriptions are confirmed again; ``groups`` may have missed something (None: any)."""
        self._widen_gap(groups)
        self._is_subscribed.set()
        self.lose()

    def heard(self, shard: int, nonce: int) -> None:
        """The node heard itself on one shard."""
        if self._echo.heard(shard, nonce):
            self._echo_is_back.set()
            self.heard_at = self._clock()
            self._on_echo(self.heard_at - self._probed_at)

    def lose(self) -> None:
        """Trust nothing until a full round of echoes is back."""
        if self.is_trusted:
            self.is_trusted = False
            self._lost_at = self._clock()
            self._on_lost()
        if self._restoring is None or self._restoring.done():
            self._restoring = self._tasks.start("restore", self._restore())

    def beat(self) -> None:
        """At every heartbeat: the round of the last one must be complete, and a new one begins."""
        if not self.is_trusted:
            return
        if self._echo.missing:
            logger.warning("echo_lost shards=%s", sorted(self._echo.missing))
            self._widen_gap(None)
            self.lose()
        else:
            self._probe()

    async def _restore(self) -> None:
        """1. Every group is subscribed; 2. an echo comes back on every shard; 3. the node is told what was missed."""
        while not self.is_trusted:
            await self._is_subscribed.wait()
            self._probe()
            try:
                async with asyncio.timeout(self._echo_timeout):
                    await self._echo_is_back.wait()
            except TimeoutError:
                await asyncio.sleep(self._echo_timeout * random.uniform(0.05, 0.15))  # nodes do not retry in step
                continue
            if self._is_subscribed.is_set():
                self.is_trusted = True
        gap, self._gap = self._gap, frozenset()
        self._on_restored(gap, self._clock() - self._lost_at)

    def _probe(self) -> None:
        self._echo_is_back.clear()
        nonce = self._echo.begin()
        self._probed_at = self._clock()
        for shard in range(self._shards):
            self._send_probe(shard, nonce)

    def _widen_gap(self, groups: Iterable[str] | None) -> None:
        self._gap = None if groups is None or self._gap is None else self._gap | frozenset(groups)
