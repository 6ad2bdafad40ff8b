"""The envelope: what travels between nodes, as JSON text that any language can write.

Every envelope has ``v`` (its version) and ``type``. Those that carry a publication need nothing else than their
audience and ``data``, so that ``{"v":1,"type":"room","room":"lobby","data":{"any":"json"}}`` published by any service
reaches the room. ``data`` is forwarded as the bytes that came.

Nodes announce the versions that they read (``READS``) and publish in the highest that all live nodes read; in the
lowest that they read themselves while they may not have heard all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta, Raw

from realtime.exceptions import RealtimeError
from realtime.protocol.messages import MemberInfo

READS: Final = (1,)
"""Versions of the envelope that this code can read, in ascending order."""

LISTED_MAX: Final = 1_000
"""Entries of one list that a node gives for one question; totals say how many there are."""

ChannelName = Annotated[str, Meta(min_length=1, max_length=200)]


class Envelope(msgspec.Struct, frozen=True, kw_only=True, tag_field="type", omit_defaults=True):
    """One message between nodes. ``v`` is written always: it has no default."""

    v: int


class BroadcastEnvelope(Envelope, frozen=True, tag="broadcast", rename={"sender": "from"}):
    """For every connection but ``skip``. ``at``: when it was published, seconds since the epoch; most do not say."""

    data: Raw
    sender: str | None = None
    skip: str | None = None
    at: float | None = None
    event: str | None = None
    binary: bool = False


class RoomEnvelope(Envelope, frozen=True, tag="room", rename={"sender": "from"}):
    """For the members of ``room`` but ``skip``.

    ``at`` as in a broadcast. ``event``: what Socket.IO members get it as, with ``data`` alone. ``binary``: bytes are in
    ``data``, as base64.
    """

    room: str
    data: Raw
    sender: str | None = None
    skip: str | None = None
    at: float | None = None
    event: str | None = None
    binary: bool = False


class PrivateEnvelope(Envelope, frozen=True, tag="private", rename={"sender": "from"}):
    """For one connection, or with ``user:<id>`` all of a user's; ``receipt`` asks for a confirmation to ``node``."""

    to: str
    data: Raw
    sender: str | None = None
    node: str | None = None
    receipt: int | None = None
    event: str | None = None
    binary: bool = False


class Receipt(Envelope, frozen=True, tag="receipt"):
    """Whether the private message that asked for ``receipt`` was handed over."""

    receipt: int
    is_delivered: bool


class Health(msgspec.Struct, frozen=True, kw_only=True):
    """What one check of a node found: its ``figure`` against its ``limit``, both in ``unit``; None where nothing could
    be measured. ``reason`` is empty while it is healthy. ``at``: when, seconds since the epoch."""

    check: str
    is_healthy: bool
    at: float
    took_seconds: float
    figure: float | None = None
    limit: float | None = None
    unit: str = ""
    reason: str = ""


class Heartbeat(Envelope, frozen=True, tag="heartbeat"):
    """A node lives. ``reads``: envelope versions; ``statistics``: figures for people; ``health``: what its checks
    found last.

    ``is_answer``: sent to one node alone, which this one did not know until now. ``was_interrupted``: this node hears
    again, and may have missed questions and left changes untold. ``spent``: commands of users on this node that were
    not told yet, by user; a node of a version without it ignores it.
    """

    node: str
    address: str
    version: str
    reads: list[int]
    started: float
    state: str
    statistics: dict[str, float] = {}
    health: list[Health] = []
    is_answer: bool = False
    was_interrupted: bool = False
    spent: dict[str, int] = {}


class Goodbye(Envelope, frozen=True, tag="goodbye"):
    """A node stops and has let go of its connections."""

    node: str


class Echo(Envelope, frozen=True, tag="echo"):
    """A node speaks to itself through one shard, to prove that what is published is delivered."""

    shard: int
    nonce: int


class Watch(Envelope, frozen=True, tag="watch"):
    """``node`` wants the members of ``rooms`` and their changes; answered by a roster when ``request`` is given."""

    node: str
    rooms: list[str]
    request: int | None = None


class Unwatch(Envelope, frozen=True, tag="unwatch"):
    """``node`` no longer wants to hear of the members of ``rooms``."""

    node: str
    rooms: list[str]


class Roster(Envelope, frozen=True, tag="roster"):
    """The members that ``node`` has in each of ``rooms``: the whole truth, replacing what was known."""

    node: str
    rooms: dict[str, list[MemberInfo]]
    request: int | None = None


class RosterChange(msgspec.Struct, frozen=True, array_like=True):
    """What changed in one room."""

    room: str
    joined: list[MemberInfo]
    left: list[MemberInfo]


class RosterChanges(Envelope, frozen=True, tag="changes"):
    """What changed among the members that ``node`` has in watched rooms."""

    node: str
    changes: list[RosterChange]


class Order(Envelope, frozen=True):
    """What Django code asks of nodes, and no client can; answered to the channel ``reply_to`` under ``request``."""

    request: str
    reply_to: ChannelName


