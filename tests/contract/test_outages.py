"""What happens when the backplane goes away, and when it comes back."""

from __future__ import annotations

import asyncio

import pytest

from realtime.exceptions import BackplaneUnavailable
from realtime.layers import link as links
from realtime.layers.backplane import Backplane
from tests.contract.kinds import KINDS, Cluster, Kind, node_channel
from tests.contract.recorder import Recorder
from tests.support.servers import Server

ON_SERVERS = [kind for kind in KINDS if kind.servers]
OURS = [kind for kind in ON_SERVERS if kind.is_ours]
BROKERS = list(dict.fromkeys(kind.broker for kind in ON_SERVERS))
over_servers = pytest.mark.parametrize("kind", ON_SERVERS, ids=lambda kind: kind.name)
LOSING = [kind for kind in OURS if not kind.reads_on]
over_losing = pytest.mark.parametrize("kind", LOSING, ids=lambda kind: kind.name)
over_ours = pytest.mark.parametrize("kind", OURS, ids=lambda kind: kind.name)


@over_servers
async def test_publishing_fails_within_two_seconds_while_the_server_is_down(fragile: Cluster) -> None:
    """With the server killed, publishes fail with BackplaneUnavailable in time, and nothing hangs."""
    node, _ = await fragile.node()
    await node.subscribe(["rt.r.x"])
    fragile.servers[0].kill()
    lost = node.probe_groups("rt.echo")[0]
    for _ in range(3):
        await assert_unavailable(node, lost)
        if fragile.kind.is_ours:  # which knows that it is down, and says so without waiting
            assert node.publish(lost, b"{}").done()


@pytest.mark.parametrize("broker", BROKERS)
async def test_publishing_fails_within_two_seconds_while_the_server_hangs(
    broker: str, request: pytest.FixtureRequest
) -> None:
    """With the server frozen (it accepts and never answers), publishes fail in time as well, on every layer."""
    servers: list[Server] = request.getfixturevalue(f"own_{broker}_servers")
    clusters = [Cluster(kind, servers) for kind in ON_SERVERS if kind.broker == broker]
    nodes = [(await cluster.node())[0] for cluster in clusters]
    for server in servers:
        server.pause()
    try:
        await asyncio.gather(*[assert_unavailable(node, "rt.r.x") for node in nodes])
    finally:
        for server in servers:
            server.resume()  # stock layers wait for a frozen server for ever when they are closed
        for cluster in clusters:
            await cluster.close()


@pytest.mark.parametrize("kind", [kind for kind in ON_SERVERS if not kind.reads_on], ids=lambda kind: kind.name)
async def test_subscribing_waits_for_the_server(fragile: Cluster) -> None:
    """subscribe() returns when the server has confirmed and not before, also for a second one to the same group."""
    node, recorder = await fragile.node()
    for server in fragile.servers:
        server.pause()
    asked = [asyncio.create_task(node.subscribe(["rt.r.x"])) for _ in range(2)]
    done, _ = await asyncio.wait(asked, timeout=0.2)
    assert not done
    for server in fragile.servers:
        server.resume()
    await asyncio.gather(*asked)
    await node.publish("rt.r.x", b"{}")
    await recorder.until_envelope(b"{}")


@over_servers
async def test_everything_arrives_again_after_a_restart(fragile: Cluster) -> None:
    """interrupted(), then resumed() with the groups; what is published afterwards arrives in every group."""
    node, recorder = await fragile.node()
    groups = [f"rt.r.{number}" for number in range(20)]
    await node.subscribe(groups)
    fragile.servers[0].kill()
    await assert_unavailable(node, node.probe_groups("rt.echo")[0])
    await recorder.until_event("interrupted")
    fragile.servers[0].start()
    await recorder.until_event("resumed")
    assert recorder.events == ["interrupted", "resumed"]
    for group in groups:
        await node.publish(group, group.encode())
    await recorder.until_count(len(groups))


