"""What this process holds in memory."""

from __future__ import annotations

from realtime.memory import resident_bytes

CHUNK = 64 * 1024 * 1024


def test_memory_that_is_taken_is_seen() -> None:
    """Resident memory grows by what the process takes and touches."""
    before = resident_bytes()
    taken = bytearray(b"x") * CHUNK
    assert resident_bytes() - before > CHUNK // 2
    assert len(taken) == CHUNK
