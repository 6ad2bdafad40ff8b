"""A node dies, or freezes, while the others work."""

from __future__ import annotations

import asyncio
import random
import time

from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import acquainted, eventually, metric
from tests.conftest import StartCluster
from tests.support.cluster import Cluster

PACE_SECONDS = 0.004  # between two messages of one sender
BEFORE, AFTER = 150, 150  # messages of each sender that somebody has received before the kill, and after coming back
RECEIPT_SECONDS = 2.0


class Traffic:
    """Numbered messages from one client into one room, until it is told to stop."""

    def __init__(self, client: Client, room: str) -> None:
        self.client = client
        self.sent = 0
        self._room = room
        self._is_wanted = True
        self._task = asyncio.create_task(self._send())

    async def stop(self) -> None:
        self._is_wanted = False
        await self._task
        await self.client.until(lambda: len(self.client.pushes("ack", "error")) == self.sent, "an answer to each")
        assert self.client.pushes("error") == []

    async def arrive_at(self, client: Client) -> None:
        """Wait until a client has the last message."""
        await client.until(lambda: numbers(client, self.client)[-1:] == [self.sent - 1], "the last message")

    async def _send(self) -> None:
        while self._is_wanted:
            await self.client.send("room", room=self._room, data=self.sent, echo=True, ref=self.sent)
            self.sent += 1
            await asyncio.sleep(PACE_SECONDS)


def numbers(client: Client, sender: Client) -> list[int]:
    return [push["data"] for push in client.pushes("room") if push["from"] == sender.id]


async def receive(client: Client, sender: Client, count: int) -> None:
    """Wait until a client has that many messages of a sender."""
    await client.until(lambda: len(numbers(client, sender)) >= count, f"{count} messages of traffic")


async def connected_to_each(cluster: Cluster, connect: Connect, count: int) -> dict[str, list[Client]]:
    """Clients that came through nginx, by node."""
    assert cluster.nginx is not None
    by_node: dict[str, list[Client]] = {}
    for _ in range(count):
        client = await connect(cluster.nginx.url)
        by_node.setdefault(client.node, []).append(await client.join("traffic"))
    assert len(by_node) == len(cluster.nodes)
    return by_node


async def assert_complete(
    traffic: list[Traffic], *, survivors: list[Client], victims: list[Client], returned: list[Client]
) -> None:
    """Survivors have every number in order; the others have no gap before the kill, and none after coming back."""
    for each in traffic:
        await each.stop()
    for each in traffic:
        for client in (*survivors, *returned):
            await each.arrive_at(client)
        for client in survivors:
            assert numbers(client, each.client) == list(range(each.sent))
        for client in victims:
            came = numbers(client, each.client)
            assert came == list(range(len(came)))
        for client in returned:
            came = numbers(client, each.client)
            assert came == list(range(came[0], each.sent))


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