@over_servers
async def test_groups_of_the_outage_are_subscribed_afterwards(fragile: Cluster) -> None:
    """A subscribe() that failed is remembered; an unsubscribe() during the outage is, too."""
    node, recorder = await fragile.node()
    kept, left, new = "rt.r.kept", "rt.r.left", "rt.r.new"
    await node.subscribe([kept, left])
    for server in fragile.servers:
        server.kill()
    await assert_unavailable(node, kept)
    await recorder.until_event("interrupted")
    with pytest.raises(BackplaneUnavailable):
        await node.subscribe([new])
    await node.unsubscribe([left])
    for server in fragile.servers:
        server.start()
    await recorder.until_event("resumed")
    for group in (left, kept, new):
        await node.publish(group, group.encode())
    await recorder.until_count(2)
    await node.publish(kept, b"{}")
    await recorder.until_envelope(b"{}")
    assert sorted(recorder.envelopes) == sorted([kept.encode(), new.encode(), b"{}"])


@over_servers
async def test_a_node_may_start_before_the_server(fragile: Cluster) -> None:
    """open() fails within 2.5 s, goes on trying, and resumed(None) tells when the node is subscribed."""
    for server in fragile.servers:
        server.kill()
    node, recorder = fragile.backplane(), Recorder()
    async with asyncio.timeout(2.5):
        with pytest.raises(BackplaneUnavailable):
            await node.open(node_channel(), recorder)
    with pytest.raises(BackplaneUnavailable):
        await node.subscribe(["rt.r.early"])
    for server in fragile.servers:
        server.start()
    await recorder.until_event("resumed")
    assert recorder.events == ["resumed"]
    assert recorder.groups == [None]
    await node.publish("rt.r.early", b"{}")
    await recorder.until_envelope(b"{}")


@over_servers
async def test_closing_works_while_the_server_is_down(fragile: Cluster) -> None:
    """close() returns within 3 s and raises nothing."""
    node, _ = await fragile.node()
    await node.subscribe(["rt.r.x"])
    for server in fragile.servers:
        server.kill()
    async with asyncio.timeout(3):
        await node.close()


@pytest.mark.parametrize("kind", [kind for kind in LOSING if kind.name != "redis"], ids=lambda kind: kind.name)
async def test_a_silent_server_is_noticed_without_any_publishing(
    fragile: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A frozen server closes no connection; the PING that it does not answer gives it away after two
    intervals."""
    monkeypatch.setattr(links, "PING_SECONDS", 0.3)
    node, recorder = await fragile.node()
    fragile.servers[0].pause()
    await recorder.until_event("interrupted", 2)
    fragile.servers[0].resume()
    await recorder.until_event("resumed")
    assert node.stats.missed == 1


@over_losing
async def test_only_the_groups_of_the_lost_shard_are_named(fragile: Cluster) -> None:
    """After the loss of one shard, resumed() names its groups, and the node's channel if that was on it."""
    node, recorder = await fragile.node()
    groups = node.probe_groups("rt.echo")
    await node.subscribe(groups)
    fragile.servers[0].restart()
    await recorder.until_event("resumed")
    [named] = recorder.groups
    assert named is not None
    assert named - {node.channel} == {groups[0]}


@over_ours
async def test_a_second_loss_is_told_again(fragile: Cluster) -> None:
    """Each loss has its own interrupted() and its own resumed()."""
    _, recorder = await fragile.node()
    for _ in range(2):
        recorder.events.clear()
        fragile.servers[0].kill()
        await recorder.until_event("interrupted")
        fragile.servers[0].start()
        await recorder.until_event("resumed")
        assert recorder.events == ["interrupted", "resumed"]


async def assert_unavailable(node: Backplane, group: str) -> None:
    async with asyncio.timeout(2.2):
        with pytest.raises(BackplaneUnavailable):
            await node.publish(group, b"{}")


def test_the_kinds_on_servers_are_these() -> None:
    """Nobody loses a layer from this suite by accident."""
    names: list[str] = [kind.name for kind in ON_SERVERS]
    assert names == ["core", "pubsub", "redis", "shards", "rabbitmq", "kafka"]
    assert isinstance(KINDS[0], Kind)
