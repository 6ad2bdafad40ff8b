"""Whether the node hears itself: what it publishes to itself must come back, on every shard of the backplane."""

from __future__ import annotations


class EchoProbe:
    """One round of probes at a time. No I/O: the node publishes the probes and reports what came back."""

    def __init__(self, shards: int) -> None:
        self._shards = shards
        self._missing: set[int] = set()
        self.nonce = 0

    def begin(self) -> int:
        """Start a new round; returns the number that every shard must echo."""
        self.nonce += 1
        self._missing = set(range(self._shards))
        return self.nonce

    def heard(self, shard: int, nonce: int) -> bool:
        """An echo arrived; True when it completes the round. Echoes of earlier rounds prove nothing."""
        if nonce != self.nonce or shard not in self._missing:
            return False
        self._missing.discard(shard)
        return not self._missing

    @property
    def missing(self) -> frozenset[int]:
        """The shards whose echo has not come back in this round."""
        return frozenset(self._missing)
