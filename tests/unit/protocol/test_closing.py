"""Close codes."""

from __future__ import annotations

from realtime.protocol.closing import CLOSE_CODES, REASON_MAX_BYTES, truncate_reason


def test_every_reason_fits_into_a_close_frame() -> None:
    """123 bytes."""
    assert all(len(each.reason.encode()) <= REASON_MAX_BYTES for each in CLOSE_CODES)


def test_a_long_reason_is_cut_between_characters() -> None:
    """Never inside one: clients would fail the connection for broken UTF-8."""
    cut = truncate_reason("é" * 100)
    assert cut.decode() == "é" * 61
