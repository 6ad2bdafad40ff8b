"""Publishing over a layer that must be awaited: one message at a time, in order, each with its deadline."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from channels.exceptions import ChannelFull

from realtime.exceptions import BackplaneUnavailable
from realtime.layers.stats import Stats

logger = logging.getLogger(__name__)

PUBLISH_SECONDS = 1.9
MAX_MESSAGES = 50_000  # waiting their turn
MAX_BYTES = 32 * 1024 * 1024  # of envelopes waiting their turn

Send = Callable[[str, dict[str, Any]], Awaitable[None]]


@dataclass(slots=True)
class Job:
    send: Send
    name: str  # of the group or channel
    message: dict[str, Any]
    size: int
    deadline: float = field(init=False)  # loop time
    future: asyncio.Future[int | None] = field(init=False)

    def __post_init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.deadline = loop.time() + PUBLISH_SECONDS
        self.future = loop.create_future()


class StockPublisher:
    """Two publishes under way at the same time would overtake each other on channels_redis.core.

    `on_failure` is called when the layer raised or was too slow, as that says something about receiving, too.
    """

    def __init__(self, layer: Any, stats: Stats, on_failure: Callable[[Exception], None]) -> None:
        self._layer = layer
        self._stats = stats
        self._on_failure = on_failure
        self._jobs: deque[Job] = deque()
        self._urgent: deque[Job] = deque()  # probes: they overtake, and bring no bytes
        self._bytes = 0
        self._wanted: asyncio.Future[None] | None = None  # the task waits for a job
        self._task: asyncio.Task[None] | None = None

    def _start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._work(), name="rt-publish")

    async def close(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        for job in (*self._urgent, *self._jobs):
            _fail(job.future, BackplaneUnavailable("the backplane was closed"))
        self._urgent.clear()
        self._jobs.clear()
        self._bytes = 0

    def group_send(
        self, group: str, message: dict[str, Any], size: int = 0, *, is_urgent: bool = False
    ) -> asyncio.Future[int | None]:
        return self._enqueue(Job(self._layer.group_send, group, message, size), is_urgent)

    def send(
        self, channel: str, message: dict[str, Any], size: int = 0, *, is_urgent: bool = False
    ) -> asyncio.Future[int | None]:
        return self._enqueue(Job(self._layer.send, channel, message, size), is_urgent)

    def _enqueue(self, job: Job, is_urgent: bool) -> asyncio.Future[int | None]:
        future = job.future
        if self._task is None:
            self._start()
        if is_urgent:
            self._urgent.append(job)
        elif self._accept(job):
            self._stats.publishes += 1
        if self._wanted is not None and not self._wanted.done():
            self._wanted.set_result(None)
        return future

    def _accept(self, job: Job) -> bool:
        if len(self._jobs) >= MAX_MESSAGES or (self._jobs and self._bytes + job.size > MAX_BYTES):
            _fail(job.future, BackplaneUnavailable(f"{len(self._jobs)} messages wait for the layer already"))
            return False
        self._jobs.append(job)
        self._bytes += job.size
        return True

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not self._jobs and not self._urgent:
                self._wanted = loop.create_future()
                await self._wanted
            job = (self._urgent or self._jobs).popleft()
            self._bytes -= job.size
            try:
                await self._do(job)
            finally:
                _fail(job.future, BackplaneUnavailable("the backplane was closed"))

    async def _do(self, job: Job) -> None:
        """One job, done or failed."""
        if asyncio.get_running_loop().time() >= job.deadline:  # too much before it: no fault of the layer's
            _fail(job.future, BackplaneUnavailable(f"the layer did not come to it within {PUBLISH_SECONDS:g} s"))
            return
        try:
            async with asyncio.timeout_at(job.deadline):
                await job.send(job.name, job.message)
        except ChannelFull as error:
            _fail(job.future, BackplaneUnavailable(f"channel {job.name} is full"), error)
        except Exception as error:
            _fail(job.future, BackplaneUnavailable(f"{type(error).__name__}: {error}"), error)
            self._on_failure(error)
        else:
            if not job.future.done():
                job.future.set_result(None)


def _fail(future: asyncio.Future[int | None], error: BackplaneUnavailable, cause: Exception | None = None) -> None:
    """Fail it, and mark the error as seen: nobody has to look."""
    if not future.done():
        error.__cause__ = cause
        future.set_exception(error)
        future.exception()
