"""Every message between a client and its node, as a frozen type.

*Commands* come from the client, *replies* answer one command each, *pushes* come unasked; a *publication* is a push
that carries somebody's data. ``data`` stays the JSON bytes that the publisher sent (``msgspec.Raw``): checked once,
never encoded again. docs/protocol.md describes each for authors of clients.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

Ref = Annotated[str, Meta(max_length=128)] | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Recipient = Annotated[str, Meta(min_length=1, max_length=128)]


class Command(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What a client asks; ``ref`` is echoed in the answer."""

    ref: Ref | None = None


class Ping(Command, frozen=True, tag="ping"):
    """Is anybody there?"""


class Join(Command, frozen=True, tag="join"):
    """Become a member of a room; ``members`` asks for the list of members and its later changes."""

    room: str
    members: bool = False


class Leave(Command, frozen=True, tag="leave"):
    """Stop being a member of a room."""

    room: str


class PublishBroadcast(Command, frozen=True, tag="broadcast"):
    """Publish to every connection; ``echo`` includes the sender."""

    data: Raw
    echo: bool = False


class PublishRoom(Command, frozen=True, tag="room"):
    """Publish to the members of a room; ``echo`` includes the sender."""

    room: str
    data: Raw
    echo: bool = False


class PublishPrivate(Command, frozen=True, tag="private"):
    """Publish to one connection, or with ``user:<id>`` to all connections of a user."""

    to: Recipient
    data: Raw


class Authenticate(Command, frozen=True, tag="authenticate"):
    """Say who the client is, or refresh what it said; the same user only."""

    token: Annotated[str, Meta(max_length=8192)]


COMMANDS: tuple[type[Command], ...] = (
    Ping,
    Join,
    Leave,
    PublishBroadcast,
    PublishRoom,
    PublishPrivate,
    Authenticate,
)


class OwnCommand(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """A command of the project that uses this: ``realtime.commands`` makes a type of each. Not in ``COMMANDS``, which
    is what every server understands."""

    ref: Ref | None = None


class OwnReply(msgspec.Struct, frozen=True, kw_only=True):
    """Answers a command of the project; ``type`` is its name, ``data`` what its handler returned."""

    type: str
    ref: Ref | UnsetType = UNSET
    data: Raw


class Outbound(msgspec.Struct, frozen=True, kw_only=True, tag_field="type"):
    """What a node sends to a client."""


class Reply(Outbound, frozen=True, kw_only=True):
    """The one answer to a command."""

    ref: Ref | UnsetType = UNSET


def echo_ref(ref: Ref | None) -> Ref | UnsetType:
    """The ``ref`` of a reply: that of its command, or nothing."""
    return UNSET if ref is None else ref


class Pong(Reply, frozen=True, tag="pong"):
    """Answers ``ping``."""


class MemberInfo(msgspec.Struct, frozen=True):
    """A member as others see it; ``user`` is None for an anonymous connection."""

    id: str
    user: str | None


class Joined(Reply, frozen=True, tag="joined"):
    """The backplane confirmed: from here on nothing of the room is missed.

    With ``members`` asked for: the list of up to 1,000 members, else their ``count``; ``partial`` names the nodes that
    did not answer in time.
    """

    room: str
    members: list[MemberInfo] | UnsetType = UNSET
    count: int | UnsetType = UNSET
    partial: list[str] | UnsetType = UNSET


class Left(Reply, frozen=True, tag="left"):
    """Nothing of the room follows."""

    room: str


class Ack(Reply, frozen=True, tag="ack"):
    """The backplane took the message; for a private one: the recipient's node has handed it over."""


class Authenticated(Reply, frozen=True, tag="authenticated"):
    """``expires_in``: seconds until the credential ends."""

    user: str
    expires_in: int


class Error(Reply, frozen=True, tag="error"):
    """The command was refused and the connection lives on; ``code`` is one of ``protocol.errors``."""

    code: str
    message: str
    retry_after: float | UnsetType = UNSET


class ConnectionLimits(msgspec.Struct, frozen=True):
    """What a client may ask of its node."""

    message_max_bytes: int
    command_max_bytes: int
    rooms_max: int
    idle_timeout_seconds: float


class Welcome(Outbound, frozen=True, tag="welcome"):
    """The first push: who the client is here."""

    id: str
    node: str
    user: str | None
    limits: ConnectionLimits


class Broadcast(Outbound, frozen=True, tag="broadcast", rename={"sender": "from"}):
    """A publication for everyone."""

    sender: str | None
    data: Raw


class RoomMessage(Outbound, frozen=True, tag="room", rename={"sender": "from"}):
    """A publication for the members of a room."""

    room: str
    sender: str | None
    data: Raw


class PrivateMessage(Outbound, frozen=True, tag="private", rename={"sender": "from"}):
    """A publication for this connection or its user."""

    sender: str | None
    data: Raw


class MembersChanged(Outbound, frozen=True, tag="members"):
    """Who joined and left a room since the last such push or the ``joined`` reply."""

    room: str
    joined: list[MemberInfo]
    left: list[MemberInfo]


class Missed(Outbound, frozen=True, tag="missed"):
    """Publications may be missing here: in ``rooms``, or anywhere when it is None."""

    rooms: list[str] | None


OUTBOUND: tuple[type[Outbound], ...] = (
    Pong,
    Joined,
    Left,
    Ack,
    Authenticated,
    Error,
    Welcome,
    Broadcast,
    RoomMessage,
    PrivateMessage,
    MembersChanged,
    Missed,
)
