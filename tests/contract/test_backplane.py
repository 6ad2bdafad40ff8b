"""What a node may rely on, whatever layer is configured."""

from __future__ import annotations

import asyncio
import gc
import json
import secrets
import tracemalloc
from typing import Any

import pytest

from realtime.exceptions import BackplaneUnavailable
from tests.contract.kinds import KINDS, Cluster, node_channel
from tests.contract.recorder import Recorder
from tests.support.servers import RedisServer


def envelope(text: Any) -> bytes:
    return json.dumps({"v": 1, "text": text}).encode()


def groups(count: int) -> list[str]:
    return [f"rt.r.{secrets.token_hex(4)}.{number}" for number in range(count)]


async def test_subscribed_means_nothing_is_missed(cluster: Cluster) -> None:
    """What another node publishes right after subscribe() returned arrives, for each of many groups."""
    receiver, recorder = await cluster.node()
    publisher, _ = await cluster.node()
    for group in groups(30):
        await receiver.subscribe([group])
        await publisher.publish(group, envelope(group))
    await recorder.until_count(30)


async def test_one_publishers_messages_arrive_in_order_and_once(cluster: Cluster) -> None:
    """A burst published without waiting in between arrives complete, in order, without duplicates."""
    receiver, recorder = await cluster.node()
    publisher, _ = await cluster.node()
    [group] = groups(1)
    await receiver.subscribe([group])
    sent = [envelope(number) for number in range(2_000 if cluster.kind.is_ours else 100)]
    await asyncio.gather(*[publisher.publish(group, each) for each in sent])
    await recorder.until_count(len(sent))
    assert recorder.envelopes == sent


async def test_all_subscribers_see_the_same_sequence(cluster: Cluster) -> None:
    """Two publishers into one group: every subscriber, the publishers included, has the same order."""
    if not cluster.kind.has_common_order:
        pytest.skip("this layer promises no common order")
    nodes = [await cluster.node() for _ in range(3)]
    [group] = groups(1)
    for backplane, _ in nodes:
        await backplane.subscribe([group])
    published = [
        backplane.publish(group, envelope([which, number]))
        for number in range(100)
        for which, (backplane, _) in enumerate(nodes[:2])
    ]
    await asyncio.gather(*published)
    for _, recorder in nodes:
        await recorder.until_count(200)
    assert nodes[0][1].envelopes == nodes[1][1].envelopes == nodes[2][1].envelopes
    assert len(set(nodes[0][1].envelopes)) == 200


async def test_a_burst_is_delivered_in_batches(cluster: Cluster) -> None:
    """Messages that arrived while the node was busy are handed over together."""
    receiver, recorder = await cluster.node()
    [group] = groups(1)
    await receiver.subscribe([group])
    recorder.gate = asyncio.Event()
    await asyncio.gather(*[receiver.publish(group, envelope(number)) for number in range(50)])
    recorder.gate.set()
    await recorder.until_count(50)
    assert max(recorder.batches) > 1


async def test_several_groups_share_one_node(cluster: Cluster) -> None:
    """A node receives each of its groups' messages once, and nothing of groups that it did not subscribe to."""
    receiver, recorder = await cluster.node()
    publisher, _ = await cluster.node()
    mine, others = groups(20), groups(20)
    await receiver.subscribe(mine)
    for group in [pair for both in zip(others, mine, strict=True) for pair in both]:
        await publisher.publish(group, envelope(group))
    await recorder.until_count(20)
    assert sorted(recorder.envelopes) == sorted(envelope(group) for group in mine)


async def test_unsubscribed_means_silence(cluster: Cluster) -> None:
    """After unsubscribe() a message to the group does not arrive; a later one to another group does."""
    receiver, recorder = await cluster.node()
    publisher, _ = await cluster.node()
    left, kept = groups(2)
    await receiver.subscribe([left, kept])
    await receiver.unsubscribe([left])
    await publisher.publish(left, envelope("not for us"))
    await publisher.publish(kept, envelope("sentinel"))
    await recorder.until_envelope(envelope("sentinel"))
    assert recorder.envelopes == [envelope("sentinel")]


