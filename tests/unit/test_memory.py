"""What this process holds in memory."""

from __future__ import annotations

import mmap

from realtime.memory import resident_bytes

CHUNK = 64 * 1024 * 1024


def test_memory_that_is_taken_is_seen() -> None:
    """Resident memory grows by what the process takes and touches, and falls when it is given back."""
    before = resident_bytes()
    with mmap.mmap(-1, CHUNK) as taken:  # new pages for certain; the allocator would give what earlier tests left
        taken.write(b"x" * CHUNK)
        held = resident_bytes()
    assert held - before > CHUNK // 2
    assert held - resident_bytes() > CHUNK // 2
