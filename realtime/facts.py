"""What a node tells about itself and its connections, and the rows that wait to be written. No I/O, no clock.

Moments are seconds since the epoch, as ``time.time()`` gives them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice

from realtime.protocol.envelope import Health


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionFacts:
    """A connection as it was accepted. ``user``: the key of a user as text, if the credential named one."""

    id: str
    node: str
    transport: str
    connected: float
    user: str | None = None
    user_label: str = ""
    remote_address: str = ""
    user_agent: str = ""
    path: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionEnd:
    """How a connection ended, and what it had carried."""

    code: int
    reason: str
    at: float
    last_seen: float
    messages_in: int = 0
    messages_out: int = 0
    bytes_in: int = 0
    bytes_out: int = 0
    rooms: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionProgress:
    """What a live connection has carried so far."""

    last_seen: float
    messages_in: int
    messages_out: int
    bytes_in: int
    bytes_out: int
    rooms: int


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectionUser:
    """Who a connection turned out to be after it was accepted; as in ``ConnectionFacts``."""

    user: str | None
    user_label: str


@dataclass(frozen=True, kw_only=True, slots=True)
class NodeFacts:
    """The own node at one heartbeat."""

    id: str
    address: str
    version: str
    started: float
    last_heartbeat: float
    state: str
    statistics: Mapping[str, float] = field(default_factory=dict)
    health: Sequence[Health] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """Which other nodes were heard over a span in which every live one would have been; ``since`` is its beginning."""

    heard: frozenset[str]
    since: float


@dataclass(kw_only=True, slots=True)  # never changed; a frozen one takes longer to make
class ConnectionRow:
    """What is to be written of one connection: that it is there, what it did, how it ended.

    ``is_reopened``: it lives, and its row may have been closed by a node that took this one for dead.
    """

    opened: ConnectionFacts | None = None
    user: ConnectionUser | None = None
    progress: ConnectionProgress | None = None
    is_reopened: bool = False
    ended: ConnectionEnd | None = None

    def then(self, later: ConnectionRow) -> ConnectionRow:
        """This row and a later one of the same connection as one."""
        if later.opened is not None:
            return later
        opened, user = self.opened, later.user or self.user
        if opened is not None and user is not None:
            opened, user = replace(opened, user=user.user, user_label=user.user_label), None
        ended = later.ended or self.ended
        return ConnectionRow(
            opened=opened,
            user=user,
            progress=later.progress or self.progress if ended is None else None,
            is_reopened=(later.is_reopened or self.is_reopened) and ended is None and opened is None,
            ended=ended,
        )


@dataclass(slots=True)
class PendingRows:
    """Rows that wait for the database. At most one for each connection and node: what happened later wins."""

    connections: dict[str, ConnectionRow] = field(default_factory=dict)
    nodes: dict[str, NodeFacts] = field(default_factory=dict)
    deaths: dict[str, float] = field(default_factory=dict)
    surveys: dict[str, Survey] = field(default_factory=dict)
    """By the node that made it: the latest of each."""

    def __len__(self) -> int:
        return len(self.connections) + len(self.nodes) + len(self.deaths) + len(self.surveys)

    def add(self, connection_id: str, row: ConnectionRow) -> None:
        """Something happened to a connection."""
        earlier = self.connections.get(connection_id)
        self.connections[connection_id] = row if earlier is None else earlier.then(row)

    def absorb(self, later: PendingRows) -> None:
        """Take over rows that came after these."""
        for connection_id, row in later.connections.items():
            self.add(connection_id, row)
        self.nodes.update(later.nodes)
        self.deaths.update(later.deaths)
        self.surveys.update(later.surveys)

    def take(self, limit: int) -> PendingRows:
        """The oldest ``limit`` connections, or all that there is: nodes go last, after their connections."""
        if len(self.connections) <= limit:
            taken = PendingRows(self.connections, self.nodes, self.deaths, self.surveys)
            self.connections, self.nodes, self.deaths, self.surveys = {}, {}, {}, {}
            return taken
        taken = PendingRows({key: self.connections[key] for key in islice(self.connections, limit)})
        for key in taken.connections:
            del self.connections[key]
        return taken

    def halves(self) -> tuple[PendingRows, PendingRows]:
        """These rows in two parts, each smaller than the whole when there is more than one."""
        first, second = PendingRows(), PendingRows()
        half = len(self) // 2
        for name in ("connections", "nodes", "deaths", "surveys"):
            for key, row in getattr(self, name).items():
                getattr(first if len(first) < half else second, name)[key] = row
        return first, second


class NullTracker:
    """What a node calls; records nothing. The calls come from the loop and, ``stop`` apart, never wait."""

    @property
    def pending(self) -> int:
        """Rows that wait for the database."""
        return 0

    @property
    def lost(self) -> int:
        """Rows that were given up since the start."""
        return 0

    async def start(self) -> None:
        """Begin to write."""

    async def stop(self, within_seconds: float = 5.0) -> None:
        """Write what waits and end, giving up what is not written by then."""

    @property
    def is_behind(self) -> bool:
        """Whether the database does not take rows at the moment; what can wait should wait then."""
        return False

    def connection_opened(self, facts: ConnectionFacts) -> None:
        """A connection was accepted."""

    def connection_identified(self, connection_id: str, user: str | None, label: str) -> None:
        """A connection turned out to be a user's."""

    def connection_progressed(self, connection_id: str, progress: ConnectionProgress) -> bool:
        """A live connection did something since this was last said. False when there is no room: say it again later."""
        return True

    def connection_lives(self, connection_id: str) -> None:
        """A connection whose row may have been closed by mistake still lives."""

    def connection_closed(
        self,
        connection_id: str,
        *,
        code: int,
        reason: str,
        at: float,
        last_seen: float,
        messages_in: int = 0,
        messages_out: int = 0,
        bytes_in: int = 0,
        bytes_out: int = 0,
        rooms: int = 0,
    ) -> None:
        """A connection ended."""

    def node_seen(self, facts: NodeFacts) -> None:
        """The own node's heartbeat, or its change of state."""

    def node_died(self, node_id: str, at: float | None = None) -> None:
        """Another node was taken for dead, ``at`` that moment or now."""

    def nodes_surveyed(self, own_id: str, heard: Iterable[str], since: float) -> None:
        """Nodes other than ``heard`` said nothing since ``since``, when this node could hear everybody."""
