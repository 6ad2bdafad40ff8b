"""Credentials that were not taken: each is counted, and the log names them without being filled by them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from realtime.instrument import Instrument

logger = logging.getLogger("realtime.auth")

LOG_SECONDS = 1.0
"""One line at most in that time; it says how many there were since the line before."""


class Refusals:
    """What one node did not believe. No line has a token or a session in it."""

    def __init__(self, node_id: str, instrument: Instrument, clock: Callable[[], float] = time.monotonic) -> None:
        self._node_id = node_id
        self._instrument = instrument
        self._clock = clock
        self._since = 0  # since the last line
        self._logged_at = float("-inf")

    def refused(self, reason: str, where: str, user: str | None = None) -> None:
        """A token was not taken. ``where``: the connection, or the address of a client that is not let in."""
        self._instrument.authentication_refused(reason)
        self._log("authentication_refused node=%s from=%s user=%s reason=%s count=%d", where, user, reason)

    def unavailable(self, error: Exception) -> None:
        """Nobody can say who a client is: the database or the store of sessions does not answer."""
        self._instrument.session_check_failed()
        self._log("identity_unavailable node=%s error=%r count=%d", f"{type(error).__name__}: {error}")

    def _log(self, line: str, *fields: object) -> None:
        self._since += 1
        now = self._clock()
        if now - self._logged_at >= LOG_SECONDS:
            logger.warning(line, self._node_id, *fields, self._since)
            self._since, self._logged_at = 0, now
