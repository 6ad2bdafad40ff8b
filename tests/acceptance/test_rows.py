"""What the database says of connections while they live."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3

from realtime.auth import issue_token
from tests.acceptance.conftest import Connect
from tests.acceptance.crash.rows import FAST, LIVE, connection_rows, ends, node_states
from tests.acceptance.crash.test_killed import SLOW_SECONDS
from tests.acceptance.nodes import assert_no_traceback, eventually, metric
from tests.conftest import StartCluster

CLIENTS = 200


async def test_rows_of_live_connections_are_kept_fresh(start_cluster: StartCluster, connect: Connect) -> None:
    """While they live: what they sent, their rooms, and who they say they are, without any message being counted for
    it."""
    cluster = start_cluster(nodes=1, environment=FAST)
    client = await (await connect(cluster.nodes[0].url)).join("one", "two")
    await client.do("authenticate", token=issue_token("42"))

    def is_fresh() -> bool:
        row = connection_rows(cluster).get(client.id)
        return row is not None and (row.is_live, row.user, row.messages_in, row.rooms) == (True, "42", 3, 2)

    await eventually(is_fresh, "the row is fresh", SLOW_SECONDS)
    await client.do("leave", room="two")

    def has_left() -> bool:
        row = connection_rows(cluster)[client.id]
        return (row.is_live, row.messages_in, row.rooms) == (True, 4, 1)

    await eventually(has_left, "the row is fresh again", SLOW_SECONDS)


async def test_a_database_that_takes_nothing_delays_nobody(start_cluster: StartCluster, connect: Connect) -> None:
    """While another program holds the database clients connect, join and talk as ever; then all of them are in it, and
    none was lost."""
    cluster = start_cluster(nodes=1, environment=FAST)
    node = cluster.nodes[0]
    with contextlib.closing(sqlite3.connect(cluster.database, isolation_level=None)) as locker:
        locker.execute("BEGIN IMMEDIATE")
        clients = [await (await connect(node.url)).join("room") for _ in range(CLIENTS)]
        await clients[0].do("room", room="room", data="hello")
        for client in clients[1:]:
            await client.expect("room", data="hello")
        assert connection_rows(cluster) == {}
        assert metric(node, "realtime_tracking_pending_rows") >= CLIENTS
        locker.execute("ROLLBACK")
    await eventually(lambda: ends(cluster, clients) == {LIVE}, "the rows are there", 2 * SLOW_SECONDS)
    assert metric(node, "realtime_tracking_lost_rows_total") == 0
    assert_no_traceback(cluster)


async def test_where_a_client_comes_from_is_in_its_row(start_cluster: StartCluster, connect: Connect) -> None:
    """The address that the trusted balancer saw, not what the client says of itself; its program, and the path."""
    production = {"DJANGO_DEBUG": "0", "DJANGO_SECRET_KEY": "x" * 50, "DJANGO_ALLOWED_HOSTS": "127.0.0.1"}
    cluster = start_cluster(nodes=1, environment={**FAST, **production})
    headers = {"X-Forwarded-For": "198.51.100.7, 203.0.113.9"}
    client = await connect(cluster.nodes[0].url, additional_headers=headers, user_agent_header="tests/1")
    await eventually(lambda: client.id in connection_rows(cluster), "the row is there", SLOW_SECONDS)
    with contextlib.closing(sqlite3.connect(cluster.database, timeout=10)) as database:
        row = database.execute("SELECT remote_address, user_agent, path, transport FROM realtime_connection").fetchone()
    assert row == ("203.0.113.9", "tests/1", "/ws/", "websocket")


async def test_cleanup_beside_a_node_at_work(start_cluster: StartCluster, connect: Connect) -> None:
    """Twice at once, while clients come and go: rows of those that went are removed once, those of clients that are
    there stay and are kept fresh, and the node loses none."""
    cluster = start_cluster(nodes=1, environment=FAST)
    node = cluster.nodes[0]
    gone = [await connect(node.url) for _ in range(30)]
    stay = [await connect(node.url) for _ in range(30)]
    for client in gone:
        await client.close()
    await eventually(lambda: not {LIVE} & ends(cluster, gone), "the ends are there", SLOW_SECONDS)
    cleanups = [asyncio.create_task(asyncio.to_thread(cluster.manage, "cleanup", "--older-than=0m")) for _ in range(2)]
    while not all(each.done() for each in cleanups):
        passer_by = await connect(node.url)
        await passer_by.close()
    for each in cleanups:
        assert "nodes taken for dead             0\nconnections closed               0\n" in each.result()
    await stay[0].join("room")
    await eventually(lambda: connection_rows(cluster)[stay[0].id].rooms == 1, "a row is fresh", SLOW_SECONDS)
    rows = connection_rows(cluster)
    assert not rows.keys() & {client.id for client in gone}
    assert ends(cluster, stay) == {LIVE}
    assert list(node_states(cluster).values()) == ["ready"]
    assert metric(node, "realtime_tracking_lost_rows_total") == 0
    assert_no_traceback(cluster)