class Disconnect(Order, frozen=True, tag="disconnect"):
    """End a connection, or with ``user:<id>`` all of a user's, with this code and reason.

    Of a user's only those of one Django session, if ``session`` has its tag; not those of the sessions in ``spare``.
    With ``moved`` nobody is closed: the connections of ``session`` are of this one from now on. ``cause``: why the
    credential is no longer good. A node that does not know these fields closes all of the user's.
    """

    to: str
    code: int
    reason: str = ""
    session: str | None = None
    spare: list[str] = []
    moved: str | None = None
    cause: str = ""


class Remove(Order, frozen=True, tag="remove"):
    """Take a connection out of a room."""

    room: str
    connection: str


class Drain(Order, frozen=True, tag="drain"):
    """Stop as on SIGTERM."""

    node: str


class Question(Order, frozen=True, tag="question"):
    """What do you have? ``after`` is the last id or name of the page before; the filters are for some subjects only."""

    about: Literal["nodes", "connections", "rooms"]
    limit: Annotated[int, Meta(ge=0, le=LISTED_MAX + 1)] = 0  # one more tells whether a page follows
    after: str = ""
    prefix: str = ""
    room: str | None = None
    user: str | None = None


class NodeInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A node as it describes itself. ``started``: seconds since the epoch; ``statistics``: those of its heartbeat."""

    id: str
    address: str
    version: str
    state: str
    started: float
    connections: int
    rooms: int
    statistics: dict[str, float] = {}


class ConnectionInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A connection as its node sees it. ``opened``: seconds since the epoch; ``idle``: seconds since it last sent."""

    id: str
    node: str
    user: str | None = None
    transport: str = ""
    opened: float = 0.0
    idle: float = 0.0
    rooms: int = 0
    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    backlog: int = 0


class Answer(Envelope, frozen=True, tag="answer"):
    """One node's answer, or a part of it: the last part has ``is_last``.

    ``others`` are the live nodes that it knows, all of them once ``is_settled``. ``total``: how many there are here, or
    how many were disconnected or removed. ``refusal``: why it did nothing.
    """

    node: str
    request: str
    others: list[str] = []
    is_settled: bool = True
    is_last: bool = True
    total: int = 0
    refusal: str = ""
    nodes: list[NodeInfo] = []
    connections: list[ConnectionInfo] = []
    rooms: dict[str, int] = {}


class StreamOpen(Envelope, frozen=True, tag="stream"):
    """``node`` carries a request of a client here, because its session is here. ``kind``: what the request is."""

    node: str
    stream: str
    kind: str
    session: str


class StreamPiece(Envelope, frozen=True, tag="piece"):
    """A message of a stream, or a piece of one that ``continues``; ``binary``: the message is bytes, in base64."""

    stream: str
    data: str
    binary: bool = False
    continues: bool = False


class StreamEnd(Envelope, frozen=True, tag="end"):
    """A stream has ended; ``status`` is an HTTP status or a close code."""

    stream: str
    status: int
    reason: str = ""


AnyEnvelope = (
    BroadcastEnvelope
    | RoomEnvelope
    | PrivateEnvelope
    | Receipt
    | Heartbeat
    | Goodbye
    | Echo
    | Watch
    | Unwatch
    | Roster
    | RosterChanges
    | Disconnect
    | Remove
    | Drain
    | Question
    | Answer
    | StreamOpen
    | StreamPiece
    | StreamEnd
)


class UnreadableEnvelope(RealtimeError):
    """An envelope of a version or shape that this node does not know; ``room`` when that much could be read."""

    def __init__(self, reason: str, room: str | None) -> None:
        super().__init__(reason)
        self.room = room


_decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(AnyEnvelope)
_encoder = msgspec.json.Encoder()

encode = _encoder.encode
"""An envelope as JSON bytes."""


class _Outline(msgspec.Struct):
    v: int = 0
    type: str = ""
    room: str | None = None


_outline = msgspec.json.Decoder(_Outline)


def decode(text: bytes) -> AnyEnvelope:
    """The envelope in ``text``. Raises UnreadableEnvelope for a version, type or shape that this node does not know."""
    try:
        if not text.isascii():
            text.decode(
                "utf-8"
            )  # `data` is forwarded unread: a foreign publisher's broken bytes must not reach clients
        envelope: AnyEnvelope = _decoder.decode(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _unreadable(text, str(error)) from None
    if envelope.v not in READS:
        raise _unreadable(text, f"version {envelope.v}")
    return envelope


def common_version(reads: Iterable[Iterable[int]], own: Iterable[int]) -> int:
    """The highest version that every node reads, given what each announced; the lowest of ours when none is shared."""
    own = set(own)
    return max(own.intersection(*map(set, reads)), default=min(own))


def _unreadable(text: bytes, reason: str) -> UnreadableEnvelope:
    try:
        return UnreadableEnvelope(reason, _outline.decode(text).room)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return UnreadableEnvelope(reason, None)
