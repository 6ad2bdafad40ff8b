"""Whether this process should get clients, and why not. Touches neither the database nor the backplane."""

from __future__ import annotations

from dataclasses import dataclass

from msgspec import to_builtins

from realtime.runtime import current_node, runtime

REASONS = {
    "starting": "the node has not heard its own echo through the backplane yet",
    "interrupted": "the backplane is interrupted: the node does not hear its own echo",
    "draining": "the node drains: it takes no more clients",
    "stopped": "the node has stopped",
    "failed": "a task of the node failed: the process must be restarted, see its log",
}


@dataclass(frozen=True, slots=True)
class Readiness:
    """Whether a balancer should send clients here. ``reason`` is empty when it should."""

    is_ready: bool
    state: str
    reason: str
    node: str | None

    def as_json(self) -> dict[str, object]:
        """For a response."""
        return {"ready": self.is_ready, "state": self.state, "reason": self.reason, "node": self.node}


def readiness() -> Readiness:
    """Of this process, now."""
    node = current_node()
    if node is None:
        return Readiness(False, "no_node", "this process has no node (yet)", None)
    if node.is_ready:
        return Readiness(True, node.state, "", node.id)
    return Readiness(False, node.state, REASONS.get(node.state, node.state), node.id)


def detail() -> dict[str, object]:
    """What staff see: readiness, what the checks found last, and the figures behind it."""
    node = current_node()
    tracker = runtime().tracker
    figures: dict[str, object] = {"tracking": {"pending": tracker.pending, "lost": tracker.lost}}
    if node is not None:
        figures |= {
            "healthy": all(found.is_healthy for found in node.health),
            "checks": [to_builtins(found) for found in node.health],
            "connections": len(node.hub),
            "rooms": node.hub.room_count,
            "backplane": {"name": node.backplane.name, "up": node.trust.is_trusted},
            "nodes": [
                {"id": other.heartbeat.node, "address": other.heartbeat.address, "state": other.heartbeat.state}
                for other in node.nodes
            ],
        }
    return {**readiness().as_json(), **figures}
