"""Keeps one event loop's connections to a Kafka cluster up, for ever, and says when they are not.

It is *up* when every partition has a leader, and both halves (publisher and subscriber) are connected to all of them.
Trouble with one broker is first looked into: partitions may have moved to another one, and then nobody notices but for
a short wait. It is *down* when no broker answers, when one holds its connection and does not answer, or when partitions
stay without a leader.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Sequence
from typing import Protocol

from realtime.exceptions import BackplaneUnavailable
from realtime.layers.backoff import Backoff
from realtime.layers.kafka_cluster import Cluster, Layout
from realtime.layers.kafka_connection import BrokerSilent
from realtime.layers.stats import Stats
from realtime.layers.upkeep import Upkeep

logger = logging.getLogger(__name__)

LOOK_SECONDS = 5.0  # between two looks at the layout: new partitions, leaders that moved
MOVING_SECONDS = 1.5  # what partitions get to find a new leader, before the link counts as down
LASTING_SECONDS = 2.0  # a link that was up this long starts the backoff anew


class Half(Protocol):
    """The publisher or the subscriber. All but `came_up` and `look` are called inside callbacks: no waiting."""

    async def came_up(self, layout: Layout) -> None:
        """Connect to the leaders; the link is up when both halves have. ConnectionError otherwise."""

    def is_now_up(self) -> None:
        """The link has just come up."""

    def went_down(self, error: BackplaneUnavailable) -> None:
        """The link is down. Called once for each time."""

    async def look(self) -> None:
        """Every few seconds while it is up; ConnectionError is trouble."""

    async def disconnect(self) -> None:
        """Close all connections."""


class KafkaLink(Upkeep):
    """Neither up nor down while it looks into trouble, either."""

    def __init__(self, cluster: Cluster, stats: Stats) -> None:
        super().__init__()
        self.halves: Sequence[Half] = ()
        self._cluster = cluster
        self._stats = stats
        self._layout = Layout()
        self._task: asyncio.Task[None] | None = None
        self._error: Exception | None = None  # why it is down
        self._troubled = asyncio.Event()
        self._trouble: Exception | None = None  # since it last came up
        self._trouble_at = 0.0  # when it was last up, or started
        self._was_up = False

    def start(self) -> None:
        if self._task is None:
            loop = asyncio.get_running_loop()
            self._trouble_at = loop.time()
            self._task = loop.create_task(self._keep_up(), name=f"rt-kafka@{self._cluster.address}")

    async def close(self) -> None:
        """Give up for good; `start` may begin anew."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        self._mark_down(ConnectionError("closed"))
        await asyncio.gather(self._cluster.close(), *(half.disconnect() for half in self.halves))
        self.is_down, self._was_up, self._error = False, False, None

    def partitions_of(self, topic: str) -> int:
        """How many publishers may use; 0 before the cluster was seen."""
        return self._layout.in_use.get(topic, 0)

    def unavailable(self) -> BackplaneUnavailable:
        return BackplaneUnavailable(f"Kafka {self._cluster.address}: {self._error or self._trouble or 'no answer'}")

    def trouble(self, error: Exception) -> None:
        """Something failed: look into it. A broker that is silent is down, as far as we can know."""
        if self._task is None:
            return
        if self.is_up:
            self.is_up = False
            self._trouble_at = asyncio.get_running_loop().time()
        self._trouble = error
        self._troubled.set()
        if isinstance(error, BrokerSilent):
            self._mark_down(error)

    def again(self) -> None:
        """A half needs something that it did not need before: come up anew."""
        self.is_up = False
        self._troubled.set()

    async def _keep_up(self) -> None:
        """1. come up; 2. wait for trouble, or another layout; 3. at once again, but not over and over."""
        loop = asyncio.get_running_loop()
        backoff = Backoff()
        while True:
            try:
                await self._come_up()
            except Exception as error:  # whatever it is, it must be said, and tried again
                self._failed(error)
                await asyncio.sleep(backoff.next())
                continue
            self._mark_up()
            came_up_at = loop.time()
            await self._watch()
            if loop.time() - came_up_at > LASTING_SECONDS:
                backoff.reset()
            else:
                await asyncio.sleep(backoff.next())

    async def _come_up(self) -> None:
        """Until both halves have all that they need; `again` may ask for more meanwhile."""
        self._troubled.set()
        while self._troubled.is_set():
            self._troubled.clear()
            self._trouble = None
            try:
                self._layout = await self._cluster.look()
            except ConnectionError as error:
                self._mark_down(error)
                raise
            self._layout.require_leaders()
            for half in self.halves:
                await half.came_up(self._layout)
            if self._trouble is not None:
                raise ConnectionError(str(self._trouble)) from self._trouble

    async def _watch(self) -> None:
        """Returns when there is trouble, or another layout."""
        while True:
            try:
                async with asyncio.timeout(LOOK_SECONDS * random.uniform(0.9, 1.1)):
                    await self._troubled.wait()
                return
            except TimeoutError:
                pass
            layout = self._layout
            try:
                layout = await self._cluster.look()
                for half in self.halves:
                    await half.look()
            except Exception as error:
                if not isinstance(error, ConnectionError):
                    logger.error("kafka_failed address=%s", self._cluster.address, exc_info=error)
                self.trouble(error)
            if layout != self._layout or self._troubled.is_set():
                return

    def _failed(self, error: Exception) -> None:
        """An attempt to come up failed; partitions that are moving get some time."""
        if not isinstance(error, ConnectionError):
            logger.error("kafka_failed address=%s", self._cluster.address, exc_info=error)
        is_moving = asyncio.get_running_loop().time() - self._trouble_at < MOVING_SECONDS
        if self.is_down or isinstance(error, BrokerSilent) or not is_moving:
            self._mark_down(error)
        else:
            self.is_up, self._trouble = False, error

    def _mark_up(self) -> None:
        if self._was_up and not self.is_up:
            self._stats.reconnects += 1
        if self._error is not None:
            logger.info("kafka_connected address=%s", self._cluster.address)
        self.is_up, self.is_down, self._was_up, self._error = True, False, True, None
        self._tell_waiters()
        for half in self.halves:
            half.is_now_up()

    def _mark_down(self, error: Exception) -> None:
        was_down, self.is_down, self.is_up = self.is_down, True, False
        if self._error is None and str(error) != "closed":
            logger.warning("kafka_lost address=%s error=%r", self._cluster.address, str(error))
        self._error = error
        self._tell_waiters()
        if not was_down:
            self._cluster.forget()
            for half in self.halves:
                half.went_down(self.unavailable())
