"""The sessions of one node, and the one task that pings them and ends those that are late."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable

from realtime.limits import BacklogLimit
from realtime.node import Node
from realtime.protocol import engineio
from realtime.protocol.closing import IDLE
from realtime.protocol.engineio import Deadlines
from realtime.protocol.names import session_id
from realtime.rates import Source
from realtime.socketio.session import Session

LINGER_SECONDS = 2.0
"""A session that the server ended waits that long for the poll that is told so."""
TICKS_PER_DEADLINE = 10
TICK_MIN_SECONDS, TICK_MAX_SECONDS = 0.02, 1.0


class Sessions:
    """By id. A session is in here until it is over."""

    def __init__(self, node: Node, limit: BacklogLimit, clock: Callable[[], float] = time.monotonic) -> None:
        settings = node.settings
        self._node = node
        self._limit = limit
        self._clock = clock
        self._sessions: dict[str, Session] = {}
        self._quiet: Deadlines[Session] = Deadlines(settings.socketio_ping_interval_seconds)
        self._pinged: Deadlines[Session] = Deadlines(settings.socketio_ping_timeout_seconds)
        self._nameless: Deadlines[Session] = Deadlines(settings.socketio_connect_timeout_seconds)
        self._lingering: Deadlines[Session] = Deadlines(LINGER_SECONDS)
        node.tasks.start("socketio", self._run())

    def __len__(self) -> int:
        return len(self._sessions)

    def get(self, session_id: str) -> Session | None:
        """The session of this id."""
        return self._sessions.get(session_id)

    def open(self, source: Source | None = None) -> Session:
        """A new session; its place at ``source`` ends with it."""
        name = session_id(self._node.id, self._node.settings.node_address, secrets.token_urlsafe(16))
        session = Session(name, self._limit, heard=self._heard, forget=self._forget, linger=self._linger)
        session.source = source
        self._sessions[name] = session
        self._quiet.start(session, self._clock())
        return session

    def expect_connect(self, session: Session) -> None:
        """The client must connect to a namespace in time."""
        self._nameless.start(session, self._clock())

    def connected(self, session: Session) -> None:
        """It has."""
        self._nameless.stop(session)

    def _heard(self, session: Session) -> bool:
        if not self._pinged.stop(session):
            return False
        self._quiet.start(session, self._clock())
        return True

    def _linger(self, session: Session) -> None:
        self._lingering.start(session, self._clock())

    def _forget(self, session: Session) -> None:
        self._sessions.pop(session.id, None)
        for deadlines in (self._quiet, self._pinged, self._nameless, self._lingering):
            deadlines.stop(session)
        if session.source is not None:
            self._node.throttle.leave(session.source)

    async def _run(self) -> None:
        shortest = min(self._quiet.seconds, self._pinged.seconds, self._nameless.seconds)
        tick = min(max(shortest / TICKS_PER_DEADLINE, TICK_MIN_SECONDS), TICK_MAX_SECONDS)
        while True:
            await asyncio.sleep(tick)
            self._look(self._clock())

    def _look(self, now: float) -> None:
        """1. give up those that did not answer or connect in time; 2. ping those that were quiet."""
        for session in self._pinged.expired(now):
            if session.is_busy:
                self._pinged.start(session, now)
            else:
                _give_up(session)
        for session in self._nameless.expired(now):
            _give_up(session)
        for session in self._lingering.expired(now):
            session.end(IDLE.code)
        for session in self._quiet.expired(now):
            session.writer.send([engineio.PING])
            self._pinged.start(session, now)


def _give_up(session: Session) -> None:
    if session.writer.is_on_websocket:
        session.writer.close(IDLE)
    else:
        session.end(IDLE.code)
