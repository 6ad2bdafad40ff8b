"""What the tests end with, which run in two parts."""

from __future__ import annotations

import pytest

from devtools.suite import NO_TESTS, end_of


@pytest.mark.parametrize(
    ("parts", "end"),
    [
        ((0, 0), 0),
        ((1, 0), 1),
        ((0, 2), 2),
        ((1, 2), 1),
        ((0, NO_TESTS), 0),
        ((NO_TESTS, 0), 0),
        ((NO_TESTS, 1), 1),
        ((-9, 0), -9),
        ((NO_TESTS, NO_TESTS), NO_TESTS),
    ],
)
def test_a_run_in_parts_fails_with_its_first_part_that_fails(parts: tuple[int, int], end: int) -> None:
    """A part without tests is no failure while the other one has some."""
    assert end_of(*parts) == end
