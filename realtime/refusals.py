"""Credentials that were not taken: each is counted, and the log names them without being filled by them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from realtime.instrument import Instrument
from realtime.logs import LineLimit

logger = logging.getLogger("realtime.auth")

LOG_SECONDS = 1.0
"""One line for each reason at most in that time; it says how many there were since the line before."""
UNAVAILABLE = "unavailable"


class Refusals:
    """What one node did not believe. No line has a token or a session in it."""

    def __init__(self, node_id: str, instrument: Instrument, clock: Callable[[], float] = time.monotonic) -> None:
        self._node_id = node_id
        self._instrument = instrument
        self._clock = clock
        self._lines: dict[str, LineLimit] = {}  # by reason: there are a dozen

    def refused(self, reason: str, where: str, user: str | None = None) -> None:
        """A token was not taken. ``where``: the connection, or the address of a client that is not let in."""
        self._instrument.authentication_refused(reason)
        self._log(reason, "authentication_refused node=%s from=%s user=%s reason=%s count=%d", where, user, reason)

    def unavailable(self, error: Exception) -> None:
        """Nobody can say who a client is: the database or the store of sessions does not answer."""
        self._instrument.session_check_failed()
        self._log(UNAVAILABLE, "identity_unavailable node=%s error=%r count=%d", f"{type(error).__name__}: {error}")

    def _log(self, reason: str, line: str, *fields: object) -> None:
        lines = self._lines.setdefault(reason, LineLimit(most=1, seconds=LOG_SECONDS))
        unlogged = lines.admit(self._clock())
        if unlogged is not None:
            logger.warning(line, self._node_id, *fields, unlogged + 1)
