"""What only our own Redis layer promises, on a real Redis."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

import pytest
import pytest_asyncio
from channels_redis.pubsub import RedisPubSubChannelLayer

from realtime.exceptions import BackplaneUnavailable
from realtime.layers.linked_backplane import LinkedBackplane
from realtime.layers.redis import RedisChannelLayer
from tests.contract.kinds import KINDS, Cluster, node_channel
from tests.contract.recorder import Recorder
from tests.support.servers import RedisServer

[REDIS] = [kind for kind in KINDS if kind.name == "redis"]


@pytest_asyncio.fixture
async def cluster(redis_pair: list[RedisServer]) -> AsyncIterator[Cluster]:
    cluster = Cluster(REDIS, redis_pair)
    yield cluster
    await cluster.close()


@pytest.fixture
def fragile_server() -> Iterator[RedisServer]:
    """One that the test may harm."""
    with RedisServer() as server:
        yield server


# Speaking to Redis


async def test_a_burst_leaves_in_one_write(redis_pair: list[RedisServer], cluster: Cluster) -> None:
    """Everything published in one turn of the loop is one write; it comes back in few batches."""
    node, recorder = await cluster.node()
    await node.subscribe(["rt.r.x"])
    before = counter(redis_pair[0], "total_reads_processed")
    results = await asyncio.gather(*[node.publish("rt.r.x", b'{"n":%d}' % n) for n in range(100)])
    assert counter(redis_pair[0], "total_reads_processed") - before < 6  # a PING may be among them
    assert results == [1] * 100
    await recorder.until_count(100)
    assert len(recorder.batches) < 10


def counter(server: RedisServer, name: str) -> int:
    found = re.search(rb"%b:(\d+)" % name.encode(), server.command("INFO", "stats"))
    assert found is not None
    return int(found[1])


async def test_unsubscribing_tells_redis(redis_pair: list[RedisServer], cluster: Cluster) -> None:
    """A group that nobody in the process wants any more costs Redis nothing."""
    layer = cluster.layer()
    node, _ = await cluster.node(layer)
    channel = await layer.new_channel()
    await node.subscribe(["rt.r.x"])
    await layer.group_add("rt.r.x", channel)
    await node.unsubscribe(["rt.r.x"])
    assert await node.publish("rt.r.x", b"{}") == 1  # the consumer still does
    await layer.group_discard("rt.r.x", channel)
    async with asyncio.timeout(5):
        while await node.publish("rt.r.x", b"{}"):
            await asyncio.sleep(0.01)


async def test_publish_tells_the_number_of_nodes(cluster: Cluster) -> None:
    """The result of a publish is the number of subscribers."""
    nodes = [(await cluster.node())[0] for _ in range(3)]
    for node in nodes[:2]:
        await node.subscribe(["rt.r.x"])
    assert await nodes[2].publish("rt.r.x", b"{}") == 2
    assert await nodes[2].publish("rt.r.nobody", b"{}") == 0


async def test_ten_thousand_groups_are_ten_commands(redis_pair: list[RedisServer], cluster: Cluster) -> None:
    """Subscriptions go out a thousand at a time."""
    node, _ = await cluster.node()
    before = subscribe_calls(redis_pair[0])
    await node.subscribe([f"rt.r.{n}" for n in range(10_000)])
    assert subscribe_calls(redis_pair[0]) - before == 10


def subscribe_calls(server: RedisServer) -> int:
    found = re.search(rb"cmdstat_subscribe:calls=(\d+)", server.command("INFO", "commandstats"))
    return int(found[1]) if found else 0


async def test_a_foreign_service_may_publish(redis_pair: list[RedisServer], cluster: Cluster) -> None:
    """PUBLISH of JSON text to <prefix>__group__<group> by anybody is delivered as it is."""
    node, recorder = await cluster.node()
    await node.subscribe(["rt.r.lobby"])
    redis_pair[0].command("PUBLISH", f"{cluster.prefix}__group__rt.r.lobby", '{"v":1}')
    await recorder.until_envelope(b'{"v":1}')


async def test_groups_are_shared_with_channels_redis_pubsub(redis_pair: list[RedisServer], cluster: Cluster) -> None:
    """A process that still uses channels_redis.pubsub is in the same groups, encryption included."""
    stock = RedisPubSubChannelLayer(hosts=[redis_pair[0].url], prefix=cluster.prefix, symmetric_encryption_keys=["key"])
    ours = cluster.layer(symmetric_encryption_keys=["key"])
    channel = await ours.new_channel()
    await ours.group_add("chat", channel)
    await stock.group_send("chat", {"type": "t", "from": "stock"})
    assert await asyncio.wait_for(ours.receive(channel), 5) == {"type": "t", "from": "stock"}
    await stock.flush()


async def test_receive_batch_keeps_kinds_apart(cluster: Cluster) -> None:
    """receive_batch() returns envelopes as bytes and other messages as dicts, in order."""
    layer = cluster.layer()
    channel = await layer.new_channel()
    await layer.group_add("chat", channel)
    node, _ = await cluster.node(layer)
    await layer.group_send("chat", {"type": "t"})
    await node.publish("chat", b'{"v":1}')
    await layer.send(channel, {"type": "last"})
    batch: list[Any] = []
    while {"type": "last"} not in batch:
        batch += await asyncio.wait_for(layer.receive_batch(channel), 5)
    assert batch == [{"type": "t"}, b'{"v":1}', {"type": "last"}]


async def test_what_no_key_opens_is_counted_and_told(cluster: Cluster) -> None:
    """A message encrypted with an unknown key reaches nobody, but the node learns of it."""
    node, recorder = await cluster.node(cluster.layer(symmetric_encryption_keys=["ours"]))
    stranger, _ = await cluster.node(cluster.layer(symmetric_encryption_keys=["theirs"]))
    await node.subscribe(["rt.r.x"])
    await stranger.publish("rt.r.x", b"{}")
    await recorder.until(lambda: recorder.dropped_count == 1)
    assert recorder.envelopes == []
    assert node.stats.dropped == 1


# Bounds


async def test_a_slow_node_stops_reading(cluster: Cluster) -> None:
    """While the node is busy its socket is not read beyond the bound; afterwards everything arrives, in
    order."""
    node, recorder = await cluster.node(cluster.layer(node_waiting_bytes=64 * 1024))
    assert isinstance(node, LinkedBackplane)
    publisher, _ = await cluster.node()
    await node.subscribe(["rt.r.x"])
    recorder.gate = asyncio.Event()
    sent = [b'{"n":%d,"pad":"%s"}' % (n, b"x" * 1024) for n in range(3_000)]
    for start in range(0, len(sent), 100):
        await asyncio.gather(*[publisher.publish("rt.r.x", each) for each in sent[start : start + 100]])
    assert node.waiting_bytes < 64 * 1024 + 2 * 256 * 1024  # the bound, and the reads under way
    recorder.gate.set()
    await recorder.until_count(len(sent))
    assert recorder.envelopes == sent
    assert recorder.events == []


async def test_two_nodes_may_share_a_layer_object(cluster: Cluster) -> None:
    """Each gets its own groups' messages, and closing one leaves the other alone."""
    layer = cluster.layer()
    (first, heard_by_first), (second, heard_by_second) = await cluster.node(layer), await cluster.node(layer)
    await first.subscribe(["rt.r.both", "rt.r.first"])
    await second.subscribe(["rt.r.both"])
    await first.publish("rt.r.first", b'{"v":1}')
    await first.publish("rt.r.both", b'{"v":2}')
    await heard_by_first.until_count(2)
    await heard_by_second.until_count(1)
    assert heard_by_second.envelopes == [b'{"v":2}']
    await first.close()
    await second.publish("rt.r.both", b'{"v":3}')
    await heard_by_second.until_count(2)


