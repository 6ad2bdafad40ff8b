"""A node is killed with -9, with others there to notice, and alone."""

from __future__ import annotations

import asyncio

from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.acceptance.crash.rows import DIED, FAST, LIVE, connection_rows, ends, node_states
from tests.acceptance.nodes import acquainted, assert_no_traceback, eventually, metric
from tests.conftest import StartCluster
from tests.support.cluster import Cluster, DaphneNode
from tests.support.servers import RedisServer

SLOW_SECONDS = 30.0  # for what takes two or three, on a busy machine
OUTAGE_TIMEOUTS = 2.2  # how long Redis is gone, in node timeouts


async def connect_many(connect: Connect, node: DaphneNode, count: int) -> list[Client]:
    return [await (await connect(node.url)).join("room") for _ in range(count)]


async def told_of(watcher: Client, kind: str, clients: list[Client]) -> None:
    """Wait until a watcher has heard that all these joined (or left)."""
    wanted = {client.id for client in clients}

    def heard() -> bool:
        return wanted <= {member["id"] for push in watcher.pushes("members") for member in push[kind]}

    await watcher.until(heard, f"{len(wanted)} {kind}", SLOW_SECONDS)


def closings(cluster: Cluster, node_id: str) -> int:
    """How often a node says that it closed the rows of that one."""
    return sum(log.count(f"node_rows_closed other={node_id} ") for _, log in cluster.logs())


async def test_the_rows_of_a_killed_node_are_closed_once(start_cluster: StartCluster, connect: Connect) -> None:
    """Both survivors notice, one of them writes it: the node is dead, its connections ended with 1006, the others live
    on. Watchers are told once who has left."""
    cluster = start_cluster(nodes=3, environment=FAST)
    await acquainted(cluster)
    first, second, doomed = cluster.nodes
    watcher = await connect(first.url)
    await watcher.do("join", room="room", members=True)
    others, victims = await connect_many(connect, second, 2), await connect_many(connect, doomed, 5)
    await told_of(watcher, "joined", others + victims)
    await eventually(lambda: ends(cluster, victims) == {LIVE}, "the rows are there")

    doomed.kill()
    await told_of(watcher, "left", victims)
    dead = victims[0].node
    await eventually(lambda: node_states(cluster)[dead] == "dead", "the node is dead", SLOW_SECONDS)
    assert ends(cluster, victims) == {DIED}
    await eventually(
        lambda: all(metric(node, "realtime_nodes_died_total") == 1 for node in (first, second)),
        "both have noticed",
        SLOW_SECONDS,
    )
    late = await connect(second.url)  # written after what both had to write
    await eventually(lambda: late.id in connection_rows(cluster), "a later row is there", SLOW_SECONDS)
    assert ends(cluster, [watcher, *others, late]) == {LIVE}
    assert sorted(node_states(cluster).values()) == ["dead", "ready", "ready"]
    assert closings(cluster, dead) == 1
    left = [member["id"] for push in watcher.pushes("members") for member in push["left"]]
    assert sorted(left) == sorted(client.id for client in victims)
    assert_no_traceback(cluster)


async def test_a_lone_node_that_was_killed_is_buried_by_its_successor(
    start_cluster: StartCluster, connect: Connect
) -> None:
    """Nobody was there to notice: the next node that starts hears nobody for a node timeout, and closes what it finds
    open; not its own."""
    cluster = start_cluster(nodes=1, environment=FAST)
    node = cluster.nodes[0]
    victims = await connect_many(connect, node, 3)
    await eventually(lambda: ends(cluster, victims) == {LIVE}, "the rows are there")
    await asyncio.to_thread(node.restart)
    survivor = await connect(node.url)
    dead = victims[0].node
    await eventually(lambda: node_states(cluster)[dead] == "dead", "the predecessor is dead", SLOW_SECONDS)
    assert ends(cluster, victims) == {DIED}
    await eventually(lambda: survivor.id in connection_rows(cluster), "the new row is there")
    assert ends(cluster, [survivor]) == {LIVE}
    assert closings(cluster, dead) == 1


async def test_an_outage_of_redis_is_nobodys_death(
    start_cluster: StartCluster, own_redis: RedisServer, connect: Connect
) -> None:
    """However long it lasts: nodes that hear nobody, themselves included, judge nobody. Afterwards they do again, and
    then only who was killed is dead."""
    timeout = 5.0
    environment = {**FAST, "REALTIME_HEARTBEAT_SECONDS": "1", "REALTIME_NODE_TIMEOUT_SECONDS": str(timeout)}
    cluster = start_cluster(nodes=3, redis=own_redis, environment=environment)
    await acquainted(cluster)
    first, second, doomed = cluster.nodes
    survivors = await connect_many(connect, first, 1) + await connect_many(connect, second, 1)
    victims = await connect_many(connect, doomed, 2)
    own_redis.kill()
    await asyncio.sleep(OUTAGE_TIMEOUTS * timeout)  # the promise is about this time
    own_redis.start()
    await eventually(lambda: all(node.is_ready for node in cluster.nodes), "all nodes are ready", SLOW_SECONDS)
    await acquainted(cluster)
    doomed.kill()
    dead = victims[0].node
    await eventually(lambda: node_states(cluster)[dead] == "dead", "the killed node is dead", SLOW_SECONDS)
    await eventually(
        lambda: all(metric(node, "realtime_nodes_died_total") == 1 for node in (first, second)),
        "both have noticed",
        SLOW_SECONDS,
    )
    assert ends(cluster, survivors) == {LIVE}
    assert ends(cluster, victims) == {DIED}
    deaths = [line for _, log in cluster.logs() for line in log.splitlines() if "node_died" in line]
    assert len(deaths) == 2
    assert all(f"other={dead}" in line for line in deaths)
    assert not any("node_taken_for_dead" in log for _, log in cluster.logs())
