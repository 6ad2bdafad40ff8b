"""Who is dead, and who may judge."""

from __future__ import annotations

import msgspec
import pytest

from realtime.conf import Settings
from realtime.live_nodes import LiveNodes, look_seconds, stall_seconds
from realtime.protocol.envelope import Heartbeat


def heartbeat(node: str, reads: list[int] | None = None) -> Heartbeat:
    return Heartbeat(
        v=1, node=node, address="", version="0", reads=reads or [1], started=0.0, state="ready", statistics={}
    )


def judge(reads: tuple[int, ...] = (1,)) -> LiveNodes:
    """A judge that may judge from time 15 on, and has looked at time 100."""
    nodes = LiveNodes("me", timeout_seconds=15, stall_seconds=10, reads=reads)
    nodes.echo_back(0)
    nodes.silent(100)
    return nodes


def test_a_node_is_dead_after_its_timeout() -> None:
    """Not at the moment of the timeout itself."""
    nodes = judge()
    assert nodes.heard(heartbeat("other"), 100)
    assert nodes.silent(105) == nodes.silent(110) == nodes.silent(115) == []
    assert nodes.silent(115.1) == ["other"]


def test_a_node_that_speaks_lives() -> None:
    """Only its first heartbeat is news."""
    nodes = judge()
    nodes.heard(heartbeat("other"), 100)
    assert not nodes.heard(heartbeat("other"), 108)
    nodes.silent(108)
    assert nodes.silent(116) == []


def test_nobody_is_judged_before_the_first_echo_and_while_it_is_lost() -> None:
    """Silence may be the judge's own deafness."""
    nodes = LiveNodes("me", timeout_seconds=15, stall_seconds=10)
    nodes.heard(heartbeat("other"), 0)
    assert nodes.silent(100) == []
    nodes.echo_back(100)
    nodes.silent(107)
    assert nodes.silent(114.9) == []
    assert nodes.silent(115) == ["other"]
    nodes.echo_lost()
    assert nodes.silent(116) == []


def test_nobody_is_judged_after_the_loop_stood_still() -> None:
    """For one timeout: a process that was stopped has heard nobody."""
    nodes = judge()
    nodes.heard(heartbeat("other"), 100)
    assert nodes.silent(120) == []
    nodes.silent(127)
    assert nodes.silent(134.9) == []
    assert nodes.silent(135) == ["other"]


def test_a_forgotten_node_is_news_again() -> None:
    """And the node itself is always alive."""
    nodes = judge()
    nodes.heard(heartbeat("other"), 100)
    assert "other" in nodes
    assert nodes.forget("other")
    assert not nodes.forget("other")
    assert "other" not in nodes
    assert "me" in nodes
    assert nodes.heard(heartbeat("other"), 101)


def test_the_envelope_version_is_what_all_live_nodes_read() -> None:
    """It falls with the first node that reads no other, and rises when the last of them is gone."""
    nodes = judge(reads=(1, 2))
    assert nodes.envelope_version == 2
    nodes.heard(heartbeat("new", [1, 2]), 100)
    assert nodes.envelope_version == 2
    nodes.heard(heartbeat("old", [1]), 100)
    assert nodes.envelope_version == 1
    nodes.forget("old")
    assert nodes.envelope_version == 2


def test_who_may_not_know_everybody_speaks_as_the_oldest() -> None:
    """At first, while it is deaf, and after its loop stood still: somebody may live who was not heard."""
    nodes = LiveNodes("me", timeout_seconds=15, stall_seconds=10, reads=(1, 2))
    nodes.echo_back(0)
    nodes.heard(heartbeat("new", [1, 2]), 1)
    nodes.silent(7)
    nodes.silent(14.9)
    assert nodes.envelope_version == 1
    nodes.silent(15)
    assert nodes.envelope_version == 2
    nodes.echo_lost()
    assert nodes.envelope_version == 1
    nodes.echo_back(20)
    nodes.silent(24)
    nodes.silent(34)
    nodes.silent(35)
    assert nodes.envelope_version == 2
    nodes.silent(46)
    assert nodes.envelope_version == 1


def test_a_killed_node_is_buried_within_twenty_seconds() -> None:
    """With the default settings, at the most unfavourable moment: its last heartbeat came just before its end, a look
    just before its timeout, and a write just before the look."""
    settings = Settings()
    look = look_seconds(settings.heartbeat_seconds) * 1.1
    assert settings.node_timeout_seconds + look + settings.tracking_flush_seconds < 18


@pytest.mark.parametrize(("heartbeat_seconds", "timeout"), [(5, 15), (0.4, 2), (1, 5), (0.5, 1.5), (5, 10), (1, 600)])
def test_in_a_gap_that_is_no_stall_nobody_dies_of_the_judges_own_silence(
    heartbeat_seconds: float, timeout: float
) -> None:
    """The judge stands still right after a look, when the other's next heartbeat is about to come; awake it looks
    before it listens."""
    gap = stall_seconds(heartbeat_seconds, timeout)
    assert gap > 1.1 * look_seconds(heartbeat_seconds)  # a look in time is no stall
    nodes = LiveNodes("me", timeout, gap)
    nodes.echo_back(0)
    nodes.silent(1000)
    nodes.heard(heartbeat("other"), 1000 - 1.1 * heartbeat_seconds)
    assert nodes.silent(1000 + gap) == []


def test_a_node_that_did_not_know_who_has_long_known_it_had_taken_it_for_dead() -> None:
    """An answer to a first acquaintance is none, nor is a heartbeat to all."""
    nodes = judge()
    answer = msgspec.structs.replace(heartbeat("other"), is_answer=True)
    nodes.heard(heartbeat("other"), 100)
    nodes.heard(answer, 115)
    assert not nodes.forgot_this(answer, 115)
    nodes.heard(answer, 115.1)
    assert nodes.forgot_this(answer, 115.1)
    assert not nodes.forgot_this(heartbeat("other"), 115.1)
    assert not nodes.forgot_this(msgspec.structs.replace(heartbeat("nobody"), is_answer=True), 115.1)


def test_the_survey_comes_once_and_when_everybody_must_have_been_heard() -> None:
    """One timeout after the first echo; an echo that is lost meanwhile puts it off."""
    nodes = LiveNodes("me", timeout_seconds=15, stall_seconds=6)
    assert not nodes.may_survey(0)
    nodes.echo_back(1)
    assert not nodes.may_survey(15.9)
    nodes.echo_lost()
    assert not nodes.may_survey(20)
    nodes.echo_back(21)
    assert not nodes.may_survey(35.9)
    assert nodes.may_survey(36)
    assert not nodes.may_survey(37)