async def test_subscribing_again_after_unsubscribing_works(cluster: Cluster) -> None:
    """subscribe, unsubscribe and subscribe in quick succession end subscribed."""
    receiver, recorder = await cluster.node()
    [group] = groups(1)
    for _ in range(5):
        await receiver.subscribe([group])
        await receiver.unsubscribe([group])
    await receiver.subscribe([group])
    await receiver.publish(group, envelope("once"))
    await receiver.publish_to(receiver.channel, envelope("sentinel"))
    await recorder.until_envelope(envelope("sentinel"))
    await recorder.until_envelope(envelope("once"))
    assert recorder.envelopes.count(envelope("once")) == 1


async def test_a_message_to_one_node_reaches_it_alone(cluster: Cluster) -> None:
    """publish_to() goes to the node whose channel it is."""
    first, heard_by_first = await cluster.node()
    second, heard_by_second = await cluster.node()
    await first.publish_to(second.channel, envelope("for the second"))
    await first.publish_to(first.channel, envelope("for the first"))
    await heard_by_first.until_envelope(envelope("for the first"))
    await heard_by_second.until_envelope(envelope("for the second"))
    assert heard_by_first.envelopes == [envelope("for the first")]
    assert heard_by_second.envelopes == [envelope("for the second")]


async def test_probes_of_every_shard_come_back(cluster: Cluster) -> None:
    """Echoes through all probe groups arrive; there is one group for each server, or part of it."""
    node, recorder = await cluster.node()
    probes = node.probe_groups("rt.echo.x")
    assert len(probes) == (cluster.kind.probes or max(1, cluster.kind.servers))
    await node.subscribe(probes)
    for probe in probes:
        await node.publish(probe, envelope(probe))
    await recorder.until_count(len(probes))


