"""Who may see and do what in the admin, and what clients notice of it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import uuid

import pytest
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as open_websocket
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.acceptance.admin.conftest import QUICK, LogIn, Person, add_people
from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import acquainted, eventually
from tests.conftest import StartCluster
from tests.support.cluster import Cluster

CLUSTER, ROOMS, ROOM = "monitoring/cluster/", "monitoring/room/", "monitoring/room/room/?name={room}"
BROADCAST, CONNECTIONS, NODES = "monitoring/broadcast/", "realtime/connection/", "realtime/node/"
VIEWED = [CLUSTER, f"{CLUSTER}fragment/", f"{CLUSTER}series/hour/", ROOMS, f"{ROOMS}fragment/", CONNECTIONS, NODES]


@pytest.fixture
def room() -> str:
    return f"room-{uuid.uuid4().hex[:8]}"


@pytest.fixture
async def pair(module_cluster: Cluster, connect: Connect, room: str) -> list[Client]:
    """A member of one room on each of two nodes."""
    await acquainted(module_cluster)
    return [await (await connect(node.url)).join(room) for node in module_cluster.nodes]


async def row_of(person: Person, client: Client) -> None:
    """Wait until the list shows a connection."""
    await eventually(
        lambda: f">{client.id}</a>" in person.http.get(f"/admin/{CONNECTIONS}?q={client.id}").text, "a row", 20
    )


async def silent(clients: list[Client], sender: Client) -> None:
    """Nothing came but a sentinel, and all are alive."""
    await sender.do("broadcast", data="sentinel", echo=True)
    for client in clients:
        await client.expect("broadcast", data="sentinel")
        assert client.waiting == []


def assert_no_surprise(cluster: Cluster) -> None:
    """No traceback but those that Django logs for what it forbids."""
    for _, log in cluster.logs():
        assert log.count("Traceback") == log.count("\ndjango.core.exceptions.PermissionDenied\n"), log


def last_log(cluster: Cluster) -> str:
    code = "from django.contrib.admin.models import LogEntry as L; e = L.objects.first(); print(e.user, e, e.object_id)"
    return cluster.manage("shell", "-v", "0", "-c", code)


async def test_who_sees_what(module_cluster: Cluster, alice: Person, bob: Person, charlie: Person) -> None:
    """Alice and bob see every page, charlie none; the page for a broadcast is for those who may send one."""
    for path in [*VIEWED, ROOM.format(room="lobby")]:
        for person, status in ((alice, 200), (bob, 200), (charlie, 403)):
            assert (await person.get(path)).status_code == status, path
    for person, status in ((alice, 200), (bob, 403), (charlie, 403)):
        assert (await person.get(BROADCAST)).status_code == status
    index = (await alice.get("")).text
    assert all(f"/admin/{path}" in index for path in (CLUSTER, ROOMS, BROADCAST, CONNECTIONS, NODES))
    assert "/admin/monitoring/" not in (await charlie.get("")).text
    assert_no_surprise(module_cluster)


async def test_who_may_look_may_not_act(
    module_cluster: Cluster, bob: Person, charlie: Person, pair: list[Client], room: str
) -> None:
    """Each action without its permission is 403, whatever is confirmed, and no client notices anything."""
    await row_of(bob, pair[0])
    page = (await bob.get(CONNECTIONS)).text
    assert 'value="disconnect"' not in page
    yes = {"confirmed": "yes"}
    node = pair[0].node
    forbidden = [
        (CONNECTIONS, {"action": "disconnect", "_selected_action": pair[0].id, "code": "1008", "reason": "", **yes}),
        (CONNECTIONS, {"action": "message", "_selected_action": pair[0].id, "message": "1", **yes}),
        (NODES, {"action": "drain", "_selected_action": node, **yes}),
        (NODES, {"action": "mark_dead", "_selected_action": node, **yes}),
        (ROOM.format(room=room), {"act": "message", "message": "1", **yes}),
        (ROOM.format(room=room), {"act": "remove", "connection": pair[0].id, **yes}),
        (BROADCAST, {"message": "1", **yes}),
    ]
    for path, form in forbidden:
        for person in (bob, charlie):
            assert (await person.post(path, **form)).status_code == 403, (path, form)
    await pair[0].do("room", room=room, data="still a member")
    await pair[1].expect("room", data="still a member")
    await silent(pair, pair[1])


async def test_disconnecting(module_cluster: Cluster, alice: Person, pair: list[Client]) -> None:
    """The first step asks and names the number; the second closes with that code and reason, and is in the log."""
    await row_of(alice, pair[1])
    form = {"action": "disconnect", "_selected_action": pair[1].id}
    asked = await alice.post(CONNECTIONS, **form)
    assert asked.status_code == 200
    assert '<strong id="count">1</strong>' in asked.text
    assert await pair[1].is_alive()
    bad = await alice.post(CONNECTIONS, **form, confirmed="yes", code="1005", reason="")
    assert "is not a code to disconnect with" in bad.text
    assert await pair[1].is_alive()
    done = await alice.post(CONNECTIONS, **form, confirmed="yes", code="4321", reason="as you wish")
    assert done.status_code == 302
    assert await pair[1].closed() == (4321, "as you wish")
    assert "1 connection closed." in (await alice.get(CONNECTIONS)).text
    log = await asyncio.to_thread(last_log, module_cluster)
    assert "alice" in log
    assert pair[1].id in log
    again = await alice.post(CONNECTIONS, **form)
    assert again.status_code == 302
    assert "Nothing was done" in (await alice.get(CONNECTIONS)).text
    assert await pair[0].is_alive()


async def test_a_private_message(module_cluster: Cluster, alice: Person, pair: list[Client]) -> None:
    """It reaches the chosen connection alone, from nobody; JSON stays JSON."""
    await row_of(alice, pair[1])
    form = {"action": "message", "_selected_action": pair[1].id, "message": '{"a": [1]}'}
    assert "get a private message" in (await alice.post(CONNECTIONS, **form)).text
    assert (await alice.post(CONNECTIONS, **form, confirmed="yes")).status_code == 302
    assert await pair[1].expect("private") == {"type": "private", "from": None, "data": {"a": [1]}}
    await silent(pair, pair[0])


async def test_a_message_to_a_room_and_a_member_taken_out(
    module_cluster: Cluster, alice: Person, pair: list[Client], room: str
) -> None:
    """Both ask first; the room's message reaches its members on all nodes, and who was taken out gets no other one."""
    path = ROOM.format(room=room)
    assert pair[0].id in (await alice.get(path)).text
    assert room in (await alice.get(f"{ROOMS}?q={room}")).text
    preview = await alice.post(path, act="message", message="hear, hear")
    assert "<strong>2</strong> members" in preview.text
    assert "&quot;hear, hear&quot;" in preview.text
    await alice.post(path, act="message", message="hear, hear", confirmed="yes")
    for client in pair:
        await client.expect("room", room=room, data="hear, hear")
    asked = await alice.post(path, act="remove", connection=pair[1].id)
    assert "Take it out" in asked.text
    assert (await alice.post(path, act="remove", connection=pair[1].id, confirmed="yes")).status_code == 302
    await pair[1].expect("left", room=room)
    await alice.post(path, act="message", message="again", confirmed="yes")
    await pair[0].expect("room", room=room, data="again")
    await silent(pair, pair[0])