async def test_a_loss_is_told_although_others_used_the_layer_before(fragile_server: RedisServer) -> None:
    """A node that opens on connections which are up already still hears of their loss and return."""
    with RedisServer() as second:
        layer = RedisChannelLayer([fragile_server.url, second.url])
        channels = [await layer.new_channel() for _ in range(8)]
        assert len(channels) == 8
        node, recorder = layer.backplane(), Recorder()
        await node.open(node_channel(), recorder)
        fragile_server.restart()
        await recorder.until_event("resumed")
        await node.close()
        await layer.close()


async def test_unanswered_publishes_are_bounded(fragile_server: RedisServer) -> None:
    """Beyond max_pending_bytes a publish fails at once, while the earlier ones are still under way."""
    cluster = Cluster(REDIS, [fragile_server])
    node, _ = await cluster.node(cluster.layer(max_pending_bytes=100_000))
    fragile_server.pause()
    waiting = [node.publish("rt.r.x", b"x" * 10_000) for _ in range(10)]
    with pytest.raises(BackplaneUnavailable, match="wait"):
        await asyncio.wait_for(node.publish("rt.r.x", b"x" * 10_000), 0.1)
    assert not any(future.done() for future in waiting)
    fragile_server.resume()
    await asyncio.gather(*waiting)
    await cluster.close()


