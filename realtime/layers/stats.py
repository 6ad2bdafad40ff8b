"""What a layer counts, as plain attributes: whoever wants metrics reads them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Stats:
    """Counters since the layer was made, which only grow; and one measure."""

    publishes: int = 0  # messages handed over for publishing, taken or not
    received: int = 0  # messages that arrived
    reconnects: int = 0  # connections (or receive loops) that had to be made again
    dropped: int = 0  # messages that found no room, or could not be read
    missed: int = 0  # interruptions after which something may have been missed
    lag: int = 0  # messages that wait at the backplane for us to read them (Kafka), for whomever they are
