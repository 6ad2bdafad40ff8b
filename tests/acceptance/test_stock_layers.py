"""The nodes over layers of channels_redis, chosen by CHANNEL_LAYERS alone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest

from realtime.auth import issue_token
from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import acquainted, assert_no_traceback
from tests.conftest import StartCluster
from tests.support.cluster import Cluster
from tests.support.servers import RedisServer

LAYERS = ["core", "pubsub"]
GROUP_EXPIRY_SECONDS = 2
LONGER_SECONDS = 5.0  # really waited for, with traffic: the layer must have forgotten every group meanwhile


def environment(layer: str, **more: str) -> dict[str, str]:
    return {"DJANGO_SETTINGS_MODULE": "tests.acceptance.other_project.settings", "STOCK_LAYER": layer, **more}


@pytest.fixture(scope="module", params=LAYERS)
def module_cluster(request: pytest.FixtureRequest, redis_server: RedisServer) -> Iterator[Cluster]:
    """Two nodes over each stock layer."""
    with Cluster(redis_server.url, nodes=2, environment=environment(request.param)) as cluster:
        yield cluster
        assert_no_traceback(cluster)


@pytest.fixture
async def quartet(module_cluster: Cluster, connect: Connect) -> list[Client]:
    """Two clients on each of two nodes."""
    await acquainted(module_cluster)
    return [await connect(node.url) for node in module_cluster.nodes for _ in range(2)]


async def test_the_node_runs_on_that_layer(module_cluster: Cluster) -> None:
    """The log names the layer that the nodes really use."""
    layer = module_cluster.environment["STOCK_LAYER"]
    assert all(f"backplane=channels_redis.{layer}" in node.log for node in module_cluster.nodes)


async def test_broadcast_room_and_private(quartet: list[Client]) -> None:
    """Each reaches whom it should on both nodes, once, and not its sender."""
    sender, neighbour, remote, stranger = quartet
    for client in (sender, neighbour, remote):
        await client.join("room one", "Straße")
    await remote.do("authenticate", token=issue_token("9"))
    for room in ("room one", "Straße"):
        await sender.do("room", room=room, data={"in": room})
    await sender.do("private", to=remote.id, data="by connection")
    await sender.do("private", to="user:9", data="by user")
    await sender.do("broadcast", data="to all")
    for client in (neighbour, remote):
        for room in ("room one", "Straße"):
            await client.expect("room", room=room, data={"in": room})
    assert (await remote.expect("private"))["data"] == "by connection"
    assert (await remote.expect("private"))["data"] == "by user"
    for client in (neighbour, remote, stranger):
        await client.expect("broadcast", data="to all")
    await stranger.do("broadcast", data="sentinel", echo=True)
    for client in quartet:
        await client.expect("broadcast", data="sentinel")
        assert client.waiting == []


async def test_a_program_without_a_node_publishes(module_cluster: Cluster, quartet: list[Client]) -> None:
    """`manage.py publish`, on the same layer, reaches clients of both nodes."""
    for client in quartet:
        await client.join("program")
    for words in (["room", "program"], ["broadcast"], ["private", quartet[2].id]):
        await asyncio.to_thread(module_cluster.manage, "publish", *words, f'"{words[0]}"')
        for client in quartet if words[0] != "private" else [quartet[2]]:
            await client.expect(words[0], data=words[0])
    assert [client.waiting for client in quartet] == [[], [], [], []]


async def test_what_follows_joined_arrives_and_what_follows_left_does_not(quartet: list[Client]) -> None:
    """Twenty rooms, joined and left: the first message after `joined` comes, none comes after `left`."""
    sender, _, member, _ = quartet
    for number in range(20):
        room = f"quick-{number}"
        await sender.join(room)
        await member.join(room)
        await sender.send("room", room=room, data="in")
        await member.expect("room", room=room, data="in")
        await member.do("leave", room=room)
        await sender.do("room", room=room, data="out")
        await sender.do("private", to=member.id, data="sentinel")
        await member.expect("private")
        assert member.waiting == []


async def test_members(quartet: list[Client]) -> None:
    """The list has the members of both nodes, and changes are told."""
    here, _, remote, _ = quartet
    await remote.join("members")
    reply = await here.do("join", room="members", members=True)
    assert {member["id"] for member in reply["members"]} == {here.id, remote.id}
    await remote.close()
    assert (await here.expect("members"))["left"] == [{"id": remote.id, "user": None}]


async def test_the_order_of_one_sender(quartet: list[Client]) -> None:
    """300 messages of one sender, not awaited, arrive in order on both nodes, each once."""
    for client in quartet:
        await client.join("order")
    for number in range(300):
        await quartet[0].send("room", room="order", data=number)
    for client in quartet[1:]:
        assert [push["data"] for push in await client.collect("room", 300, 20)] == list(range(300))


async def test_groups_outlive_their_expiry(start_cluster: StartCluster, connect: Connect) -> None:
    """With group_expiry of 2 s everything is still delivered after 5 s, without a gap: the nodes renew."""
    cluster = start_cluster(nodes=2, environment=environment("core", STOCK_GROUP_EXPIRY=str(GROUP_EXPIRY_SECONDS)))
    here, there = [await (await connect(node.url)).join("room") for node in cluster.nodes]
    await there.do("authenticate", token=issue_token("10"))
    end = time.monotonic() + LONGER_SECONDS
    number = 0
    while time.monotonic() < end:
        await here.do("room", room="room", data=number)
        await here.do("broadcast", data=number)
        await here.do("private", to="user:10", data=number)
        for kind in ("room", "broadcast", "private"):
            await there.expect(kind, data=number)
        number += 1
        await asyncio.sleep(0.1)
    assert there.pushes("missed") == []
    assert there.waiting == []


@pytest.mark.parametrize("layer", LAYERS)
async def test_an_outage(start_cluster: StartCluster, own_redis: RedisServer, connect: Connect, layer: str) -> None:
    """Redis restarted under a stock layer: publishes are `unavailable`, nobody is disconnected; then everything arrives
    again, and each client was told once that it may have missed something."""
    cluster = start_cluster(nodes=2, redis=own_redis, environment=environment(layer))
    clients = [await (await connect(node.url)).join("room") for node in cluster.nodes]
    own_redis.kill()
    for client in clients:
        while (reply := await client.ask("room", room="room", data="lost"))["type"] == "ack":
            await asyncio.sleep(0.05)  # a stock layer may take it for sent before it notices
        assert reply["code"] == "unavailable"
    own_redis.start()
    for node in cluster.nodes:
        await asyncio.to_thread(node.wait_ready)
    for sender in clients:
        await sender.do("room", room="room", data=sender.id, echo=True)
        for client in clients:
            await client.expect("room", data=sender.id)
    assert [client.pushes("missed") for client in clients] == [[{"type": "missed", "rooms": None}]] * 2
