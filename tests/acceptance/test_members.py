"""Who is in a room, over the whole cluster, and who comes and goes."""

from __future__ import annotations

import asyncio
import resource
import time
import uuid
from collections import Counter
from collections.abc import Iterator

import pytest

from realtime.auth import issue_token
from tests.acceptance.client import Client, Message
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import acquainted
from tests.conftest import StartCluster
from tests.support.cluster import Cluster

CROWD = 1_000
LISTED_MAX = 1_000
INTERVAL_SECONDS = 0.1  # changes of a room are gathered for that long
ASK_SECONDS = 2.0
QUICK = {"REALTIME_HEARTBEAT_SECONDS": "0.5", "REALTIME_NODE_TIMEOUT_SECONDS": "2"}


@pytest.fixture
def room() -> str:
    return f"room-{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def trio(module_cluster: Cluster, connect: Connect) -> list[Client]:
    """One client on each of three nodes."""
    await acquainted(module_cluster)
    return list(await asyncio.gather(*(connect(node.url) for node in module_cluster.nodes)))


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for a thousand sockets in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8_192)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def info(client: Client, user: str | None = None) -> Message:
    return {"id": client.id, "user": user}


def by_id(members: list[Message]) -> list[Message]:
    return sorted(members, key=lambda member: str(member["id"]))


def change(room: str, *, joined: list[Message] | None = None, left: list[Message] | None = None) -> Message:
    return {"type": "members", "room": room, "joined": joined or [], "left": left or []}


async def test_the_list_has_the_members_of_all_nodes(trio: list[Client], room: str) -> None:
    """`joined` lists everybody in the room, with their users, the asking client included, and names no silent node."""
    user = uuid.uuid4().hex[:8]
    await trio[1].do("authenticate", token=issue_token(user))
    for client in trio[:2]:
        assert await client.do("join", room=room) == {"type": "joined", "room": room}
    reply = await trio[2].do("join", room=room, members=True)
    expected = by_id([info(trio[0]), info(trio[1], user), info(trio[2])])
    assert by_id(reply.pop("members")) == expected
    assert reply == {"type": "joined", "room": room}
    again = await trio[0].do("join", room=room, members=True)
    assert by_id(again["members"]) == expected


async def test_watchers_are_told_who_comes_and_goes(
    module_cluster: Cluster, trio: list[Client], connect: Connect, room: str
) -> None:
    """Watchers on every node get each join and leave once; who did not ask is told nothing."""
    nodes = module_cluster.nodes
    watchers = trio
    lists = [await client.do("join", room=room, members=True) for client in trio]
    everybody = {client.id for client in trio}
    for watcher, first in zip(watchers, lists, strict=True):
        await know(watcher, first, everybody)
        assert_consistent(first, watcher)
        watcher.waiting.clear()
    indifferent = await (await connect(nodes[0].url)).join(room)
    guest = await connect(nodes[1].url)
    for watcher in watchers:
        await watcher.expect(**change(room, joined=[info(indifferent)]))
    await guest.join(room)
    for watcher in watchers:
        await watcher.expect(**change(room, joined=[info(guest)]))
    await guest.do("leave", room=room)
    for watcher in watchers:
        await watcher.expect(**change(room, left=[info(guest)]))
    await indifferent.do("room", room=room, data="sentinel", echo=True)
    await indifferent.expect("room")
    assert (indifferent.waiting, indifferent.pushes("members")) == ([], [])
    assert [watcher.pushes("members")[-1]["left"] for watcher in watchers] == [[info(guest)]] * 3
    for watcher in watchers:
        told = [member["id"] for push in watcher.pushes("members") for member in push["joined"]]
        assert told.count(guest.id) == told.count(indifferent.id) == 1


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_who_disconnects_has_left(
    module_cluster: Cluster, trio: list[Client], connect: Connect, room: str, how: str
) -> None:
    """A connection that closes, or is cut off, leaves its rooms."""
    guest = await (await connect(module_cluster.nodes[1].url)).join(room)
    for watcher in trio[:2]:
        await watcher.join(room, members=True)
    await trio[0].expect(**change(room, joined=[info(trio[1])]))
    if how == "close":
        await guest.close()
    else:
        guest.abort()
    for watcher in trio[:2]:
        await watcher.expect(**change(room, left=[info(guest)]))


async def test_who_leaves_hears_no_more_of_the_members(trio: list[Client], room: str) -> None:
    """A watcher that left the room gets no more changes; joining again without `members` does not bring them back."""
    watcher, other, third = trio
    await watcher.join(room, members=True)
    await other.join(room, members=True)
    await watcher.expect("members")
    await watcher.do("leave", room=room)
    await other.expect(**change(room, left=[info(watcher)]))
    await watcher.join(room)
    await other.expect(**change(room, joined=[info(watcher)]))
    await third.join(room)
    await other.expect("members", joined=[info(third)])
    await third.do("room", room=room, data="sentinel")
    await watcher.expect("room")
    assert len(watcher.pushes("members")) == 1


