"""Three nodes on each backplane: messages, order, the loss of a node, the loss of the backplane."""

from __future__ import annotations

import asyncio
import random
import time
from urllib.parse import urlsplit

import pytest
from django.utils.module_loading import import_string

from config.env import LAYERS
from realtime.layers.backplane import backplane_for
from realtime.protocol.names import group_of_room
from tests.acceptance.backplanes.conftest import HEARTBEAT_SECONDS, Kind
from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import assert_no_traceback, eventually, metric
from tests.acceptance.outage import (
    FAST_SECONDS,
    ONE_MISSED,
    assert_everything_arrives,
    assert_unavailable,
    members,
    ready,
)
from tests.acceptance.traffic import AFTER, BEFORE, Traffic, assert_complete, connected_to_each, receive
from tests.support.cluster import Cluster
from tests.support.servers import Server

OUTAGE_SECONDS = 2.0  # really waited for, with publishes that fail meanwhile
BUSY_SECONDS = 2.0  # what a busy machine may add to a promise in heartbeats
BACK_SECONDS = 30.0  # until all is well after an outage, with a server that starts slowly
MESSAGES = 300


@pytest.fixture
async def trio(cluster: Cluster, connect: Connect) -> list[Client]:
    """One client on each of three nodes."""
    return list(await asyncio.gather(*(connect(node.url) for node in cluster.nodes)))


async def test_messages_cross_the_nodes(cluster: Cluster, trio: list[Client], connect: Connect, room: str) -> None:
    """Broadcast, room and private messages reach whom they should on every node, once, and their sender does not get
    them; who has left a room gets nothing of it."""
    neighbour = await connect(cluster.nodes[2].url)
    clients = [*trio, neighbour]
    sender, leaver = trio[0], trio[2]
    for client in clients:
        await client.join(room)
    assert await sender.do("broadcast", data={"n": 1}) == {"type": "ack"}
    assert await sender.do("room", room=room, data="ä") == {"type": "ack"}
    for client in clients[1:]:
        assert await client.expect("broadcast") == {"type": "broadcast", "from": sender.id, "data": {"n": 1}}
        assert await client.expect("room") == {"type": "room", "room": room, "from": sender.id, "data": "ä"}
        assert await sender.do("private", to=client.id, data="psst") == {"type": "ack"}
        assert await client.expect("private") == {"type": "private", "from": sender.id, "data": "psst"}
    await leaver.do("leave", room=room)
    await sender.do("room", room=room, data="after")
    await neighbour.expect("room", data="after")  # delivered on the node of the one who has left
    for client in clients:
        assert await client.is_alive()
        assert [push for push in client.waiting if push.get("data") != "after"] == []
    assert leaver.waiting == sender.waiting == []


async def test_a_room_keeps_each_senders_order(trio: list[Client], kind: Kind, room: str) -> None:
    """Three senders on three nodes: every member sees each sender's messages in order and once; where the backplane
    promises it, all members see the same sequence."""
    for client in trio:
        await client.join(room)
    for number in range(MESSAGES):
        for client in trio:
            await client.send("room", room=room, data=number, echo=True)
    sequences = []
    for client in trio:
        await client.collect("room", 3 * MESSAGES, within=30)
        sequences.append([(push["from"], push["data"]) for push in client.pushes("room")])
    for sequence in sequences:
        assert len(sequence) == 3 * MESSAGES
        for sender in trio:
            assert [number for who, number in sequence if who == sender.id] == list(range(MESSAGES))
    if kind.has_common_order:
        assert sequences[0] == sequences[1] == sequences[2]


async def test_a_node_is_killed_under_traffic(cluster: Cluster, connect: Connect, rng: random.Random) -> None:
    """Clients of the other nodes miss nothing; those of the killed one come back through nginx and go on."""
    assert cluster.nginx is not None
    url = cluster.nginx.url
    by_node = await connected_to_each(cluster, connect, 9)
    doomed = rng.choice(cluster.nodes)
    victims = next(clients for node, clients in by_node.items() if node.startswith(doomed.name))
    survivors = [client for clients in by_node.values() for client in clients if client not in victims]
    traffic = [Traffic(client, "traffic") for client in {client.node: client for client in survivors}.values()]
    for client in victims:
        for each in traffic:
            await receive(client, each.client, BEFORE)
    doomed.kill()
    assert {await victim.closed() for victim in victims} == {(1006, "")}
    returned = [await (await connect(url)).join("traffic") for _ in victims]
    for client in returned:
        for each in traffic:
            await receive(client, each.client, AFTER)
    await assert_complete(traffic, survivors=survivors, victims=victims, returned=returned)
    assert [client.pushes("missed") for client in survivors] == [[]] * len(survivors)
    reply = await survivors[0].ask("private", to=victims[0].id, data="are you there?")
    assert reply["code"] == "unknown_recipient"


