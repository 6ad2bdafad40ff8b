"""Close codes."""

from __future__ import annotations

import pytest

from realtime.protocol.closing import CLOSE_CODES, REASON_MAX_BYTES, BadClose, ordered_close, truncate_reason


def test_every_reason_fits_into_a_close_frame() -> None:
    """123 bytes."""
    assert all(len(each.reason.encode()) <= REASON_MAX_BYTES for each in CLOSE_CODES)


def test_a_long_reason_is_cut_between_characters() -> None:
    """Never inside one: clients would fail the connection for broken UTF-8."""
    cut = truncate_reason("é" * 100)
    assert cut.decode() == "é" * 61


@pytest.mark.parametrize("code", [1000, 1001, 1008, 1012, 1013, 3000, 4001, 4999])
def test_django_code_may_close_with_these_codes(code: int) -> None:
    """The code and the reason are sent as they are."""
    close = ordered_close(code, "é" * 61)
    assert (close.code, close.reason) == (code, "é" * 61)


@pytest.mark.parametrize("code", [-1, 0, 999, 1002, 1005, 1006, 1007, 1009, 1011, 1015, 2999, 5000])
def test_django_code_may_not_close_with_others(code: int) -> None:
    """Some are not for the wire, some say what did not happen."""
    with pytest.raises(BadClose):
        ordered_close(code, "")


@pytest.mark.parametrize("reason", ["é" * 62, "\ud800"])
def test_a_reason_that_no_close_frame_can_carry_is_refused(reason: str) -> None:
    """It is not cut: the client gets what was asked for."""
    with pytest.raises(BadClose):
        ordered_close(1008, reason)