async def test_comings_and_goings_end_in_the_truth(trio: list[Client], room: str) -> None:
    """After many quick joins and leaves, a watcher's list, kept by the pushes, is who is really there."""
    watcher, *restless = trio
    reply = await watcher.do("join", room=room, members=True)
    for _ in range(60):
        for client in restless:
            await client.send("join", room=room)
            await client.send("leave", room=room)
    await restless[0].join(room)
    for client in restless:
        assert await client.is_alive()
    await know(watcher, reply, {watcher.id, restless[0].id})
    assert_consistent(reply, watcher)


def kept(reply: Message, watcher: Client) -> dict[str, Message]:
    """The list that a client keeps: what `joined` said and every push since."""
    members = {member["id"]: member for member in reply["members"]}
    for push in watcher.pushes("members"):
        for member in push["left"]:
            members.pop(member["id"], None)
        members.update((member["id"], member) for member in push["joined"])
    return members


async def know(watcher: Client, reply: Message, everybody: set[str]) -> None:
    """Wait until the list that a client keeps is complete."""
    await watcher.until(lambda: kept(reply, watcher).keys() == everybody, f"a list of {len(everybody)}", 20)


def assert_consistent(reply: Message, watcher: Client) -> None:
    """Nobody leaves who was not there."""
    members = {member["id"] for member in reply["members"]}
    for push in watcher.pushes("members"):
        left = {member["id"] for member in push["left"]}
        assert left <= members
        members = (members - left) | {member["id"] for member in push["joined"]}


async def test_a_thousand_joins_are_not_a_million_pushes(
    module_cluster: Cluster, connect: Connect, room: str, many_files: None
) -> None:
    """1,000 clients that all watch one room as they join it: each ends up with the whole list, by at most one push for
    each 100 ms. One more gets their number in place of the list."""
    await acquainted(module_cluster)
    urls = [node.url for node in module_cluster.nodes]
    clients: list[Client] = []
    for start in range(0, CROWD, 50):
        clients += await asyncio.gather(*(connect(urls[number % 3]) for number in range(start, start + 50)))
    began = time.monotonic()
    replies = await asyncio.gather(*(client.do("join", room=room, members=True, within=40) for client in clients))
    everybody = {client.id for client in clients}
    for reply, client in zip(replies, clients, strict=True):
        assert "partial" not in reply
        await know(client, reply, everybody)
    seconds = time.monotonic() - began
    counts = Counter({client.id: len(client.pushes("members")) for client in clients})
    intervals = seconds / INTERVAL_SECONDS + 1
    assert max(counts.values()) <= intervals
    assert counts.total() < CROWD * CROWD / 10
    latecomer = await connect(urls[0])
    reply = await latecomer.do("join", room=room, members=True)
    assert reply == {"type": "joined", "room": room, "count": LISTED_MAX + 1}
    print(f"{counts.total()} pushes for {CROWD} joins in {seconds:.1f} s")


async def test_the_members_of_a_killed_node_are_told_as_left(start_cluster: StartCluster, connect: Connect) -> None:
    """After the node timeout, on every other node, in one push; and who asks afterwards does not see them."""
    cluster = start_cluster(nodes=3, environment=QUICK)
    await acquainted(cluster)
    doomed, *others = cluster.nodes
    lost = [await (await connect(doomed.url)).join("room") for _ in range(3)]
    watchers = [await (await connect(node.url)).join("room", members=True) for node in others]
    await watchers[0].expect("members", joined=[info(watchers[1])])
    doomed.kill()
    for watcher in watchers:
        push = await watcher.expect("members", joined=[])
        assert by_id(push["left"]) == by_id([info(client) for client in lost])
    reply = await (await connect(others[0].url)).do("join", room="room", members=True)
    assert {member["id"] for member in reply["members"]}.isdisjoint(client.id for client in lost)
    assert "partial" not in reply


async def test_a_silent_node_is_named(start_cluster: StartCluster, connect: Connect) -> None:
    """While one node stands still, the list comes after 2 s, without its members and with its name; when it wakes, its
    members are told as joined."""
    cluster = start_cluster(nodes=3)
    await acquainted(cluster)
    here, _, frozen = cluster.nodes
    asleep = await (await connect(frozen.url)).join("room")
    watcher = await connect(here.url)
    frozen.pause()
    try:
        began = time.monotonic()
        reply = await watcher.do("join", room="room", members=True)
        assert ASK_SECONDS * 0.9 < time.monotonic() - began < ASK_SECONDS + 1
        assert reply == {"type": "joined", "room": "room", "members": [info(watcher)], "partial": [asleep.node]}
    finally:
        frozen.resume()
    assert await watcher.expect("members") == change("room", joined=[info(asleep)])
