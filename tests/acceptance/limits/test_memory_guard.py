"""A node over its memory: it says so, closes some who are silent, and does not empty itself."""

from __future__ import annotations

import re

import pytest

from tests.acceptance.limits.conftest import NewPeer, StartNodes, counted
from tests.acceptance.nodes import assert_no_traceback, metric

MIB = 1024 * 1024
CLIENTS = 40
OVERLOADED = (1001, "Server overloaded")
FIGURES = r"node=\S+ connections=(\d+) resident_bytes=(\d+) max_bytes=(\d+)"


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
def test_a_node_over_its_memory(server: str, start_nodes: StartNodes, new_peer: NewPeer) -> None:
    """At most four of forty silent clients are closed at a look, 1001 "Server overloaded". Python holds the memory: the
    node finds that it frees nothing, says so once, and keeps the others; who is active is never closed."""
    settings = {"MEMORY_MAX_BYTES": 16 * MIB, "MEMORY_CHECK_SECONDS": 0.7, "EVICT_INACTIVE_SECONDS": 2}
    cluster = start_nodes(server, **settings)
    node = cluster.nodes[0]
    silent = [new_peer(node) for _ in range(CLIENTS)]
    active = new_peer(node)

    def has_stopped() -> bool:
        active.do("ping")
        return "memory_evictions_stopped" in node.log

    node.wait_until(has_stopped, "done with evictions")
    node.wait_until(lambda: node.log.rindex("memory_over") > node.log.rindex("evictions_stopped"), "still watching")
    closed = int(counted(node, "realtime_connections_evicted_total", reason="memory"))
    assert 0 < closed <= CLIENTS // 2, "the guard empties the node"
    for peer in silent[:closed]:
        assert peer.closed() == OVERLOADED
    for peer in (active, *silent[closed:]):
        peer.do("ping")
    assert node.log.count("memory_evictions_stopped") == 1
    assert metric(node, "realtime_memory_over") == 1
    warnings = re.findall(
        rf"WARNING \S+ realtime\.occupancy memory_over {FIGURES} freed_bytes=-?\d+ \S+ closing=(\d+)", node.log
    )
    assert sum(int(closing) for *_, closing in warnings) == closed
    assert max(int(closing) for *_, closing in warnings) <= CLIENTS // 10
    assert all(int(resident) > int(limit) == 16 * MIB for _, resident, limit, _ in warnings)
    assert_no_traceback(cluster)


def test_a_node_with_enough_memory(start_nodes: StartNodes, new_peer: NewPeer) -> None:
    """One line at each look with the connections and the memory; nobody is closed."""
    cluster = start_nodes("daphne", MEMORY_CHECK_SECONDS=0.5, EVICT_INACTIVE_SECONDS=0)
    node = cluster.nodes[0]
    peers = [new_peer(node) for _ in range(3)]
    looks = rf"INFO    \S+ realtime\.occupancy memory {FIGURES}"
    seen = len(re.findall(looks, node.log))
    node.wait_until(lambda: len(re.findall(looks, node.log)) >= seen + 3, "looking at its memory")
    connections, resident, limit = map(int, re.findall(looks, node.log)[-1])
    assert connections == 3
    assert 10 * MIB < resident < limit == 512 * MIB
    assert "memory_over" not in node.log
    assert metric(node, "realtime_memory_over") == 0
    for peer in peers:
        peer.do("ping")