async def test_a_mebibyte_passes(cluster: Cluster) -> None:
    """A message of the greatest size that clients may send arrives unharmed."""
    node, recorder = await cluster.node()
    [group] = groups(1)
    await node.subscribe([group])
    large = envelope("ä" * (1024 * 1024 // 6))
    await node.publish(group, large)
    await recorder.until_count(1)
    assert recorder.envelopes == [large]


async def test_encrypted_messages_arrive(cluster: Cluster) -> None:
    """With symmetric_encryption_keys nodes understand each other, also while keys are being changed."""
    if not cluster.kind.servers:
        pytest.skip("nothing leaves the process")
    receiver, recorder = await cluster.node(cluster.layer(symmetric_encryption_keys=["new", "old"]))
    publisher, _ = await cluster.node(cluster.layer(symmetric_encryption_keys=["old"]))
    [group] = groups(1)
    await receiver.subscribe([group])
    await publisher.publish(group, envelope("secret"))
    await recorder.until_envelope(envelope("secret"))


async def test_nobody_reads_encrypted_messages_without_the_key(cluster: Cluster) -> None:
    """What reaches a node that has no key, by a group or by its own name, has neither the text nor the form of what was
    said; and what it says is not heard by those that have one."""
    if not cluster.kind.is_ours or not cluster.kind.servers:
        pytest.skip("nothing leaves the process, or it is not ours")
    speaker, heard = await cluster.node(cluster.layer(symmetric_encryption_keys=["a key"]))
    eavesdropper, overheard, channel = cluster.backplane(), Recorder(), node_channel()
    await eavesdropper.open(channel, overheard)
    [group] = groups(1)
    for node in (eavesdropper, speaker):
        await node.subscribe([group])
    await speaker.publish(group, envelope("secret"))
    await speaker.publish_to(channel, envelope("secret"))
    await overheard.until_count(2)
    assert not [each for each in overheard.envelopes if b"secret" in each or each.startswith(b"{")]
    await eavesdropper.publish(group, envelope("plain"))
    await heard.until(lambda: heard.dropped_count == 1)
    assert heard.envelopes == [envelope("secret")]


async def test_other_peoples_consumers_are_undisturbed(cluster: Cluster) -> None:
    """Consumers on the node's own layer object get their groups' messages, and the node gets none of them."""
    layer = cluster.layer()
    node, recorder = await cluster.node(layer)
    [group] = groups(1)
    await node.subscribe([group])
    channel = await layer.new_channel()
    receiving = asyncio.create_task(layer.receive(channel))
    await asyncio.sleep(0)  # channels_redis.pubsub and core: receive() first
    await layer.group_add("chat", channel)
    await node.publish(group, envelope("ours"))
    await layer.group_send("chat", {"type": "chat.message", "text": "theirs"})
    assert await asyncio.wait_for(receiving, 5) == {"type": "chat.message", "text": "theirs"}
    await recorder.until_envelope(envelope("ours"))
    assert recorder.envelopes == [envelope("ours")]
    assert recorder.dropped_count == 0


async def test_a_channels_message_of_the_stock_form_is_understood(cluster: Cluster) -> None:
    """`rt.envelope` sent with the plain Channels API is delivered like an envelope."""
    layer = cluster.layer()
    node, recorder = await cluster.node(layer)
    [group] = groups(1)
    await node.subscribe([group])
    await layer.group_send(group, {"type": "rt.envelope", "text": envelope("wrapped").decode()})
    await node.publish(group, envelope("plain"))
    await recorder.until_count(2)
    assert sorted(recorder.envelopes) == sorted([envelope("wrapped"), envelope("plain")])


async def test_many_groups_are_subscribed_in_batches(cluster: Cluster) -> None:
    """Ours takes 10,000 groups at once (stock layers: 200) in the time that its server needs; the last one works.
    They can be left at once as well."""
    node, recorder = await cluster.node()
    many = groups(10_000 if cluster.kind.is_ours else 200)
    async with asyncio.timeout(cluster.kind.groups_seconds):
        await node.subscribe(many)
    await asyncio.gather(*[node.publish(group, envelope(group)) for group in many[-50:]])
    await recorder.until_count(50)
    async with asyncio.timeout(cluster.kind.groups_seconds):
        await node.unsubscribe(many)
        await node.subscribe(many[:1])  # done after all of that
    await asyncio.gather(*[node.publish(group, envelope("sentinel")) for group in reversed(many[:50])])
    await recorder.until_count(51)
    assert recorder.envelopes[50:] == [envelope("sentinel")]


@pytest.mark.parametrize(
    "kind",
    [pytest.param(kind, id=kind.name, marks=[pytest.mark.slow] * (kind.broker == "rabbitmq")) for kind in KINDS],
)
async def test_joining_and_leaving_10000_times_leaves_nothing_behind(cluster: Cluster) -> None:
    """Neither the server nor the process keeps anything of groups that were left."""
    if cluster.kind.subscriptions is None:
        pytest.skip("this layer's servers do not say what they hold")
    node, recorder = await cluster.node()
    await node.subscribe(["rt.r.kept"])
    before, used = cluster.kind.subscriptions(cluster), 0
    tracemalloc.start()
    try:
        for lap in range(55):
            many = [f"rt.r.{lap}.{number}" for number in range(200)]
            await node.subscribe(many)
            await node.unsubscribe(many)
            if lap == 4:
                used = tracemalloc.get_traced_memory()[0]
        del many
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - used
    finally:
        tracemalloc.stop()
    await node.subscribe([f"rt.r.{node.channel}"])  # done after everything before it
    assert cluster.kind.subscriptions(cluster) == before + 1
    assert grown < 300_000, "a hundred bytes for each would be a million"
    await node.publish("rt.r.kept", envelope("still"))
    await recorder.until_envelope(envelope("still"))


async def test_a_dead_node_is_taken_out_of_its_groups(cluster: Cluster) -> None:
    """After forget_node() the survivors' groups hold them alone, where the backplane keeps members."""
    survivor, recorder = await cluster.node()
    victim, _ = await cluster.node()
    [group] = groups(1)
    await survivor.subscribe([group])
    await victim.subscribe([group])
    if cluster.kind.name != "pubsub":  # acted within one process there: it would be the victim itself
        await survivor.forget_node(victim.channel)
    await survivor.publish(group, envelope("alone"))
    await recorder.until_envelope(envelope("alone"))
    if cluster.kind.name == "in-memory":
        assert list(cluster.layer().groups[group]) == [survivor.channel]
    if cluster.kind.name == "core":
        [server] = cluster.servers[:1]
        assert isinstance(server, RedisServer)
        members = server.command("ZRANGE", f"{cluster.prefix}:group:{group}", "0", "-1")
        assert members.startswith(b"*1\r\n")


async def test_groups_outlive_their_expiry(redis_pair: list[RedisServer]) -> None:
    """A node in a group for longer than group_expiry is still in it: it renews its membership."""
    clusters = [Cluster(kind, redis_pair) for kind in KINDS if kind.expires_groups]
    try:
        nodes = [await cluster.node(cluster.layer(group_expiry=2)) for cluster in clusters]
        for node, _ in nodes:
            await node.subscribe(["rt.r.expiry"])
        await asyncio.sleep(3.3)  # real time is the subject here
        for node, recorder in nodes:
            await node.publish("rt.r.expiry", envelope("still here"))
            await recorder.until_envelope(envelope("still here"))
    finally:
        for cluster in clusters:
            await cluster.close()


@pytest.mark.parametrize("broker", list(dict.fromkeys(kind.broker for kind in KINDS)))
async def test_an_idle_node_still_receives_after_five_seconds(broker: str, request: pytest.FixtureRequest) -> None:
    """After 5.5 s without any message every kind of layer still delivers, and none was interrupted."""
    servers = request.getfixturevalue(f"{broker}_servers")
    clusters = [Cluster(kind, servers) for kind in KINDS if kind.broker == broker]
    try:
        nodes = [await cluster.node() for cluster in clusters]
        for node, _ in nodes:
            await node.subscribe(["rt.r.idle"])
        await asyncio.sleep(5.5)  # real time is the subject here
        for node, recorder in nodes:
            await node.publish("rt.r.idle", envelope("awake"))
            await recorder.until_envelope(envelope("awake"))
            assert recorder.events == []
    finally:
        for cluster in clusters:
            await cluster.close()


async def test_publishing_needs_no_opening(cluster: Cluster) -> None:
    """A process that only publishes neither opens nor subscribes; nor does closing it harm the nodes."""
    node, recorder = await cluster.node()
    await node.subscribe(["rt.r.x"])
    publisher = cluster.backplane()
    await publisher.publish("rt.r.x", envelope("to the group"))
    await publisher.publish_to(node.channel, envelope("to the node"))
    await recorder.until_count(2)
    await publisher.close()
    await node.publish("rt.r.x", envelope("still there"))
    await recorder.until_envelope(envelope("still there"))


async def test_closing_twice_or_unopened_is_harmless(cluster: Cluster) -> None:
    """close() never raises, and a closed backplane refuses to publish."""
    node = cluster.backplane()
    await node.close()
    await node.open(node_channel(), _Deaf())
    await node.close()
    await node.close()
    with pytest.raises(BackplaneUnavailable):
        node.publish("rt.r.x", b"{}")


class _Deaf:
    async def deliver(self, batch: list[bytes]) -> None: ...

    def interrupted(self) -> None: ...

    def resumed(self, groups: frozenset[str] | None) -> None: ...

    def dropped(self, count: int) -> None: ...
