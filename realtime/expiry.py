"""Whose time is over: clients that do not say who they are, and credentials that end while their clients stay.

One schedule and one look at it for all connections; no timer, task or object belongs to a single one. Sessions and
users are looked up in bulk, in a thread, by another task, since the database may take its time: the net below what
``realtime.revocation`` tells at once. While it cannot be asked nobody is closed for what it might say.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from realtime.conf import Settings
from realtime.hub import Hub, Member
from realtime.instrument import (
    NOT_AUTHENTICATED,
    SESSION_ENDED,
    TOKEN_EXPIRED,
    USER_INACTIVE,
    Instrument,
)
from realtime.protocol.closing import UNAUTHORIZED
from realtime.schedule import Schedule
from realtime.tasks import TaskGroup

if TYPE_CHECKING:
    from realtime.sessions import Findings

logger = logging.getLogger("realtime.expiry")

BATCH_CONNECTIONS = 100
"""Closed in one go; 100 take some milliseconds."""
BATCH_PAUSE_SECONDS = 0.02
LOOKS_PER_DEADLINE = 10
LOOK_LEAST_SECONDS, LOOK_MOST_SECONDS = 0.02, 1.0
ASK_AGAIN_SECONDS = 5.0
"""A session that is over by its own word, and that nobody could look up, is looked up again after that time."""


class Expiry:
    """The credentials of one node's connections. All methods belong to its loop."""

    def __init__(
        self,
        node_id: str,
        hub: Hub,
        settings: Settings,
        instrument: Instrument,
        tasks: TaskGroup,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node_id = node_id
        self._hub = hub
        self._settings = settings
        self._instrument = instrument
        self._tasks = tasks
        self._clock = clock
        self._schedule = Schedule()
        self._asked: set[str] = set()  # connections whose session is to be looked up now; no more than there are
        self._ask_all = False
        self._wake = asyncio.Event()
        self._is_failing = False

    def __len__(self) -> int:
        """Connections that have a deadline."""
        return len(self._schedule)

    def start(self) -> None:
        """Begin to look."""
        self._tasks.start("expiry", self._look_for_due())
        self._tasks.start("sessions", self._look_up_sessions())

    def watch(self, member: Member) -> None:
        """A connection is there, or has another credential than before."""
        if member.id not in self._hub.connections:
            return  # it went away while its credential was looked at
        name, ends = member.id, member.identity.expires_at
        if not member.is_admitted:
            self._schedule.set(name, self._clock() + self._settings.authenticate_seconds)
        elif ends is None:
            self._schedule.drop(name)
        else:
            grace = self._settings.token_grace_seconds if member.identity.session is None else 0.0
            self._schedule.set(name, self._clock() + ends + grace - time.time())

    def forget(self, member: Member) -> None:
        """It is gone."""
        self._schedule.drop(member.id)
        self._asked.discard(member.id)

    def ask_all(self) -> None:
        """Look up all sessions and users soon: what was told may not have come."""
        self._ask_all = True
        self._wake.set()

    # -- deadlines ---------------------------------------------------------------------------------------------------

    async def _look_for_due(self) -> None:
        settings = self._settings
        shortest = min(settings.authenticate_seconds, settings.token_grace_seconds or settings.authenticate_seconds)
        tick = min(max(shortest / LOOKS_PER_DEADLINE, LOOK_LEAST_SECONDS), LOOK_MOST_SECONDS)
        while True:
            is_behind = self.look(self._clock())
            await asyncio.sleep(BATCH_PAUSE_SECONDS if is_behind else tick)

    def look(self, now: float) -> bool:
        """Close a batch of those whose time is over; whether there may be more."""
        due = self._schedule.due(now, BATCH_CONNECTIONS)
        for name in due:
            member = self._hub.connections.get(name)
            if member is None:
                continue
            if not member.is_admitted:
                self._close(member, NOT_AUTHENTICATED)
            elif member.identity.session is None or member.identity.session.key is None:
                self._close(member, TOKEN_EXPIRED if member.identity.session is None else SESSION_ENDED)
            else:
                self._asked.add(name)
                self._wake.set()
        return len(due) == BATCH_CONNECTIONS

    # -- sessions and users ------------------------------------------------------------------------------------------

    async def _look_up_sessions(self) -> None:
        seconds = self._settings.session_check_seconds
        while True:
            try:
                # A little unevenly, so that the nodes of a cluster do not ask at the same time.
                async with asyncio.timeout(seconds * random.uniform(0.9, 1.1) if seconds else None):
                    await self._wake.wait()
            except TimeoutError:
                self._ask_all = True
            self._wake.clear()
            asked, self._asked = self._asked, set()
            if self._ask_all:
                self._ask_all = False
                asked = set(self._hub.connections)
            await self._look_up(self._present(asked))

    def _present(self, names: Iterable[str]) -> list[Member]:
        connections = self._hub.connections
        return [connections[name] for name in names if name in connections]

    async def _look_up(self, members: list[Member]) -> None:
        """1. what is there to ask; 2. ask; 3. let go of whom it does not find, and remember when others end."""
        from realtime import sessions  # imports Django's models, which is possible only once Django has started

        keys = {session.key for each in members if (session := each.identity.session) and session.key is not None}
        users = {each.user for each in members if each.user is not None and self._is_user_asked(each)}
        if not keys and not users:
            return
        must_exist = self._settings.token_users_are_checked
        try:
            found = await asyncio.to_thread(sessions.look_at, keys, users, must_exist=must_exist)
        except Exception as error:  # whatever the database, the cache or their drivers raise
            self._failed(error, members)
            return
        self._is_failing = False
        closed = 0
        for member in members:
            cause = self._judge(member, found) if member.id in self._hub.connections else None
            if cause is not None and self._close(member, cause):
                closed += 1
                if closed % BATCH_CONNECTIONS == 0:
                    await asyncio.sleep(BATCH_PAUSE_SECONDS)

    def _is_user_asked(self, member: Member) -> bool:
        session = member.identity.session
        return session.key is None if session else self._settings.token_users_are_checked

    def _judge(self, member: Member, found: Findings) -> str | None:
        """Why this connection must go; None if it may stay."""
        session = member.identity.session
        if session is None or session.key is None:
            return USER_INACTIVE if member.user in found.inactive else None
        user, ends = found.sessions.get(session.key, (None, None))
        if user is None or user != member.user:
            return SESSION_ENDED
        if ends is not None or member.id not in self._schedule:
            due = ends if ends is not None else time.time() + max(self._settings.session_check_seconds, 60)
            self._schedule.set(member.id, self._clock() + due - time.time())
        return None

    def _failed(self, error: Exception, members: Iterable[Member]) -> None:
        self._instrument.session_check_failed()
        if not self._is_failing:
            self._is_failing = True
            effect = "connections stay until their sessions can be looked up"
            described = f"{type(error).__name__}: {error}"
            logger.error("session_check_failed node=%s error=%r effect=%r", self._node_id, described, effect)
        for member in members:
            is_here = member.id in self._hub.connections and member.id not in self._schedule
            if is_here and member.identity.session is not None:
                self._schedule.set(member.id, self._clock() + ASK_AGAIN_SECONDS)

    def _close(self, member: Member, cause: str) -> bool:
        if member.id not in self._hub.connections:
            return False
        logger.info("credential_ended node=%s id=%s user=%s cause=%s", self._node_id, member.id, member.user, cause)
        member.evict(UNAUTHORIZED)
        self._instrument.connection_evicted(UNAUTHORIZED, cause)
        return True