async def test_a_full_channel_drops_and_counts(cluster: Cluster) -> None:
    """A consumer that does not receive keeps `capacity` messages; the rest is counted and told once each."""
    told: list[tuple[str, int]] = []
    layer = cluster.layer(capacity=10, on_drop=lambda channel, count: told.append((channel, count)))
    channel = await layer.new_channel()
    other = await layer.new_channel()
    for number in range(15):
        await layer.send(channel, {"type": "t", "number": number})
    await layer.send(other, {"type": "sentinel"})
    assert await asyncio.wait_for(layer.receive(other), 5) == {"type": "sentinel"}
    assert [(await layer.receive(channel))["number"] for _ in range(10)] == list(range(10))
    assert layer.stats.dropped == 5
    assert told == [(channel, 1)] * 5


async def test_a_full_channel_starves_nobody(cluster: Cluster) -> None:
    """A consumer that empties a long queue lets others run in between."""
    layer = cluster.layer()
    channel = await layer.new_channel()
    await asyncio.gather(*[layer.send(channel, {"type": "t"}) for _ in range(50)])
    await layer.receive(channel)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    for _ in range(49):
        await layer.receive(channel)
    counting.cancel()
    assert turns >= 40


async def test_a_receiver_that_gave_up_loses_nothing(cluster: Cluster) -> None:
    """receive() may be given a time limit: the channel stays, and the next receive() gets what came
    meanwhile."""
    layer = cluster.layer()
    channel = await layer.new_channel()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(layer.receive(channel), 0.01)
    await layer.send(channel, {"type": "t"})
    assert await asyncio.wait_for(layer.receive(channel), 5) == {"type": "t"}


async def test_an_abandoned_channel_is_closed(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel whose consumer ended is unsubscribed, with its groups, after a while."""
    monkeypatch.setattr("realtime.layers.linked_loop.ABANDONED_SECONDS", 0.05)
    layer = cluster.layer()
    watching, _ = await cluster.node()
    channel = await layer.new_channel()
    await layer.group_add("rt.r.x", channel)
    receiving = asyncio.create_task(layer.receive(channel))
    await asyncio.sleep(0)
    receiving.cancel()
    await asyncio.wait([receiving])
    async with asyncio.timeout(5):
        while await watching.publish("rt.r.x", b"{}"):
            await asyncio.sleep(0.01)


# Loops and connections


async def test_connections_end_with_their_loop(redis_pair: list[RedisServer], cluster: Cluster) -> None:
    """A loop that published and was closed leaves no connection behind."""
    layer = cluster.layer()
    before = clients(redis_pair[0])
    await asyncio.to_thread(lambda: asyncio.run(layer.group_send("chat", {"type": "t"})))
    await asyncio.to_thread(run_without_clearing_up, layer.group_send("chat", {"type": "t"}))
    async with asyncio.timeout(5):
        while clients(redis_pair[0]) > before:
            await asyncio.sleep(0.01)


def run_without_clearing_up(work: Coroutine[Any, Any, None]) -> None:
    """A loop that is closed while tasks are left in it."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(work)
    loop.close()


def clients(server: RedisServer) -> int:
    return server.command("CLIENT", "LIST").count(b"name=rt-")


async def test_a_node_uses_two_connections(fragile_server: RedisServer) -> None:
    """One to publish and one to subscribe, whatever it does; closing closes both."""
    cluster = Cluster(REDIS, [fragile_server])  # on which nobody else's connection is about to end
    node, _ = await cluster.node()
    await node.subscribe([f"rt.r.{n}" for n in range(100)])
    await asyncio.gather(*[node.publish(f"rt.r.{n}", b"{}") for n in range(100)])
    assert clients(fragile_server) == 2
    await node.close()
    async with asyncio.timeout(5):
        while clients(fragile_server):
            await asyncio.sleep(0.01)
    await cluster.close()


async def test_missed_is_told_to_whoever_asked(fragile_server: RedisServer) -> None:
    """on_missed gets the groups of this loop's consumers after an interruption, and they go on receiving."""
    told: list[frozenset[str]] = []
    layer = RedisChannelLayer([fragile_server.url], on_missed=told.append)
    channel = await layer.new_channel()
    await layer.group_add("chat", channel)
    fragile_server.restart()
    async with asyncio.timeout(10):
        while not told:
            await asyncio.sleep(0.01)
        while True:
            try:
                await layer.group_send("chat", {"type": "t"})
                break
            except BackplaneUnavailable:
                await asyncio.sleep(0.01)
    assert await asyncio.wait_for(layer.receive(channel), 5) == {"type": "t"}
    assert told == [frozenset({"chat"})]
    assert (layer.stats.missed, layer.stats.reconnects) == (1, 1)
    await layer.close()
