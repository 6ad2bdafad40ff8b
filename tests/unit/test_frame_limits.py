"""How many pings, pongs and fragments one WebSocket may send; the same count on every server."""

from __future__ import annotations

from typing import Any

import pytest

from realtime.conf import Settings
from realtime.server.frame_limits import FrameCount, FrameLimits


class Peer(FrameCount):
    """A protocol with the limits of these settings, at a time that stands still unless the test moves it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **settings: Any) -> None:
        self.frame_limits = FrameLimits.of(Settings(**settings))
        self.now = 1_000.0
        monkeypatch.setattr("realtime.server.frame_limits.time.monotonic", lambda: self.now)

    def controls(self, count: int) -> int:
        """How many of so many pings are within the limit."""
        return sum(self._may_control() for _ in range(count))

    def message(self, frames: int) -> bool:
        """Whether a message may have so many frames."""
        return all(self._may_continue(number) for number in range(1, frames + 1))


def test_pings_and_pongs_have_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """A burst at once, and then what comes back."""
    peer = Peer(monkeypatch, control_frames_per_second=10.0, control_frames_burst=30)
    assert peer.controls(50) == 30
    peer.now += 1.0
    assert peer.controls(50) == 10


def test_a_message_has_so_many_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    """And not one more, however full the bucket is."""
    peer = Peer(monkeypatch, fragments_max=100, fragments_burst=1_000)
    assert peer.message(100)
    assert not peer.message(101)


def test_messages_in_many_frames_have_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that stays below the limit of a message each time is bounded all the same; whole messages cost nothing."""
    peer = Peer(monkeypatch, fragments_max=100, fragments_per_second=10.0, fragments_burst=250)
    assert [peer.message(100) for _ in range(3)] == [True, True, False]
    assert all(peer.message(1) for _ in range(1_000))
    peer.now += 5.0
    assert peer.message(51)
    assert not peer.message(3)


def test_zero_means_off_but_for_the_frames_of_one_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """That one is always bounded."""
    peer = Peer(monkeypatch, fragments_max=100, fragments_per_second=0.0, control_frames_per_second=0.0)
    assert peer.controls(10_000) == 10_000
    assert all(peer.message(100) for _ in range(100))
    assert not peer.message(101)
