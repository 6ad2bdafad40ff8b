"""Keeps one connection to one server up, for ever, and notices when it is dead although nobody said so."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Generic, Protocol, TypeVar

from realtime.exceptions import BackplaneUnavailable
from realtime.layers.backoff import Backoff
from realtime.layers.stats import Stats
from realtime.layers.upkeep import Upkeep

logger = logging.getLogger(__name__)

CONNECT_SECONDS = 2.0  # for one attempt, until the server has answered
PING_SECONDS = 2.5  # between two PINGs; an answer may take as long before the connection is given up
LATE_SECONDS = 1.0  # a timer that is later than this says that our own loop stood still, not the server
LASTING_SECONDS = 2.0  # a connection that was up this long starts the backoff anew


class Connection(Protocol):
    """What a link needs to know of a connection."""

    on_replies: Callable[[list[Any]], None] | None  # gets everything that came in one read
    lost: asyncio.Future[Exception | None]  # done when the connection is gone

    @property
    def is_paused(self) -> bool: ...

    @property
    def is_lost(self) -> bool: ...

    def abort(self, error: Exception | None = None) -> None:
        """Give it up now; nothing more is read from it."""

    def close(self) -> None:
        """The same in good order, without waiting; `lost` then holds ConnectionError("closed")."""


C = TypeVar("C", bound=Connection)
Owned = TypeVar("Owned", bound=Connection, contravariant=True)


class LinkOwner(Protocol[Owned]):
    """What the owner does with the connection. All but `came_up` are called inside callbacks: no waiting."""

    async def came_up(self, connection: Owned) -> None:
        """Connected; the link is up when this returns. BackplaneUnavailable gives the connection up."""

    def is_now_up(self) -> None:
        """The link has just come up."""

    def went_down(self, error: BackplaneUnavailable) -> None:
        """The connection is lost, or an attempt to make it failed. Called for each loss and each attempt."""

    def replies_arrived(self, replies: list[Any]) -> None:
        """Everything that came in one read."""

    def send_ping(self) -> None: ...


class Link(Upkeep, Generic[C]):
    """`dial` makes one connection to `server` ("Redis", "RabbitMQ") at `address`, which is for people to read.

    States: idle (nobody asked yet), connecting, up, down (known not to work, and trying on), closed.
    """

    def __init__(
        self,
        server: str,
        address: object,
        name: str,
        dial: Callable[[], Awaitable[C]],
        owner: LinkOwner[C],
        stats: Stats,
    ) -> None:
        super().__init__()
        self.server = server
        self.address = address
        self.name = name
        self._dial = dial
        self.connection: C | None = None  # also while `came_up` still runs
        self._owner = owner
        self._stats = stats
        self._task: asyncio.Task[None] | None = None
        self._error: Exception | None = None  # why it is down
        self._was_up = False
        self._timer: asyncio.TimerHandle | None = None  # the next PING
        self._is_asked = False  # a PING is under way, and nothing has come since

    def start(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep_up(), name=f"{self.name}@{self.address}")

    async def close(self) -> None:
        """Give up for good; `start` may begin anew."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.wait([task])
        if self.connection is not None:
            self.connection.lost.remove_done_callback(self._lost)
            self.connection.close()
        self._mark_down(ConnectionError("closed"))
        self.is_down, self._was_up, self._error = False, False, None
        await asyncio.sleep(0)  # the transport closes its socket in the next turn

    def unavailable(self) -> BackplaneUnavailable:
        return BackplaneUnavailable(f"{self.server} {self.address}: {self._error or 'no answer'}")

    def drop(self, reason: str) -> None:
        """The connection does not answer: give it up and make another."""
        if self.connection is not None:
            self.connection.abort(TimeoutError(reason))

    def answered(self) -> None:
        """Something came back, so it lives. On the hot path."""
        self._is_asked = False

    async def _keep_up(self) -> None:
        loop = asyncio.get_running_loop()
        backoff = Backoff()
        try:
            while True:
                began = loop.time()
                await self._live_once()
                if self._error is None or loop.time() - began > CONNECT_SECONDS + LASTING_SECONDS:
                    backoff.reset()
                await asyncio.sleep(backoff.next())
        finally:
            if self.connection is not None:
                self.connection.close()

    async def _live_once(self) -> None:
        """Connect, let the owner come up, and return when the connection is lost."""
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                connection = await self._dial()
        except TimeoutError:
            self._mark_down(TimeoutError(f"no answer within {CONNECT_SECONDS:g} s"))
            return
        except Exception as error:  # whatever it is, it must be said, and tried again
            self._mark_down(error)
            return
        connection.on_replies = self._owner.replies_arrived
        connection.lost.add_done_callback(self._lost)
        self.connection = connection
        self._arm_ping()
        try:
            await self._owner.came_up(connection)
        except BackplaneUnavailable as error:
            connection.abort(error)
        if not connection.is_lost:
            self._mark_up()
        await asyncio.wait([connection.lost])  # not `await connection.lost`: our own end must not cancel it

    def _lost(self, lost: asyncio.Future[Exception | None]) -> None:
        self._mark_down(lost.result() or ConnectionResetError(f"{self.server} closed the connection"))

    def _mark_up(self) -> None:
        if self._was_up:
            self._stats.reconnects += 1
        if self._error is not None:
            logger.info("backplane_connected server=%s address=%s link=%s", self.server, self.address, self.name)
        self.is_up, self.is_down, self._was_up, self._error = True, False, True, None
        self._tell_waiters()
        self._owner.is_now_up()

    def _mark_down(self, error: Exception) -> None:
        if self._error is None and str(error) != "closed":
            words = self.server, self.address, self.name, str(error)
            logger.warning("backplane_lost server=%s address=%s link=%s error=%r", *words)
        self.is_up, self.is_down, self._error, self.connection = False, True, error, None
        if self._timer is not None:
            self._timer.cancel()
        self._tell_waiters()
        self._owner.went_down(self.unavailable())

    def _arm_ping(self) -> None:
        self._is_asked = False
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(PING_SECONDS, self._ping, loop.time() + PING_SECONDS)

    def _ping(self, due: float) -> None:
        """Send a PING; if nothing at all came since the last one, the peer is dead, unless it is us who did
        not read."""
        loop = asyncio.get_running_loop()
        connection = self.connection
        if connection is None:
            return
        was_reading = not connection.is_paused and loop.time() - due < LATE_SECONDS
        if self._is_asked and was_reading:
            self.drop(f"no answer to PING within {PING_SECONDS:g} s")
            return
        if not connection.is_paused:
            self._is_asked = True
            self._owner.send_ping()
        self._timer = loop.call_later(PING_SECONDS, self._ping, loop.time() + PING_SECONDS)
