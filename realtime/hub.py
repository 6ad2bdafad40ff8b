"""The hub: which connections this node has, who they are, and which rooms they are in. Plain dicts, no I/O."""

from __future__ import annotations

from realtime.identity import ANONYMOUS
from realtime.protocol.closing import CloseCode
from realtime.protocol.envelope import ConnectionInfo
from realtime.protocol.frames import FrameBatch
from realtime.protocol.messages import MemberInfo
from realtime.protocol.names import group_of_room
from realtime.rates import Source
from realtime.server.writer import FrameWriter


class Member:
    """A connection as the hub sees it. ``user`` is None while it is anonymous."""

    __slots__ = ("account", "id", "identity", "is_admitted", "last_active", "rooms", "user", "writer")

    def __init__(self, connection_id: str, user: str | None, writer: FrameWriter) -> None:
        self.id = connection_id
        self.user = user
        self.writer = writer
        self.rooms: dict[str, Room] = {}
        self.identity = ANONYMOUS
        """What its credential said."""
        self.is_admitted = True
        """False while it must say who it is: nothing is delivered to it, and nothing else is done for it."""
        self.account: Source | None = None
        """What all connections of the user have spent."""
        self.last_active = 0.0
        """When the client last sent something; the monotonic clock, seconds."""

    def evict(self, close: CloseCode) -> None:
        """The server ends this connection."""
        self.writer.close(close)

    def notify(self, batch: FrameBatch) -> None:
        """Push something that concerns this member and some others."""
        self.writer.write(batch)

    def session_moved(self, tag: str) -> None:
        """The Django session that it came with goes on under another key."""

    @property
    def is_listening(self) -> bool:
        """Whether broadcasts and private messages are for it from the beginning."""
        return True

    @property
    def info(self) -> MemberInfo:
        """What other members are told."""
        return MemberInfo(id=self.id, user=self.user)

    def listed(self, node_id: str, now: float) -> ConnectionInfo:
        """What operators are told; ``now`` is the monotonic clock."""
        return ConnectionInfo(
            id=self.id, node=node_id, user=self.user, rooms=len(self.rooms), backlog=self.writer.backlog
        )


class Room:
    """The local members of one room. ``group`` is the Channels group that carries it.

    ``writers`` are those of the members, by connection id: all that a delivery needs.
    """

    __slots__ = ("group", "members", "name", "writers")

    def __init__(self, name: str) -> None:
        self.name = name
        self.group = group_of_room(name)
        self.members: dict[str, Member] = {}
        self.writers: dict[str, FrameWriter] = {}


class Hub:
    """Connections by id, rooms by name, connections by user.

    Invariants: a room exists while it has a local member; ``member.rooms``, ``room.members`` and ``room.writers``
    agree; ``writers`` are those of ``connections`` that hear broadcasts; only connections in the hub are in rooms.
    """

    def __init__(self) -> None:
        self.connections: dict[str, Member] = {}
        self.writers: dict[str, FrameWriter] = {}
        self.rooms: dict[str, Room] = {}
        self.users: dict[str, dict[str, Member]] = {}

    def __len__(self) -> int:
        return len(self.connections)

    @property
    def room_count(self) -> int:
        """Rooms with a local member."""
        return len(self.rooms)

    def add(self, member: Member) -> None:
        """A connection is there."""
        self.connections[member.id] = member
        if member.is_listening:
            self.writers[member.id] = member.writer
        if member.user is not None:
            self.users.setdefault(member.user, {})[member.id] = member

    def listen(self, member: Member) -> None:
        """Broadcasts and private messages are for this connection from now on."""
        if member.id in self.connections:
            self.writers[member.id] = member.writer

    def deafen(self, member: Member) -> None:
        """They are so no longer."""
        self.writers.pop(member.id, None)

    def identify(self, member: Member, user: str) -> None:
        """An anonymous connection turns out to be a user's."""
        member.user = user
        self.users.setdefault(user, {})[member.id] = member

    def remove(self, member: Member) -> None:
        """A connection is gone; it must have left its rooms. Safe to call twice."""
        self.writers.pop(member.id, None)
        if self.connections.pop(member.id, None) is None or member.user is None:
            return
        of_user = self.users.get(member.user, {})
        of_user.pop(member.id, None)
        if not of_user:
            self.users.pop(member.user, None)

    def join(self, member: Member, name: str) -> Room:
        """Put a connection into a room; joining twice changes nothing."""
        room = self.rooms.get(name)
        if room is None:
            room = self.rooms[name] = Room(name)
        room.members[member.id] = member
        room.writers[member.id] = member.writer
        member.rooms[name] = room
        return room

    def leave(self, member: Member, name: str) -> Room | None:
        """Take a connection out of a room; None when it was not in it."""
        room = member.rooms.pop(name, None)
        if room is None:
            return None
        room.members.pop(member.id, None)
        room.writers.pop(member.id, None)
        if not room.members:
            del self.rooms[name]
        return room