async def test_a_broadcast(module_cluster: Cluster, alice: Person, pair: list[Client]) -> None:
    """The preview names the number of connections; everybody gets it once it is confirmed."""
    preview = await alice.post(BROADCAST, message="to all")
    assert '<strong id="count">2</strong>' in preview.text
    assert (await alice.post(BROADCAST, message="to all", confirmed="Send it to everybody")).status_code == 302
    for client in pair:
        assert await client.expect("broadcast") == {"type": "broadcast", "from": None, "data": "to all"}


async def test_a_room_that_can_be_none(alice: Person) -> None:
    """A name that no room can have leads back to the list, with the reason."""
    answer = await alice.get(ROOM.format(room="x" * 65))
    assert answer.status_code == 302
    assert "messagelist" in (await alice.get(ROOMS)).text


async def test_drain_and_mark_dead(start_cluster: StartCluster, log_in: LogIn, connect: Connect) -> None:
    """A drained node sends its clients away with 1012 and ends with 0; the row of a killed one is closed by hand."""
    slow = {**QUICK, "REALTIME_NODE_TIMEOUT_SECONDS": "600"}
    cluster = start_cluster(nodes=3, environment=slow)
    await asyncio.to_thread(add_people, cluster)
    alice = await asyncio.to_thread(log_in, cluster.nodes[0], "alice")
    await acquainted(cluster)
    clients = [await connect(node.url) for node in cluster.nodes]
    for client in clients:
        await row_of(alice, client)
    drained, killed = clients[1], clients[2]
    form = {"action": "drain", "_selected_action": drained.node}
    assert "send their clients elsewhere" in (await alice.post(NODES, **form)).text
    assert (await alice.post(NODES, **form, confirmed="yes")).status_code == 302
    assert await drained.closed() == (1012, "Service restart")
    assert await asyncio.to_thread(cluster.nodes[1].wait, 30) == 0

    cluster.nodes[2].kill()
    page = (await alice.get(f"{CONNECTIONS}?state=live")).text
    assert killed.id in page
    form = {"action": "mark_dead", "_selected_action": killed.node, "confirmed": "yes"}
    assert (await alice.post(NODES, **form)).status_code == 302
    assert "1 node marked dead." in (await alice.get(NODES)).text
    page = (await alice.get(f"{CONNECTIONS}?state=live")).text
    assert killed.id not in page
    assert clients[0].id in page


