"""Error codes: why one command was refused while the connection lives on.

A refused command is one of these exceptions; its ``code`` goes on the wire (STYLE: one exception tree, the
docstring is the default message).
"""

from __future__ import annotations

from realtime.exceptions import RealtimeError


class CommandRefused(RealtimeError):
    """The command was refused."""

    code = ""

    def __init__(self, message: str = "", *, retry_after: float | None = None) -> None:
        self.message = message or (type(self).__doc__ or "").strip()
        self.retry_after = retry_after
        super().__init__(self.message)


class BadJson(CommandRefused):
    """The text is not JSON that every client could read."""

    code = "bad_json"


class BadMessage(CommandRefused):
    """A field is missing or has the wrong type."""

    code = "bad_message"


class UnknownType(CommandRefused):
    """There is no command of this type."""

    code = "unknown_type"


class BadRoom(CommandRefused):
    """A room name has 1 to 64 characters and no control characters."""

    code = "bad_room"


class NotJoined(CommandRefused):
    """Join the room before you publish to it or leave it."""

    code = "not_joined"


class Forbidden(CommandRefused):
    """This identity may not do that."""

    code = "forbidden"


class Unauthorized(CommandRefused):
    """The credential is missing, expired or not valid."""

    code = "unauthorized"


class UnknownRecipient(CommandRefused):
    """Nobody with this id is connected."""

    code = "unknown_recipient"


class TooLarge(CommandRefused):
    """The command is larger than COMMAND_MAX_BYTES."""

    code = "too_large"


class TooManyRooms(CommandRefused):
    """The connection is in as many rooms as it may be; leave one first."""

    code = "too_many_rooms"


class RateLimited(CommandRefused):
    """Too many commands; wait for retry_after seconds."""

    code = "rate_limited"


class Unavailable(CommandRefused):
    """Not known to be taken by the backplane; it may still arrive, and a retry may duplicate it."""

    code = "unavailable"


class InternalError(CommandRefused):
    """The server failed on this command; the failure was logged."""

    code = "internal_error"


ERRORS: tuple[type[CommandRefused], ...] = (
    BadJson,
    BadMessage,
    UnknownType,
    BadRoom,
    NotJoined,
    Forbidden,
    Unauthorized,
    UnknownRecipient,
    TooLarge,
    TooManyRooms,
    RateLimited,
    Unavailable,
    InternalError,
)
