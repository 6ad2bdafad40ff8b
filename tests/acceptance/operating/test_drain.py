"""A node is told to stop from outside: `manage.py drain`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sqlite3

from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import acquainted, assert_no_traceback, eventually
from tests.conftest import StartCluster
from tests.support.cluster import Cluster, http_status, run_manage

RESTART = (1012, "Service restart")


def rows(cluster: Cluster, sql: str, *parameters: object) -> list[tuple[object, ...]]:
    """What the cluster's database says."""
    with contextlib.closing(sqlite3.connect(cluster.database)) as database:
        return database.execute(sql, parameters).fetchall()


async def test_a_node_drains_when_it_is_told_to(start_cluster: StartCluster, connect: Connect) -> None:
    """As on SIGTERM: every client gets 1012, its row says so, the process ends with 0, and the other node stays."""
    cluster = start_cluster(nodes=2)
    await acquainted(cluster)
    leaving, staying = cluster.nodes
    clients = await asyncio.gather(*(connect(leaving.url) for _ in range(20)))
    other = await connect(staying.url)
    node_id = clients[0].node
    assert await asyncio.to_thread(cluster.manage, "drain", node_id, "--within", "8") == f"{node_id} drains.\n"
    assert {await client.closed() for client in clients} == {RESTART}
    assert await asyncio.to_thread(leaving.wait, 20) == 0
    closed = rows(cluster, "SELECT close_code, close_reason FROM realtime_connection WHERE node = ?", node_id)
    assert closed == [RESTART] * 20
    assert rows(cluster, "SELECT state FROM realtime_node WHERE id = ?", node_id) == [("stopped",)]
    assert await other.is_alive()
    again = await asyncio.to_thread(run_manage, cluster.environment, "drain", node_id)
    assert (again.returncode, again.stderr) == (1, f"CommandError: {node_id}: no such node\n")
    assert_no_traceback(cluster)


async def test_a_second_order_is_no_second_signal(start_cluster: StartCluster, connect: Connect) -> None:
    """While the node waits for its balancer it is unready, serves who is there, and refuses to be told again; a signal
    then ends it at once, as a second one does."""
    environment = {"REALTIME_DRAIN_WAIT_SECONDS": "60", "REALTIME_DRAIN_DEADLINE_SECONDS": "120"}
    cluster = start_cluster(nodes=1, environment=environment)
    node = cluster.nodes[0]
    client = await connect(node.url)
    await asyncio.to_thread(cluster.manage, "drain", client.node, "--within", "8")
    await eventually(lambda: http_status(node.port, "/health/ready") == 503, "readiness is red")
    again = await asyncio.to_thread(run_manage, cluster.environment, "drain", client.node, "--json", "--within", "8")
    assert again.returncode == 1
    assert "drain" in again.stderr
    assert '"count":0' in again.stdout
    assert await client.is_alive()
    os.kill(node.pid, signal.SIGTERM)
    assert await asyncio.to_thread(node.wait, 10) == 128 + signal.SIGTERM
