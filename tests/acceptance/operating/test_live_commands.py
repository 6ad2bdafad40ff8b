"""Lists, disconnections, removals and drains over a cluster, asked for by processes that have no node."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from realtime.auth import issue_token
from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.acceptance.nodes import acquainted, assert_no_traceback, eventually, metric
from tests.conftest import StartCluster
from tests.support.cluster import Cluster, DaphneNode, run_manage
from tests.support.processes import CHECKOUT
from tests.support.servers import RedisServer

PATIENT = 8.0
"""How long nodes are waited for that answer; they do so at once, unless the machine is busy."""
PARTIAL_SECONDS = 2.0
HASTY = 0.3
"""How long nodes are waited for where time is measured: far less than may pass, for the same reason."""


def ask_now(environment: Mapping[str, str], *calls: tuple[str, dict[str, Any]]) -> list[tuple[float, Any]]:
    """The answers of one process that calls these functions, and how long each took."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.acceptance.operating.asker", json.dumps(calls)],
        cwd=CHECKOUT,
        env={"DJANGO_SETTINGS_MODULE": "config.settings", **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return [(line["seconds"], line["answer"]) for line in lines]


async def ask(cluster: Cluster, name: str, **arguments: object) -> Any:
    """One answer."""
    arguments.setdefault("within", PATIENT)
    return (await asyncio.to_thread(ask_now, cluster.environment, (name, arguments)))[0][1]


def rows(cluster: Cluster, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """What the cluster's database says."""
    with contextlib.closing(sqlite3.connect(cluster.database)) as database:
        return database.execute(sql, parameters).fetchall()


def node_of(cluster: Cluster, client: Client) -> DaphneNode:
    return next(node for node in cluster.nodes if client.node.startswith(f"{node.name}-"))


@pytest.fixture(scope="module")
def module_cluster(redis_server: RedisServer) -> Iterator[Cluster]:
    """Three nodes, none of which is stopped."""
    with Cluster(redis_server.url, nodes=3) as cluster:
        yield cluster
        assert_no_traceback(cluster)


@pytest.fixture
async def trio(module_cluster: Cluster, connect: Connect) -> list[Client]:
    """A client on each node; nobody else is connected."""
    await acquainted(module_cluster)
    await eventually(
        lambda: all(metric(node, "websocket_connected_clients") == 0 for node in module_cluster.nodes), "all are gone"
    )
    return [await connect(node.url) for node in module_cluster.nodes]


async def test_a_connection_is_disconnected(module_cluster: Cluster, trio: list[Client]) -> None:
    """Its client gets exactly that code and reason, the row has them, it is counted; the others stay."""
    victim, *others = trio
    node = node_of(module_cluster, victim)
    before = metric(node, "realtime_connections_evicted_total")
    words = ("disconnect", victim.id, "--code", "4321", "--reason", "bye é", "--within", "8")
    assert await asyncio.to_thread(module_cluster.manage, *words) == "1 disconnected.\n"
    assert await victim.closed() == (4321, "bye é")
    for client in others:
        assert await client.is_alive()
    assert metric(node, "realtime_connections_evicted_total") == before + 1
    sql = "SELECT close_code, close_reason FROM realtime_connection WHERE id = ? AND disconnected IS NOT NULL"
    await eventually(lambda: rows(module_cluster, sql, victim.id) == [(4321, "bye é")], "the row is written")
    assert (await ask(module_cluster, "disconnect", connection=victim.id))["count"] == 0


async def test_a_user_is_disconnected_on_every_node(module_cluster: Cluster, trio: list[Client]) -> None:
    """Two connections of the user on two nodes end, that of another user stays; sync and async callers can do it."""
    phone, desk, other = trio
    await phone.do("authenticate", token=issue_token("7"))
    await desk.do("authenticate", token=issue_token("7"))
    await other.do("authenticate", token=issue_token("8"))
    done = await ask(module_cluster, "adisconnect", user=7, code=4001, reason="Logged out")
    assert (done["count"], done["is_partial"]) == (2, False)
    assert await phone.closed() == await desk.closed() == (4001, "Logged out")
    assert await other.is_alive()
    done = await ask(module_cluster, "disconnect", user="nobody")
    assert (done["count"], done["is_partial"]) == (0, False)


async def test_connections_and_rooms_are_listed_over_all_nodes(module_cluster: Cluster, trio: list[Client]) -> None:
    """With the counts of each node; by room, by user and by node; in pages without gap or overlap."""
    for client in trio:
        await client.join("lobby")
    await trio[0].join("a b")
    await trio[0].do("authenticate", token=issue_token("7"))
    calls: list[tuple[str, dict[str, Any]]] = [
        ("list_rooms", {"within": PATIENT}),
        ("alist_rooms", {"prefix": "lo", "within": PATIENT}),
        ("list_connections", {"user": 7, "within": PATIENT}),
        ("list_members", {"room": "lobby", "within": PATIENT}),
        ("list_connections", {"node": trio[1].node, "within": PATIENT}),
        ("alist_nodes", {"within": PATIENT}),
    ]
    answers = [answer for _, answer in await asyncio.to_thread(ask_now, module_cluster.environment, *calls)]
    rooms, prefixed, of_user, members, on_node, nodes = answers
    everywhere = {client.node: 1 for client in trio}
    lobby = {"name": "lobby", "members": 3, "by_node": everywhere}
    assert rooms["rooms"] == [{"name": "a b", "members": 1, "by_node": {trio[0].node: 1}}, lobby]
    assert rooms["by_node"] == {**everywhere, trio[0].node: 2}
    assert prefixed["rooms"] == [lobby]
    assert [(each["id"], each["rooms"]) for each in of_user["connections"]] == [(trio[0].id, 2)]
    assert {each["id"] for each in members["connections"]} == {client.id for client in trio}
    assert [each["id"] for each in on_node["connections"]] == [trio[1].id]
    assert {node["id"]: (node["state"], node["connections"]) for node in nodes["nodes"]} == {
        client.node: ("ready", 1) for client in trio
    }
    assert not any(answer["is_partial"] for answer in answers)


async def test_pages_follow_one_another(module_cluster: Cluster, trio: list[Client]) -> None:
    """The next page begins after the last id of this one; the table says how to get it."""
    ids = sorted(client.id for client in trio)
    calls = [("list_connections", {"limit": 2, "after": after, "within": PATIENT}) for after in ("", ids[1], ids[2])]
    answers = [answer for _, answer in await asyncio.to_thread(ask_now, module_cluster.environment, *calls)]
    assert [[each["id"] for each in answer["connections"]] for answer in answers] == [ids[:2], ids[2:], []]
    assert [(answer["total"], answer["has_more"]) for answer in answers] == [(3, True), (3, False), (3, False)]
    table = await asyncio.to_thread(module_cluster.manage, "connections", "--limit", "2", "--within", "8")
    assert all(name in table for name in ids[:2])
    assert ids[2] not in table
    assert "3 connections: " in table
    assert f"--after {ids[1]}" in table


async def test_a_member_is_removed(module_cluster: Cluster, trio: list[Client]) -> None:
    """It gets `left`, watchers on other nodes see it leave, and it hears nothing more of the room."""
    removed, watcher, sender = trio
    await removed.join("staff")
    await sender.join("staff")
    await watcher.join("staff", members=True)
    assert (await ask(module_cluster, "remove_member", room="staff", connection=removed.id))["count"] == 1
    assert await removed.expect("left") == {"type": "left", "room": "staff"}
    await watcher.take(lambda push: {"id": removed.id, "user": None} in push.get("left", []), "the change")
    await sender.do("room", room="staff", data="unheard")
    await sender.do("private", to=removed.id, data="sentinel")
    await removed.expect("private")
    assert removed.pushes("room") == []
    assert (await removed.ask("room", room="staff", data=1))["code"] == "not_joined"


async def test_a_node_that_does_not_answer_is_named(module_cluster: Cluster, trio: list[Client]) -> None:
    """In time, and what the others say is right; awake again it is in the lists. An order to it is partial."""
    for client in trio:
        await client.join("lobby")
    silent = trio[1]
    frozen = node_of(module_cluster, silent)
    frozen.pause()
    try:
        calls: list[tuple[str, dict[str, Any]]] = [
            ("list_rooms", {"within": 3.0}),
            ("alist_connections", {"within": 3.0}),
            ("list_nodes", {"within": HASTY}),
            ("disconnect", {"connection": silent.id, "within": HASTY}),
        ]
        answers = await asyncio.to_thread(ask_now, module_cluster.environment, *calls)
    finally:
        frozen.resume()
    rooms, connections, nodes, done = (answer for _, answer in answers)
    assert rooms["silent"] == connections["silent"] == done["silent"] == [silent.node]
    assert silent.node in nodes["silent"]
    assert all(answer["is_partial"] for _, answer in answers)
    assert max(seconds for seconds, _ in answers[2:]) < PARTIAL_SECONDS
    answering = {trio[0].node: 1, trio[2].node: 1}
    assert rooms["rooms"] == [{"name": "lobby", "members": 2, "by_node": answering}]
    assert (connections["total"], connections["by_node"]) == (2, answering)
    assert await silent.closed() == (1008, "")  # the order waited for it
    assert (await ask(module_cluster, "list_nodes"))["silent"] == []


async def _until_named(cluster: Cluster) -> dict[str, Any]:
    """The list of rooms once the database named who is silent: on a busy machine it may take too long for one call."""
    async with asyncio.timeout(40):
        while True:
            found: dict[str, Any] = json.loads(
                await asyncio.to_thread(cluster.manage, "rooms", "--json", "--within", "3")
            )
            assert found["is_partial"]
            if found["silent"]:
                return found


async def test_the_only_node_is_named_from_the_database(start_cluster: StartCluster) -> None:
    """Nobody answers who could name it: its row does. A node that ended is not missed."""
    cluster = start_cluster(nodes=2)
    await acquainted(cluster)
    nodes = {node["id"] for node in (await ask(cluster, "list_nodes"))["nodes"]}

    def are_written() -> bool:
        told = run_manage(cluster.environment, "stats", "--json").stdout
        return all(name in told for name in nodes)

    await eventually(are_written, "each node has its row", 30)
    assert await asyncio.to_thread(cluster.nodes[0].stop) == 0
    frozen = cluster.nodes[1]
    frozen.pause()
    try:
        listed = await _until_named(cluster)
    finally:
        frozen.resume()
    assert listed["is_partial"]
    assert listed["silent"] == [name for name in nodes if name.startswith(frozen.name)]
    assert await asyncio.to_thread(frozen.stop) == 0
    assert await ask(cluster, "list_nodes") == {"is_partial": False, "silent": [], "nodes": []}


@pytest.mark.parametrize("layer", ["core", "pubsub"])
async def test_stock_layers_carry_it_too(start_cluster: StartCluster, connect: Connect, layer: str) -> None:
    """The same questions and orders over layers of channels_redis, which do not say how many nodes heard them."""
    project = {"DJANGO_SETTINGS_MODULE": "tests.acceptance.other_project.settings", "STOCK_LAYER": layer}
    cluster = start_cluster(nodes=2, environment={**project, "REALTIME_HEARTBEAT_SECONDS": "0.5"})
    await acquainted(cluster)
    one, two = [await connect(node.url) for node in cluster.nodes]
    await two.join("lobby")
    await one.do("authenticate", token=issue_token("7"))
    calls: list[tuple[str, dict[str, Any]]] = [
        ("list_connections", {"within": PATIENT}),
        ("list_rooms", {"within": PATIENT}),
        ("disconnect", {"user": 7, "code": 4001, "within": 3.0}),
        ("disconnect", {"connection": two.id, "code": 3000, "reason": "enough", "within": PATIENT}),
    ]
    connections, rooms, by_user, by_id = [
        answer for _, answer in await asyncio.to_thread(ask_now, cluster.environment, *calls)
    ]
    assert {each["id"] for each in connections["connections"]} == {one.id, two.id}
    assert not connections["is_partial"]
    assert [(room["name"], room["members"]) for room in rooms["rooms"]] == [("lobby", 1)]
    assert (by_user["count"], by_id["count"]) == (1, 1)
    assert await one.closed() == (4001, "")
    assert await two.closed() == (3000, "enough")


async def test_an_order_from_a_dead_backplane_is_unavailable(own_redis: RedisServer) -> None:
    """Within 2.5 s, whatever is asked; the commands say so in one line."""
    cluster = Cluster(own_redis.url, nodes=0)
    try:
        own_redis.kill()
        calls: list[tuple[str, dict[str, Any]]] = [("list_rooms", {}), ("adisconnect", {"user": 1})]
        answers = await asyncio.to_thread(ask_now, cluster.environment, *calls)
        assert [answer for _, answer in answers] == [{"error": "BackplaneUnavailable"}] * 2
        assert max(seconds for seconds, _ in answers) < 4  # 2.5 s, and what a busy machine adds
        done = await asyncio.to_thread(run_manage, cluster.environment, "rooms")
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].startswith("CommandError: unavailable:")
        assert "Traceback" not in done.stderr
    finally:
        cluster.stop()
