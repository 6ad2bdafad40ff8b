"""A node is frozen with SIGSTOP until the others take it for dead, and wakes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from tests.acceptance.client import Client
from tests.acceptance.conftest import Connect
from tests.acceptance.crash.rows import DIED, FAST, LIVE, connection_rows, end_of, ends, node_states
from tests.acceptance.crash.test_killed import SLOW_SECONDS, closings, connect_many, told_of
from tests.acceptance.nodes import acquainted, assert_no_traceback, eventually, metric
from tests.conftest import StartCluster
from tests.support.cluster import Cluster, DaphneNode


@dataclass
class Frozen:
    """Two nodes: one frozen, which the other one, the judge, has taken for dead. Clients of both watch the room."""

    cluster: Cluster
    judge: DaphneNode
    frozen: DaphneNode
    here: Client
    there: list[Client]

    @property
    def node_id(self) -> str:
        return self.there[0].node


@pytest.fixture(params=["redis", "core"])
async def frozen(
    request: pytest.FixtureRequest, start_cluster: StartCluster, connect: Connect
) -> AsyncIterator[Frozen]:
    """On our own layer, and on one that keeps the members of groups itself."""
    environment = FAST
    if request.param == "core":
        project = "tests.acceptance.other_project.settings"
        environment = {**FAST, "DJANGO_SETTINGS_MODULE": project, "STOCK_LAYER": "core"}
    cluster = start_cluster(nodes=2, environment=environment)
    await acquainted(cluster)
    judge, frozen = cluster.nodes
    here = await connect(judge.url)
    await here.do("join", room="room", members=True)
    there = await connect_many(connect, frozen, 4)
    await there[0].do("join", room="room", members=True)
    await told_of(here, "joined", there)
    await eventually(lambda: ends(cluster, there) == {LIVE}, "the rows are there", SLOW_SECONDS)
    frozen.pause()
    try:
        await told_of(here, "left", there)
        await eventually(lambda: ends(cluster, there) == {DIED}, "the rows are closed", SLOW_SECONDS)
        assert node_states(cluster)[there[0].node] == "dead"
        here.received.clear()  # from here on: what the awakening brings
        yield Frozen(cluster, judge, frozen, here, there)
    finally:
        if frozen.is_running:
            frozen.resume()


async def test_a_node_that_wakes_takes_its_place_again(frozen: Frozen, connect: Connect) -> None:
    """It judges nobody, keeps its id, and its connections are members and live rows again; one that went away
    meanwhile keeps its true end. Both nodes tell each other's watchers of what happens from then on."""
    cluster, here, there = frozen.cluster, frozen.here, frozen.there
    newcomer = await connect(frozen.judge.url)
    await newcomer.join("room")  # the frozen node cannot know
    there[3].abort()
    frozen.frozen.resume()

    await told_of(here, "joined", there[:3])
    await told_of(there[0], "joined", [newcomer])
    await eventually(lambda: ends(cluster, there[:3]) == {LIVE}, "the rows are live again", SLOW_SECONDS)
    await eventually(
        lambda: end_of(connection_rows(cluster)[there[3].id]) == (False, 1006, ""), "one has ended", SLOW_SECONDS
    )
    await eventually(lambda: node_states(cluster)[frozen.node_id] == "ready", "the node is ready", SLOW_SECONDS)

    later_here, later_there = await connect(frozen.judge.url), await connect(frozen.frozen.url)
    await asyncio.gather(later_here.join("room"), later_there.join("room"))
    await told_of(here, "joined", [later_there])
    await told_of(there[0], "joined", [later_here])
    assert later_there.node == frozen.node_id
    await here.do("room", room="room", data="to those who were away")
    for client in (*there[:3], later_there):
        await client.expect("room", data="to those who were away")
    assert not any(client.is_closed for client in there[:3])
    assert metric(frozen.frozen, "realtime_nodes_died_total") == 0
    assert metric(frozen.judge, "realtime_nodes_died_total") == 1
    assert closings(cluster, frozen.node_id) == 1
    assert_no_traceback(cluster)


@pytest.mark.parametrize("frozen", ["redis"], indirect=True)
async def test_a_node_that_was_taken_for_dead_says_goodbye(frozen: Frozen) -> None:
    """It was told to end while it was frozen: it closes its clients, whose rows have that as their true end, and it has
    stopped, not died."""
    frozen.frozen.terminate()
    frozen.frozen.resume()
    assert {await client.closed(SLOW_SECONDS) for client in frozen.there} == {(1012, "Service restart")}
    assert await asyncio.to_thread(frozen.frozen.wait, SLOW_SECONDS) == 0
    assert ends(frozen.cluster, frozen.there) == {(False, 1012, "Service restart")}
    assert node_states(frozen.cluster)[frozen.node_id] == "stopped"
    assert_no_traceback(frozen.cluster)
