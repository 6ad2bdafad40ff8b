"""What is measured. Every scenario is a line of options for the load generator, and who takes part.

"A room of 1,000" has 1,000 members, one of which sends: a publication is 999 deliveries. A publication is complete when
all of them have it; "n in flight" keeps n incomplete at all times. Data is 38 bytes unless something else is said,
which makes 88 bytes of frame where the sender's id is short.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from benchmarks.peer import Pace, Peer

Options = Mapping[str, str | int | float]
DATA_BYTES = 38


class Kind(StrEnum):
    """Which columns of the table a scenario fills."""

    DELIVERY = "delivery"  # processor time per delivery, rate, latency
    LATENCY = "latency"  # latency only: too little happens to measure the processor
    STALLED = "stalled"  # delivery, and memory while some do not read
    CONNECT = "connect"  # processor time per connect
    MEMORY = "memory"  # memory per idle connection


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """One thing to measure; `smaller` replaces options for peers of that pace, None leaves them out."""

    name: str
    title: str
    options: Options
    kind: Kind = Kind.DELIVERY
    nodes: int = 1
    smaller: Mapping[Pace, Options | None] = field(default_factory=dict)
    is_quick: bool = False  # part of --quick
    rounds: int | None = None  # fewer than the others
    needs_rooms: bool = True
    with_token: bool = False  # clients of peers that know tokens authenticate before they join
    rate_share: float = 0.0  # open loop at this share of the C limit's own maximum

    @property
    def is_fresh(self) -> bool:
        """Memory is only comparable in a process that has done nothing yet."""
        return self.kind in (Kind.CONNECT, Kind.MEMORY, Kind.STALLED)

    def options_for(self, peer: Peer) -> Options | None:
        """The generator's options for this peer; None when it does not take part."""
        changes = self.smaller.get(peer.pace, {})
        if changes is None or (self.needs_rooms and not peer.has_rooms):
            return None
        if self.nodes > 1 and not peer.has_backplane:
            return None
        token = {"token": peer.token} if self.with_token and peer.token else {}
        return {"payload": DATA_BYTES, **self.options, **changes, **token}

    def note_for(self, peer: Peer) -> str:
        """What the table has to say about a peer that was given less."""
        changes = self.smaller.get(peer.pace) or {}
        words = {
            "size": "{:,} members",
            "burst": "{} at a time: its listen backlog of 50 loses more",
        }
        notes = [words[name].format(value) for name, value in changes.items() if name in words]
        if self.with_token and peer.token:
            notes.append("with a signed token")
        return ", ".join(notes)


SMALL_ROOM: Mapping[Pace, Options | None] = {Pace.STOCK: {"size": 300}}
NOT_THE_SLOW: Mapping[Pace, Options | None] = {Pace.STOCK: None, Pace.SLOW: None}

SCENARIOS = (
    Scenario(
        name="room-1",
        title="room of 1,000, 1 in flight",
        options={"size": 1000, "in_flight": 1},
        smaller=SMALL_ROOM,
        is_quick=True,
    ),
    Scenario(
        name="room-8",
        title="room of 1,000, 8 in flight",
        options={"size": 1000, "in_flight": 8},
        smaller=SMALL_ROOM,
        is_quick=True,
    ),
    Scenario(
        name="room-64",
        title="room of 1,000, 64 in flight",
        options={"size": 1000, "in_flight": 64},
        smaller={Pace.STOCK: {"size": 100}, Pace.SLOW: {"size": 300}},
        is_quick=True,
    ),
    Scenario(
        name="rooms-of-4",
        title="500 rooms of 4, 64 in flight",
        options={"rooms": 500, "size": 4, "in_flight": 64},
        is_quick=True,
    ),
    Scenario(
        name="one-member",
        title="one receiver, 64 in flight",
        options={"size": 2, "in_flight": 64},
        is_quick=True,
    ),
    Scenario(
        name="private",
        title="private between 200 pairs, 64 in flight",
        options={"pairs": 200, "in_flight": 64},
        is_quick=True,
    ),
    Scenario(
        name="three-nodes",
        title="1,000 members over 3 nodes, 1 in flight (CPU summed)",
        options={"size": 1000, "in_flight": 1},
        nodes=3,
        smaller={Pace.STOCK: {"size": 300}},
    ),
    Scenario(
        name="large",
        title="room of 1,000, 2 KB of data, 8 in flight",
        options={"size": 1000, "in_flight": 8, "payload": 2048},
        smaller=SMALL_ROOM,
    ),
    Scenario(
        name="steady",
        title="room of 250, 200 messages/s, open loop",
        options={"size": 250, "rate": 200},
        smaller={Pace.STOCK: {"size": 10}, Pace.SLOW: {"size": 50}},
    ),
    Scenario(
        name="half-limit",
        title="room of 1,000, open loop at half of the C limit's maximum",
        options={"size": 1000},
        smaller=NOT_THE_SLOW,
        rate_share=0.5,
    ),
    Scenario(
        name="all-read",
        title="room of 200, 16 KB, 200/s, everybody reads",
        options={"size": 200, "rate": 200, "payload": 16384, "warmup": 0, "seconds": 4, "settle": 0.5},
        kind=Kind.STALLED,
        smaller=NOT_THE_SLOW,
    ),
    Scenario(
        name="stalled",
        title="the same, 5 % never read",
        options={
            **{"size": 200, "rate": 200, "payload": 16384, "warmup": 0, "seconds": 4, "settle": 0.5},
            "stalled": 10,
        },
        kind=Kind.STALLED,
        smaller=NOT_THE_SLOW,
    ),
    Scenario(
        name="idle-latency",
        title="one receiver, 10 messages/s, open loop",
        options={"size": 2, "rate": 10, "seconds": 4},
        kind=Kind.LATENCY,
        is_quick=True,
    ),
    Scenario(
        name="connect",
        title="1,000 connect at once and join one room",
        options={"size": 1000, "burst": 1000, "connect_only": 1, "patience": 10},
        kind=Kind.CONNECT,
        with_token=True,
        smaller={Pace.STOCK: {"burst": 32}},
        needs_rooms=False,
        is_quick=True,
    ),
    Scenario(
        name="idle",
        title="10,000 idle, in one room",
        options={"size": 10000, "connect_only": 1, "patience": 10, "settle": 1},
        kind=Kind.MEMORY,
        smaller={Pace.STOCK: {"size": 2000}, Pace.SLOW: {"size": 2000}},
        rounds=1,
        needs_rooms=False,
    ),
)
