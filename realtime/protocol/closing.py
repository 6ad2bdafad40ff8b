"""Close codes: how a connection ends, why, and what the client should do next.

The idea of one table with the client's next step beside each code is Centrifuge's (``disconnect.go``).
"""

from __future__ import annotations

from dataclasses import dataclass

from realtime.exceptions import RealtimeError


@dataclass(frozen=True, slots=True)
class CloseCode:
    """One way in which the server ends a connection.

    ``reason`` is sent on the wire (123 bytes at most, RFC 6455 section 5.5). ``should_reconnect`` and
    ``wait_seconds`` (at least that long, before jitter) are advice that client.js obeys.
    """

    name: str
    code: int
    reason: str
    when: str
    should_reconnect: bool
    wait_seconds: float


OVERLOADED = CloseCode("overloaded", 1001, "Server overloaded", "evicted: full, or short of memory", True, 5)
IDLE = CloseCode("idle", 1001, "Connection timeout", "the client was silent for too long", True, 0)
POLICY_VIOLATION = CloseCode("policy_violation", 1008, "Policy violation", "limits were ignored", True, 20)
TOO_BIG = CloseCode("too_big", 1009, "Message too big", "a message or frame exceeded MESSAGE_MAX_BYTES", True, 1)
INTERNAL_ERROR = CloseCode("internal_error", 1011, "Internal error", "the server failed on this connection", True, 1)
SERVICE_RESTART = CloseCode("service_restart", 1012, "Service restart", "the node drains", True, 0)
TRY_AGAIN_LATER = CloseCode("try_again_later", 1013, "Try again later", "the node cannot serve this now", True, 5)
UNAUTHORIZED = CloseCode("unauthorized", 4001, "Unauthorized", "no credential, or no longer a valid one", False, 0)
FORBIDDEN = CloseCode("forbidden", 4003, "Forbidden", "this identity may not be connected", False, 0)
SLOW_CONSUMER = CloseCode("slow_consumer", 4008, "Slow consumer", "its backlog overflowed", True, 1)

CLOSE_CODES: tuple[CloseCode, ...] = (
    OVERLOADED,
    IDLE,
    POLICY_VIOLATION,
    TOO_BIG,
    INTERNAL_ERROR,
    SERVICE_RESTART,
    TRY_AGAIN_LATER,
    UNAUTHORIZED,
    FORBIDDEN,
    SLOW_CONSUMER,
)

REASON_MAX_BYTES = 123


def truncate_reason(reason: str) -> bytes:
    """Encode a close reason in UTF-8, cut at a character border to what a close frame can carry."""
    encoded = reason.encode("utf-8", "replace")
    if len(encoded) <= REASON_MAX_BYTES:
        return encoded
    return encoded[:REASON_MAX_BYTES].decode("utf-8", "ignore").encode("utf-8")


class BadClose(RealtimeError):
    """A code or reason that Django code may not close a connection with."""


ORDERED = "disconnected"
"""The name of every close that Django code or an operator asked for, whatever its code."""

_ORDERED_CODES = frozenset({1000, 1001, 1008, 1012, 1013})


def ordered_close(code: int, reason: str) -> CloseCode:
    """The close that Django code asks for: 1000, 1001, 1008, 1012, 1013 or 3000 to 4999. Raises BadClose."""
    if code not in _ORDERED_CODES and not 3000 <= code <= 4999:
        raise BadClose(f"{code} is not a code to disconnect with: 1000, 1001, 1008, 1012, 1013 or 3000 to 4999 are")
    try:
        size = len(reason.encode())
    except UnicodeEncodeError:
        raise BadClose("the reason has a lone surrogate, which no close frame can carry") from None
    if size > REASON_MAX_BYTES:
        raise BadClose(f"the reason has {size} bytes; a close frame carries {REASON_MAX_BYTES}")
    may_return = code not in (UNAUTHORIZED.code, FORBIDDEN.code)
    return CloseCode(ORDERED, code, reason, "Django code or an operator asked for it", may_return, 0)
