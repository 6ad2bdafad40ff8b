"""What one WebSocket may send besides whole messages: pings, pongs, and messages in many frames.

Each frame costs the server the same, whether it carries anything or not, and answers to pings go out again. Whole
messages are counted where they are handled.
"""

from __future__ import annotations

import time
from typing import Self

from realtime.conf import Settings
from realtime.rates import Rate

CONTROL_FRAMES = "control_frames"
FRAGMENTS = "fragments"

HELD_BYTES = 8_192
"""A client of whom more waits for its next turn is not read until that has come."""
CLOSING_MAX_BYTES = 16_384
"""What is still parsed of a client that was closed for its misuse, to find its answer; it may go on for long."""
DEAF_MAX_BYTES = 16 * 1024 * 1024
"""What is read and thrown away after that, so that the client sees the close frame; beyond it nothing is read."""


class FrameLimits:
    """The limits of all WebSockets of a server."""

    __slots__ = ("control_frames", "fragments", "fragments_max")

    def __init__(self, fragments_max: int, fragments: Rate, control_frames: Rate) -> None:
        self.fragments_max = fragments_max
        self.fragments = fragments
        self.control_frames = control_frames

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Those of the settings."""
        return cls(
            settings.fragments_max,
            Rate(settings.fragments_per_second, settings.fragments_burst),
            Rate(settings.control_frames_per_second, settings.control_frames_burst),
        )


NO_LIMITS = FrameLimits(1_024, Rate(0, 1), Rate(0, 1))
"""Before the settings are known."""


class FrameCount:
    """A part of a protocol: what its peer has sent of such frames. The attributes of a quiet one are its class's."""

    frame_limits = NO_LIMITS
    _frames = 0  # that were counted here
    _control_full_at = 0.0
    _fragments_full_at = 0.0

    def _may_control(self) -> bool:
        """Whether one more ping or pong is within the limit."""
        self._frames += 1
        now = time.monotonic()
        rate = self.frame_limits.control_frames
        if rate.wait(self._control_full_at, now):
            return False
        if rate.interval:
            self._control_full_at = rate.take(self._control_full_at, now)
        return True

    def _may_continue(self, number: int) -> bool:
        """Whether a message may have frame ``number``, the first of which is 1."""
        self._frames += 1
        limits = self.frame_limits
        if number > limits.fragments_max:
            return False
        if number == 1 or not limits.fragments.interval:
            return True
        now = time.monotonic()
        if limits.fragments.wait(self._fragments_full_at, now):
            return False
        self._fragments_full_at = limits.fragments.take(self._fragments_full_at, now)
        return True
