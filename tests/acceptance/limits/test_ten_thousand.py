"""10,000 connections: opened, evicted, drained, with the figures of time and memory."""

from __future__ import annotations

import sqlite3
import time

import pytest

from tests.acceptance.engine.memory import cpu_seconds, resident_bytes
from tests.acceptance.limits.conftest import StartNodes, counted
from tests.acceptance.limits.fleet import Fleet
from tests.acceptance.nodes import assert_no_traceback, metric
from tests.support.cluster import DaphneNode

pytestmark = pytest.mark.slow

FULL = 10_000
TENTH = FULL // 10
NEWCOMERS = 100
MIB = 1024 * 1024
OVERLOADED, RESTART = "1001 Server overloaded", "1012 Service restart"


def figures(node: DaphneNode, what: str, began: float, used: float) -> None:
    """Print what something cost that has just ended."""
    seconds, cpu = time.monotonic() - began, cpu_seconds(node.pid) - used
    print(f"{what}: {seconds:.1f} s, {cpu:.1f} s of CPU, {resident_bytes(node.pid) / MIB:.0f} MiB resident")


@pytest.mark.parametrize("server", ["daphne", "uvicorn"])
def test_ten_thousand_connections(server: str, start_nodes: StartNodes) -> None:
    """The default limit is reached; the next client makes the longest inactive tenth go, and nobody is refused; a drain
    closes all of them with 1012 within its deadline; each row is closed once."""
    cluster = start_nodes(server, EVICT_INACTIVE_SECONDS=0, ADDRESS_CONNECTIONS_MAX=0)  # they come from one
    node = cluster.nodes[0]
    print(f"\n{server}, empty: {resident_bytes(node.pid) / MIB:.0f} MiB resident")
    with Fleet(node.port) as fleet:
        began, used = time.monotonic(), cpu_seconds(node.pid)
        opened = fleet.open(FULL)
        assert (opened["welcomed"], opened["refused"]) == (FULL, 0)
        assert metric(node, "websocket_connected_clients") == FULL
        figures(node, f"{FULL} opened", began, used)

        began, used = time.monotonic(), cpu_seconds(node.pid)
        opened = fleet.open(NEWCOMERS)
        assert (opened["welcomed"], opened["refused"]) == (NEWCOMERS, 0)
        node.wait_until(lambda: fleet.closes.get(OVERLOADED) == TENTH, "rid of a tenth", 30)
        figures(node, f"{NEWCOMERS} more in {opened['seconds']:.2f} s, {TENTH} evicted", began, used)
        assert counted(node, "realtime_connections_evicted_total", reason="overloaded") == TENTH
        assert metric(node, "websocket_connected_clients") == FULL - TENTH + NEWCOMERS
        fleet.open(TENTH - NEWCOMERS)

        began = time.monotonic()
        assert node.stop(35) in (0, 143)  # uvicorn's after SIGTERM
        print(f"{FULL} drained in {time.monotonic() - began:.1f} s")
        assert fleet.closes == {OVERLOADED: TENTH, RESTART: FULL}
    with sqlite3.connect(cluster.database) as database:
        rows = "SELECT close_code, count(*) FROM realtime_connection GROUP BY close_code ORDER BY close_code"
        assert database.execute(rows).fetchall() == [(1001, TENTH), (1012, FULL)]
    database.close()
    assert_no_traceback(cluster)
