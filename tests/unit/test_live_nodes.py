"""Who is dead, and who may judge."""

from __future__ import annotations

from realtime.live_nodes import LiveNodes
from realtime.protocol.envelope import Heartbeat


def heartbeat(node: str, reads: list[int] | None = None) -> Heartbeat:
    return Heartbeat(
        v=1, node=node, address="", version="0", reads=reads or [1], started=0.0, state="ready", statistics={}
    )


def judge() -> LiveNodes:
    """A judge that may judge from time 15 on, and has looked at time 100."""
    nodes = LiveNodes("me", timeout_seconds=15, stall_seconds=10)
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
    """It returns when the last old node is gone."""
    nodes = judge()
    nodes.heard(heartbeat("old", [1]), 100)
    nodes.heard(heartbeat("new", [1, 2]), 100)
    assert nodes.envelope_version == 1