async def test_the_backplane_is_killed_and_restarted(
    cluster: Cluster, broker: Server, kind: Kind, connect: Connect
) -> None:
    """Meanwhile every publish is `unavailable` at once, readiness is red and nobody is disconnected; then everything
    arrives again on every node, and each client was told once that it may have missed something, where it may."""
    clients = await members(cluster, connect)
    broker.kill()
    await eventually(lambda: not any(node.is_ready for node in cluster.nodes), "all nodes are unready")
    end = time.monotonic() + OUTAGE_SECONDS
    while time.monotonic() < end:
        for client in clients:
            await assert_unavailable(client, FAST_SECONDS, type="broadcast", data=1)
            await assert_unavailable(client, FAST_SECONDS, type="room", room="room", data=1)
            assert await client.is_alive()
    broker.start()  # not in a thread: a Redis ends with the thread that started it
    await ready(cluster, BACK_SECONDS)
    await assert_everything_arrives(clients)
    assert_told(clients, kind)
    assert not any(push["data"] == 1 for client in clients for push in client.pushes("broadcast", "room"))
    assert not any(client.is_closed for client in clients)
    assert_no_traceback(cluster)


async def test_the_backplane_stands_still(cluster: Cluster, broker: Server, kind: Kind, connect: Connect) -> None:
    """Open connections that nothing comes from are a dead backplane: the missing echo turns readiness red within two
    heartbeats; when the server goes on, so does everything, without a restart."""
    clients = await members(cluster, connect)
    broker.pause()
    try:
        took = await eventually(lambda: not any(node.is_ready for node in cluster.nodes), "all nodes are unready")
        assert took < 2 * HEARTBEAT_SECONDS * 1.1 + BUSY_SECONDS
        for client in clients:
            await assert_unavailable(client, FAST_SECONDS, type="broadcast", data="lost")
            assert await client.is_alive()
    finally:
        broker.resume()
    await ready(cluster, BACK_SECONDS)
    await assert_everything_arrives(clients)
    assert_told(clients, kind)
    assert not any(client.is_closed for client in clients)


async def test_a_message_of_a_newer_version_is_skipped(
    cluster: Cluster, broker: Server, trio: list[Client], room: str
) -> None:
    """An envelope that no node understands is counted by each of them and told to the room's members as missed; what
    follows it arrives."""
    for client in trio:
        await client.join(room)
    before = [metric(node, "realtime_envelopes_unreadable_total") for node in cluster.nodes]
    newer = b'{"v":99,"type":"room","room":"%b","data":{"a":[1]},"from":"x"}' % room.encode()
    await publish_foreign(broker.url, cluster.prefix, group_of_room(room), newer)
    for client in trio:
        assert await client.expect("missed") == {"type": "missed", "rooms": [room]}
    await trio[0].do("room", room=room, data="next", echo=True)
    for client in trio:
        await client.expect("room", data="next")
        assert client.waiting == []
    after = [metric(node, "realtime_envelopes_unreadable_total") for node in cluster.nodes]
    assert after == [count + 1 for count in before]


def assert_told(clients: list[Client], kind: Kind) -> None:
    """Each client was told once that it may have missed something; where nothing was lost, at most once: the node may
    have missed its echo before it knew that."""
    told = [client.pushes("missed") for client in clients]
    assert all(each == ONE_MISSED or (kind.reads_on and not each) for each in told)


async def publish_foreign(url: str, prefix: str, group: str, envelope: bytes) -> None:
    """Publish from a process that is no node, past everything that looks at envelopes."""
    layer = import_string(LAYERS[urlsplit(url).scheme])([url], prefix)
    publisher = backplane_for(layer)
    try:
        await publisher.publish(group, envelope)
    finally:
        await publisher.close()
        await layer.close()
