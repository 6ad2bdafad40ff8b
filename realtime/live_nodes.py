"""The table of live nodes, kept from heartbeats; decides who is dead. No I/O, no clock: callers say what time it is.

Nobody is judged while the judge's own echo is red, for one node timeout after it came back, or for one node timeout
after the judge's own loop stood still: silence would then be the judge's own deafness.

The judge looks five times in a heartbeat. So a node that was killed is taken for dead within NODE_TIMEOUT_SECONDS and
one look; its rows are closed with the next write, TRACKING_FLUSH_SECONDS later: 17.1 s by default.

The envelope's version follows the same rule: down at once with the first node that reads no other, up only while
everybody who lives must have been heard. A young node would otherwise speak to its elders in words that they do not
know, and be the last to notice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from realtime.protocol.envelope import READS, Heartbeat, common_version


@dataclass(slots=True)
class LiveNode:
    """Another node, as its last heartbeat described it.

    ``heard_at`` and ``known_since`` (its first heartbeat) are of the judge's clock, seconds.
    """

    heartbeat: Heartbeat
    heard_at: float
    known_since: float


STALL_SECONDS = 5.0
"""A loop that stood still for longer makes the node distrust its own judgement of others."""


def look_seconds(heartbeat_seconds: float) -> float:
    """How often to look who is silent."""
    return heartbeat_seconds / 5


def stall_seconds(heartbeat_seconds: float, timeout_seconds: float) -> float:
    """The gap between two looks from which the loop stood still.

    In a shorter one nobody's silence can have grown beyond the timeout: their last heartbeat may be one and a little
    older than the gap. But it is no stall when a look comes late.
    """
    look = look_seconds(heartbeat_seconds)
    return max(2 * look, min(look + STALL_SECONDS, timeout_seconds - 1.3 * heartbeat_seconds))


class LiveNodes:
    """Every other node that was heard lately."""

    def __init__(self, own_id: str, timeout_seconds: float, stall_seconds: float, reads: Sequence[int] = READS) -> None:
        self._own_id = own_id
        self._timeout = timeout_seconds
        self._stall = stall_seconds
        self._nodes: dict[str, LiveNode] = {}
        self._may_judge_from = float("inf")
        self._looked_at: float | None = None
        self._has_surveyed = False
        self._knows_everybody = False
        self._reads = reads
        self.envelope_version = min(reads)
        """What all live nodes read."""

    def __len__(self) -> int:
        return len(self._nodes)

    def __contains__(self, node_id: str) -> bool:
        return node_id == self._own_id or node_id in self._nodes

    def __iter__(self) -> Iterator[LiveNode]:
        return iter(self._nodes.values())

    @property
    def others(self) -> list[str]:
        """The ids of the other live nodes."""
        return list(self._nodes)

    def heard(self, heartbeat: Heartbeat, now: float) -> bool:
        """Another node spoke; True when it was not in the table."""
        known = self._nodes.get(heartbeat.node)
        self._nodes[heartbeat.node] = LiveNode(heartbeat, now, now if known is None else known.known_since)
        self._agree()
        return known is None

    def forgot_this(self, heartbeat: Heartbeat, now: float) -> bool:
        """Whether a node that has just been heard had taken this one for dead: it did not know who has long known it.

        Shorter than one timeout is no time to die in: then both have just become acquainted.
        """
        node = self._nodes.get(heartbeat.node)
        return heartbeat.is_answer and node is not None and now - node.known_since > self._timeout

    def forget(self, node_id: str) -> bool:
        """A node said goodbye, or is dead; True when it was in the table."""
        was_there = self._nodes.pop(node_id, None) is not None
        self._agree()
        return was_there

    def echo_lost(self) -> None:
        """The judge does not hear itself: nobody is judged until further notice."""
        self._may_judge_from = float("inf")
        self._agree(knows_everybody=False)

    def echo_back(self, now: float) -> None:
        """The judge hears itself again."""
        self._may_judge_from = now + self._timeout

    def silent(self, now: float) -> list[str]:
        """The nodes to be taken for dead at ``now``. Call at every look: gaps show when the loop stood still."""
        if self._looked_at is not None and now - self._looked_at > self._stall:
            self._may_judge_from = max(self._may_judge_from, now + self._timeout)
        self._looked_at = now
        may_judge = now >= self._may_judge_from
        if may_judge != self._knows_everybody:
            self._agree(knows_everybody=may_judge)
        if not may_judge:
            return []
        return [node_id for node_id, node in self._nodes.items() if now - node.heard_at > self._timeout]

    def may_survey(self, now: float) -> bool:
        """True once: when for the first time everybody who lives must have been heard. Call after ``silent``."""
        if self._has_surveyed or now < self._may_judge_from:
            return False
        self._has_surveyed = True
        return True

    def _agree(self, *, knows_everybody: bool | None = None) -> None:
        if knows_everybody is not None:
            self._knows_everybody = knows_everybody
        common = common_version((node.heartbeat.reads for node in self._nodes.values()), self._reads)
        self.envelope_version = common if self._knows_everybody else min(self._reads)
