"""HAProxy in front of three real nodes: one that drains, and one that dies."""

from __future__ import annotations

import asyncio

from tests.acceptance.balancers.conftest import InFront
from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import eventually
from tests.conftest import StartCluster
from tests.support.cluster import Cluster

NEW = 20  # connections that are made while a node is out
CHECK_MS = 400
# Many checks long, so that HAProxy has noticed and the test has looked before the first client is closed.
DRAIN_WAIT_SECONDS = 10.0


async def one_on_each(connect: Connect, url: str, cluster: Cluster) -> list[Client]:
    """A client on the first node, on the second, and on the third."""
    clients = [await connect(url) for _ in cluster.nodes]
    assert len({client.node for client in clients}) == len(cluster.nodes)
    return sorted(clients, key=lambda client: client.node)


async def test_a_node_that_drains_gets_nothing_new_and_ends_in_peace(
    start_cluster: StartCluster, in_front: InFront, connect: Connect
) -> None:
    """After two checks it is out; its old connections go on until it closes them with 1012, and it exits with 0."""
    cluster = start_cluster(nodes=3, environment={"REALTIME_DRAIN_WAIT_SECONDS": str(DRAIN_WAIT_SECONDS)})
    haproxy = in_front("haproxy", cluster, check_ms=CHECK_MS)
    await asyncio.to_thread(haproxy.wait_checked)
    old, *others = await one_on_each(connect, haproxy.url, cluster)
    for client in (old, *others):
        await client.join("room")

    failed = int(haproxy.node(1)["chkfail"])
    cluster.nodes[0].terminate()
    await eventually(lambda: not haproxy.is_up(1), "the draining node is out", DRAIN_WAIT_SECONDS)
    assert int(haproxy.node(1)["chkfail"]) == failed + 2
    assert haproxy.node(1)["check_code"] == "503"

    await others[0].do("room", room="room", data="still there?")
    await old.expect("room", data="still there?")
    await old.do("room", room="room", data="still here")
    await others[1].expect("room", data="still here")
    new = [await connect(haproxy.url) for _ in range(NEW)]
    assert {client.node for client in new} == {client.node for client in others}
    code, _ = await old.closed(within=DRAIN_WAIT_SECONDS + 20)
    assert code == 1012
    assert await asyncio.to_thread(cluster.nodes[0].wait, 30) == 0
    assert all([await client.is_alive() for client in (*others, *new)])


async def test_a_dead_node_costs_nobody_a_connection(
    start_cluster: StartCluster, in_front: InFront, connect: Connect
) -> None:
    """From the moment of its death every new client is served by another node; after two checks it is not asked any
    more, and started again it gets clients."""
    cluster = start_cluster(nodes=3)
    haproxy = in_front("haproxy", cluster, check_ms=CHECK_MS)
    await asyncio.to_thread(haproxy.wait_checked)
    lost, *others = await one_on_each(connect, haproxy.url, cluster)
    failed = int(haproxy.node(1)["chkfail"])
    await asyncio.to_thread(cluster.nodes[0].kill)
    new = [await connect(haproxy.url) for _ in range(NEW)]
    assert {client.node for client in new} == {client.node for client in others}
    assert (await lost.closed())[0] == 1006
    await eventually(lambda: not haproxy.is_up(1), "the dead node is out")
    assert int(haproxy.node(1)["chkfail"]) == failed + 2

    await asyncio.to_thread(cluster.nodes[0].restart)
    await eventually(lambda: haproxy.is_up(1), "the node is back", 20)
    assert (await connect(haproxy.url)).node.startswith("n1-")
    assert not any(client.is_closed for client in (*others, *new))


async def test_connections_go_to_the_emptiest_node(
    start_cluster: StartCluster, in_front: InFront, connect: Connect
) -> None:
    """300 connections are spread evenly; after 60 of one node have ended, the next 50 go there."""
    cluster = start_cluster(nodes=3)
    haproxy = in_front("haproxy", cluster)
    clients: list[Client] = []
    for _ in range(10):
        clients += await asyncio.gather(*(connect(haproxy.url) for _ in range(30)))
    by_node = {node: [each for each in clients if each.node == node] for node in {each.node for each in clients}}
    # Its threads may choose at the same moment, so that a node gets one or two too many.
    assert all(abs(len(found) - 100) <= 5 for found in by_node.values())
    node, found = next(iter(by_node.items()))
    await asyncio.gather(*(client.close() for client in found[:60]))
    coming = [await connect(haproxy.url) for _ in range(50)]
    assert {client.node for client in coming} == {node}
