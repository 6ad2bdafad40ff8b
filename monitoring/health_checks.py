"""What is checked of a node, one class each, on top of django-health-check.

Each measures one figure and raises ``ServiceUnavailable`` with the reason when it is beyond its limit.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from django.db import connections, reset_queries, transaction
from health_check.base import HealthCheck
from health_check.exceptions import ServiceUnavailable
from websockets.asyncio.client import connect
from websockets.exceptions import WebSocketException

from realtime.memory import resident_bytes
from realtime.node import Node
from realtime.probe import PROBE_HEADER
from realtime.rows import database_alias
from realtime.server.lifecycle import Address

MIB = 1024 * 1024


@dataclass
class NodeCheck(HealthCheck):  # type: ignore[misc]
    """A check of ``node``. ``figure`` is what the last run measured, ``limit`` what it may be, both in ``unit``."""

    node: Node = field(repr=False)
    figure: float | None = field(default=None, init=False, repr=False)
    limit: float | None = field(default=None, init=False, repr=False)
    name = ""
    unit = ""

    def __post_init__(self) -> None:
        self.timeout = datetime.timedelta(seconds=self.node.settings.health_timeout_seconds)

    def judge(self, figure: float, limit: float, reason: str) -> None:
        """Healthy below the limit."""
        self.figure, self.limit = figure, limit
        if figure >= limit:
            raise ServiceUnavailable(reason)


@dataclass
class Connections(NodeCheck):
    """The node has room for more clients."""

    name = "connections"

    async def run(self) -> None:
        """Compare with a share of connections_max."""
        settings = self.node.settings
        count = len(self.node.hub)
        limit = settings.health_threshold * settings.connections_max
        self.judge(count, limit, f"{count:,} connections; from {limit:,.0f} on the node is nearly full")


@dataclass
class Memory(NodeCheck):
    """The process holds less than it may."""

    name = "memory"
    unit = "bytes"

    async def run(self) -> None:
        """Compare with a share of memory_max_bytes."""
        settings = self.node.settings
        resident, limit = resident_bytes(), settings.health_threshold * settings.memory_max_bytes
        self.judge(resident, limit, f"{resident / MIB:,.0f} MiB of memory; it should be below {limit / MIB:,.0f} MiB")


@dataclass
class Responsiveness(NodeCheck):
    """A client is answered soon: a WebSocket of the process to itself, from ping to pong."""

    find_address: Callable[[], Address | None] = field(default=lambda: None, repr=False)
    secret: str = field(default="", repr=False)
    name = "responsiveness"
    unit = "ms"

    async def run(self) -> None:
        """Ask as a client would. Nothing is asked where the server does not say how it is reached, or only over TLS."""
        address = self.find_address()
        if address is None or not self.node.is_accepting:
            self.figure = None
            return
        host, port = address
        path = f"{self.node.settings.path_prefix}/ws/"
        url = f"ws://[{host}]:{port}{path}" if ":" in host else f"ws://{host}:{port}{path}"
        try:
            milliseconds = await self._ask(url)
        except (OSError, WebSocketException) as error:
            raise ServiceUnavailable(f"the node does not answer its own WebSocket: {error}") from error
        limit = self.node.settings.health_latency_max_ms
        self.judge(milliseconds, limit, f"{milliseconds:,.0f} ms to answer a ping; it should be below {limit:,.0f} ms")

    async def _ask(self, url: str) -> float:
        options: dict[str, Any] = {"proxy": None, "compression": None, "ping_interval": None, "close_timeout": 1}
        async with connect(url, additional_headers={PROBE_HEADER: self.secret}, **options) as socket:
            asked = time.perf_counter()
            await socket.send('{"type":"ping"}')
            await socket.recv()
            return (time.perf_counter() - asked) * 1000


@dataclass
class Backplane(NodeCheck):
    """The node has heard its own echo lately."""

    clock: Callable[[], float] = field(default=time.monotonic, repr=False)
    name = "backplane"
    unit = "s"

    async def run(self) -> None:
        """An echo is due with each heartbeat."""
        trust, settings = self.node.trust, self.node.settings
        self.limit = 3 * settings.heartbeat_seconds + settings.publish_timeout_seconds
        self.figure = None if trust.heard_at is None else self.clock() - trust.heard_at
        if self.figure is None:
            raise ServiceUnavailable("the node has never heard itself through the backplane")
        if not trust.is_trusted:
            raise ServiceUnavailable(f"the backplane is interrupted: no echo for {self.figure:.1f} s")
        self.judge(self.figure, self.limit, f"no echo for {self.figure:.1f} s")


@dataclass
class Database(NodeCheck):
    """The database takes writes: a transaction begins and ends."""

    name = "database"
    unit = "ms"

    def __post_init__(self) -> None:
        super().__post_init__()
        self._thread = ThreadPoolExecutor(
            1, "health-database"
        )  # one that waits for a lock must not be followed by more
        self._asked: asyncio.Future[float] | None = None

    async def run(self) -> None:
        """In a thread; while the last question is not answered no other one is asked."""
        if self._asked is None or self._asked.done():
            self._asked = asyncio.get_running_loop().run_in_executor(self._thread, _begin_and_end)
        seconds = self.timeout.total_seconds()
        self.figure, self.limit = None, seconds * 1000
        try:
            self.figure = await asyncio.wait_for(asyncio.shield(self._asked), seconds)
        except TimeoutError:
            raise ServiceUnavailable(f"the database did not take a transaction within {seconds:g} s") from None
        except Exception as error:  # each driver has its own
            raise ServiceUnavailable(f"the database failed: {type(error).__name__}: {error}".strip()) from error


@dataclass
class LoopLag(NodeCheck):
    """The loop was never late for long since the last look."""

    take_worst: Callable[[], float] = field(default=lambda: 0.0, repr=False)
    name = "loop_lag"
    unit = "ms"

    async def run(self) -> None:
        """What the loop's watch saw."""
        late, limit = self.take_worst() * 1000, self.node.settings.health_loop_lag_max_ms
        self.judge(late, limit, f"the loop stood still for {late:,.0f} ms; it should never for {limit:,.0f} ms")


def _begin_and_end() -> float:
    """Milliseconds. On SQLite a transaction takes the write lock as it begins."""
    alias, begun = database_alias(), time.perf_counter()
    try:
        with transaction.atomic(using=alias), connections[alias].cursor() as cursor:
            cursor.execute("SELECT 1")
        return (time.perf_counter() - begun) * 1000
    finally:
        reset_queries()  # with DEBUG, Django keeps them until a request begins
        connections[alias].close()
