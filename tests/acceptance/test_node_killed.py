"""A node dies, or freezes, while the others work."""

from __future__ import annotations

import asyncio
import random
import time

from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import acquainted, eventually, metric
from tests.acceptance.traffic import AFTER, BEFORE, Traffic, assert_complete, connected_to_each, receive
from tests.conftest import StartCluster
from tests.support.cluster import Cluster

RECEIPT_SECONDS = 2.0


async def test_a_node_is_killed_under_traffic(cluster: Cluster, connect: Connect, rng: random.Random) -> None:
    """Clients of the other nodes miss nothing; those of the killed one come back through nginx and go on."""
    assert cluster.nginx is not None
    url = cluster.nginx.url
    by_node = await connected_to_each(cluster, connect, 9)
    doomed = rng.choice(cluster.nodes)
    victims = next(clients for node, clients in by_node.items() if node.startswith(doomed.name))
    survivors = [client for clients in by_node.values() for client in clients if client not in victims]
    traffic = [Traffic(client, "traffic") for client in {client.node: client for client in survivors}.values()]
    senders = [each.client for each in traffic]
    for client in victims:
        for sender in senders:
            await receive(client, sender, BEFORE)
    doomed.kill()
    assert {await victim.closed() for victim in victims} == {(1006, "")}
    returned = [await connect(url) for _ in victims]
    for client in returned:
        assert client.node in {survivor.node for survivor in survivors}
        await client.join("traffic")
    for client in returned:
        for sender in senders:
            await receive(client, sender, AFTER)
    await assert_complete(traffic, survivors=survivors, victims=victims, returned=returned)
    assert [client.pushes("missed") for client in survivors] == [[]] * len(survivors)
    reply = await survivors[0].ask("private", to=victims[0].id, data="are you there?")
    assert reply["code"] == "unknown_recipient"


async def test_a_killed_node_comes_back(cluster: Cluster, connect: Connect) -> None:
    """Started again on the same port it is another node, known to the others and reached through nginx."""
    assert cluster.nginx is not None
    first = await connect(cluster.nodes[0].url)
    await asyncio.to_thread(cluster.nodes[0].restart)
    second = await connect(cluster.nodes[0].url)
    assert second.node != first.node
    other = await connect(cluster.nodes[1].url)
    await second.do("broadcast", data="back")
    await other.expect("broadcast", data="back")
    await other.do("private", to=second.id, data="welcome back")
    await second.expect("private")
    assert second.node in {(await connect(cluster.nginx.url)).node for _ in range(6)}


async def test_a_frozen_node_delivers_when_it_wakes(start_cluster: StartCluster, connect: Connect) -> None:
    """A node that stands still confirms nothing: after 2 s its client is `unknown_recipient`, and other rooms go on.
    Awake again it delivers what was published meanwhile, in order, and needs no restart."""
    cluster = start_cluster(nodes=2)
    await acquainted(cluster)
    here, frozen = await asyncio.gather(*(connect(node.url) for node in cluster.nodes))
    for client in (here, frozen):
        await client.join("room")
    cluster.nodes[1].pause()
    try:
        began = time.monotonic()
        assert (await here.ask("private", to=frozen.id, data="wake up"))["code"] == "unknown_recipient"
        assert RECEIPT_SECONDS * 0.9 < time.monotonic() - began < RECEIPT_SECONDS + 1
        for number in range(100):
            await here.do("room", room="room", data=number, echo=True)
        assert [push["data"] for push in await here.collect("room", 100)] == list(range(100))
    finally:
        cluster.nodes[1].resume()
    assert [push["data"] for push in await frozen.collect("room", 100)] == list(range(100))
    assert [push["data"] for push in frozen.pushes("private")] == ["wake up"]
    await frozen.do("room", room="room", data="awake")
    await here.expect("room", data="awake")


async def test_silence_is_death_and_a_word_is_life(start_cluster: StartCluster, connect: Connect) -> None:
    """A node that is silent for the node timeout is taken for dead; when it speaks again it is known again, by the
    same id, and its clients are still there."""
    cluster = start_cluster(
        nodes=2, environment={"REALTIME_HEARTBEAT_SECONDS": "0.4", "REALTIME_NODE_TIMEOUT_SECONDS": "1.5"}
    )
    await acquainted(cluster)
    here, frozen = await asyncio.gather(*(connect(node.url) for node in cluster.nodes))
    judge, silent = cluster.nodes
    silent.pause()
    try:
        await eventually(lambda: metric(judge, "realtime_nodes_died_total") == 1, "the silent node is taken for dead")
        began = time.monotonic()
        assert (await here.ask("private", to=frozen.id, data="gone?"))["code"] == "unknown_recipient"
        assert time.monotonic() - began < RECEIPT_SECONDS / 2
    finally:
        silent.resume()
    await acquainted(cluster)
    await here.do("private", to=frozen.id, data="there you are")
    await frozen.expect("private", data="there you are")
    assert not frozen.is_closed