async def _read(feed: ClientConnection) -> None:
    while True:
        await feed.recv()


async def test_the_feed(module_cluster: Cluster, log_in: LogIn, bob: Person, charlie: Person) -> None:
    """Who may see a page is sent its living part; nobody else, no other site, and not after logging out elsewhere."""
    url = module_cluster.nodes[0].url.replace("/ws/", "/admin/feed/") + "?page=cluster"
    async with open_websocket(url, additional_headers=bob.cookie, proxy=None) as feed:
        html = json.loads(await asyncio.wait_for(feed.recv(), 10))["html"]
        assert "n1-" in html
        assert "n2-" in html
    async with open_websocket(url.replace("cluster", "rooms"), additional_headers=bob.cookie, proxy=None) as feed:
        assert "rt-rooms" in json.loads(await asyncio.wait_for(feed.recv(), 10))["html"]
    evil = {**bob.cookie, "Origin": "http://evil.example"}
    for headers, address in ((charlie.cookie, url), ({}, url), (evil, url), (bob.cookie, url.replace("cluster", "no"))):
        with pytest.raises(InvalidStatus) as refused:
            await open_websocket(address, additional_headers=headers, proxy=None)
        assert refused.value.response.status_code == 403
    another = await asyncio.to_thread(log_in, module_cluster.nodes[1], "bob")
    async with open_websocket(url, additional_headers=another.cookie, proxy=None) as feed:
        await asyncio.wait_for(feed.recv(), 10)
        await another.post("logout/")
        with pytest.raises(ConnectionClosed) as closed:
            await asyncio.wait_for(_read(feed), 60)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 4001  # told, and not found by looking
    assert_no_surprise(module_cluster)


async def test_a_locked_database_is_seen_with_its_reason(module_cluster: Cluster, bob: Person) -> None:
    """Though no node gets its row written: the one that is asked has heard it from itself and from the other."""
    await acquainted(module_cluster)
    other = sqlite3.connect(module_cluster.database, isolation_level=None, timeout=20)
    other.execute("BEGIN IMMEDIATE")
    reason = "the database did not take a transaction within 1 s"
    cells = f'<small class="rt-reason">{reason}</small>'
    await eventually(
        lambda: bob.http.get(f"/admin/{CLUSTER}fragment/").json()["html"].count(cells) == 2, "told of both", 20
    )
    other.execute("ROLLBACK")
    other.close()


async def test_an_unhealthy_node_is_seen_with_its_reason(start_cluster: StartCluster, log_in: LogIn) -> None:
    """The failing check is marked in the cluster's page, with its figure, its limit and why; the others pass."""
    lenient = {"REALTIME_HEALTH_LOOP_LAG_MAX_MS": "60000", "REALTIME_HEALTH_LATENCY_MAX_MS": "60000"}
    short = {"REALTIME_MEMORY_MAX_BYTES": str(16 * 1024 * 1024)}
    cluster = start_cluster(nodes=1, environment={**QUICK, **lenient, **short})
    await asyncio.to_thread(add_people, cluster)
    bob = await asyncio.to_thread(log_in, cluster.nodes[0], "bob")
    await eventually(
        lambda: "it should be below 13 MiB" in bob.http.get(f"/admin/{CLUSTER}fragment/").json()["html"], "told", 20
    )
    html = (await bob.get(f"{CLUSTER}fragment/")).json()["html"]
    assert html.count('<td data-healthy="no"') == 1
    assert html.count('<td data-healthy="yes"') == 5
    assert "unhealthy" in html
